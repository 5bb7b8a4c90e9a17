import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Reader } from './reader.ts'
import { uuidBytes, uuidText, zeroUuid } from './uuid.ts'
import { unsignedVarintSize, Writer } from './writer.ts'

const malformed = { code: 'OTTLA_WIRE_MALFORMED' }
const of = (...bytes: number[]): Reader => new Reader(Uint8Array.from(bytes))

/** Writes, reads back, and sees that nothing is left. */
function roundTrip<T>(value: T, write: (writer: Writer, value: T) => void, read: (reader: Reader) => T): void {
  const writer = new Writer(0)
  write(writer, value)
  const reader = new Reader(writer.finish())
  assert.deepEqual(read(reader), value)
  reader.finish()
}

/** Text as a program may hold it; halves of surrogate pairs are no text. */
const texts = fc.oneof(
  fc.string({ maxLength: 60 }),
  fc.string({ maxLength: 200, unit: 'grapheme' }),
  fc.constantFrom('\ufeffx', 'é'.repeat(42), 'é'.repeat(43), 'a'.repeat(126), 'a'.repeat(127), '𝄞'.repeat(20)),
)

test('numbers of every width are read as they were written', () => {
  const cases: [fc.Arbitrary<number>, (w: Writer, n: number) => void, (r: Reader) => number][] = [
    [fc.integer({ min: -128, max: 127 }), (w, n) => w.int8(n), (r) => r.int8()],
    [fc.integer({ min: -32768, max: 32767 }), (w, n) => w.int16(n), (r) => r.int16()],
    [fc.integer({ min: 0, max: 65535 }), (w, n) => w.uint16(n), (r) => r.uint16()],
    [fc.integer(), (w, n) => w.int32(n), (r) => r.int32()],
    [fc.integer({ min: 0, max: 0xffffffff }), (w, n) => w.uint32(n), (r) => r.uint32()],
    [fc.maxSafeInteger(), (w, n) => w.int64(n), (r) => r.int64()],
    [fc.double({ noNaN: true }), (w, n) => w.float64(n), (r) => r.float64()],
    [fc.integer(), (w, n) => w.varint(n), (r) => r.varint()],
    [fc.maxSafeInteger(), (w, n) => w.varlong(n), (r) => r.varlong()],
    [fc.integer({ min: 0, max: 0xffffffff }), (w, n) => w.unsignedVarint(n), (r) => r.unsignedVarint()],
  ]
  for (const [numbers, write, read] of cases) fc.assert(fc.property(numbers, (n) => roundTrip(n, write, read)))
  const edges = [0, 1, -1, 2 ** 31, -(2 ** 31), 2 ** 32, 2 ** 53 - 1, -(2 ** 53 - 1), 63, 64, -64, -65, 2 ** 34]
  for (const n of edges) {
    roundTrip(
      n,
      (w, v) => w.int64(v),
      (r) => r.int64(),
    )
    roundTrip(
      n,
      (w, v) => w.varlong(v),
      (r) => r.varlong(),
    )
  }
})

test('text, bytes and their null are read as they were written', () => {
  const bytes = fc.uint8Array({ maxLength: 200 })
  const cases: [fc.Arbitrary<any>, (w: Writer, v: any) => void, (r: Reader) => any][] = [
    [texts, (w, v) => w.string(v), (r) => r.string()],
    [texts, (w, v) => w.compactString(v), (r) => r.compactString()],
    [fc.option(texts), (w, v) => w.nullableString(v), (r) => r.nullableString()],
    [fc.option(texts), (w, v) => w.compactNullableString(v), (r) => r.compactNullableString()],
    [bytes, (w, v) => w.byteString(v), (r) => r.byteString()],
    [bytes, (w, v) => w.compactBytes(v), (r) => r.compactBytes()],
    [fc.option(bytes), (w, v) => w.nullableBytes(v), (r) => r.nullableBytes()],
    [fc.option(bytes), (w, v) => w.compactNullableBytes(v), (r) => r.compactNullableBytes()],
  ]
  for (const [values, write, read] of cases) fc.assert(fc.property(values, (v) => roundTrip(v, write, read)))
})

test('a compact string has the shortest possible length in front', () => {
  for (const length of [0, 1, 42, 43, 126, 127, 200, 16_383]) {
    const writer = new Writer()
    writer.compactString('a'.repeat(length))
    assert.equal(writer.length, length + unsignedVarintSize(length + 1), `${length} characters`)
  }
})

test('uuids are text of 22 characters, and only such text is taken', () => {
  assert.equal(uuidText(new Uint8Array(16), 0), zeroUuid)
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (raw) => {
      const text = uuidText(raw, 0)
      assert.equal(text, Buffer.from(raw).toString('base64url'))
      const back = new Uint8Array(16)
      uuidBytes(text, back, 0)
      assert.deepEqual(back, raw)
    }),
  )
  for (const text of ['', 'A'.repeat(21), 'A'.repeat(23), `${'A'.repeat(21)}=`, `${'A'.repeat(21)}B`, 'é'.repeat(22)]) {
    assert.throws(() => uuidBytes(text, new Uint8Array(16), 0), malformed, text)
  }
})

test('the largest int64 reads as the largest safe integer, others beyond are refused', () => {
  assert.equal(of(0x7f, 255, 255, 255, 255, 255, 255, 255).int64(), Number.MAX_SAFE_INTEGER)
  assert.throws(() => of(0x7f, 255, 255, 255, 255, 255, 255, 254).int64(), malformed)
  assert.throws(() => of(0x80, 0, 0, 0, 0, 0, 0, 0).int64(), malformed)
  assert.throws(() => of(0, 0x20, 0, 0, 0, 0, 0, 0).int64(), malformed)
})

test('varints that are cut off, too long or too large are refused', () => {
  assert.throws(() => of().unsignedVarint(), malformed)
  assert.throws(() => of(0x80).unsignedVarint(), malformed)
  assert.throws(() => of(0x80, 0x80, 0x80, 0x80, 0x80, 0x00).unsignedVarint(), malformed)
  assert.throws(() => of(0xff, 0xff, 0xff, 0xff, 0x1f).unsignedVarint(), malformed)
  assert.equal(of(0xff, 0xff, 0xff, 0xff, 0x0f).unsignedVarint(), 0xffffffff)
  assert.equal(of(0x80, 0x80, 0x80, 0x80, 0x00).unsignedVarint(), 0, 'longer than needed, but within five bytes')
  assert.throws(() => of(0x80).varlong(), malformed)
  assert.throws(() => of(...new Array(10).fill(0x80), 0).varlong(), malformed)
  assert.throws(() => of(...new Array(9).fill(0xff), 0x02).varlong(), malformed)
  assert.throws(() => of(...new Array(9).fill(0xff), 0x01).varlong(), malformed, 'beyond the safe integers')
})

test('every read beyond the end is refused and moves nothing', () => {
  const reads: ((reader: Reader) => unknown)[] = [
    (r) => r.int8(),
    (r) => r.int16(),
    (r) => r.uint16(),
    (r) => r.int32(),
    (r) => r.uint32(),
    (r) => r.int64(),
    (r) => r.float64(),
    (r) => r.uuid(),
    (r) => r.unsignedVarint(),
  ]
  for (const read of reads) {
    const reader = new Reader(new Uint8Array(40), 5, 5)
    assert.throws(() => read(reader), malformed)
    assert.equal(reader.at, 5)
  }
})

test('negative and excessive lengths are refused', () => {
  assert.throws(() => of(0xff, 0xff).string(), malformed)
  assert.throws(() => of(0xff, 0xfe).nullableString(), malformed)
  assert.throws(() => of(0, 3, 65, 65).string(), malformed)
  assert.throws(() => of(0).compactString(), malformed)
  assert.throws(() => of(4, 65, 65).compactString(), malformed)
  assert.throws(() => of(0xff, 0xff, 0xff, 0xff).byteString(), malformed)
  assert.throws(() => of(0x80, 0, 0, 0).nullableBytes(), malformed)
  assert.throws(() => of(0x7f, 0xff, 0xff, 0xff, 1).nullableBytes(), malformed)
  assert.throws(() => of(0).compactBytes(), malformed)
  assert.throws(() => of(0xff, 0xff, 0xff, 0xff, 0x0f, 1).compactNullableBytes(), malformed)
})

test('a count is believed only when its elements fit into what is left', () => {
  assert.equal(of(0, 0, 0, 2, 9, 9, 9, 9).count(2), 2)
  assert.throws(() => of(0, 0, 0, 3, 9, 9, 9, 9).count(2), malformed)
  assert.throws(() => of(0xff, 0xff, 0xff, 0xfe).count(1), malformed)
  assert.equal(of(0xff, 0xff, 0xff, 0xff).count(1), -1)
  assert.equal(of(0).compactCount(1), -1)
  assert.equal(of(3, 1, 1).compactCount(1), 2)
  assert.throws(() => of(4, 1, 1).compactCount(1), malformed)
  assert.throws(() => of(1, 1, 1, 1).count(0), malformed, 'elements take a byte at least')
})

test('what a frame allocates is bounded by four times its size and one MiB', () => {
  // Empty strings: a byte each on the wire, a slot of eight in memory.
  const frame = (count: number): Reader => {
    const writer = new Writer()
    writer.int32(count)
    writer.raw(new Uint8Array(count))
    return new Reader(writer.finish())
  }
  assert.equal(frame(200_000).count(1), 200_000)
  assert.throws(() => frame(900_000).count(1), { ...malformed, message: /more memory/ })
})

test('bytes are views of the frame', () => {
  const frame = Uint8Array.of(9, 0, 0, 0, 2, 7, 8)
  const view = new Reader(frame, 1).byteString()
  assert.deepEqual(view, Uint8Array.of(7, 8))
  assert.equal(view.buffer, frame.buffer)
})

test('a range outside the bytes is refused', () => {
  for (const [start, end] of [
    [-1, 2],
    [3, 2],
    [0, 5],
    [Number.NaN, 2],
  ] as const) {
    assert.throws(() => new Reader(new Uint8Array(4), start, end), malformed)
  }
})

test('a writer refuses numbers that do not fit and text that is too long', () => {
  const writes: ((writer: Writer) => void)[] = [
    (w) => w.int8(128),
    (w) => w.int16(-32769),
    (w) => w.uint16(-1),
    (w) => w.int32(2 ** 31),
    (w) => w.int32(1.5),
    (w) => w.uint32(-1),
    (w) => w.int64(2 ** 53),
    (w) => w.int64(Number.NaN),
    (w) => w.varint(2 ** 31),
    (w) => w.varlong(0.5),
    (w) => w.unsignedVarint(-1),
    (w) => w.string('a'.repeat(32_768)),
    (w) => w.uuid('short'),
  ]
  for (const write of writes) assert.throws(() => write(new Writer()), malformed)
})
