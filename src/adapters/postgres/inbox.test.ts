import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { derivedId, uuidv7 } from '../../contract/id.ts'
import { inboxBucket, inboxPlan, partitionDay, partitionName, storableText } from './inbox.ts'

const dayMs = 86_400_000

test('the day of a UUIDv7 wins over the time of the event', () => {
  const id = uuidv7(20_000 * dayMs + 5, new Uint8Array(10))
  assert.equal(inboxBucket({ id, timeMs: 30_000 * dayMs }), 20_000)
  assert.equal(inboxBucket({ id: id.toUpperCase(), timeMs: 0 }), 20_000)
})

test('a derived id is filed on the day of its source, whenever a copy of it was emitted', () => {
  const timeMs = 20_000 * dayMs + 5
  const id = derivedId({ sourceId: 'a', service: 'b', type: 'c', n: 0, timeMs })
  assert.equal(inboxBucket({ id, timeMs: 20_000 * dayMs }), 20_000)
  assert.equal(inboxBucket({ id, timeMs: 20_001 * dayMs }), 20_000)
})

test('without a time in the id it is the day of the event, and without that a hash', () => {
  assert.equal(inboxBucket({ id: 'order-1', timeMs: 20_001 * dayMs - 1 }), 20_000)
  const bucket = inboxBucket({ id: 'order-1', timeMs: 0 })
  assert.ok(bucket < 0 && bucket >= -1024)
})

test('every bucket fits the column and follows from the delivery alone', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.uuid()), fc.oneof(fc.integer(), fc.double()), (id, timeMs) => {
      const bucket = inboxBucket({ id, timeMs })
      assert.equal(bucket, inboxBucket({ id, timeMs }))
      assert.ok(Number.isInteger(bucket) && bucket >= -1024 && bucket < 2 ** 31)
    }),
  )
})

test('ids that no text column can hold stay apart', () => {
  assert.equal(storableText('a'), 'a')
  assert.notEqual(storableText('a\0'), storableText('a\0\0'))
  assert.ok(!storableText('a\0').includes('\0'))
})

test('a partition is known by its name and nothing else is one', () => {
  assert.equal(partitionDay(partitionName(20_000)), 20_000)
  for (const name of ['inbox_rest', 'inbox_d', 'inbox_d1x', 'inbox_d-1']) assert.equal(partitionDay(name), null)
})

test('partitions are made from yesterday to a week ahead, and offered for dropping after the retention', () => {
  const plan = inboxPlan(100, [69, 70, 99, 100, 101], 30)
  assert.deepEqual(plan, { create: [102, 103, 104, 105, 106, 107], dropIfQuiet: [69] })
})
