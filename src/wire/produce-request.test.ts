/** The hand-written Produce request is, byte for byte, the one that the table makes. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type ProduceTopic, produceRequest } from './produce-request.ts'
import { Api, decodeRequest, decodeRequestHeader, encodeRequest, versionRange } from './protocol.ts'
import { RecordBatchBuilder } from './record-batch.ts'
import { uuidText } from './uuid.ts'

const versions = (): number[] => {
  const { min, max } = versionRange(Api.Produce)
  return Array.from({ length: max - min + 1 }, (_, i) => min + i)
}

const joined = (pieces: readonly Uint8Array[]): Uint8Array => Uint8Array.from(Buffer.concat(pieces))

/** The same request, by the table. */
function byTable(
  prefix: { version: number; correlationId: number; clientId: string },
  timeoutMs: number,
  topics: readonly ProduceTopic[],
): Uint8Array {
  return encodeRequest(Api.Produce, prefix.version, prefix.correlationId, prefix.clientId, {
    acks: -1,
    timeoutMs,
    topicData: topics.map(({ name, id, partitions }) => ({
      ...(prefix.version >= 13 ? { topicId: id } : { name }),
      partitionData: partitions.map(({ index, batch }) => ({ index, records: joined([batch.head, batch.records]) })),
    })),
  })
}

const recordBytes = fc.oneof(
  fc.uint8Array({ minLength: 1, maxLength: 60 }),
  // Around the size from which records are a piece of their own, and where a length takes three bytes.
  fc
    .constantFrom(4034, 4035, 4036, 4095, 4096, 4097, 16_321, 16_322, 16_384, 70_000)
    .map((n) => new Uint8Array(n).fill(n)),
)
const topic = fc.record({
  name: fc.string({ unit: 'binary', maxLength: 80 }),
  id: fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => uuidText(bytes, 0)),
  partitions: fc.array(
    fc.record({
      index: fc.nat(100_000),
      batch: fc.record({ head: fc.constant(new Uint8Array(61).fill(7)), records: recordBytes }),
    }),
    { maxLength: 5 },
  ),
})

test('the frame is the one of the table, in every version, for any topics, partitions and sizes', () => {
  const { min } = versionRange(Api.Produce)
  assert.equal(min, 3, 'older versions would have to be written too')
  fc.assert(
    fc.property(
      fc.record({
        version: fc.constantFrom(...versions()),
        correlationId: fc.integer({ min: 1, max: 0x7fff_ffff }),
        clientId: fc.string({ unit: 'binary', maxLength: 300 }),
      }),
      fc.nat(0x7fff_ffff),
      fc.oneof(
        { weight: 20, arbitrary: fc.array(topic, { maxLength: 4 }) },
        { weight: 1, arbitrary: fc.array(topic, { minLength: 127, maxLength: 129 }) },
      ),
      (prefix, timeoutMs, topics) => {
        const written = Buffer.concat(produceRequest(timeoutMs, topics).pieces(prefix))
        assert.ok(written.equals(byTable(prefix, timeoutMs, topics)))
      },
    ),
    { numRuns: 200 },
  )
})

test('a batch of some size is handed on as it is, a small one stands with its header in one piece', () => {
  const builder = new RecordBatchBuilder()
  const prefix = { version: 13, correlationId: 1, clientId: 'c' }
  const request = () =>
    produceRequest(1000, [{ name: 't', id: 'AAAAAAAAAAAAAAAAAAAAAQ', partitions: [{ index: 0, batch: parts() }] }])
  const parts = () => builder.buildParts({ producerId: 1, producerEpoch: 2, baseSequence: 3 })
  builder.append('key', 'value', [], 1)
  assert.equal(request().pieces(prefix).length, 1)
  for (let i = 0; i < 100; i++) builder.append('key', 'x'.repeat(100), [], 1)
  const { records } = parts()
  const pieces = request().pieces(prefix)
  assert.equal(pieces.length, 3)
  const [head, viewed] = pieces as [Uint8Array, Uint8Array]
  assert.equal(viewed.buffer, records.buffer)
  assert.equal(viewed.length, records.length)
  assert.notEqual(head.buffer, records.buffer)

  // Numbered anew for another attempt, what was written before stays as it was.
  const before = joined(pieces)
  builder.buildParts({ producerId: 1, producerEpoch: 3, baseSequence: 0 })
  assert.deepEqual(joined(pieces), before)
  const frame = before.subarray(4)
  const header = decodeRequestHeader(frame)
  const body = decodeRequest(frame, { ...header, apiKey: Api.Produce })
  assert.deepEqual(body.topicData[0]?.partitionData[0]?.records?.length, 61 + records.length)
})
