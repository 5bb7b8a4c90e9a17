/** What Apache Kafka 4.3.1 answered to requests of ours, recorded by `tools/protocol/capture.ts`. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import type { FetchResponse } from '../../src/wire/messages.gen.ts'
import {
  Api,
  type ApiKey,
  type ApiName,
  decodeRequest,
  decodeRequestHeader,
  decodeResponse,
  encodeRequest,
  encodeResponse,
  type Responses,
  versionRange,
} from '../../src/wire/protocol.ts'
import { type RecordBatch, readBatches } from '../../src/wire/record-batch.ts'
import { compression } from './codecs.ts'

interface Exchange {
  readonly note: string
  readonly api: ApiName
  readonly version: number
  readonly request: string
  readonly response: string
}

const exchanges = JSON.parse(
  readFileSync(new URL('../fixtures/wire/kafka-4.3.1.json', import.meta.url), 'utf8'),
) as readonly Exchange[]

const bytes = (hex: string): Uint8Array => Buffer.from(hex, 'hex')
const hexOf = (raw: Uint8Array): string => Buffer.from(raw).toString('hex')

function answers<K extends ApiKey>(api: K, note: string): readonly Responses[K][] {
  const found = exchanges.filter((exchange) => Api[exchange.api] === api && exchange.note === note)
  assert.ok(found.length > 0, `the capture has ${note}`)
  return found.map((exchange) => decodeResponse(api, exchange.version, bytes(exchange.response)))
}

const partitionOf = (answer: FetchResponse) => answer.responses[0]!.partitions[0]!
const batchesOf = (answer: FetchResponse): RecordBatch[] => [
  ...readBatches(partitionOf(answer).records ?? new Uint8Array(0), { compression }),
]

test('every answer of Apache Kafka decodes, and encodes to the same bytes again', () => {
  assert.ok(exchanges.length > 180)
  for (const { api, note, version, response } of exchanges) {
    const frame = bytes(response)
    const body = decodeResponse(Api[api], version, frame)
    const again = encodeResponse(Api[api], version, Buffer.from(frame).readInt32BE(0), body)
    assert.equal(hexOf(again.subarray(4)), response, `${api} v${version}: ${note}`)
  }
})

test('every request that Apache Kafka understood decodes, and encodes to the same bytes again', () => {
  for (const { api, note, version, request } of exchanges) {
    const frame = bytes(request)
    const header = decodeRequestHeader(frame)
    assert.equal(header.apiKey, Api[api])
    if (header.apiVersion > versionRange(header.apiKey).max) continue
    assert.equal(header.clientId, 'capture')
    const body = decodeRequest(frame, header)
    const again = encodeRequest(Api[api], version, header.correlationId, header.clientId, body)
    assert.equal(hexOf(again.subarray(4)), request, `${api} v${version}: ${note}`)
  }
})

test('all versions of the main requests were understood by Apache Kafka', () => {
  const covered = [
    Api.ApiVersions,
    Api.Metadata,
    Api.Produce,
    Api.Fetch,
    Api.ListOffsets,
    Api.FindCoordinator,
    Api.JoinGroup,
    Api.ListGroups,
    Api.InitProducerId,
    Api.CreateTopics,
  ]
  for (const api of covered) {
    const seen = new Set(exchanges.filter((exchange) => Api[exchange.api] === api).map(({ version }) => version))
    const { min, max } = versionRange(api)
    for (let version = min; version <= max; version++) assert.ok(seen.has(version), `${api} v${version}`)
  }
})

test('the versions that Apache Kafka announces include those of the table', () => {
  for (const answer of answers(Api.ApiVersions, 'versions')) {
    assert.equal(answer.errorCode, 0)
    for (const { apiKey, minVersion, maxVersion } of answer.apiKeys) {
      const ours = versionRange(apiKey)
      assert.ok(ours.min >= minVersion && ours.max === maxVersion, `API ${apiKey}`)
    }
  }
  const [unknown] = answers(Api.ApiVersions, 'a version that the broker does not know is answered in version 0')
  assert.equal(unknown!.errorCode, 35)
  assert.deepEqual(unknown!.apiKeys, [{ apiKey: 18, minVersion: 0, maxVersion: 4 }])
})

test('all versions of Produce are answered with an offset, one after another', () => {
  const offsets = answers(Api.Produce, 'plain').map((answer) => answer.responses[0]!.partitionResponses[0]!.baseOffset)
  assert.deepEqual(
    offsets,
    offsets.map((_, i) => i * 4),
  )
})

test('batches that are stored plain, with gzip and with zstd come back the same', () => {
  for (const answer of answers(Api.Fetch, 'one plain, one gzip, one zstd batch')) {
    assert.equal(partitionOf(answer).errorCode, 0)
    assert.equal(partitionOf(answer).highWatermark, 12)
    const batches = batchesOf(answer)
    assert.ok(batches.length >= 1)
    for (const [i, batch] of batches.entries()) {
      assert.equal(batch.compression, [null, 'gzip', 'zstd'][i])
      assert.equal(batch.baseOffset, i * 4)
      assert.equal(batch.nextPosition, i * 4 + 4)
      assert.equal(batch.count, 4)
      assert.deepEqual(batch.key(0), Buffer.from('key-1'))
      assert.deepEqual(batch.headers(0), [{ key: 'ce_id', value: Buffer.from('a') }])
      assert.equal(batch.key(1), null)
      assert.equal(batch.value(2), null)
      assert.deepEqual(
        batch.headers(2).map(({ key }) => key),
        ['h', 'h', 'ключ'],
      )
      assert.equal(batch.headers(2)[1]!.value, null)
      assert.equal(batch.size(3), 800)
      assert.deepEqual(
        [0, 1, 2, 3].map((record) => batch.timestampMs(record) - 1_760_000_000_000),
        [0, 1, -5_000, 70_000],
      )
    }
  }
})

test('a fetch cut at a byte limit gives the whole batches only', () => {
  const whole = partitionOf(answers(Api.Fetch, 'one plain, one gzip, one zstd batch').at(-1)!).records!
  const [first, second] = [...readBatches(whole, { compression })].map((batch) => batch.bytes.length)
  assert.ok(first !== undefined && second !== undefined)
  const cuts = [0, 16, 17, 61, first - 1, first, first + 61, first + second, whole.length - 1, whole.length]
  assert.deepEqual(
    cuts.map((end) => [...readBatches(whole.subarray(0, end), { compression })].length),
    [0, 0, 0, 0, 0, 1, 1, 2, 2, 3],
  )
})

test('an aborted transaction is told with its marker', () => {
  const [answer] = answers(Api.Fetch, 'an aborted transaction and its marker')
  const partition = partitionOf(answer!)
  const batches = batchesOf(answer!)
  assert.equal(batches.length, 2)
  const [data, marker] = batches
  assert.deepEqual(partition.abortedTransactions, [{ producerId: data!.producerId, firstOffset: 12 }])
  assert.ok(data!.isTransactional && !data!.isControl)
  assert.ok(marker!.isTransactional && marker!.isControl)
  assert.equal(marker!.controlType(0), 0)
  assert.equal(marker!.nextPosition, 17)
})

test('a struct that may be null is null once and there once', () => {
  const [joined] = answers(Api.ConsumerGroupHeartbeat, 'joins; the assignment is a struct')
  const [later] = answers(Api.ConsumerGroupHeartbeat, 'nothing new; the assignment is null')
  assert.deepEqual(joined!.assignment?.topicPartitions[0]?.partitions, [0, 1])
  assert.equal(later!.assignment, null)
  const [first] = answers(Api.DescribeTopicPartitions, 'a cursor comes back')
  assert.deepEqual(first!.nextCursor, { topicName: 'orders', partitionIndex: 1 })
  const [all] = answers(Api.DescribeTopicPartitions, 'no cursor')
  assert.equal(all!.nextCursor, null)
})

test('groups of every version were joined, synced, committed and left without an error', () => {
  for (const answer of answers(Api.SyncGroup, 'sync')) {
    assert.equal(answer.errorCode, 0)
    assert.ok(answer.assignment.length > 20)
  }
  for (const answer of answers(Api.Heartbeat, 'heartbeat')) assert.equal(answer.errorCode, 0)
  for (const answer of answers(Api.OffsetCommit, 'commit')) assert.equal(answer.topics[0]!.partitions[0]!.errorCode, 0)
  for (const answer of answers(Api.OffsetFetch, 'committed offsets')) {
    const topics = answer.groups[0]?.topics ?? answer.topics
    assert.deepEqual(
      topics[0]!.partitions.map(({ committedOffset, metadata }) => [committedOffset, metadata]),
      [
        [3, 'note'],
        [-1, ''],
      ],
    )
  }
  for (const answer of answers(Api.LeaveGroup, 'leave')) assert.equal(answer.errorCode, 0)
})
