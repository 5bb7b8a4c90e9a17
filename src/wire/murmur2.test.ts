import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { murmur2, partitionFor } from './murmur2.ts'

/** Key in hex, hash, partition of twelve: made by Java (`tools/protocol/java/Facts.java`). */
const vectors = JSON.parse(
  readFileSync(new URL('../../test/fixtures/wire/murmur2.json', import.meta.url), 'utf8'),
) as readonly (readonly [string, number, number])[]

test('hash and partition of 200 keys and more are those of the Java client', () => {
  assert.ok(vectors.length > 200)
  assert.ok(
    new Set(vectors.map(([hex]) => (hex.length / 2) % 4)).size === 4,
    'every rest of a division by four is there',
  )
  for (const [hex, hash, partition] of vectors) {
    const key = Buffer.from(hex, 'hex')
    assert.equal(murmur2(key), hash, hex)
    assert.equal(partitionFor(key, 12), partition, hex)
  }
})

test('a key that is a text goes where its UTF-8 goes, however long it is', () => {
  for (const key of [
    '',
    'a',
    'key-000000000042',
    'ключ',
    '\u{1f600}',
    '\ud800',
    'é'.repeat(340),
    'é'.repeat(700),
    'x'.repeat(9_000),
  ]) {
    assert.equal(partitionFor(key, 1_000_003), partitionFor(Buffer.from(key, 'utf8'), 1_000_003), key.slice(0, 20))
  }
})
