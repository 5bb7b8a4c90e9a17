import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { OffsetTracker } from './offset-tracker.ts'

const contains = (ranges: readonly number[], position: number) => {
  for (let index = 0; index < ranges.length; index += 2) {
    if (position >= ranges[index]! && position < ranges[index + 1]!) return true
  }
  return false
}

test('a checkpoint never passes an open record and forgets no finished one, with gaps and an inherited map', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 1, max: 4 }), fc.boolean(), fc.nat(1000)), { minLength: 1, maxLength: 600 }),
      fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 8 }),
      (records, cuts) => {
        const inherited: number[] = []
        let edge = 100
        for (const cut of cuts.slice(0, cuts.length - (cuts.length % 2))) {
          edge += cut
          inherited.push(edge)
        }
        const tracker = new OffsetTracker({ low: 100, finished: inherited })
        const open = new Map<number, number>()
        const done = new Set<number>()
        let position = 99
        for (const [step, finishOne, which] of records) {
          position += step
          const ticket = tracker.open(position)
          if (tracker.skips(position)) {
            assert.ok(contains(inherited, position))
            tracker.finish(ticket)
            done.add(position)
          } else {
            assert.ok(!contains(inherited, position))
            open.set(position, ticket)
          }
          if (finishOne && open.size > 0) {
            const chosen = [...open.keys()][which % open.size]!
            tracker.finish(open.get(chosen)!)
            open.delete(chosen)
            done.add(chosen)
          }
        }
        const { low, finished } = tracker.progress()
        assert.equal(tracker.openCount, open.size)
        assert.equal(low, tracker.low)
        for (const one of open.keys()) {
          assert.ok(one >= low, `low ${low} passes open ${one}`)
          assert.ok(!contains(finished, one), `open ${one} counted as finished`)
        }
        for (const one of done) assert.ok(one < low || contains(finished, one), `finished ${one} forgotten`)
        for (let index = 0; index < finished.length; index += 2) {
          assert.ok(finished[index]! < finished[index + 1]!)
          assert.ok(index === 0 || finished[index - 1]! <= finished[index]!)
          assert.ok(finished[index]! >= low)
        }
        for (let at = position + 1; at < position + 200; at++) {
          if (contains(inherited, at)) assert.ok(at < low || contains(finished, at), `inherited ${at} forgotten`)
        }
        for (const ticket of open.values()) tracker.finish(ticket)
        assert.ok(tracker.low > position)
      },
    ),
    { numRuns: 300 },
  )
})

test('the low mark waits for the slowest and jumps when it is done', () => {
  const tracker = new OffsetTracker({ low: 0, finished: [] })
  const tickets = [0, 1, 2, 5].map((position) => tracker.open(position))
  tracker.finish(tickets[1]!)
  tracker.finish(tickets[3]!)
  assert.deepEqual(tracker.progress(), { low: 0, finished: [1, 2, 5, 6] })
  tracker.finish(tickets[0]!)
  assert.deepEqual(tracker.progress(), { low: 2, finished: [5, 6] })
  tracker.finish(tickets[2]!)
  assert.deepEqual(tracker.progress(), { low: 6, finished: [] })
})

test('a batch that ends in control records moves the low mark past them', () => {
  const tracker = new OffsetTracker({ low: 0, finished: [] })
  tracker.finish(tracker.open(0))
  tracker.reached(4)
  assert.deepEqual(tracker.progress(), { low: 4, finished: [] })
})

test('an inherited map not yet reached stays in the checkpoint', () => {
  const tracker = new OffsetTracker({ low: 10, finished: [12, 14, 20, 30] })
  assert.deepEqual(tracker.progress(), { low: 10, finished: [12, 14, 20, 30] })
  const ten = tracker.open(10)
  assert.equal(tracker.skips(10), false)
  tracker.finish(ten)
  assert.deepEqual(tracker.progress(), { low: 11, finished: [12, 14, 20, 30] })
})

test('finishing twice is an error', () => {
  const tracker = new OffsetTracker({ low: 0, finished: [] })
  const first = tracker.open(0)
  tracker.open(1)
  tracker.finish(first)
  assert.throws(() => tracker.finish(first), /not open/)
})

test('one record that stays open costs the same however many finish beyond it', () => {
  const tracker = new OffsetTracker({ low: 0, finished: [] })
  const first = tracker.open(0)
  for (let n = 0; n < 500_000; n++) tracker.finish(tracker.open(tracker.next))
  // Were a checkpoint proportional to the distance, these would take minutes.
  for (let n = 0; n < 100_000; n++) tracker.progress()
  assert.deepEqual(tracker.progress(), { low: 0, finished: [1, 500_001] })
  tracker.finish(first)
  assert.deepEqual(tracker.progress(), { low: tracker.next, finished: [] })
})

test('an old ticket is not taken for the record that has its place now', () => {
  const tracker = new OffsetTracker({ low: 0, finished: [] })
  const old = tracker.open(0)
  tracker.finish(old)
  const now = tracker.open(1)
  assert.throws(() => tracker.finish(old), /not open/)
  tracker.finish(now)
  assert.throws(() => tracker.finish(now), /not open/)
})
