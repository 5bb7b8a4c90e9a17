import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CommandLog, ErrorSpike, mayRedrive, Pace, redrivesMax } from './redrive.ts'

test('a command is open from asking to result, through any number of owners, oldest first', () => {
  const log = new CommandLog()
  log.asked({ id: 'a', topic: 't', partition: 0, accepted: 0 })
  log.asked({ id: 'b', topic: 't', partition: 0, accepted: 0 })
  log.asked({ id: 'a', topic: 't', partition: 0, accepted: 1 })
  assert.deepEqual(
    [...log].map(({ id, accepted }) => `${id}${accepted}`),
    ['a1', 'b0'],
  )
  log.done('a')
  assert.deepEqual(
    [...log].map(({ id }) => id),
    ['b'],
  )
  log.done('unknown')
  assert.equal(log.size, 1)
})

test('open commands are bounded; one that is open already is always taken in', () => {
  const log = new CommandLog()
  for (let n = 0; n < 10_000; n++) assert.ok(log.asked({ id: `${n}`, topic: 't', partition: 0, accepted: 0 }))
  assert.equal(log.asked({ id: 'more', topic: 't', partition: 0, accepted: 0 }), false)
  assert.equal(log.asked({ id: '7', topic: 't', partition: 0, accepted: 1 }), true)
  assert.equal(log.get('7')?.accepted, 1)
})

test('a record that keeps coming back is refused, unless somebody insists', () => {
  assert.equal(mayRedrive(redrivesMax - 1, false), true)
  assert.equal(mayRedrive(redrivesMax, false), false)
  assert.equal(mayRedrive(redrivesMax, true), true)
})

test('the pace is even, and a pause is not made up for by a burst', () => {
  const pace = new Pace(10)
  assert.deepEqual([pace.take(1_000), pace.take(1_000), pace.take(1_000)], [0, 100, 200])
  assert.deepEqual([pace.take(60_000), pace.take(60_000)], [0, 100])
})

test('a few failures among many successes are no spike, the same number in a row of few is', () => {
  const spike = new ErrorSpike({ window: 10, failuresMax: 3 })
  for (let n = 0; n < 40; n++) {
    spike.ended(n % 5 === 0)
    assert.equal(spike.tripped, false)
  }
  spike.ended(true)
  spike.ended(true)
  assert.equal(spike.tripped, true)
})
