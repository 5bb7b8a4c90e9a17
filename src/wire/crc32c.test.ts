import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { crc32c } from './crc32c.ts'

/** Bit by bit, as the definition says. */
function byDefinition(bytes: Uint8Array): number {
  let crc = -1
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0)
  }
  return ~crc >>> 0
}

test('the check value and the vectors of RFC 3720 are met', () => {
  assert.equal(crc32c(new TextEncoder().encode('123456789')), 0xe3069283)
  assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa)
  assert.equal(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43)
  assert.equal(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e)
  assert.equal(crc32c(new Uint8Array(0)), 0)
})

test('any bytes, and any part of them, have the checksum of the definition', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(100), fc.nat(100), (bytes, a, b) => {
      const start = Math.min(a, b, bytes.length)
      const end = Math.min(Math.max(a, b), bytes.length)
      assert.equal(crc32c(bytes), byDefinition(bytes))
      assert.equal(crc32c(bytes, start, end), byDefinition(bytes.subarray(start, end)))
    }),
  )
})

test('inputs larger than the memory of the module are taken in pieces', () => {
  const bytes = Uint8Array.from({ length: 250_003 }, (_, i) => (i * 31) >>> 3)
  for (const length of [114_687, 114_688, 114_689, 229_376, 250_003]) {
    assert.equal(crc32c(bytes, 0, length), byDefinition(bytes.subarray(0, length)), `${length} bytes`)
  }
})
