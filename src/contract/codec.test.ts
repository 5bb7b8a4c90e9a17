import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { json } from './codec.ts'
import { OttlaError } from './errors.ts'
import { encodeUtf8 } from './text.ts'

const refused = (error: unknown) => error instanceof OttlaError && error.code === 'OTTLA_CONTRACT_CODEC'

describe('the JSON codec', () => {
  test('brings back what it wrote, beyond ASCII and beyond short', async () => {
    for (const data of [null, 0, 'ä€😀', { a: [1, { b: 'x'.repeat(500) }] }]) {
      assert.deepEqual(json.decode(json.encode(data)), data)
    }
    assert.equal(json.missing(new Uint8Array()), null)
    await json.prepare([])
  })

  test('reads past a byte order mark', () => {
    assert.equal(json.decode(encodeUtf8('\ufeff1')), 1)
  })

  test('refuses what cannot be said in JSON', () => {
    const circle: Record<string, unknown> = {}
    circle['self'] = circle
    for (const data of [undefined, () => {}, Symbol('x'), 1n, circle]) assert.throws(() => json.encode(data), refused)
  })

  test('refuses broken bytes without repeating them', () => {
    assert.throws(() => json.decode(Uint8Array.of(0x22, 0xff, 0x22)), refused)
    assert.throws(
      () => json.decode(encodeUtf8('{"password": "hunter2"')),
      (error: unknown) =>
        refused(error) && !String((error as Error).stack).includes('hunter2') && (error as Error).cause === undefined,
    )
  })

  test('takes every content type that is JSON and no other', () => {
    for (const good of ['application/json', 'text/json', 'application/vnd.acme+json']) assert.ok(json.accepts(good))
    for (const bad of ['application/avro', 'text/plain', 'application/jsonl']) assert.ok(!json.accepts(bad))
  })
})
