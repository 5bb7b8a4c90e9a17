/** Every codec: there and back, within its limit, and unharmed by damage. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { BlockCompressor } from '../../wire/block-compressor.ts'
import type { CompressionName } from '../../wire/compression.ts'
import { lz4Codec } from '../../wire/lz4.ts'
import { snappyCodec } from '../../wire/snappy.ts'
import { builtInCompression } from './compression.ts'

const names: readonly CompressionName[] = ['gzip', 'snappy', 'lz4', 'zstd']
const malformed = { code: 'OTTLA_WIRE_MALFORMED' }
const mib = 1024 * 1024

const wasm = readFileSync(new URL('native.wasm', import.meta.resolve('@platformatic/wasm-utils')))
const freshCompressor = (): BlockCompressor => new BlockCompressor(() => wasm)

/** Bytes that differ, yet can be packed: words of a small language. */
function prose(length: number): Uint8Array {
  let state = 1
  return Uint8Array.from({ length }, (_, i) => {
    if (i % 7 === 0) state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    return 97 + (((state >>> 16) + (i % 7)) % 26)
  })
}

function noise(length: number): Uint8Array {
  let state = 7
  return Uint8Array.from({ length }, () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    return state >>> 24
  })
}

const int32 = (value: number): readonly number[] => [24, 16, 8, 0].map((by) => (value >>> by) & 0xff)
const littleInt32 = (value: number): readonly number[] => int32(value).toReversed()

for (const name of names) {
  const codec = builtInCompression[name]

  test(`${name} gives back what it was given, whatever its length`, () => {
    for (const length of [0, 1, 14, 32_767, 32_768, 32_769, 65_535, 65_536, 65_537, 300_000, 5 * mib]) {
      for (const bytes of [prose(length), noise(length)]) {
        assert.ok(Buffer.from(codec.decompress(codec.compress(bytes), length + 1)).equals(bytes), `${length} bytes`)
      }
    }
  })

  test(`${name} makes words smaller, and refuses to inflate them beyond the limit`, () => {
    const bytes = prose(200_000)
    const packed = codec.compress(bytes)
    assert.ok(packed.length < bytes.length * 0.8)
    assert.throws(() => codec.decompress(packed, bytes.length - 1))
    assert.throws(() => codec.decompress(packed, 0))
  })

  test(`${name} works on after damage`, () => {
    const bytes = prose(100_000)
    const packed = codec.compress(bytes)
    for (let i = 0; i < 300; i++) {
      const damaged = Uint8Array.from(packed)
      damaged[(i * 7919) % damaged.length]! ^= 1 << (i % 8)
      try {
        // Damage to what is not packed goes unnoticed here: the checksum of the batch is there for that.
        assert.ok(codec.decompress(damaged.subarray(0, damaged.length - (i % 3)), bytes.length).length <= bytes.length)
      } catch (error) {
        assert.ok(error instanceof Error && error.constructor.name !== 'RuntimeError', String(error))
      }
      assert.ok(Buffer.from(codec.decompress(packed, bytes.length)).equals(bytes), `after damage ${i}`)
    }
  })
}

test('the compressor holds little memory, whatever it was given and however often it failed', () => {
  const compressor = freshCompressor()
  const snappy = snappyCodec(compressor)
  const packed = compressor.call('snappy_compress', new Uint8Array(24 * mib))
  assert.ok(compressor.memoryBytes <= 16 * mib)
  assert.equal(snappy.decompress(packed, 24 * mib).length, 24 * mib)
  assert.ok(compressor.memoryBytes <= 16 * mib)
  const damaged = Uint8Array.from(packed)
  damaged.fill(0xff, damaged.length - 8)
  const before = process.memoryUsage.rss()
  for (let i = 0; i < 20; i++) {
    assert.throws(() => snappy.decompress(damaged, 24 * mib), malformed)
    assert.equal(compressor.memoryBytes, 0, 'an instance that failed is not kept')
  }
  for (const codec of [snappyCodec(compressor), lz4Codec(compressor)]) {
    codec.decompress(codec.compress(prose(20 * mib)), 20 * mib)
    assert.ok(compressor.memoryBytes <= 4 * mib, 'what is read and written in blocks needs little')
  }
  // Twenty times 24 MiB and more, had they stayed.
  assert.ok(process.memoryUsage.rss() - before < 480 * mib)
})

test('snappy is written in the frames of Java, and read in them or as a bare block', () => {
  const bytes = prose(70_000)
  const { snappy } = builtInCompression
  const framed = snappy.compress(bytes)
  assert.deepEqual([...framed.subarray(0, 16)], [0x82, ...Buffer.from('SNAPPY'), 0, 0, 0, 0, 1, 0, 0, 0, 1])
  const bare = freshCompressor().call('snappy_compress', bytes)
  assert.ok(Buffer.from(snappy.decompress(bare, bytes.length)).equals(bytes))
})

test('a snappy block that promises too much is refused before anything is made for it', () => {
  const calls: string[] = []
  class Watched extends BlockCompressor {
    override call(...given: Parameters<BlockCompressor['call']>): Uint8Array {
      calls.push(given[0])
      return super.call(...given)
    }
  }
  const { decompress } = snappyCodec(new Watched(() => wasm))
  const magic = [0x82, ...Buffer.from('SNAPPY'), 0]
  const framed = (...blocks: readonly number[]): Uint8Array =>
    Uint8Array.from([...magic, ...int32(1), ...int32(1), ...blocks])
  const cases: readonly (readonly [string, Uint8Array])[] = [
    ['four GiB, bare', Uint8Array.from([0xff, 0xff, 0xff, 0xff, 0x0f, 0, 97])],
    ['a length without end', Uint8Array.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff])],
    ['no length', new Uint8Array(0)],
    ['more than the limit, in a frame', framed(...int32(4), 0xe8, 0x07, 0, 97)],
    ['more than so few bytes can hold', framed(...int32(4), 0x64, 0, 97, 98)],
    ['a block longer than the frame', framed(...int32(100), 1, 0, 97)],
    ['a block of negative length', framed(...int32(-5), 1, 0, 97)],
    ['half a length', framed(0, 0)],
    ['a newer version', Uint8Array.from([...magic, ...int32(2), ...int32(2)])],
    ['a header cut off', Uint8Array.from([...magic, 0, 0])],
  ]
  for (const [what, bytes] of cases) assert.throws(() => decompress(bytes, 500), malformed, what)
  assert.deepEqual(calls, [])
  assert.deepEqual([...decompress(framed(...int32(3), 1, 0, 97), 500)], [97])
})

test('the limit holds for all blocks of a snappy frame together', () => {
  const { snappy } = builtInCompression
  const packed = snappy.compress(prose(100_000))
  assert.equal(snappy.decompress(packed, 100_000).length, 100_000)
  assert.throws(() => snappy.decompress(packed, 99_999), malformed)
})

test('LZ4 frames have small blocks, each for itself, and a header whose checksum is right', () => {
  const packed = builtInCompression.lz4.compress(prose(200_000))
  assert.deepEqual([...packed.subarray(0, 7)], [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82])
})

test('LZ4 frames of other writers are read: larger blocks, sizes and checksums in them', () => {
  const { lz4 } = builtInCompression
  const text = 'ottla ottla ottla ottla ottla ottla'
  // By the lz4 command, 1.9.4.
  for (const [what, base64] of [
    [
      'the size of the content and checksums of the blocks',
      'BCJNGHhAIwAAAAAAAAA8EAAAAG9vdHRsYSAGAAVQb3R0bGGSfktvAAAAAA==',
    ],
    ['blocks of 4 MiB and a checksum of the content', 'BCJNGGRApxAAAABvb3R0bGEgBgAFUG90dGxhAAAAANUVeWE='],
    ['all of it', 'BCJNGHxAIwAAAAAAAADrEAAAAG9vdHRsYSAGAAVQb3R0bGGSfktvAAAAANUVeWE='],
  ] as const) {
    const frame = Buffer.from(base64, 'base64')
    assert.equal(Buffer.from(lz4.decompress(frame, text.length)).toString(), text, what)
    assert.throws(() => lz4.decompress(frame, text.length - 1), malformed, what)
    assert.throws(() => lz4.decompress(frame.subarray(0, -1), 1000), malformed, what)
  }
})

test('an LZ4 frame that is damaged, too large or of a form Kafka does not use is refused', () => {
  const { lz4 } = builtInCompression
  const magic = [0x04, 0x22, 0x4d, 0x18]
  const good = [...magic, 0x60, 0x40, 0x82]
  const end = [0, 0, 0, 0]
  const stored = (...bytes: readonly number[]): readonly number[] => [
    ...littleInt32(bytes.length | 0x8000_0000),
    ...bytes,
  ]
  assert.deepEqual([...lz4.decompress(Uint8Array.from([...good, ...stored(1, 2, 3), ...end]), 3)], [1, 2, 3])
  const cases: readonly (readonly [string, readonly number[]])[] = [
    ['nothing', []],
    ['another magic', [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]],
    ['a wrong header checksum', [...magic, 0x60, 0x40, 0x83, ...end]],
    ['another version', [...magic, 0xa0, 0x40, 0x82, ...end]],
    ['blocks that refer to each other', [...magic, 0x40, 0x40, 0xc0, ...end]],
    ['a dictionary', [...magic, 0x61, 0x40, 0, 0, 0, 0, 0, ...end]],
    ['blocks of unknown size', [...magic, 0x60, 0x30, 0x82, ...end]],
    ['no end', [...good, ...stored(1)]],
    ['bytes behind the end', [...good, ...stored(1), ...end, 1]],
    ['a block longer than the frame', [...good, ...littleInt32(1000), 1, 2, 3]],
    ['a block longer than announced', [...good, ...littleInt32(70_000), ...new Array<number>(70_000).fill(0), ...end]],
    ['a damaged block', [...good, ...littleInt32(4), 0x40, 97, 98, 99, ...end]],
    ['a match before the beginning', [...good, ...littleInt32(9), 0x10, 97, 0xff, 0xff, 0x50, 1, 2, 3, 4, ...end]],
  ]
  for (const [what, bytes] of cases) assert.throws(() => lz4.decompress(Uint8Array.from(bytes), 1000), malformed, what)
})

test('an LZ4 frame inflates no further than the limit, and small blocks cost little whatever they announce', () => {
  const compressor = freshCompressor()
  const lz4 = lz4Codec(compressor)
  const block = compressor.call('lz4_compress', new Uint8Array(65_536)).subarray(7, -4)
  const frame = (header: readonly number[], blocks: number): Uint8Array =>
    Uint8Array.from([...header, ...Array.from({ length: blocks }, () => [...block]).flat(), 0, 0, 0, 0])
  const small = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82]
  const large = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73]
  assert.equal(lz4.decompress(frame(small, 10), 655_360).length, 655_360)
  const many = frame(large, 1000)
  assert.throws(() => lz4.decompress(many, mib), malformed)
  assert.equal(lz4.decompress(frame(large, 10), mib).length, 655_360)
  assert.ok(compressor.memoryBytes <= 4 * mib, `${compressor.memoryBytes} bytes are held`)
})
