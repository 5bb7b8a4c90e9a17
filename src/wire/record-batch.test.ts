import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Codec } from './compression.ts'
import { crc32c } from './crc32c.ts'
import {
  batchHeaderBytes,
  nextBatchBytes,
  RecordBatch,
  RecordBatchBuilder,
  readBatches,
  recordBytesAtMost,
} from './record-batch.ts'
import { Writer } from './writer.ts'

const malformed = { code: 'OTTLA_WIRE_MALFORMED' }

const bytes = fc.option(fc.oneof(fc.uint8Array({ maxLength: 40 }), fc.uint8Array({ minLength: 100, maxLength: 300 })))
const record = fc.record({
  key: bytes,
  value: bytes,
  headers: fc.array(
    fc.record(
      { key: fc.oneof(fc.string({ maxLength: 70 }), fc.constantFrom('', 'ключ', 'ce_id', '\ufffd')), value: bytes },
      { noNullPrototype: true },
    ),
    { maxLength: 4 },
  ),
  timestampMs: fc.oneof(fc.integer({ min: 1_760_000_000_000, max: 1_760_000_100_000 }), fc.nat(2 ** 31 - 1)),
})

/** A codec that turns all bits over: enough to see that it is used. */
const flip: Codec = {
  compress: (given) => given.map((byte) => byte ^ 0xff),
  decompress: (given) => given.map((byte) => byte ^ 0xff),
}

function oneRecord(): Uint8Array {
  const builder = new RecordBatchBuilder()
  builder.append(Uint8Array.of(1, 2), Uint8Array.of(3, 4, 5), [{ key: 'h', value: Uint8Array.of(6) }], 1000)
  return builder.build()
}

/** The batch with its records, and what the header says of them, replaced. */
function forged(records: readonly number[], count = 1, lastOffsetDelta = count - 1): Uint8Array {
  const batch = new Uint8Array(batchHeaderBytes + records.length)
  batch.set(oneRecord().subarray(0, batchHeaderBytes))
  batch.set(records, batchHeaderBytes)
  const view = new DataView(batch.buffer)
  view.setInt32(8, batch.length - 12)
  view.setInt32(23, lastOffsetDelta)
  view.setInt32(57, count)
  view.setUint32(17, crc32c(batch, 21))
  return batch
}

test('a text makes the same batch as its bytes, whatever characters it has and wherever it stands', () => {
  const unit = fc.constantFrom('a', '~', '\u0080', 'é', '\u07ff', '\u0800', '€', '\ud800', '\u{1f600}')
  const text = fc.oneof(
    fc.string({ maxLength: 40 }),
    fc.string({ unit, maxLength: 40 }),
    // Lengths at which the way of writing, or the size of the length in front, changes.
    fc.constantFrom(15, 16, 17, 63, 64, 8_191, 8_192, 8_193).map((n) => 'x'.repeat(n)),
    fc.constantFrom(16, 17, 63, 4_096, 8_193).map((n) => `${'x'.repeat(n - 1)}é`),
    fc.constant(null),
  )
  const given = fc.record({
    key: text,
    value: text,
    headers: fc.array(fc.record({ key: fc.string({ unit, maxLength: 30 }), value: text }), { maxLength: 3 }),
  })
  const bytes = (of: string | null): Uint8Array | null => (of === null ? null : Buffer.from(of, 'utf8'))
  fc.assert(
    fc.property(fc.array(given, { minLength: 1, maxLength: 20 }), (records) => {
      const ofTexts = new RecordBatchBuilder(0)
      const ofBytes = new RecordBatchBuilder(0)
      for (const { key, value, headers } of records) {
        const size = ofTexts.append(key, value, headers, 5)
        const inBytes = headers.map((h) => ({ key: h.key, value: bytes(h.value) }))
        assert.equal(size, ofBytes.append(bytes(key), bytes(value), inBytes, 5))
        assert.ok(size <= recordBytesAtMost(key, value, headers))
      }
      assert.ok(Buffer.from(ofTexts.build()).equals(ofBytes.build()))
    }),
    { numRuns: 150 },
  )
})

test('the two parts of a batch are the batch', () => {
  const builder = new RecordBatchBuilder()
  for (let i = 0; i < 20; i++) builder.append('key', `value ${i}`, [], 1_000 + i)
  for (const compression of [null, { name: 'zstd', codec: flip } as const]) {
    const options = { producerId: 9, producerEpoch: 1, baseSequence: 40, compression }
    const whole = Uint8Array.from(builder.build(options))
    const { head, records } = builder.buildParts(options)
    assert.deepEqual(Uint8Array.from([...head, ...records]), whole)
    assert.equal(readBatches(whole, { compression: { zstd: flip } }).next().value?.count, 20)
  }
})

test('whatever is appended is read back, plain and compressed, and takes the bytes announced', () => {
  fc.assert(
    fc.property(fc.array(record, { minLength: 1, maxLength: 80 }), fc.boolean(), (records, packed) => {
      const builder = new RecordBatchBuilder(0)
      for (const { key, value, headers, timestampMs } of records) {
        const before = builder.size
        const size = builder.append(key, value, headers, timestampMs)
        assert.equal(builder.size, before + size)
        assert.ok(size <= recordBytesAtMost(key, value, headers))
      }
      assert.equal(builder.count, records.length)
      const built = builder.build({
        producerId: 2 ** 40 + 5,
        producerEpoch: 7,
        baseSequence: 2 ** 31 - 1,
        baseOffset: 2 ** 33,
        leaderEpoch: 3,
        transactional: packed,
        compression: packed ? { name: 'lz4', codec: flip } : null,
      })
      const [batch, ...others] = readBatches(built, { compression: { lz4: flip } })
      assert.ok(batch !== undefined && others.length === 0)
      assert.deepEqual(
        [batch.producerId, batch.producerEpoch, batch.baseSequence, batch.baseOffset, batch.leaderEpoch],
        [2 ** 40 + 5, 7, 2 ** 31 - 1, 2 ** 33, 3],
      )
      assert.deepEqual(
        [batch.isTransactional, batch.isControl, batch.compression],
        [packed, false, packed ? 'lz4' : null],
      )
      assert.equal(batch.maxTimestampMs, Math.max(...records.map(({ timestampMs }) => timestampMs)))
      assert.equal(batch.nextPosition, 2 ** 33 + records.length)
      assert.equal(batch.count, records.length)
      for (const [i, { key, value, headers, timestampMs }] of records.entries()) {
        assert.equal(batch.offset(i), 2 ** 33 + i)
        assert.equal(batch.position(i), 2 ** 33 + i)
        assert.equal(batch.timestampMs(i), timestampMs)
        assert.deepEqual(batch.key(i), key)
        assert.deepEqual(batch.value(i), value)
        assert.deepEqual(batch.headers(i), headers)
        assert.equal(batch.size(i), (key?.length ?? 0) + (value?.length ?? 0))
      }
    }),
    { numRuns: 40 },
  )
})

test('a builder that was reset builds as a new one does', () => {
  const builder = new RecordBatchBuilder(100)
  builder.append(new Uint8Array(500).fill(9), null, [], 9_000_000)
  builder.reset()
  builder.append(Uint8Array.of(1, 2), Uint8Array.of(3, 4, 5), [{ key: 'h', value: Uint8Array.of(6) }], 1000)
  assert.deepEqual(builder.build(), oneRecord())
})

test('building again with other producer facts changes the header and the checksum only', () => {
  const builder = new RecordBatchBuilder()
  builder.append(Uint8Array.of(1), null, [], 1)
  const first = Uint8Array.from(builder.build({ producerId: 1, producerEpoch: 0, baseSequence: 0 }))
  const second = builder.build({ producerId: 2, producerEpoch: 0, baseSequence: 0 })
  assert.deepEqual(first.subarray(batchHeaderBytes), second.subarray(batchHeaderBytes))
  assert.equal([...readBatches(second)][0]!.producerId, 2)
})

test('what is not said of a producer is -1 in the header', () => {
  const builder = new RecordBatchBuilder()
  builder.append(null, null, [], -5)
  const built = builder.build()
  assert.deepEqual([...built.subarray(43, 57)], new Array(14).fill(255))
  const [batch] = readBatches(built)
  assert.deepEqual(
    [batch!.producerId, batch!.producerEpoch, batch!.baseSequence, batch!.timestampMs(0)],
    [-1, -1, -1, -5],
  )
})

test('a batch without records and a timestamp that is no whole number are refused', () => {
  assert.throws(() => new RecordBatchBuilder().build(), malformed)
  assert.throws(() => new RecordBatchBuilder().append(null, null, [], Number.NaN), malformed)
  assert.throws(() => new RecordBatchBuilder().append(null, null, [], 0.5), malformed)
})

test('keys and values are views of the frame', () => {
  const frame = oneRecord()
  const [batch] = readBatches(frame)
  assert.equal(batch!.key(0)!.buffer, frame.buffer)
  assert.equal(batch!.value(0)!.buffer, frame.buffer)
})

test('a flipped bit is found by the checksum, unless that is switched off or done by another function', () => {
  for (const at of [21, 40, batchHeaderBytes + 6]) {
    const frame = oneRecord()
    frame[at]! ^= 1
    assert.throws(() => [...readBatches(frame)], { code: 'OTTLA_KAFKA_CORRUPT_BATCH', message: /offset 0/ })
  }
  const frame = oneRecord()
  frame[20]! ^= 1
  assert.equal([...readBatches(frame, { crc32c: false })].length, 1)
  const stored = new DataView(frame.buffer, frame.byteOffset).getUint32(17)
  const asked: number[] = []
  const own = (_: Uint8Array, start?: number, end?: number) => asked.push(start ?? 0, end ?? 0) * 0 + stored
  assert.equal([...readBatches(frame, { crc32c: own })].length, 1)
  assert.deepEqual(asked, [21, frame.length])
})

test('a last batch that is cut off is left out, wherever it is cut', () => {
  const one = oneRecord()
  const two = Uint8Array.of(...one, ...one)
  for (let end = 0; end <= two.length; end++) {
    const expected = end < one.length ? 0 : end < two.length ? 1 : 2
    assert.equal([...readBatches(two.subarray(0, end))].length, expected, `cut at ${end}`)
  }
  assert.equal(nextBatchBytes(two, one.length), one.length)
  new DataView(two.buffer).setInt32(8, -5)
  assert.throws(() => nextBatchBytes(two, 0), malformed)
})

test('old and unknown message formats are refused, a cut one too', () => {
  for (const [magic, code] of [
    [0, 'OTTLA_KAFKA_MESSAGE_FORMAT'],
    [1, 'OTTLA_KAFKA_MESSAGE_FORMAT'],
    [3, 'OTTLA_WIRE_MALFORMED'],
    [255, 'OTTLA_WIRE_MALFORMED'],
  ] as const) {
    const frame = oneRecord()
    frame[16] = magic
    assert.throws(() => [...readBatches(frame)], { code })
    assert.throws(() => [...readBatches(frame.subarray(0, 17))], { code })
    assert.throws(() => new RecordBatch(frame), { code })
  }
})

test('headers of a batch that cannot be are refused', () => {
  const changes: readonly [string, (view: DataView) => void][] = [
    ['a negative length', (view) => view.setInt32(8, -5)],
    ['a length shorter than the header', (view) => view.setInt32(8, 48)],
    ['a negative offset', (view) => view.setInt32(0, -1)],
    ['an offset beyond the safe integers', (view) => view.setInt32(0, 0x200000)],
    ['a negative last offset', (view) => view.setInt32(23, -1)],
    ['a negative count', (view) => view.setInt32(57, -1)],
    ['more records than offsets', (view) => view.setInt32(57, 2)],
    ['a compression that does not exist', (view) => view.setInt16(21, 5)],
  ]
  for (const [what, change] of changes) {
    const frame = Uint8Array.from(oneRecord())
    change(new DataView(frame.buffer))
    assert.throws(() => [...readBatches(frame, { crc32c: false })], malformed, what)
  }
  const counts = forged([...oneRecord().subarray(batchHeaderBytes)], 5_000_000)
  assert.throws(() => [...readBatches(counts)], malformed, 'more records than bytes')
})

test('records that cannot be are refused', () => {
  const cases: readonly [string, readonly number[], (number | undefined)?, (number | undefined)?][] = [
    ['no bytes', []],
    ['a negative length', [1, 0, 0, 0, 1, 1, 0]],
    ['a length beyond the end', [16, 0, 0, 0, 1, 1, 0]],
    ['a length too short for a record', [10, 0, 0, 0, 1, 1]],
    ['bytes left over', [12, 0, 0, 0, 1, 1, 0, 9]],
    ['a key beyond the record', [12, 0, 0, 0, 8, 1, 0]],
    ['a key of length -2', [12, 0, 0, 0, 3, 1, 0]],
    ['a value beyond the record', [12, 0, 0, 0, 1, 8, 0]],
    ['a value that leaves no room for the count of headers', [12, 0, 0, 0, 1, 2, 0]],
    ['a value of length -2', [12, 0, 0, 0, 1, 3, 0]],
    ['an offset beyond the last', [12, 0, 0, 2, 1, 1, 0]],
    ['a negative offset', [12, 0, 0, 1, 1, 1, 0]],
    ['an offset twice', [12, 0, 0, 0, 1, 1, 0, 12, 0, 0, 0, 1, 1, 0], 2],
    ['a timestamp without end', [34, 0, ...new Array<number>(11).fill(0x80), 0, 0, 1, 1, 0]],
    ['a length varint of six bytes', [0x8c, 0x80, 0x80, 0x80, 0x80, 0, 0, 0, 0, 1, 1, 0]],
  ]
  for (const [what, records, count, last] of cases) {
    assert.throws(() => [...readBatches(forged(records, count, last))], malformed, what)
  }
  assert.equal([...readBatches(forged([12, 0, 0, 0, 1, 1, 0]))].length, 1, 'the shortest record is none of these')
})

test('headers of a record that cannot be are refused when they are asked for', () => {
  const cases: readonly [string, readonly number[]][] = [
    ['a negative count', [1]],
    ['more headers than bytes', [20, 0, 1]],
    ['a name of length -1', [2, 1, 1]],
    ['a name beyond the record', [2, 8, 65, 1]],
    ['a value of length -2', [2, 2, 65, 3]],
    ['a value beyond the record', [2, 2, 65, 8]],
    ['bytes left over', [2, 2, 65, 1, 0]],
  ]
  for (const [what, headers] of cases) {
    const body = [0, 0, 0, 1, 1, ...headers]
    const first = [body.length * 2, ...body]
    const [alone] = readBatches(forged(first))
    assert.throws(() => alone!.headers(0), malformed, what)
    const [followed] = readBatches(forged([...first, 12, 0, 0, 2, 1, 1, 0], 2))
    assert.throws(() => followed!.headers(0), malformed, `${what}, another record behind`)
    assert.deepEqual(followed!.headers(1), [])
  }
})

test('offsets may have gaps, as compaction leaves them, and batches may be empty', () => {
  const [gaps] = readBatches(forged([12, 0, 0, 2, 1, 1, 0, 12, 0, 0, 10, 1, 1, 0], 2, 9))
  assert.deepEqual([gaps!.offset(0), gaps!.offset(1), gaps!.nextPosition], [1, 5, 10])
  const [empty] = readBatches(forged([], 0, 4))
  assert.deepEqual([empty!.count, empty!.nextPosition], [0, 5])
  assert.throws(() => empty!.key(0), malformed)
})

test('an index outside the batch is refused', () => {
  const [batch] = readBatches(oneRecord())
  for (const index of [-1, 1, Number.NaN]) assert.throws(() => batch!.value(index), malformed)
})

test('the broker’s clock wins when the batch says so', () => {
  const frame = Uint8Array.from(oneRecord())
  const view = new DataView(frame.buffer)
  view.setInt16(21, 0x08)
  view.setInt32(35 + 4, 77)
  const [batch] = readBatches(frame, { crc32c: false })
  assert.ok(batch!.isLogAppendTime)
  assert.equal(batch!.timestampMs(0), 77)
})

test('a timestamp beyond the safe integers is rounded, not refused', () => {
  const frame = Uint8Array.from(oneRecord())
  new DataView(frame.buffer).setInt32(27, 0x18000000)
  const [batch] = readBatches(frame, { crc32c: false })
  assert.equal(batch!.timestampMs(0), 0x18000000 * 2 ** 32 + 1000)
})

test('a compressed batch needs its codec, and is refused when it inflates too far or not at all', () => {
  const builder = new RecordBatchBuilder()
  builder.append(null, new Uint8Array(100), [], 0)
  const frame = builder.build({ compression: { name: 'zstd', codec: flip } })
  assert.throws(() => [...readBatches(frame)], { code: 'OTTLA_KAFKA_COMPRESSION', message: /zstd/ })
  assert.throws(() => [...readBatches(frame, { compression: { zstd: flip }, maxInflatedBytes: 99 })], malformed)
  const failing: Codec = {
    ...flip,
    decompress: () => {
      throw new Error('bad magic')
    },
  }
  assert.throws(() => [...readBatches(frame, { compression: { zstd: failing } })], malformed)
  const asked: number[] = []
  const watching: Codec = {
    ...flip,
    decompress(given, maxBytes) {
      asked.push(maxBytes)
      return flip.decompress(given, maxBytes)
    },
  }
  assert.equal([...readBatches(frame, { compression: { zstd: watching }, maxInflatedBytes: 500 })].length, 1)
  assert.deepEqual(asked, [500])
})

test('inflated records have memory of their own, also where a codec gives back a part of what it was given', () => {
  const builder = new RecordBatchBuilder()
  builder.append(Uint8Array.of(1, 2), Uint8Array.of(3, 4, 5), [], 0)
  const stored: Codec = { compress: (given) => given, decompress: (given) => given.subarray(0) }
  const frame = builder.build({ compression: { name: 'lz4', codec: stored } })
  const [batch] = [...readBatches(frame, { compression: { lz4: stored } })]
  frame.fill(0xee)
  assert.deepEqual([batch!.key(0), batch!.value(0)], [Uint8Array.of(1, 2), Uint8Array.of(3, 4, 5)])
})

test('a lazy batch tells its header without a codec and fails only when records are asked for', () => {
  const builder = new RecordBatchBuilder()
  builder.append(null, new Uint8Array(100), [], 0)
  const frame = builder.build({ compression: { name: 'zstd', codec: flip } })
  const [batch] = readBatches(frame, { lazy: true })
  assert.deepEqual([batch!.count, batch!.compression, batch!.byteLength], [1, 'zstd', frame.length])
  assert.throws(() => batch!.load(), { code: 'OTTLA_KAFKA_COMPRESSION' })
  const [able] = readBatches(frame, { lazy: true, compression: { zstd: flip } })
  assert.equal(able!.value(0)!.length, 100)
})

test('a control record tells its type', () => {
  for (const type of [0, 1]) {
    const key = new Writer()
    key.int16(0)
    key.int16(type)
    const builder = new RecordBatchBuilder()
    builder.append(key.finish(), new Uint8Array(6), [], 0)
    const [batch] = readBatches(builder.build({ control: true, transactional: true }))
    assert.ok(batch!.isControl)
    assert.equal(batch!.controlType(0), type)
  }
  assert.equal([...readBatches(oneRecord())][0]!.controlType(0), -1)
})

test('keys and values are told as texts too, the same from any kind of bytes', () => {
  const builder = new RecordBatchBuilder()
  builder.append('ключ', '\ufeffvalue', [], 1)
  builder.append(null, null, [], 2)
  builder.append('', 'x'.repeat(300), [], 3)
  const built = builder.build()
  for (const given of [Buffer.from(built), new Uint8Array(built)]) {
    const batch = new RecordBatch(given)
    const texts = [0, 1, 2].map((i) => [batch.keyText(i), batch.valueText(i)])
    assert.deepEqual(texts, [
      ['ключ', '\ufeffvalue'],
      [null, null],
      ['', 'x'.repeat(300)],
    ])
  }
})

test('a batch that was released tells so once, and gives nothing any more', () => {
  const batch = new RecordBatch(oneRecord())
  let told = 0
  batch.onRelease = () => told++
  batch.release()
  batch.release()
  assert.equal(told, 1)
  for (const read of [() => batch.value(0), () => batch.keyText(0), () => batch.position(0), () => batch.headers(0)]) {
    assert.throws(read, RangeError)
  }
})
