import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { addTotals, balances, type Ending, endings, Ledger } from './ledger.ts'

const nothingOpen = { running: 0, queued: 0, waiting: 0, parked: 0 }

test('the ledger balances after any mixture of endings and says so when a record is missing', () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...endings), { maxLength: 60 }), fc.nat(20), (ended, open) => {
      const ledger = new Ledger()
      ledger.fetched(ended.length + open)
      for (const ending of ended) {
        if (ending === 'dropped') ledger.drop('because')
        else ledger.end(ending)
      }
      assert.equal(ledger.check(open, open), null)
      assert.match(ledger.check(open + 1, open) ?? '', /lanes hold/)
      assert.match(ledger.check(open, open - 1) ?? '', /tracker/)
      assert.ok(balances(ledger.totals({ ...nothingOpen, queued: open })))
      assert.ok(!balances(ledger.totals({ ...nothingOpen, queued: open + 1 })))
    }),
    { numRuns: 100 },
  )
})

test('a record that ends twice is an imbalance', () => {
  const ledger = new Ledger()
  ledger.fetched(1)
  ledger.end('handled')
  ledger.end('deadLettered')
  assert.match(ledger.check(0, 0) ?? '', /-1 open/)
})

test('reasons of drops are kept apart, and bounded', () => {
  const ledger = new Ledger()
  ledger.fetched(100)
  for (let n = 0; n < 100; n++) ledger.drop(`reason ${n}`)
  const { dropped, ended } = ledger.totals(nothingOpen)
  assert.equal(ended.dropped, 100)
  assert.ok(Object.keys(dropped).length <= 33)
  assert.equal(dropped['other'], 68)
})

test('totals of two ownerships add up', () => {
  const make = (ending: Exclude<Ending, 'dropped'>) => {
    const ledger = new Ledger()
    ledger.fetched(2)
    ledger.end(ending)
    ledger.drop('x')
    return ledger.totals(nothingOpen)
  }
  const sum = addTotals(make('handled'), make('returned.lost'))
  assert.equal(sum.fetched, 4)
  assert.equal(sum.ended['returned.lost'], 1)
  assert.deepEqual(sum.dropped, { x: 2 })
  assert.ok(balances(sum))
})
