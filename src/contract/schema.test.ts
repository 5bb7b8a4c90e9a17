import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type } from 'arktype'
import * as v from 'valibot'
import { z } from 'zod'
import { OttlaError } from './errors.ts'
import { fieldIssues, latestOf, parse, type Schema, tombstone, validateSync, versioned, versionOf } from './schema.ts'

const code = (wanted: string) => (error: unknown) => error instanceof OttlaError && error.code === wanted

describe('a schema', () => {
  test('of any library says which field is wrong and what was expected', () => {
    const schemas: Schema<any, any>[] = [
      z.object({ order: z.object({ lines: z.array(z.object({ sku: z.string() })) }) }),
      v.object({ order: v.object({ lines: v.array(v.object({ sku: v.string() })) }) }),
      type({ order: { lines: type({ sku: 'string' }).array() } }),
    ]
    for (const schema of schemas) {
      assert.throws(
        () => parse(schema, { order: { lines: [{ sku: 'pen' }, { sku: 7 }] } }, 'orders.OrderPlaced'),
        (error: unknown) => {
          assert.ok(error instanceof OttlaError)
          assert.equal(error.code, 'OTTLA_CONTRACT_INVALID')
          assert.match(error.message, /^orders\.OrderPlaced does not fit its schema: order\.lines\.1\.sku: .*string/)
          const issues = error.details['issues'] as { field: string; expected: string }[]
          assert.deepEqual(
            issues.map(({ field }) => field),
            ['order.lines.1.sku'],
          )
          return true
        },
      )
    }
  })

  test('that answers with a promise is refused, and its rejection ends no process', () => {
    const asynchronous = z.string().refine(() => Promise.resolve(true))
    assert.throws(() => validateSync(asynchronous, 'x'), code('OTTLA_CONTRACT_ASYNC_SCHEMA'))
    const validate = () => Promise.reject(new Error('late'))
    const rejecting: Schema = { '~standard': { version: 1, vendor: 'mine', validate } }
    assert.throws(() => validateSync(rejecting, 'x'), code('OTTLA_CONTRACT_ASYNC_SCHEMA'))
  })

  test('that throws has refused the value', () => {
    const validate = (value: unknown) => ({ value: JSON.parse(String(value)) as unknown })
    const throwing: Schema = { '~standard': { version: 1, vendor: 'mine', validate } }
    assert.deepEqual(parse(throwing, '[1]', 'a.B'), [1])
    assert.throws(() => parse(throwing, '{', 'a.B'), code('OTTLA_CONTRACT_INVALID'))
    const zods = z.string().transform((text) => JSON.parse(text) as unknown)
    assert.throws(() => parse(zods, '{', 'a.B'), /answered with a promise: a check in it is asynchronous, or threw/)
  })

  test('that complains a thousand times is cut to twenty, and a long complaint to its beginning', () => {
    const issues = Array.from({ length: 1000 }, () => ({ message: 'x'.repeat(1000), path: ['a', { key: 3 }] }))
    const fields = fieldIssues(issues)
    assert.equal(fields.length, 20)
    assert.equal(fields[0]?.field, 'a.3')
    assert.equal(fields[0]?.expected.length, 301)
  })
})

describe('a tombstone', () => {
  test('takes a string, which is its key, and nothing else', () => {
    assert.equal(parse(tombstone, '1', 'a.B'), '1')
    assert.throws(() => parse(tombstone, { id: '1' }, 'a.B'), code('OTTLA_CONTRACT_INVALID'))
  })
})

describe('a schema with history', () => {
  const v1 = z.object({ sku: z.string(), price: z.number() })
  const v2 = z.object({ sku: z.string(), cents: z.int() })
  const v3 = z.object({ sku: z.string(), cents: z.int(), currency: z.string() })
  const price = versioned(v1)
    .next(v2, ({ sku, price }) => ({ sku, cents: Math.round(price * 100) }))
    .next(v3, (old) => ({ ...old, currency: 'EUR' }))

  test('reads every version and hands over the newest', () => {
    assert.deepEqual(parse(price, { sku: 'pen', price: 1.5 }, 'x'), { sku: 'pen', cents: 150, currency: 'EUR' })
    assert.deepEqual(parse(price, { sku: 'pen', cents: 150 }, 'x'), { sku: 'pen', cents: 150, currency: 'EUR' })
    const newest = { sku: 'pen', cents: 150, currency: 'USD' }
    assert.deepEqual(parse(price, newest, 'x'), newest)
  })

  test('counts its versions, and producers are held to the newest', () => {
    assert.equal(versionOf(price), 3)
    assert.equal(versionOf(v1), 1)
    assert.equal(latestOf(price), v3)
    assert.equal(latestOf(v1), v1)
  })

  test('complains in terms of the newest version', () => {
    assert.throws(() => parse(price, { sku: 'pen' }, 'x'), /cents: .*; currency: /)
  })
})
