import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Brake } from './brake.ts'
import { Budget } from './budget.ts'

test('a budget stops at its border and goes on at half, by records or by bytes', () => {
  const budget = new Budget({ maxRecords: 4, maxBytes: 100 })
  for (let n = 0; n < 3; n++) budget.take(1)
  assert.equal(budget.change(), null)
  budget.take(1)
  assert.equal(budget.change(), 'stop')
  budget.give(1)
  assert.equal(budget.change(), null)
  budget.give(1)
  assert.equal(budget.change(), 'go')
  budget.take(500)
  assert.equal(budget.change(), 'stop')
  assert.equal(budget.change(), null)
})

test('what waits behind failures leaves the rest of a budget to others', () => {
  const budget = new Budget({ maxRecords: 1_000, maxBytes: 100 })
  budget.take(60)
  budget.take(40)
  assert.equal(budget.change(), 'stop')
  assert.equal(budget.change(true), null, 'there is no room at all')
  budget.give(40)
  assert.equal(budget.change(), null)
  assert.equal(budget.change(true), 'go')
})

test('a share makes a budget smaller than its limit, never larger', () => {
  const budget = new Budget({ maxRecords: 1_000, maxBytes: 100 })
  budget.share(40)
  budget.take(40)
  assert.equal(budget.change(), 'stop')
  budget.share(80)
  assert.equal(budget.change(), 'go')
  budget.share(1_000)
  budget.take(60)
  assert.equal(budget.change(), 'stop')
})

test('a bad deploy is stopped after fifty dead letters and the cause is named', () => {
  const brake = new Brake()
  let letThrough = 0
  while (brake.take(letThrough % 3 === 0 ? 'permanent' : 'attemptsExhausted')) {
    brake.ended(true)
    letThrough++
  }
  assert.equal(letThrough, 50)
  assert.equal(brake.commonestCause(), 'attemptsExhausted')
  brake.release()
  assert.ok(brake.take('permanent'))
})

test('dead letters that are being written count, and those that could not be written do not', () => {
  const brake = new Brake()
  for (let n = 0; n < 50; n++) assert.ok(brake.take('permanent'))
  assert.ok(!brake.take('permanent'))
  assert.equal(brake.commonestCause(), 'permanent')
  for (let n = 0; n < 10; n++) brake.giveBack('permanent')
  for (let n = 0; n < 40; n++) brake.ended(true)
  for (let n = 0; n < 10; n++) assert.ok(brake.take('attemptsExhausted'))
  assert.ok(!brake.take('attemptsExhausted'))
})

test('dead letters below a tenth of the last five hundred never stop a partition', () => {
  const brake = new Brake()
  for (let n = 0; n < 20_000; n++) {
    const bad = n % 20 === 0
    if (bad) assert.ok(brake.take('permanent'), `stopped at ${n}`)
    brake.ended(bad)
  }
})
