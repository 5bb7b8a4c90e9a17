import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AppendClock } from './append-clock.ts'

test('a wait is what is left of the delay since the append', () => {
  const clock = new AppendClock()
  assert.equal(clock.waitMs(1_000, 500, 1_200), 300)
  assert.equal(clock.waitMs(1_000, 500, 9_000), 0)
})

test('a host that is two hours off waits as long as any once the broker has told it the time', () => {
  for (const offMs of [-7_200_000, 7_200_000]) {
    const clock = new AppendClock()
    clock.sending()
    assert.equal(clock.waitMs(1_000, 500, 1_000 + offMs), 500, 'read before its acknowledgement')
    clock.sent(1_000, 1_000 + offMs)
    assert.equal(clock.waitMs(1_000, 500, 1_200 + offMs), 300)
  }
})

test('a timestamp from the future waits no longer than the delay', () => {
  assert.equal(new AppendClock().waitMs(9_999_999, 500, 1_000), 500)
})
