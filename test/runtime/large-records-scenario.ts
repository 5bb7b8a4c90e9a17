/**
 * Records of one MiB and slow handlers: what a process holds in memory follows its budgets, not what lies in the topic.
 * Once with all keys flowing, once with everything behind one key that waits.
 */
import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { KafkaClient } from '../../src/kafka.ts'
import type { FromLargeRecords, ToLargeRecords } from './large-records-member.ts'
import { Stage, until } from './stage.ts'

export interface LargeRecordsOptions {
  readonly bootstrapServers: string
  readonly partitions: number
  readonly handlerMs: number
  readonly lastsMs: number
  /** Records that lie in the topic when the member begins, so that it is never without work. */
  readonly preload: number
  /** `flowing`: many keys. `parked`: one key for all records, and its first record waits for its retry all the time. */
  readonly kind: 'flowing' | 'parked'
  readonly say: (line: string) => void
}

export interface LargeRecordsReport {
  readonly baseMiB: number
  readonly peakMiB: number
  readonly handled: number
}

const mebibyte = 1024 * 1024
/** A record with its key and headers is one MiB, the broker's own limit. */
const valueBytes = mebibyte - 4_096
/** So many are published at once. */
const burst = 4

/** Plays it and checks that everything is handled in the end; the memory of the member is in the report. */
export async function largeRecords(options: LargeRecordsOptions): Promise<LargeRecordsReport> {
  const { bootstrapServers, partitions, handlerMs, lastsMs, preload, kind, say } = options
  await using stage = new Stage(bootstrapServers)
  const topic = stage.name('large')
  const service = stage.name('eater')
  stage.own(topic, service)
  await using client = new KafkaClient({ bootstrapServers })
  await client.admin().createTopics([{ topic, partitions, replicas: 1 }])
  const member = fork(path.join(import.meta.dirname, 'large-records-member.ts'), [], {
    execArgv: ['--conditions=@ottla/source', '--disable-warning=ExperimentalWarning'],
    env: {
      ...process.env,
      OTTLA_SHOW: JSON.stringify({ bootstrapServers, topic, service, partitions, handlerMs, kind }),
    },
  })
  const seen = { assigned: false, rssMiB: 0, peakMiB: 0, handled: 0, open: 0, alarms: [] as string[] }
  member.on('message', (message: FromLargeRecords) => {
    seen.assigned = message.assigned === partitions
    seen.rssMiB = message.rss / mebibyte
    seen.peakMiB = Math.max(seen.peakMiB, seen.rssMiB)
    seen.handled = message.handled
    seen.open = message.open
    seen.alarms.push(...message.alarms)
  })
  try {
    await until('the member holds everything', 60_000, () => seen.assigned)
    await sleep(1_000)
    const baseMiB = seen.rssMiB
    tell(member, { type: 'pause' })
    const producer = client.producer({ deliveryTimeoutMs: 60_000 })
    const filler = Buffer.alloc(valueBytes)
    let published = 0
    const fill = async (): Promise<void> => {
      const n = published++
      const key = kind === 'parked' ? 'parked' : `key-${n}`
      const value = Buffer.from(filler)
      value.write(`{"key":"${key}","n":${n},"text":"`, 'latin1')
      const text = value.indexOf(0)
      value.fill(97 + (n % 26), text)
      value.write('"}', valueBytes - 2, 'latin1')
      const headers = [
        { key: 'ce_specversion', value: '1.0' },
        { key: 'ce_id', value: `${n}` },
        { key: 'ce_type', value: `${topic}.Placed` },
        { key: 'ce_source', value: 'show' },
        { key: 'content-type', value: 'application/json' },
      ]
      await producer.send({ topic, key, value, headers })
    }
    const fillUp = async () => {
      if (published - seen.handled >= preload) await sleep(20)
      else await Promise.all(Array.from({ length: burst }, fill))
    }
    while (published < preload) await fillUp()
    seen.peakMiB = 0
    tell(member, { type: 'resume' })
    for (const endMs = performance.now() + lastsMs; performance.now() < endMs; ) await fillUp()
    const { peakMiB, handled } = seen
    say(
      `${kind}: base ${baseMiB.toFixed(0)} MiB, peak ${peakMiB.toFixed(0)} MiB, ${handled} of ${published} handled, ${seen.open} open`,
    )
    if (kind === 'parked') assert.equal(handled, 0, 'everything stood behind the first')
    tell(member, { type: 'mend' })
    await until('everything is handled', 240_000, () => seen.handled === published && seen.open === 0)
    const isExpected = (text: string) => kind === 'parked' && text.includes('wait behind failures are all it may hold')
    assert.deepEqual(
      seen.alarms.filter((text) => !isExpected(text)),
      [],
    )
    // Whatever shares the partition with that key stands, and somebody is to know.
    if (kind === 'parked') assert.ok(seen.alarms.length > 0, 'what waits has used up the budget, and nobody was told')
    return { baseMiB, peakMiB, handled }
  } finally {
    const exited = once(member, 'exit')
    if (member.exitCode === null && member.signalCode === null) {
      tell(member, { type: 'end' })
      await exited
    }
  }
}

function tell(member: ChildProcess, message: ToLargeRecords): void {
  member.send(message)
}
