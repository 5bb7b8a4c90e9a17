import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { RecordBatch, RecordBatchBuilder, type RecordHeader } from './record-batch.ts'

const bytes = (min: number, max: number) => fc.uint8Array({ minLength: min, maxLength: max })
const headers = fc.array(
  fc.record({
    key: fc.oneof(fc.constantFrom('ce_id', 'traceparent', ''), fc.string({ maxLength: 90 })),
    value: fc.oneof({ weight: 5, arbitrary: bytes(0, 90) }, { weight: 1, arbitrary: fc.constant(null) }),
  }),
  { maxLength: 12 },
)

function inPlace(batch: RecordBatch, index: number): RecordHeader[] {
  const seen: RecordHeader[] = []
  batch.eachHeader(index, (all, nameFrom, nameTo, valueFrom, valueTo) => {
    seen.push({
      key: Buffer.from(all.subarray(nameFrom, nameTo)).toString(),
      value: valueFrom < 0 ? null : all.subarray(valueFrom, valueTo),
    })
  })
  return seen
}

test('headers shown in place are the headers, short and long ones, nulls and none', () => {
  fc.assert(
    fc.property(fc.array(headers, { minLength: 1, maxLength: 4 }), bytes(0, 200), (records, value) => {
      const builder = new RecordBatchBuilder(256)
      for (const each of records) builder.append(null, value, each, 0)
      const batch = new RecordBatch(builder.build({}))
      for (let index = 0; index < records.length; index++) {
        const plain = (list: readonly RecordHeader[]) => list.map((h) => [h.key, h.value && [...h.value]])
        assert.deepEqual(plain(inPlace(batch, index)), plain(batch.headers(index)))
      }
    }),
  )
})

test('headers that lie about their lengths are refused in place as they are elsewhere', () => {
  fc.assert(
    fc.property(headers, fc.nat(), fc.nat(255), (list, at, byte) => {
      const builder = new RecordBatchBuilder(256)
      builder.append(null, null, list, 0)
      builder.append(null, null, list, 0)
      const built = Uint8Array.from(builder.build({}))
      built[61 + (at % (built.length - 61))] = byte
      const outcome = (read: (batch: RecordBatch) => readonly RecordHeader[]): unknown => {
        try {
          const batch = new RecordBatch(built, { crc32c: false })
          return read(batch).map(({ value }) => value && [...value])
        } catch (error) {
          return (error as { code?: string }).code
        }
      }
      for (const index of [0, 1]) {
        assert.deepEqual(
          outcome((batch) => inPlace(batch, index)),
          outcome((batch) => batch.headers(index)),
        )
      }
    }),
    // Found once: a value that swallows the header's count leaves bytes behind no header at all.
    { numRuns: 500, examples: [[[{ key: '', value: null }], 505443668, 2]] },
  )
})
