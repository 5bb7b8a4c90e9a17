/**
 * A broker that answers with bytes that are no answer: each API the client asks, each way to be wrong. Nothing may be
 * thrown where nobody catches, no memory may be taken on the broker's word, and every question ends in a typed error
 * within the time set for it.
 */
import assert from 'node:assert/strict'
import { before, describe, test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { OttlaError } from '../../src/contract/errors.ts'
import { KafkaClient } from '../../src/kafka/client.ts'
import { Api, type ApiName, encodeResponse } from '../../src/wire/protocol.ts'
import { type Received, scriptedBroker } from './scripted-broker.ts'

const timeoutMs = 400
/** What a loaded machine may add. */
const graceMs = 1_500

/** Everything the client asks. */
const asked: readonly ApiName[] = [
  'ApiVersions',
  'CreatePartitions',
  'CreateTopics',
  'DeleteGroups',
  'DeleteRecords',
  'DeleteTopics',
  'DescribeConfigs',
  'DescribeGroups',
  'Fetch',
  'FindCoordinator',
  'Heartbeat',
  'InitProducerId',
  'JoinGroup',
  'LeaveGroup',
  'ListGroups',
  'ListOffsets',
  'Metadata',
  'OffsetCommit',
  'OffsetFetch',
  'Produce',
  'SyncGroup',
]

interface Wrong {
  readonly name: string
  /** Bytes instead of `frame`, which is a right answer with its length in front. */
  readonly bytes: (frame: Buffer, request: Received) => Uint8Array
  readonly hangUp?: true
}

const withLength = (body: Uint8Array): Buffer => {
  const head = Buffer.alloc(4)
  head.writeInt32BE(body.length)
  return Buffer.concat([head, body])
}
/** The answer's correlation id, then these bytes. */
const after = (frame: Buffer, body: Uint8Array): Buffer => withLength(Buffer.concat([frame.subarray(4, 8), body]))

const wrongs: readonly Wrong[] = [
  { name: 'an announced length of 2 GiB', bytes: () => Buffer.from([0x7f, 0xff, 0xff, 0xff, 0, 0]) },
  { name: 'a negative length', bytes: () => Buffer.from([0xff, 0xff, 0xff, 0xf0]) },
  { name: 'a length of zero', bytes: () => Buffer.alloc(4) },
  { name: 'a length beyond the limit set', bytes: () => Buffer.from([0x00, 0x20, 0x00, 0x00, 1, 2, 3]) },
  {
    name: 'an answer to another question',
    bytes: (frame) => {
      const other = Buffer.from(frame)
      other.writeInt32BE(other.readInt32BE(4) + 7, 4)
      return other
    },
  },
  { name: 'nothing behind the correlation id', bytes: (frame) => after(frame, new Uint8Array(0)) },
  { name: 'all bytes 0xff', bytes: (frame) => after(frame, Buffer.alloc(64, 0xff)) },
  { name: 'counts of two thousand millions', bytes: (frame) => after(frame, Buffer.alloc(64, 0x7f)) },
  { name: 'the last byte missing', bytes: (frame) => withLength(frame.subarray(4, -1)) },
  {
    name: 'bytes behind the end',
    bytes: (frame) => withLength(Buffer.concat([frame.subarray(4), Buffer.alloc(9, 0xee)])),
  },
  { name: 'half of an answer, then silence', bytes: (frame) => frame.subarray(0, frame.length - 2) },
  { name: 'half of an answer, then the end', bytes: (frame) => frame.subarray(0, frame.length - 2), hangUp: true },
  { name: 'an HTTP answer', bytes: () => Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n') },
  { name: 'a TLS alert', bytes: () => Buffer.from([0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x46]) },
]

const collect: () => void = (() => {
  setFlagsFromString('--expose-gc')
  return runInNewContext('gc') as () => void
})()

function memoryBytes(): number {
  collect()
  const { heapUsed, external, arrayBuffers } = process.memoryUsage()
  return heapUsed + external + arrayBuffers
}

/** Asks one question of a broker that answers it wrongly. */
async function ask(api: ApiName, wrong: Wrong): Promise<void> {
  const key = Api[api]
  let struck = false
  await using broker = await scriptedBroker({
    onRequest: (request) => {
      if (request.api !== key) return false
      struck = true
      const right = Buffer.from(encodeResponse(key, request.version, request.correlationId, {}))
      request.raw(wrong.bytes(right, request))
      if (wrong.hangUp) request.socket.end()
      return true
    },
  })
  await using client = new KafkaClient({
    bootstrapServers: `127.0.0.1:${broker.port}`,
    requestTimeoutMs: timeoutMs,
    connectTimeoutMs: timeoutMs,
    maxFrameBytes: 1024 * 1024,
  })
  const startMs = performance.now()
  const question = api === 'ApiVersions' ? Api.Metadata : key
  await assert.rejects(client.cluster.request('any', question, {}), (error: unknown) => {
    assert.ok(error instanceof OttlaError, `${wrong.name}: ${String(error)}`)
    assert.match(error.code, /^OTTLA_(WIRE_MALFORMED|KAFKA_(CONNECTION|TIMEOUT|TLS))$/, wrong.name)
    return true
  })
  const tookMs = performance.now() - startMs
  assert.ok(tookMs < timeoutMs + graceMs, `${wrong.name} took ${tookMs} ms`)
  assert.ok(struck, `${wrong.name} was never said`)
}

describe('a broker whose answers are no answers', () => {
  let atFirst = 0
  before(() => {
    atFirst = memoryBytes()
  })
  describe('to each question', { concurrency: 4 }, () => {
    for (const api of asked) {
      test(`${api}: ${wrongs.length} wrong answers, ${wrongs.length} typed errors in time`, async () => {
        await Promise.all(wrongs.map((wrong) => ask(api, wrong)))
      })
    }
  })

  test('and memory has not grown by more than 64 MiB', () => {
    const grown = memoryBytes() - atFirst
    assert.ok(grown <= 64 * 1024 * 1024, `${grown} bytes`)
    assert.ok(asked.length * wrongs.length >= 200)
  })
})
