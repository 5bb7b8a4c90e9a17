import assert from 'node:assert/strict'
import { test } from 'node:test'
import { OttlaError } from '../../contract/errors.ts'
import { decodeAssignment, decodeSubscription, encodeAssignment, encodeSubscription } from './consumer-protocol.ts'

test('subscriptions and assignments come back as they were', () => {
  assert.deepEqual(decodeSubscription(encodeSubscription(['b', 'a'])), ['a', 'b'])
  const assignment = new Map([
    ['a', [0, 1]],
    ['b', [7]],
  ])
  assert.deepEqual(decodeAssignment(encodeAssignment(assignment)), [
    { topic: 'a', partitions: [0, 1] },
    { topic: 'b', partitions: [7] },
  ])
})

test('no bytes are no assignment', () => {
  assert.deepEqual(decodeAssignment(new Uint8Array()), [])
})

test('a newer version with more fields behind is read as far as it is known', () => {
  const ours = encodeAssignment(new Map([['t', [3]]]))
  const newer = new Uint8Array(ours.length + 5)
  newer.set(ours)
  newer[1] = 9
  assert.deepEqual(decodeAssignment(newer), [{ topic: 't', partitions: [3] }])
})

test('bytes of a foreign member that make no sense are a typed error', () => {
  for (const bytes of [Uint8Array.of(0), Uint8Array.of(0xff, 0xff, 0), Uint8Array.of(0, 1, 0x7f, 0xff, 0xff, 0xff)]) {
    assert.throws(
      () => decodeSubscription(bytes),
      (error: unknown) => error instanceof OttlaError && error.code === 'OTTLA_WIRE_MALFORMED',
    )
  }
})
