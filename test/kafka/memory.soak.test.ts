/**
 * Memory of a process that publishes and reads for a long time: after two minutes its resident size, measured after a
 * forced garbage collection, grows by no more than 1 MiB a minute, over eight minutes and ten gibibytes.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { Ground } from './ground.ts'
import type { MemorySample } from './memory-load.ts'

const servers = process.env['OTTLA_LIVE_KAFKA'] ?? ''
const skip = servers === '' ? 'OTTLA_LIVE_KAFKA is not set' : false

const warmUpSeconds = 120
const measuredSeconds = 480
const bytes = 10 * 1024 ** 3
const slopeMaxMiBPerMinute = 1
const limitMs = 30 * 60_000

test('publishing and reading 10 GiB leaves the resident size where it was', { skip, timeout: limitMs }, async (t) => {
  await using ground = new Ground(servers)
  // Small on the disk: what was read may go.
  const configs = { 'retention.bytes': String(64 * 1024 ** 2), 'segment.bytes': String(16 * 1024 ** 2) }
  const topic = await ground.topic('memory', 4, { replicas: 1, configs })
  const program = path.join(import.meta.dirname, 'memory-load.ts')
  const args = [servers, topic, String(warmUpSeconds + measuredSeconds), String(bytes)]
  const flags = ['--expose-gc', '--conditions=@ottla/source', '--disable-warning=ExperimentalWarning']
  const child = spawn(process.execPath, [...flags, program, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  const samples: MemorySample[] = []
  try {
    const ended = new Promise<number | null>((resolve) => child.once('exit', resolve))
    for await (const line of createInterface({ input: child.stdout })) {
      samples.push(JSON.parse(line) as MemorySample)
      const { seconds, rssMiB, readBytes } = samples.at(-1) as MemorySample
      if (samples.length % 6 === 0) {
        t.diagnostic(
          `${seconds.toFixed(0)} s, ${rssMiB.toFixed(1)} MiB, ${(readBytes / 1024 ** 3).toFixed(2)} GiB read`,
        )
      }
    }
    assert.equal(await ended, 0)
  } finally {
    child.kill('SIGKILL')
  }
  const last = samples.at(-1)
  assert.ok(last?.done)
  assert.ok(last.readBytes >= bytes && last.seconds >= warmUpSeconds + measuredSeconds)
  const measured = samples.filter(({ seconds }) => seconds >= warmUpSeconds)
  const slope = slopeOf(measured.map(({ seconds, rssMiB }) => [seconds / 60, rssMiB] as const))
  const range = measured.map(({ rssMiB }) => rssMiB)
  t.diagnostic(
    `slope ${slope.toFixed(3)} MiB a minute, ${Math.min(...range).toFixed(1)} to ${Math.max(...range).toFixed(1)} MiB, ${measured.length} samples, ${(last.readBytes / 1024 ** 3).toFixed(2)} GiB in ${last.seconds.toFixed(0)} s`,
  )
  assert.ok(slope <= slopeMaxMiBPerMinute, `${slope} MiB a minute`)
})

/** Least squares. */
function slopeOf(points: readonly (readonly [number, number])[]): number {
  const mean = (of: 0 | 1): number => points.reduce((sum, point) => sum + point[of], 0) / points.length
  const [x, y] = [mean(0), mean(1)]
  const over = points.reduce((sum, point) => sum + (point[0] - x) * (point[1] - y), 0)
  return over / points.reduce((sum, point) => sum + (point[0] - x) ** 2, 0)
}
