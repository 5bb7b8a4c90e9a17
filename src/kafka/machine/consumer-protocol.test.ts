import assert from 'node:assert/strict'
import { test } from 'node:test'
import { OttlaError } from '../../contract/errors.ts'
import { decodeAssignment, decodeSubscription, encodeAssignment, encodeSubscription } from './consumer-protocol.ts'

test('subscriptions and assignments come back as they were', () => {
  const owned = [{ topic: 'a', partitions: [2, 3] }]
  const subscription = { topics: ['a', 'b'], owned, generation: 7, userData: Uint8Array.of(0, 0, 0, 7) }
  assert.deepEqual(decodeSubscription(encodeSubscription({ ...subscription, topics: ['b', 'a'] })), subscription)
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

test('a subscription of an older version says less', () => {
  // Version 0: topics and no bytes of the assignor. Version 1: what it holds, too.
  const zero = Uint8Array.of(0, 0, 0, 0, 0, 1, 0, 1, 0x74, 0xff, 0xff, 0xff, 0xff)
  assert.deepEqual(decodeSubscription(zero), { topics: ['t'], owned: [], generation: -1, userData: null })
  const one = Uint8Array.of(0, 1, ...zero.subarray(2), 0, 0, 0, 1, 0, 1, 0x74, 0, 0, 0, 1, 0, 0, 0, 5)
  const owned = [{ topic: 't', partitions: [5] }]
  assert.deepEqual(decodeSubscription(one), { topics: ['t'], owned, generation: -1, userData: null })
})
