import assert from 'node:assert/strict'
import { test } from 'node:test'
import { signalWishes } from './signals.ts'

test('the first signal closes, echoes within 500 ms are not meant, a later one ends at once', () => {
  const wishOf = signalWishes()
  assert.deepEqual([1000, 1000, 1499, 1500, 9000].map(wishOf), ['close', 'echo', 'echo', 'end at once', 'end at once'])
})
