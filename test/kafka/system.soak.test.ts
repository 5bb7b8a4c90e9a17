/**
 * Kafka's own replication tests with our clients: each end of a node once and each bounce five times, of the leader and
 * of the controller, and the time without an acknowledgement beside Java's producer. About ten minutes.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { reasonToSkip } from './scenario-needs.ts'
import { percentile, playSystem, type SystemEvent } from './system-scenario.ts'

const bounces = Number(process.env['OTTLA_BOUNCES'] ?? 5)

const events: SystemEvent[] = []
for (const target of ['leader', 'controller'] as const) {
  events.push({ target, how: 'stop' }, { target, how: 'kill' })
  for (const how of ['clean bounce', 'hard bounce'] as const) {
    for (let i = 0; i < bounces; i++) events.push({ target, how })
  }
}

test('stops, kills and bounces of leader and controller: nothing lost, nothing twice, the order kept', {
  skip: reasonToSkip({ needs: ['control', 'jars'] }),
  timeout: 3_600_000,
}, async (context) => {
  const say = (line: string): void => context.diagnostic(line)
  const report = await playSystem(process.env['OTTLA_LIVE_KAFKA'] ?? '', events, { java: true, say })
  say(`${report.acknowledged} records acknowledged over ${events.length} events`)
  const ours = report.gaps.map(({ oursMs }) => oursMs)
  const java = report.gaps.flatMap(({ javaMs }) => javaMs ?? [])
  for (const part of [0.5, 0.99]) {
    say(`no acknowledgement, p${part * 100}: ours ${percentile(ours, part)} ms, Java ${percentile(java, part)} ms`)
  }
  assert.deepEqual(report.flaws, [])
})
