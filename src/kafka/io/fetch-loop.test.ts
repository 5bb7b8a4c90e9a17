import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { OttlaError } from '../../contract/errors.ts'
import { ErrorCode } from '../../wire/error-codes.ts'
import { Api } from '../../wire/protocol.ts'
import { RecordBatchBuilder } from '../../wire/record-batch.ts'
import { MetadataCache } from '../machine/metadata.ts'
import { type HeldPartition, Ownership } from '../machine/ownership.ts'
import type { FetchedBatch } from './batch-view.ts'
import type { Cluster } from './cluster.ts'
import { builtInCompression } from './compression.ts'
import { FetchLoop } from './fetch-loop.ts'
import { framePool } from './frames.ts'

const topicId = 'b8tRS7h4TJ2Vt43Dp85v2A'

interface Answer {
  readonly errorCode?: number
  readonly records?: Uint8Array
  readonly highWatermark?: number
  readonly aborted?: readonly { producerId: number; firstOffset: number }[]
  readonly diverging?: { readonly epoch: number; readonly endOffset: number }
}

interface Asked {
  readonly node: number
  readonly partitions: ReadonlyMap<number, number>
  /** Session id and epoch. */
  readonly session: string
  /** Partitions left out of the answer stand in it without news, unless it is an incremental one. */
  answer(parts: Readonly<Record<number, Answer>>, errorCode?: number): void
}

/** A cluster of scripted brokers: partition p is led by broker p % 2, and each fetch waits for the test to answer it. */
class ScriptedCluster {
  readonly metadata = new MetadataCache()
  readonly fetches: Asked[] = []
  readonly ends = { start: 0, end: 0 }
  /** What OffsetForLeaderEpoch is answered with, and the questions that came: partition, epoch, epoch of the leader. */
  epochEnd = { errorCode: 0, leaderEpoch: 5, endOffset: 1_000 }
  readonly epochQuestions: string[] = []
  /** Sessions ended with epoch -1. */
  readonly ended: string[] = []
  /** Given to whoever asks for a fetch session; 0: none. */
  sessionId = 0
  refreshes = 0
  #waiting: (() => void) | null = null

  readonly #partitions: number

  constructor(partitions: number) {
    this.#partitions = partitions
    this.elect(5, (index) => index % 2)
  }

  /** From now on the metadata names these leaders, under this epoch. */
  elect(leaderEpoch: number, leaderOf: (partition: number) => number): void {
    const parts = Array.from({ length: this.#partitions }, (_, index) => ({
      errorCode: 0,
      partitionIndex: index,
      leaderId: leaderOf(index),
      leaderEpoch,
      replicaNodes: [0, 1],
      isrNodes: [0, 1],
      offlineReplicas: [],
    }))
    const topics = [
      { errorCode: 0, name: 't', topicId, isInternal: false, partitions: parts, topicAuthorizedOperations: 0 },
    ]
    const brokers = [0, 1].map((nodeId) => ({ nodeId, host: 'h', port: 1, rack: null }))
    const facts = { throttleTimeMs: 0, clusterId: 'c', controllerId: 0, clusterAuthorizedOperations: 0, errorCode: 0 }
    this.metadata.update({ ...facts, brokers, topics }, 0)
  }

  onMetadata(): Disposable {
    return { [Symbol.dispose]: () => undefined }
  }

  async refresh(): Promise<void> {
    this.refreshes++
  }

  request(
    node: number,
    api: number,
    body: (version: number) => any,
    options: { signal: AbortSignal },
  ): Promise<unknown> {
    const given = typeof body === 'function' ? body(api === Api.Fetch ? 17 : 7) : (body as any)
    if (api === Api.ListOffsets) {
      const topics = given.topics.map((topic: any) => ({
        name: topic.name,
        partitions: topic.partitions.map(({ partitionIndex, timestamp }: any) => ({
          partitionIndex,
          errorCode: 0,
          offset: timestamp === -2 ? this.ends.start : this.ends.end,
        })),
      }))
      return Promise.resolve({ version: 7, node, body: { topics } })
    }
    if (api === Api.OffsetForLeaderEpoch) {
      const topics = (given as any).topics.map(({ topic, partitions }: any) => ({
        topic,
        partitions: partitions.map(({ partition, leaderEpoch, currentLeaderEpoch }: any) => {
          this.epochQuestions.push(`${node}: ${partition} epoch ${leaderEpoch} of ${currentLeaderEpoch}`)
          return { partition, ...this.epochEnd }
        }),
      }))
      return Promise.resolve({ version: 4, node, body: { topics } })
    }
    if (given.sessionEpoch === -1) {
      this.ended.push(`${node}: ${given.sessionId}`)
      return Promise.resolve({ version: 17, node, body: { errorCode: 0, sessionId: 0, responses: [] } })
    }
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    options.signal.addEventListener('abort', () => reject(options.signal.reason))
    const asked = given.topics.flatMap((topic: any) => topic.partitions)
    this.fetches.push({
      node,
      partitions: new Map(asked.map((part: any) => [part.partition, part.fetchOffset])),
      session: `${given.sessionId}/${given.sessionEpoch}`,
      answer: (parts, errorCode = 0) => {
        const named = given.sessionEpoch > 0 ? Object.keys(parts).map(Number) : asked.map((part: any) => part.partition)
        const partitions = named.map((partition: number) => ({
          partitionIndex: partition,
          errorCode: parts[partition]?.errorCode ?? 0,
          highWatermark: parts[partition]?.highWatermark ?? -1,
          lastStableOffset: parts[partition]?.highWatermark ?? -1,
          currentLeader: { leaderId: -1, leaderEpoch: -1 },
          divergingEpoch: parts[partition]?.diverging ?? { epoch: -1, endOffset: -1 },
          abortedTransactions: parts[partition]?.aborted ?? null,
          records: parts[partition]?.records ?? null,
        }))
        const responses = [{ topic: '', topicId, partitions }]
        resolve({ version: 17, node, body: { errorCode, sessionId: this.sessionId, responses } })
      },
    })
    this.#waiting?.()
    return promise
  }

  /** The next fetch that this broker is asked. */
  async next(node: number): Promise<Asked> {
    for (;;) {
      const index = this.fetches.findIndex((fetch) => fetch.node === node)
      if (index >= 0) return this.fetches.splice(index, 1)[0]!
      await new Promise<void>((resolve) => (this.#waiting = resolve))
    }
  }
}

/** A loop over a scripted cluster, with everything it delivered. */
class Script implements AsyncDisposable {
  readonly cluster: ScriptedCluster
  readonly loop: FetchLoop
  readonly ownership = new Ownership()
  readonly seen: string[] = []
  readonly faults: string[] = []
  onBatch: (held: HeldPartition, records: FetchedBatch) => void = () => undefined

  constructor(
    partitions: number,
    more: {
      readonly outOfRange?: 'earliest' | 'latest'
      readonly retryBackoffMs?: number
      readonly retryBackoffMaxMs?: number
    } = {},
  ) {
    this.cluster = new ScriptedCluster(partitions)
    const options = {
      isolation: 'read_committed',
      maxWaitMs: 500,
      minBytes: 1,
      maxBytes: 1 << 20,
      maxBytesPerPartition: 1 << 20,
      maxInflatedBytes: 1 << 20,
      requestTimeoutMs: 1_000,
      retryBackoffMs: 1,
      retryBackoffMaxMs: 4,
      compression: builtInCompression,
      lane: 'fetch',
      ...more,
    } as const
    this.loop = new FetchLoop(this.cluster as unknown as Cluster, options, {
      batch: (held, records) => {
        for (let i = 0; i < records.count; i++) {
          this.seen.push(`${held.partition}@${records.position(i)}=${Buffer.from(records.value(i)!).toString()}`)
        }
        if (records.count === 0) this.seen.push(`${held.partition}→${records.nextPosition}`)
        this.onBatch(held, records)
      },
      fault: (held, error: OttlaError) => this.faults.push(`${held.partition} ${error.code}`),
    })
  }

  hold(partition: number, position = 0): HeldPartition {
    const held = this.ownership.gain('t', topicId, partition)
    this.loop.add(held, position)
    this.loop.open(held)
    return held
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.loop[Symbol.asyncDispose]()
  }
}

interface BatchFacts {
  readonly producerId?: number
  readonly control?: 'abort' | 'commit'
  readonly gzip?: boolean
  readonly leaderEpoch?: number
}

function batch(baseOffset: number, values: readonly string[], facts: BatchFacts = {}): Uint8Array {
  const builder = new RecordBatchBuilder()
  const { producerId = -1, control, gzip = false, leaderEpoch = -1 } = facts
  const key = control === undefined ? null : Uint8Array.of(0, 0, 0, control === 'abort' ? 0 : 1)
  for (const value of values) builder.append(key, Buffer.from(value), [], 1)
  return builder
    .build({
      baseOffset,
      leaderEpoch,
      producerId,
      transactional: producerId >= 0,
      control: control !== undefined,
      compression: gzip ? { name: 'gzip', codec: builtInCompression.gzip } : null,
    })
    .slice()
}

const bytes = (...parts: readonly Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts))

test('the next fetch is sent before the last one is delivered, and goes on where it ended', async () => {
  await using s = new Script(1)
  s.hold(0)
  const first = await s.cluster.next(0)
  let asked = 0
  s.onBatch = () => {
    asked = s.cluster.fetches.length
  }
  first.answer({ 0: { records: bytes(batch(0, ['a', 'b']), batch(2, ['c'], { gzip: true })), highWatermark: 3 } })
  const second = await s.cluster.next(0)
  assert.deepEqual(s.seen, ['0@0=a', '0@1=b', '0@2=c'])
  assert.equal(asked, 1)
  assert.equal(second.partitions.get(0), 3)
})

test('records below the position are left out of a batch that begins earlier', async () => {
  await using s = new Script(1)
  s.hold(0, 7)
  const fetch = await s.cluster.next(0)
  fetch.answer({ 0: { records: bytes(batch(3, ['x', 'y']), batch(5, ['a', 'b', 'c', 'd'])) } })
  await s.cluster.next(0)
  assert.deepEqual(s.seen, ['0@7=c', '0@8=d'])
})

test('a batch that is cut off is fetched again from its start', async () => {
  await using s = new Script(1)
  s.hold(0)
  const fetch = await s.cluster.next(0)
  fetch.answer({ 0: { records: bytes(batch(0, ['a']), batch(1, ['b']).subarray(0, 40)) } })
  const next = await s.cluster.next(0)
  assert.equal(next.partitions.get(0), 1)
  assert.deepEqual(s.seen, ['0@0=a'])
})

test('bytes without a whole batch are a fault, not a question asked for ever', async () => {
  await using s = new Script(1)
  s.hold(0)
  const fetch = await s.cluster.next(0)
  fetch.answer({ 0: { records: bytes(batch(0, ['a']).subarray(0, 40)) } })
  await new Promise((resolve) => setImmediate(resolve))
  assert.deepEqual(s.faults, ['0 OTTLA_KAFKA_CORRUPT_BATCH'])
})

test('a broker that sends only what lies before the position is asked again after a pause, not in a circle', async () => {
  await using s = new Script(1, { retryBackoffMs: 300, retryBackoffMaxMs: 300 })
  s.hold(0, 5)
  const fetch = await s.cluster.next(0)
  fetch.answer({ 0: { records: batch(0, ['a']) } })
  for (let i = 0; i < 20; i++) await Promise.resolve()
  assert.equal(s.cluster.fetches.length, 0)
  assert.equal((await s.cluster.next(0)).partitions.get(0), 5)
  assert.deepEqual(s.seen, [])
})

test('one flipped bit stops its partition with a fault, after what came before it; the neighbour goes on', async () => {
  await using s = new Script(4)
  const held = s.hold(0)
  s.hold(2)
  const fetch = await s.cluster.next(0)
  const bad = batch(1, ['b'])
  bad[bad.length - 2]! ^= 1
  fetch.answer({ 0: { records: bytes(batch(0, ['a']), bad, batch(2, ['c'])) }, 2: { records: batch(0, ['n']) } })
  const next = await s.cluster.next(0)
  next.answer({ 0: { records: batch(3, ['late']) }, 2: { records: batch(1, ['m']) } })
  const after = await s.cluster.next(0)
  assert.deepEqual(s.seen, ['0@0=a', '2@0=n', '2@1=m'])
  assert.deepEqual(s.faults, ['0 OTTLA_KAFKA_CORRUPT_BATCH'])
  assert.deepEqual([...after.partitions], [[2, 2]])
  s.loop.seek(held, 3)
  after.answer({})
  assert.deepEqual([...(await s.cluster.next(0)).partitions].sort(), [
    [0, 3],
    [2, 2],
  ])
})

test('bytes that are no batch at all are a fault, not an exception', async () => {
  await using s = new Script(1)
  s.hold(0)
  const fetch = await s.cluster.next(0)
  fetch.answer({ 0: { records: bytes(batch(0, ['a']), new Uint8Array(64).fill(7)) } })
  await s.cluster.next(0)
  assert.deepEqual(s.seen, ['0@0=a'])
  assert.deepEqual(s.faults, ['0 OTTLA_KAFKA_CORRUPT_BATCH'])
})

test('control batches, aborted ones and gaps move the position without a record', async () => {
  await using s = new Script(1)
  s.hold(0)
  const fetch = await s.cluster.next(0)
  fetch.answer({
    0: {
      records: bytes(
        batch(0, ['aborted'], { producerId: 9 }),
        batch(1, [''], { producerId: 9, control: 'abort' }),
        batch(10, ['kept'], { producerId: 9 }),
        batch(11, [''], { producerId: 9, control: 'commit' }),
      ),
      aborted: [{ producerId: 9, firstOffset: 0 }],
    },
  })
  const next = await s.cluster.next(0)
  assert.deepEqual(s.seen, ['0→1', '0→2', '0@10=kept', '0→12'])
  assert.equal(next.partitions.get(0), 12)
})

test('data of an ownership that ended is dropped, also when the partition came back meanwhile', async () => {
  await using s = new Script(1)
  const before = s.hold(0)
  const fetch = await s.cluster.next(0)
  s.loop.remove(before)
  s.ownership.drop(before)
  s.hold(0, 1)
  fetch.answer({ 0: { records: batch(0, ['a', 'b']) } })
  const next = await s.cluster.next(0)
  assert.deepEqual(s.seen, [])
  assert.equal(next.partitions.get(0), 1)
})

test('a pause takes effect in the middle of an answer, and resuming goes on with the next batch', async () => {
  await using s = new Script(1)
  const held = s.hold(0)
  const fetch = await s.cluster.next(0)
  s.onBatch = () => s.loop.pause(held)
  fetch.answer({ 0: { records: bytes(batch(0, ['a']), batch(1, ['b']), batch(2, ['c'])) } })
  const ahead = await s.cluster.next(0)
  assert.deepEqual(s.seen, ['0@0=a'])
  ahead.answer({ 0: { records: batch(3, ['d']) } })
  await new Promise(setImmediate)
  assert.equal(s.cluster.fetches.length, 0, 'nothing more is fetched while two answers wait')
  s.onBatch = () => undefined
  s.loop.resume(held)
  const next = await s.cluster.next(0)
  assert.deepEqual(s.seen, ['0@0=a', '0@1=b', '0@2=c', '0@3=d'])
  assert.equal(next.partitions.get(0), 4)
})

test('a partition error leaves the good data of its neighbour in', async () => {
  await using s = new Script(4)
  s.hold(0)
  s.hold(2)
  const fetch = await s.cluster.next(0)
  fetch.answer({ 0: { errorCode: ErrorCode.NOT_LEADER_OR_FOLLOWER }, 2: { records: batch(0, ['n']) } })
  await s.cluster.next(0)
  assert.deepEqual(s.seen, ['2@0=n'])
  assert.deepEqual(s.faults, [])
  assert.ok(s.cluster.refreshes > 0)
})

test('out of range is believed only when the leader says where its log is', async () => {
  await using s = new Script(1)
  s.hold(0, 5)
  s.cluster.ends.end = 10
  let fetch = await s.cluster.next(0)
  fetch.answer({ 0: { errorCode: ErrorCode.OFFSET_OUT_OF_RANGE } })
  fetch = await s.cluster.next(0)
  assert.deepEqual(s.faults, [], 'offset 5 of 0 to 10 is in range: asked again')
  s.cluster.ends.start = 6
  fetch.answer({ 0: { errorCode: ErrorCode.OFFSET_OUT_OF_RANGE } })
  while (s.faults.length === 0) {
    await new Promise(setImmediate)
    s.cluster.fetches.pop()?.answer({ 0: { errorCode: ErrorCode.OFFSET_OUT_OF_RANGE } })
  }
  assert.deepEqual(s.faults, ['0 OTTLA_KAFKA_OFFSET_OUT_OF_RANGE'])
})

test('one broker that does not answer holds up nobody else', async () => {
  await using s = new Script(2)
  s.hold(0)
  s.hold(1)
  await s.cluster.next(0)
  for (let offset = 0; offset < 3; offset++) {
    const fetch = await s.cluster.next(1)
    fetch.answer({ 1: { records: batch(offset, [`${offset}`]) } })
  }
  await s.cluster.next(1)
  assert.deepEqual(s.seen, ['1@0=0', '1@1=1', '1@2=2'])
})

test('in a session only what moved is asked for again, and silence about a partition is good news', async () => {
  await using s = new Script(4)
  s.cluster.sessionId = 9
  s.hold(0)
  s.hold(2)
  const first = await s.cluster.next(0)
  assert.equal(first.session, '0/0')
  first.answer({ 0: { records: batch(0, ['a']) } })
  const second = await s.cluster.next(0)
  assert.equal(second.session, '9/1')
  assert.deepEqual([...second.partitions], [[0, 1]])
  second.answer({ 2: { records: batch(0, ['b']) } })
  const third = await s.cluster.next(0)
  assert.equal(third.session, '9/2')
  assert.deepEqual([...third.partitions], [[2, 1]])
  assert.deepEqual(s.seen, ['0@0=a', '2@0=b'])
})

test('a session the broker has forgotten is replaced at once, without a fault and without a pause', async () => {
  await using s = new Script(1)
  s.cluster.sessionId = 9
  s.hold(0)
  ;(await s.cluster.next(0)).answer({})
  const lost = await s.cluster.next(0)
  assert.equal(lost.session, '9/1')
  lost.answer({}, ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
  const full = await s.cluster.next(0)
  assert.equal(full.session, '0/0')
  assert.deepEqual([...full.partitions], [[0, 0]])
  assert.deepEqual([s.faults, s.cluster.refreshes], [[], 0])
})

test('sessions are ended when reading ends', async () => {
  const s = new Script(2)
  s.cluster.sessionId = 9
  s.hold(0)
  s.hold(1)
  ;(await s.cluster.next(0)).answer({})
  await s.cluster.next(0)
  await s[Symbol.asyncDispose]()
  assert.deepEqual(s.cluster.ended, ['0: 9'], 'broker 1 never gave one')
})

/** A partition of which three records of leader epoch 5 were read, and whose leader then changed. */
async function afterElection(
  epochEnd: ScriptedCluster['epochEnd'],
  more: { readonly outOfRange?: 'earliest' | 'latest' } = {},
): Promise<Script> {
  const s = new Script(1, more)
  s.cluster.epochEnd = epochEnd
  s.hold(0)
  const fetch = await s.cluster.next(0)
  s.cluster.elect(6, () => 1)
  fetch.answer({ 0: { records: batch(0, ['a', 'b', 'c'], { leaderEpoch: 5 }) } })
  return s
}

test('a new leader that has what was read is asked for it first, and then read on', async () => {
  await using s = await afterElection({ errorCode: 0, leaderEpoch: 5, endOffset: 3 })
  assert.equal((await s.cluster.next(1)).partitions.get(0), 3)
  assert.deepEqual(s.cluster.epochQuestions, ['1: 0 epoch 5 of 6'])
  assert.deepEqual(s.faults, [])
})

for (const [what, end] of [
  ['ends below', { errorCode: 0, leaderEpoch: 5, endOffset: 2 }],
  ['has no such epoch', { errorCode: 0, leaderEpoch: 4, endOffset: 30 }],
  ['cannot tell', { errorCode: 0, leaderEpoch: -1, endOffset: -1 }],
] as const) {
  test(`a new leader whose log ${what} is a truncation: told, and nothing is read until a seek`, async () => {
    await using s = new Script(1)
    const held = s.hold(0)
    const fetch = await s.cluster.next(0)
    s.cluster.elect(6, () => 1)
    s.cluster.epochEnd = end
    fetch.answer({ 0: { records: batch(0, ['a', 'b', 'c'], { leaderEpoch: 5 }) } })
    while (s.faults.length === 0) await new Promise(setImmediate)
    assert.deepEqual(s.faults, ['0 OTTLA_KAFKA_LOG_TRUNCATED'])
    assert.equal(s.cluster.fetches.length, 0)
    s.loop.seek(held, 2)
    assert.equal((await s.cluster.next(1)).partitions.get(0), 2)
  })
}

test('a leader that does not know its epoch yet, or a newer one, is asked again', async () => {
  await using s = await afterElection({ errorCode: ErrorCode.UNKNOWN_LEADER_EPOCH, leaderEpoch: -1, endOffset: -1 })
  while (s.cluster.epochQuestions.length < 2) await new Promise((resolve) => setTimeout(resolve, 1))
  s.cluster.epochEnd = { errorCode: ErrorCode.FENCED_LEADER_EPOCH, leaderEpoch: -1, endOffset: -1 }
  const asked = s.cluster.epochQuestions.length
  while (s.cluster.epochQuestions.length < asked + 2) await new Promise((resolve) => setTimeout(resolve, 1))
  s.cluster.epochEnd = { errorCode: 0, leaderEpoch: 5, endOffset: 3 }
  assert.equal((await s.cluster.next(1)).partitions.get(0), 3)
  assert.deepEqual(s.faults, [])
  assert.ok(s.cluster.refreshes >= 2)
})

test('a log that differs is also seen in the answer to a fetch', async () => {
  await using s = new Script(1)
  s.hold(0)
  ;(await s.cluster.next(0)).answer({ 0: { records: batch(0, ['a', 'b', 'c'], { leaderEpoch: 5 }) } })
  ;(await s.cluster.next(0)).answer({ 0: { diverging: { epoch: 4, endOffset: 1 } } })
  while (s.faults.length === 0) await new Promise(setImmediate)
  assert.deepEqual(s.faults, ['0 OTTLA_KAFKA_LOG_TRUNCATED'])
})

test('with a stated policy a truncated log is told, and read on from where it differs', async () => {
  await using s = await afterElection({ errorCode: 0, leaderEpoch: 5, endOffset: 2 }, { outOfRange: 'latest' })
  assert.equal((await s.cluster.next(1)).partitions.get(0), 2)
  assert.deepEqual(s.faults, ['0 OTTLA_KAFKA_LOG_TRUNCATED'])
})

test('with a stated policy a position out of range is told, and reading goes on at that end of the log', async () => {
  for (const [outOfRange, position] of [
    ['earliest', 10],
    ['latest', 20],
  ] as const) {
    await using s = new Script(1, { outOfRange })
    Object.assign(s.cluster.ends, { start: 10, end: 20 })
    s.hold(0, 3)
    ;(await s.cluster.next(0)).answer({ 0: { errorCode: ErrorCode.OFFSET_OUT_OF_RANGE } })
    for (;;) {
      const fetch = await s.cluster.next(0)
      if (fetch.partitions.get(0) === position) break
      fetch.answer({ 0: { errorCode: ErrorCode.OFFSET_OUT_OF_RANGE } })
    }
    assert.deepEqual(s.faults, ['0 OTTLA_KAFKA_OFFSET_OUT_OF_RANGE'])
  }
})

/** Bytes as they lie in a frame of an answer. */
function inFrame(...parts: readonly Uint8Array[]): Uint8Array {
  const all = bytes(...parts)
  const frame = framePool.take(100_000)
  frame.set(all, 10)
  return frame.subarray(10, 10 + all.length)
}

/** Is this the memory that the next frame would get? */
function isFree(records: Uint8Array): boolean {
  const next = framePool.take(100_000)
  const isIt = next.buffer === records.buffer
  framePool.give(next.buffer)
  return isIt
}

test('the memory of an answer is used again when every batch of it was released, and not before', async () => {
  await using s = new Script(1)
  s.hold(0)
  const given: FetchedBatch[] = []
  s.onBatch = (_, records) => given.push(records)
  const records = inFrame(batch(0, ['a', 'b']), batch(2, ['c']))
  ;(await s.cluster.next(0)).answer({ 0: { records } })
  const next = await s.cluster.next(0)
  assert.equal(isFree(records), false)
  given[0]?.release()
  given[0]?.release()
  assert.equal(isFree(records), false, 'the second batch is still read')
  assert.equal(Buffer.from(given[1]?.value(0) ?? []).toString(), 'c')
  given[1]?.release()
  assert.equal(isFree(records), true)
  assert.throws(() => given[1]?.value(0), /released/)
  next.answer({})
})

test('memory that nobody releases, or that was fetched for a partition that is gone, is never used again', async () => {
  await using s = new Script(4)
  const held = s.hold(0)
  s.hold(2)
  s.onBatch = (which, records) => {
    if (which.partition === 2) records.release()
  }
  s.loop.pause(held)
  const frame = inFrame(batch(0, ['a']))
  const both = frame.subarray()
  ;(await s.cluster.next(0)).answer({ 0: { records: both }, 2: { records: both } })
  await new Promise(setImmediate)
  assert.equal(isFree(frame), false, 'partition 0 has not been handed on')
  s.loop.remove(held)
  assert.equal(isFree(frame), false)
})

test('what was inflated has memory of its own: the frame is free at once', async () => {
  await using s = new Script(1)
  s.hold(0)
  const given: FetchedBatch[] = []
  s.onBatch = (_, records) => given.push(records)
  const records = inFrame(batch(0, ['a'], { gzip: true }))
  ;(await s.cluster.next(0)).answer({ 0: { records } })
  await s.cluster.next(0)
  assert.equal(isFree(records), true)
  records.fill(0)
  assert.equal(given[0]?.valueText(0), 'a')
})

test('one slow partition never starves another: its neighbour on the same broker is fetched on and on', async () => {
  await using s = new Script(4)
  s.cluster.sessionId = 9
  const slow = s.hold(0)
  s.hold(2)
  s.onBatch = (held) => {
    if (held.partition === 0) s.loop.pause(held)
  }
  const first = await s.cluster.next(0)
  first.answer({ 0: { records: bytes(batch(0, ['s']), batch(1, ['s'])) }, 2: { records: batch(0, ['n']) } })
  // Once more the slow one is read ahead; from then on only its neighbour is asked for.
  ;(await s.cluster.next(0)).answer({ 0: { records: batch(2, ['s']) }, 2: { records: batch(1, ['n']) } })
  for (let offset = 2; offset < 20; offset++) {
    const fetch = await s.cluster.next(0)
    assert.equal(fetch.partitions.has(0), false)
    assert.equal(fetch.partitions.get(2), offset)
    fetch.answer({ 2: { records: batch(offset, ['n']) } })
  }
  const last = await s.cluster.next(0)
  assert.equal(s.seen.filter((each) => each.startsWith('2@')).length, 20)
  assert.deepEqual(
    s.seen.filter((each) => each.startsWith('0@')),
    ['0@0=s'],
  )
  s.onBatch = () => undefined
  s.loop.resume(slow)
  await new Promise(setImmediate)
  assert.deepEqual(
    s.seen.filter((each) => each.startsWith('0@')),
    ['0@0=s', '0@1=s', '0@2=s'],
  )
  last.answer({})
})
