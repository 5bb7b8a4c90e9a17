import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { outboxRecord } from '../../testing/conformance/fake-log.ts'
import { decodeHeaders, encodeHeaders, outboxInserts, shardOf } from './outbox.ts'

const header = fc.record({ key: fc.string({ unit: 'grapheme' }), value: fc.option(fc.uint8Array({ maxLength: 300 })) })

test('headers come back as they were, in order, repeated and null ones too', () => {
  fc.assert(
    fc.property(fc.array(header), (headers) => {
      const back = decodeHeaders(encodeHeaders(headers))
      assert.deepEqual(
        back.map(({ key, value }) => [key, value && [...value]]),
        headers.map(({ key, value }) => [key, value && [...value]]),
      )
    }),
  )
})

test('bytes that are no headers are refused with a typed error', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      try {
        decodeHeaders(bytes)
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'OTTLA_STORE_SCHEMA')
      }
    }),
  )
  for (const bytes of [[], [1], [0, 0], [1, 5, 97], [255, 255, 255, 255, 255, 255]]) {
    assert.throws(() => decodeHeaders(Uint8Array.from(bytes)), { code: 'OTTLA_STORE_SCHEMA' })
  }
})

test('a key has one shard per topic, and these are the ones stored rows already have', () => {
  const shards = ['order-1', 'order-2', 'order-3'].map((key) => shardOf(outboxRecord(key, ''), 64))
  assert.deepEqual(
    shards,
    ['order-1', 'order-2', 'order-3'].map((key) => shardOf(outboxRecord(key, 'other'), 64)),
  )
  assert.deepEqual(shards, [29, 20, 7])
})

test('shards are used evenly, with keys and without', () => {
  for (const record of [
    (i: number) => outboxRecord(`order-${i}`, ''),
    (i: number) => outboxRecord(null, '', { id: `event-${i}` }),
  ]) {
    const counts = new Array<number>(64).fill(0)
    for (let i = 0; i < 64_000; i++) counts[shardOf(record(i), 64)]! += 1
    assert.ok(
      Math.min(...counts) > 700 && Math.max(...counts) < 1_300,
      `${Math.min(...counts)}..${Math.max(...counts)}`,
    )
  }
})

test('records are inserted in their order, at most 500 per statement', () => {
  const statements = outboxInserts(
    Array.from({ length: 1_001 }, (_, i) => outboxRecord('k', String(i))),
    64,
  )
  assert.deepEqual(
    statements.map(({ values }) => values.length),
    [5_000, 5_000, 10],
  )
  assert.deepEqual(outboxInserts([], 64), [])
})
