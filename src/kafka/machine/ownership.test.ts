import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Ownership } from './ownership.ts'

test('the number grows each time a partition is gained after not being held, and not while it is held', () => {
  const ownership = new Ownership()
  const first = ownership.gain('t', 'id', 0)
  assert.equal(first.ownership, 1)
  assert.equal(ownership.gain('t', 'id', 0), first)
  assert.equal(ownership.drop(first), true)
  assert.equal(ownership.drop(first), false)
  const second = ownership.gain('t', 'id', 0)
  assert.equal(second.ownership, 2)
  assert.equal(ownership.holds(first), false)
  assert.equal(ownership.holds(second), true)
  assert.equal(ownership.drop(first), false, 'an old holder cannot give the new one away')
  assert.equal(ownership.holds(second), true)
})

test('a topic made again under the same name is another ownership', () => {
  const ownership = new Ownership()
  const before = ownership.gain('t', 'id-1', 0)
  const after = ownership.gain('t', 'id-2', 0)
  assert.equal(after.ownership, 2)
  assert.equal(ownership.holds(before), false)
})

test('partitions are numbered apart', () => {
  const ownership = new Ownership()
  const a = ownership.gain('t', 'id', 0)
  ownership.drop(a)
  ownership.gain('t', 'id', 0)
  assert.equal(ownership.gain('t', 'id', 1).ownership, 1)
  assert.equal(ownership.gain('u', 'id2', 0).ownership, 1)
  assert.deepEqual(
    ownership.all().map((held) => `${held.topic}/${held.partition}#${held.ownership}`),
    ['t/0#2', 't/1#1', 'u/0#1'],
  )
})
