import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RetryBudget } from './retry-budget.ts'

function retriesOf(budget: RetryBudget, calls: number): number {
  let retries = 0
  for (let n = 0; n < calls; n++) {
    budget.called()
    while (budget.take()) retries++
  }
  return retries
}

test('when every call wants every retry, one in ten calls gets one, after what was saved', () => {
  assert.equal(retriesOf(new RetryBudget({ share: 0.1, savedMax: 10 }), 10_000), 10 + 999)
})

test('nothing more than the maximum is saved up in good times', () => {
  const budget = new RetryBudget({ share: 0.1, savedMax: 3 })
  for (let n = 0; n < 1_000; n++) budget.called()
  let retries = 0
  while (budget.take()) retries++
  assert.equal(retries, 3)
})

test('a share of nothing means what was saved and no more', () => {
  assert.equal(retriesOf(new RetryBudget({ share: 0, savedMax: 0 }), 100), 0)
})
