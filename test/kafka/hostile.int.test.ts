/**
 * A broker whose answers are well formed and nonsense: numbers that cannot be, items that nobody asked for or that are
 * left out, codes that do not exist, records that are damaged. The embedded broker answers, and on the way every answer
 * of one API is twisted, while a producer, a group member and an admin work behind it.
 *
 * Calls end well or in a typed error within their time; nothing is thrown where nobody catches; what a consumer hands on
 * was published; closing ends.
 */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { gzipSync } from 'node:zlib'
import { startBroker } from '../../src/broker.ts'
import { OttlaError } from '../../src/contract/errors.ts'
import { KafkaClient } from '../../src/kafka/client.ts'
import { startFaultProxy } from '../../src/testing/fault-proxy.ts'
import type { FetchResponse } from '../../src/wire/messages.gen.ts'
import {
  Api,
  type ApiName,
  type Draft,
  decodeResponse,
  encodeResponse,
  type Responses,
} from '../../src/wire/protocol.ts'
import { RecordBatchBuilder } from '../../src/wire/record-batch.ts'

type Value = unknown
type Twist = (key: string, value: Value) => Value

/** Everything in a message, its leaves and lists changed. */
function twisted(value: Value, twist: Twist, key = ''): Value {
  if (value instanceof Uint8Array) return twist(key, value)
  if (Array.isArray(value)) {
    const list = twist(key, value) as Value[]
    return list === value ? value.map((each) => twisted(each, twist, '')) : list
  }
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, twisted(inner, twist, name)]))
  }
  return twist(key, value)
}

const numbers =
  (to: number): Twist =>
  (key, value) =>
    typeof value === 'number' && !/^(throttleTimeMs|apiKey|minVersion|maxVersion|errorCode)$/.test(key) ? to : value

const everywhere: Readonly<Record<string, Twist>> = {
  'nothing is in any list': (_, value) => (Array.isArray(value) ? [] : value),
  'everything is said twice': (_, value) => (Array.isArray(value) ? [...value, ...value] : value),
  'a code nobody knows': (key, value) => (key === 'errorCode' ? 9_999 : value),
  'a code that passes, forever': (key, value) => (key === 'errorCode' ? 7 : value),
  'every number is -1': numbers(-1),
  'every number is 127': numbers(127),
  'every text is another': (_, value) => (typeof value === 'string' && value.length !== 22 ? 'other' : value),
  'every text is empty': (_, value) => (typeof value === 'string' && value.length !== 22 ? '' : value),
  'all bytes are 0xff': (_, value) => (value instanceof Uint8Array ? Buffer.alloc(40, 0xff) : value),
}

const producing: readonly ApiName[] = ['ApiVersions', 'Metadata', 'InitProducerId', 'Produce']
const consuming: readonly ApiName[] = [
  'FindCoordinator',
  'JoinGroup',
  'SyncGroup',
  'Heartbeat',
  'OffsetFetch',
  'ListOffsets',
  'Fetch',
  'OffsetCommit',
  'LeaveGroup',
]
const managing: readonly ApiName[] = [
  'CreateTopics',
  'CreatePartitions',
  'DescribeConfigs',
  'DescribeGroups',
  'ListGroups',
  'DeleteRecords',
  'DeleteGroups',
  'DeleteTopics',
]

function damagedFetch(records: (good: Uint8Array) => Uint8Array): (body: FetchResponse) => Draft<FetchResponse> {
  return (body) => ({
    ...body,
    responses: body.responses.map((topic) => ({
      ...topic,
      partitions: topic.partitions.map((partition) => ({
        ...partition,
        records:
          partition.records === null || partition.records.length === 0
            ? partition.records
            : records(Buffer.from(partition.records)),
      })),
    })),
  })
}

const edit = (good: Uint8Array, change: (bytes: Buffer) => void): Uint8Array => {
  const bytes = Buffer.from(good)
  change(bytes)
  return bytes
}

/** One batch of 40 MiB when inflated, and of 40 KiB before. */
function makeBomb(): Uint8Array {
  const builder = new RecordBatchBuilder()
  builder.append(null, new Uint8Array(40 * 1024 * 1024), [], 0)
  return builder.build({
    producerId: -1,
    producerEpoch: -1,
    baseSequence: -1,
    compression: { name: 'gzip', codec: { compress: (bytes) => gzipSync(bytes), decompress: (bytes) => bytes } },
  })
}

const bomb = makeBomb()

const damage: Readonly<Record<string, (body: FetchResponse) => Draft<FetchResponse>>> = {
  'a flipped bit in a record': damagedFetch((good) =>
    edit(good, (b) => b.writeUInt8(b.readUInt8(b.length - 2) ^ 1, b.length - 2)),
  ),
  'a record count of two thousand millions': damagedFetch((good) => edit(good, (b) => b.writeInt32BE(0x7fff_ffff, 57))),
  'a batch length of two thousand millions': damagedFetch((good) => edit(good, (b) => b.writeInt32BE(0x7fff_ffff, 8))),
  'a negative batch length': damagedFetch((good) => edit(good, (b) => b.writeInt32BE(-5, 8))),
  'an old message format': damagedFetch((good) => edit(good, (b) => b.writeInt8(1, 16))),
  'a compression nobody knows': damagedFetch((good) => edit(good, (b) => b.writeInt16BE(7, 21))),
  'an offset far below': damagedFetch((good) => edit(good, (b) => b.writeBigInt64BE(-1000n, 0))),
  'a batch that inflates beyond its bound': damagedFetch(() => bomb),
}

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

function memoryBytes(): number {
  collect()
  const { heapUsed, external, arrayBuffers } = process.memoryUsage()
  return heapUsed + external + arrayBuffers
}

/** Waits for something, but no longer than this. */
async function until(condition: () => boolean, limitMs = 5_000): Promise<void> {
  const endMs = performance.now() + limitMs
  while (!condition() && performance.now() < endMs) await new Promise((resolve) => setTimeout(resolve, 10))
}

/** Ends well or in an error of ours, in time. */
async function settles(what: string, work: Promise<unknown>, limitMs: number): Promise<void> {
  const startMs = performance.now()
  await work.catch((error: unknown) => assert.ok(error instanceof OttlaError, `${what}: ${String(error)}`))
  const tookMs = performance.now() - startMs
  assert.ok(tookMs < limitMs, `${what} took ${tookMs} ms`)
}

async function play<A extends ApiName>(
  api: A,
  twist: (body: Responses[(typeof Api)[A]]) => Draft<Responses[(typeof Api)[A]]>,
  isTold = false,
): Promise<readonly OttlaError[]> {
  await using broker = await startBroker({ topics: [{ topic: 't', partitions: 2 }, 'gone'] })
  await using honest = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
  await honest.producer().sendMany([0, 1].map((partition) => ({ topic: 't', partition, value: 'known' })))
  await using proxy = await startFaultProxy(broker.bootstrapServers)
  const fault = proxy.fault({
    api,
    times: Number.POSITIVE_INFINITY,
    action: {
      do: 'replace',
      with: (answer, request) => {
        const body = decodeResponse(Api[api], request.version, answer.subarray(4))
        const lie = twist(body as Responses[(typeof Api)[A]])
        try {
          return encodeResponse(Api[api], request.version, request.correlationId, lie)
        } catch {
          // This version cannot say it; then the truth does.
          return answer
        }
      },
    },
  })
  await using client = new KafkaClient({
    bootstrapServers: proxy.bootstrapServers,
    requestTimeoutMs: 500,
    connectTimeoutMs: 500,
  })
  const faults: OttlaError[] = []
  const works: Promise<void>[] = []
  if (producing.includes(api)) {
    const producer = client.producer({ deliveryTimeoutMs: 700, maxBlockMs: 700 })
    works.push(settles('send', producer.send({ topic: 't', partition: 0, value: 'known' }), 2_500))
  }
  if (managing.includes(api) || api === 'Metadata' || api === 'FindCoordinator') {
    const admin = client.admin()
    const calls: Readonly<Record<string, () => Promise<unknown>>> = {
      // Waits five seconds for a leader, so that lies about leaders are told to the others.
      ...(managing.includes(api) ? { createTopics: () => admin.createTopics([{ topic: 'n', partitions: 1 }]) } : {}),
      createPartitions: () => admin.createPartitions([{ topic: 't', partitions: 4 }]),
      listTopics: () => admin.listTopics(),
      describeTopics: () => admin.describeTopics(['t']),
      describeCluster: () => admin.describeCluster(),
      listGroups: () => admin.listGroups(),
      describeGroups: () => admin.describeGroups(['g']),
      fetchOffsets: () => admin.fetchOffsets('g'),
      deleteRecords: () => admin.deleteRecords([{ topic: 't', partition: 0, beforeOffset: 0 }]),
      deleteGroups: () => admin.deleteGroups(['g']),
      deleteTopics: () => admin.deleteTopics(['gone']),
    }
    for (const [name, call] of Object.entries(calls)) works.push(settles(name, call(), 7_500))
  }
  const isConsumed = consuming.includes(api) || api === 'Metadata'
  let committed = false
  const consumer = isConsumed
    ? client.consumer(
        {
          groupId: 'g',
          topics: ['t'],
          sessionTimeoutMs: 1_000,
          heartbeatIntervalMs: 50,
          rebalanceTimeoutMs: 1_000,
          drainTimeoutMs: 300,
          fetchMaxWaitMs: 50,
          maxInflatedBytes: 1024 * 1024,
        },
        {
          batch: (held, records) => {
            for (let i = 0; i < records.count; i += 1) {
              if (Buffer.from(records.value(i) ?? []).toString() !== 'known') strange += 1
            }
            if (committed) return
            committed = true
            works.push(settles('commit', consumer!.commit(held, { offset: records.nextPosition, metadata: '' }), 5_000))
          },
          fault: (_, error) => faults.push(error),
        },
      )
    : null
  let strange = 0
  await Promise.all(works)
  if (consumer !== null) {
    // Leaving is asked for by closing.
    await until(() => (api === 'LeaveGroup' ? committed : fault.struck > 0))
    if (isTold) await until(() => faults.length > 0)
    await until(() => fault.struck > 3, 100)
    await settles('closing', consumer[Symbol.asyncDispose](), 5_000)
  }
  await Promise.all(works)
  assert.ok(fault.struck > 0, 'the lie was never told')
  assert.equal(strange, 0, 'something was handed on that nobody published')
  for (const error of faults) assert.ok(error instanceof OttlaError, String(error))
  return faults
}

describe('a broker whose answers are nonsense', { concurrency: 12 }, () => {
  let atFirst = 0
  before(() => {
    atFirst = memoryBytes()
  })
  after(() => {
    const grown = memoryBytes() - atFirst
    assert.ok(grown <= 64 * 1024 * 1024, `memory has grown by ${grown} bytes`)
  })
  for (const api of [...producing, ...consuming, ...managing]) {
    for (const [name, twist] of Object.entries(everywhere)) {
      test(`${api}: ${name}`, { timeout: 30_000 }, async () => {
        await play(api, (body) => twisted(body, twist) as typeof body)
      })
    }
  }
  for (const [name, twist] of Object.entries(damage)) {
    test(`records with ${name} are handed to nobody, and somebody is told`, { timeout: 30_000 }, async () => {
      const faults = await play('Fetch', twist, true)
      assert.ok(faults.length > 0, 'nobody was told')
    })
  }
})
