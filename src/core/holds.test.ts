import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Hold, Holds, isUnsettled, standingOf } from './holds.ts'

const hold = (key: string, more: Partial<Hold> = {}): Hold => ({
  topic: 'orders',
  topicId: 'id',
  partition: 0,
  key,
  head: 10,
  letter: { partition: 0, position: 0 },
  done: -1,
  skip: [],
  redrives: 0,
  ...more,
})

test('a key is held in its own partition of its own topic only', () => {
  const holds = new Holds()
  assert.equal(holds.any('id', 0), false)
  holds.set(hold('a'))
  assert.equal(holds.any('id', 0), true)
  assert.equal(holds.any('id', 1), false)
  assert.equal(holds.any('recreated', 0), false)
  assert.ok(holds.get('id', 0, 'a'))
  assert.equal(holds.get('id', 0, 'b'), undefined)
  assert.equal(holds.get('recreated', 0, 'a'), undefined)
  assert.equal(holds.release('id', 0, 'b'), false)
  assert.equal(holds.release('id', 0, 'a'), true)
  assert.equal(holds.any('id', 0), false)
  assert.equal(holds.size, 0)
})

test('held keys are bounded, and holding one again takes no more room', () => {
  const holds = new Holds(3)
  for (const key of ['a', 'b', 'c']) {
    assert.equal(holds.full, false)
    holds.set(hold(key))
  }
  holds.set(hold('a', { redrives: 1 }))
  assert.equal(holds.size, 3)
  assert.equal(holds.full, true)
  assert.equal(holds.get('id', 0, 'a')?.redrives, 1)
  holds.release('id', 0, 'b')
  assert.equal(holds.full, false)
  assert.deepEqual([...holds].map(({ key }) => key).sort(), ['a', 'c'])
})

test('records that come again after a crash are told from followers by their position', () => {
  const held = hold('a', { head: 10, done: 12, skip: [15] })
  assert.equal(standingOf(held, 9), 'before')
  assert.equal(standingOf(held, 10), 'failed')
  assert.equal(standingOf(held, 12), 'settled')
  assert.equal(standingOf(held, 13), 'behind')
  assert.deepEqual(
    [10, 12, 13, 15, 16].map((position) => isUnsettled(held, position)),
    [false, false, true, false, true],
  )
})
