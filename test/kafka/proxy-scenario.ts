/**
 * A producer and a consumer group behind the fault proxy, one fault at a time, and what must hold whatever happens:
 *
 * - no acknowledged record is missing from the log, and none is in it twice;
 * - no committed offset moves back or passes a record that nobody handled;
 * - once the fault is over everything goes on: every record is acknowledged and handled, and a second member takes over
 *   where the first one stopped.
 *
 * The same cases run on Apache Kafka and on the embedded broker.
 */
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { encodeCheckpoint } from '../../src/adapters/kafka/checkpoint.ts'
import { KafkaClient } from '../../src/kafka/client.ts'
import type { Consumer, FetchedBatch, HeldPartition } from '../../src/kafka/consumer.ts'
import { type ProxyAction, type ProxyRule, startFaultProxy } from '../../src/testing/fault-proxy.ts'
import { ErrorCode } from '../../src/wire/error-codes.ts'
import type { ApiName } from '../../src/wire/protocol.ts'

export interface FaultCase {
  readonly name: string
  readonly rules: readonly ProxyRule[]
}

const lost: ProxyAction = { do: 'reset', when: 'after' }
const reset: ProxyAction = { do: 'reset', when: 'before' }
const half: ProxyAction = { do: 'half-frame' }
const twice: ProxyAction = { do: 'duplicate-answer' }
const silence: ProxyAction = { do: 'silence' }
const late: ProxyAction = { do: 'delay', delayMs: 600 }
const error = (name: keyof typeof ErrorCode): ProxyAction => ({ do: 'error', code: ErrorCode[name] })
const appliedError = (name: keyof typeof ErrorCode): ProxyAction => ({
  do: 'error',
  code: ErrorCode[name],
  applied: true,
})

const one = (api: ApiName, what: string, action: ProxyAction, more: Partial<ProxyRule> = {}): FaultCase => ({
  name: `${api}: ${what}`,
  rules: [{ api, action, ...more }],
})

export const faultCases: readonly FaultCase[] = [
  one('Produce', 'the third answer is lost with its connection', lost, { skip: 2 }),
  one('Produce', 'three answers in a row are lost', lost, { skip: 2, times: 3 }),
  one('Produce', 'the connection is reset before the broker hears of it', reset, { skip: 1 }),
  one('Produce', 'half of an answer', half, { skip: 2 }),
  one('Produce', 'a late answer', late, { skip: 2 }),
  one('Produce', 'an answer that comes twice', twice, { skip: 2 }),
  one('Produce', 'a request that comes twice', { do: 'duplicate-request' }, { skip: 2 }),
  one('Produce', 'an answer that never comes', silence, { skip: 2 }),
  one('Produce', 'NOT_LEADER_OR_FOLLOWER', error('NOT_LEADER_OR_FOLLOWER'), { skip: 2, times: 2 }),
  one('Produce', 'stored, but NOT_ENOUGH_REPLICAS_AFTER_APPEND', appliedError('NOT_ENOUGH_REPLICAS_AFTER_APPEND'), {
    skip: 2,
  }),
  one('Produce', 'stored, but REQUEST_TIMED_OUT', appliedError('REQUEST_TIMED_OUT'), { skip: 2, times: 2 }),
  one('InitProducerId', 'COORDINATOR_LOAD_IN_PROGRESS', error('COORDINATOR_LOAD_IN_PROGRESS'), { times: 2 }),
  one('InitProducerId', 'its answer is lost', lost),
  one('Metadata', 'LEADER_NOT_AVAILABLE', error('LEADER_NOT_AVAILABLE'), { times: 2 }),
  one('Metadata', 'half of an answer', half),
  one('Metadata', 'a late answer', late),
  one('FindCoordinator', 'COORDINATOR_NOT_AVAILABLE', error('COORDINATOR_NOT_AVAILABLE'), { times: 2 }),
  one('FindCoordinator', 'its answer is lost', lost),
  one('JoinGroup', 'NOT_COORDINATOR', error('NOT_COORDINATOR'), { skip: 1 }),
  one('JoinGroup', 'its answer is lost', lost, { skip: 1 }),
  one('JoinGroup', 'UNKNOWN_MEMBER_ID', error('UNKNOWN_MEMBER_ID'), { skip: 1 }),
  one('SyncGroup', 'its answer is lost', lost),
  one('SyncGroup', 'REBALANCE_IN_PROGRESS', error('REBALANCE_IN_PROGRESS')),
  one('Heartbeat', 'NOT_COORDINATOR', error('NOT_COORDINATOR'), { skip: 1 }),
  one('Heartbeat', 'an answer that never comes', silence, { skip: 1 }),
  one('Heartbeat', 'UNKNOWN_MEMBER_ID', error('UNKNOWN_MEMBER_ID'), { skip: 1 }),
  one('Heartbeat', 'an answer that comes twice', twice, { skip: 1 }),
  one('OffsetCommit', 'the answer of the second is lost', lost, { skip: 1 }),
  one('OffsetCommit', 'NOT_COORDINATOR', error('NOT_COORDINATOR'), { skip: 1, times: 2 }),
  one('OffsetCommit', 'half of an answer', half, { skip: 1 }),
  one('OffsetCommit', 'a late answer', late, { skip: 1, times: 3 }),
  one('OffsetCommit', 'an answer that comes twice', twice, { skip: 1 }),
  one('OffsetCommit', 'a request that comes twice', { do: 'duplicate-request' }, { skip: 1 }),
  one('OffsetCommit', 'an answer that never comes', silence, { skip: 1 }),
  one('OffsetFetch', 'COORDINATOR_LOAD_IN_PROGRESS', error('COORDINATOR_LOAD_IN_PROGRESS'), { times: 2 }),
  one('OffsetFetch', 'its answer is lost', lost),
  one('ListOffsets', 'NOT_LEADER_OR_FOLLOWER', error('NOT_LEADER_OR_FOLLOWER')),
  one('ListOffsets', 'half of an answer', half),
  one('Fetch', 'its answer is lost', lost, { skip: 3, times: 2 }),
  one('Fetch', 'half of an answer', half, { skip: 3 }),
  one('Fetch', 'an answer that comes twice', twice, { skip: 3 }),
  one('Fetch', 'NOT_LEADER_OR_FOLLOWER', error('NOT_LEADER_OR_FOLLOWER'), { skip: 3, times: 2 }),
  one('Fetch', 'FETCH_SESSION_ID_NOT_FOUND', error('FETCH_SESSION_ID_NOT_FOUND'), { skip: 3 }),
  one('LeaveGroup', 'its answer is lost', lost),
  {
    name: 'all at once: commits and publishes without answers, heartbeats refused',
    rules: [
      { api: 'OffsetCommit', action: lost, skip: 1, times: 2 },
      { api: 'Produce', action: lost, skip: 3, times: 2 },
      { api: 'Heartbeat', action: error('COORDINATOR_NOT_AVAILABLE'), skip: 1, times: 2 },
    ],
  },
]

const partitions = 2

async function until(what: () => string, condition: () => boolean, limitMs = 20_000): Promise<void> {
  const endMs = performance.now() + limitMs
  while (!condition()) {
    if (performance.now() > endMs) assert.fail(`not in ${limitMs} ms: ${what()}`)
    await sleep(10)
  }
}

/** Which offsets of each partition were handled, by anybody. */
class Handled {
  readonly offsets: readonly Set<number>[] = Array.from({ length: partitions }, () => new Set<number>())
  readonly values = new Set<string>()

  /** The lowest offset of a partition that nobody has handled. */
  low(partition: number): number {
    let offset = 0
    while (this.offsets[partition]?.has(offset)) offset += 1
    return offset
  }
}

/** A member that handles records out of order, and commits the lowest unfinished one with a map of what is beyond. */
function startMember(
  client: KafkaClient,
  group: { readonly id: string; readonly topic: string; readonly handled: Handled; readonly faults: string[] },
): Consumer {
  const work = new Set<Promise<void>>()
  const open = new Map<HeldPartition, { low: number; readonly finished: Set<number> }>()

  const checkpoint = async (held: HeldPartition): Promise<void> => {
    const mine = open.get(held)
    if (mine === undefined) return
    const beyond = [...mine.finished].filter((offset) => offset >= mine.low).sort((a, b) => a - b)
    const metadata = encodeCheckpoint({
      topicId: held.topicId,
      low: mine.low,
      leaderEpoch: consumer.commitEpoch(held),
      strikes: 0,
      finished: beyond.flatMap((offset) => [offset, offset + 1]),
    })
    // What a commit is answered shows in what is committed; a refused one is made good by the next.
    await consumer
      .commit(held, { offset: mine.low, metadata })
      .catch((cause: Error) => group.faults.push(cause.message))
  }
  const handle = async (held: HeldPartition, records: FetchedBatch): Promise<void> => {
    // The last first, so that there is something beyond the lowest unfinished.
    for (let i = records.count - 1; i >= 0; i -= 1) {
      if (i % 5 === 0) await new Promise((resolve) => setImmediate(resolve))
      const mine = open.get(held)
      if (mine === undefined || !consumer.owns(held)) return
      group.handled.offsets[held.partition]?.add(records.position(i))
      group.handled.values.add(Buffer.from(records.value(i) ?? []).toString())
      mine.finished.add(records.position(i))
      while (mine.finished.delete(mine.low)) mine.low += 1
    }
    await checkpoint(held)
  }
  const consumer: Consumer = client.consumer(
    {
      groupId: group.id,
      topics: [group.topic],
      sessionTimeoutMs: 2_000,
      heartbeatIntervalMs: 150,
      rebalanceTimeoutMs: 5_000,
      drainTimeoutMs: 1_000,
      fetchMaxWaitMs: 100,
    },
    {
      gained: (parts) => {
        for (const { held, position } of parts) open.set(held, { low: position, finished: new Set() })
      },
      batch: (held, records) => {
        const job = handle(held, records)
        work.add(job)
        void job.finally(() => work.delete(job))
      },
      releasing: async (parts) => {
        await Promise.all(work)
        await Promise.all(parts.map(checkpoint))
        for (const held of parts) open.delete(held)
      },
      lost: (parts) => {
        for (const held of parts) open.delete(held)
      },
      fault: (_, cause) => group.faults.push(`${cause.code}: ${cause.message}`),
    },
  )
  return consumer
}

/** Plays one case against brokers; throws when anything of the above does not hold. */
export async function playFault(fault: FaultCase, topic: string, bootstrapServers: string): Promise<void> {
  await using direct = new KafkaClient({ bootstrapServers, clientId: 'direct' })
  const [created] = await direct.admin().createTopics([{ topic, partitions }])
  assert.equal(created?.error, undefined)
  await using proxy = await startFaultProxy(bootstrapServers)
  const rules = fault.rules.map((rule) => proxy.fault(rule))
  await using client = new KafkaClient({
    bootstrapServers: proxy.bootstrapServers,
    clientId: 'behind',
    requestTimeoutMs: 1_500,
  })
  const handled = new Handled()
  const faults: string[] = []
  const group = { id: topic, topic, handled, faults }

  const committed: number[] = Array.from({ length: partitions }, () => -1)
  const watching = new AbortController()
  const watched = watchCommits(direct, topic, { committed, handled, signal: watching.signal })
  const first = startMember(client, group)
  const producer = client.producer({ deliveryTimeoutMs: 20_000 })
  const acknowledged = new Map<string, string>()
  const failed: string[] = []
  let sent = 0
  const send = (): void => {
    const value = `value-${sent}`
    const partition = sent % partitions
    sent += 1
    producer.send({ topic, partition, value }).then(
      (told) => acknowledged.set(value, `${partition}@${told.offset}`),
      (cause: Error) => failed.push(`${value}: ${cause.message}`),
    )
  }
  const state = (): string =>
    `${acknowledged.size} of ${sent} acknowledged, ${handled.values.size} handled, committed ${committed}, struck ${rules.map((r) => r.struck)}; ${[...failed, ...faults].join('; ')}`
  const allHandled = (): boolean => acknowledged.size + failed.length === sent && handled.values.size >= sent

  const whenClosing = fault.rules.some((rule) => rule.api === 'LeaveGroup')
  const struck = (): boolean => rules.every((rule, i) => rule.struck >= (fault.rules[i]?.times ?? 1))
  const endMs = performance.now() + 15_000
  while (sent < 60 || (!struck() && !whenClosing)) {
    if (performance.now() > endMs) assert.fail(`the fault did not strike: ${state()}`)
    send()
    await sleep(8)
  }
  for (let i = 0; i < 20; i += 1) send()
  await until(() => `everything is handled after the fault: ${state()}`, allHandled)
  await first[Symbol.asyncDispose]()
  assert.ok(struck(), state())

  for (let i = 0; i < 20; i += 1) send()
  const second = startMember(client, group)
  await until(() => `a second member goes on: ${state()}`, allHandled)
  const ends = (): boolean => committed.every((offset, partition) => offset === handled.low(partition))
  await until(() => `the end is committed: ${state()}`, ends)
  await second[Symbol.asyncDispose]()
  watching.abort()
  await watched

  assert.deepEqual(failed, [], 'every record is acknowledged in the end')
  const log = await readLog(direct, topic, sent)
  assert.equal(new Set(log.map(({ value }) => value)).size, log.length, 'nothing is in the log twice')
  const stored = new Map(log.map(({ value, place }) => [value, place]))
  for (const [value, place] of acknowledged)
    assert.equal(stored.get(value), place, `${value} is where it was said to be`)
  for (let p = 0; p < partitions; p += 1) {
    const numbers = log.filter(({ place }) => place.startsWith(`${p}@`)).map(({ value }) => Number(value.slice(6)))
    assert.deepEqual(
      numbers,
      [...numbers].sort((a, b) => a - b),
      'in the order of sending',
    )
  }
  await direct.admin().deleteTopics([topic])
}

/** Looks at what is committed, again and again: never less than before, never beyond what was handled. */
async function watchCommits(
  direct: KafkaClient,
  topic: string,
  to: { readonly committed: number[]; readonly handled: Handled; readonly signal: AbortSignal },
): Promise<void> {
  const asked = Array.from({ length: partitions }, (_, partition) => ({ topic, partition }))
  while (!to.signal.aborted) {
    for (const answer of await direct.admin().fetchOffsets(topic, asked)) {
      const { partition } = answer
      const offset = answer.offset ?? -1
      if (answer.error !== undefined || offset < 0) continue
      const before = to.committed[partition] ?? -1
      assert.ok(offset >= before, `the committed offset of ${partition} moved back from ${before} to ${offset}`)
      const low = to.handled.low(partition)
      assert.ok(offset <= low, `${offset} of ${partition} is committed, but ${low} was not handled`)
      to.committed[partition] = offset
    }
    await sleep(40)
  }
}

/** All there is in a topic, in order per partition, from somebody who is not behind the proxy. */
async function readLog(
  direct: KafkaClient,
  topic: string,
  atLeast: number,
): Promise<readonly { readonly value: string; readonly place: string }[]> {
  const log: { readonly value: string; readonly place: string }[] = []
  const next: number[] = Array.from({ length: partitions }, () => 0)
  const ends = new Map<number, number>()
  await using _reader = direct.consumer(
    { topics: [topic] },
    {
      gained: (parts) => {
        for (const { held, logEnd } of parts) ends.set(held.partition, logEnd)
      },
      batch: (held, records) => {
        for (let i = 0; i < records.count; i += 1) {
          const value = Buffer.from(records.value(i) ?? []).toString()
          log.push({ value, place: `${held.partition}@${records.position(i)}` })
        }
        next[held.partition] = records.nextPosition
      },
      fault: (_, cause) => assert.fail(cause.message),
    },
  )
  await until(
    () => `the whole log is read: ${log.length} of at least ${atLeast}, to ${next} of ${[...ends.values()]}`,
    () => ends.size === partitions && [...ends].every(([partition, end]) => (next[partition] ?? 0) >= end),
  )
  return log
}
