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

test('a bad deploy is stopped after fifty dead letters and the cause is named', () => {
  const brake = new Brake()
  let let_through = 0
  while (brake.allows()) {
    brake.ended(let_through % 3 === 0 ? 'permanent' : 'attemptsExhausted')
    let_through++
  }
  assert.equal(let_through, 50)
  assert.equal(brake.commonestCause(), 'attemptsExhausted')
  brake.release()
  assert.ok(brake.allows())
})

test('dead letters below a tenth of the last five hundred never stop a partition', () => {
  const brake = new Brake()
  for (let n = 0; n < 20_000; n++) {
    assert.ok(brake.allows(), `stopped at ${n}`)
    brake.ended(n % 20 === 0 ? 'permanent' : null)
  }
})
