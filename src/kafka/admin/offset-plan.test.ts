import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type OffsetTarget, targetOffset } from './offset-plan.ts'

const facts = { from: 50, logStart: 20, logEnd: 100, byTime: 70 }

test('a target is an offset within the log', () => {
  const cases: [OffsetTarget, number, 'logStart' | 'logEnd' | null][] = [
    ['earliest', 20, null],
    ['latest', 100, null],
    [{ offset: 33 }, 33, null],
    [{ offset: 19 }, 20, 'logStart'],
    [{ offset: 101 }, 100, 'logEnd'],
    [{ shift: -10 }, 40, null],
    [{ shift: -31 }, 20, 'logStart'],
    [{ shift: 51 }, 100, 'logEnd'],
    [{ timestampMs: 1 }, 70, null],
    [{ agoMs: 1 }, 70, null],
  ]
  for (const [target, to, heldAt] of cases) assert.deepEqual(targetOffset(target, facts), { to, heldAt })
})

test('when no record is young enough, the end of the log is meant', () => {
  assert.deepEqual(targetOffset({ timestampMs: 1 }, { ...facts, byTime: -1 }), { to: 100, heldAt: null })
})

test('a shift from nothing is refused', () => {
  assert.equal(targetOffset({ shift: 1 }, { ...facts, from: null }), null)
})
