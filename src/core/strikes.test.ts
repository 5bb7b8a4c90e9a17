import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type Strike, Strikes } from './strikes.ts'

test('an owner is counted before its first handler, and no longer once the front has passed the suspect', () => {
  const strikes = new Strikes({ strikes: 1, suspect: 10 })
  assert.equal(strikes.mayStart(10), false)
  assert.deepEqual(strikes.at(10, false), { strikes: 1, suspect: 10 })
  strikes.begin(10)
  assert.equal(strikes.mayStart(10), true)
  assert.deepEqual(strikes.at(10, false), { strikes: 2, suspect: 10 })
  assert.deepEqual(strikes.at(10, true), { strikes: 1, suspect: 10 }, 'given back in peace')
  assert.equal(strikes.survived(10, 20), false)
  assert.equal(strikes.survived(11, 20), true)
  assert.deepEqual(strikes.at(11, false), { strikes: 0, suspect: 11 })
})

test('a record at or before the suspect that runs again counts again; one beyond does not', () => {
  const strikes = new Strikes({ strikes: 1, suspect: 10 })
  strikes.begin(8)
  strikes.survived(12, 20)
  assert.equal(strikes.mayStart(11), true)
  assert.equal(strikes.mayStart(9), false)
  strikes.begin(9)
  assert.deepEqual(strikes.at(9, false), { strikes: 2, suspect: 10 })
  assert.equal(strikes.alert, true)
  strikes.survived(12, 20)
  strikes.finishedBelow(11)
  assert.equal(strikes.alert, false, 'nothing at or before the suspect is left')
})

test('where all that was fetched stands still, nobody is blamed, and a suspect that comes later is counted', () => {
  const strikes = new Strikes({ strikes: 1, suspect: 10 })
  strikes.begin(3)
  assert.equal(strikes.survived(10, 10), true)
  assert.deepEqual(strikes.at(10, false), { strikes: 1, suspect: 10 })
  assert.equal(strikes.mayStart(10), false)
  strikes.begin(10)
  assert.deepEqual(strikes.at(10, false), { strikes: 2, suspect: 10 })
})

test('careful, each record is on record before it starts, and the one under which three died is given up', () => {
  let start: Strike = { strikes: 3, suspect: 10 }
  for (const deaths of [1, 2, 3]) {
    const strikes = new Strikes(start)
    assert.equal(strikes.careful, true)
    assert.equal(strikes.givesUp(12), false)
    for (const innocent of [10, 11]) {
      assert.equal(strikes.mayStart(innocent), false)
      strikes.begin(innocent)
      assert.equal(strikes.mayStart(innocent), true)
      assert.equal(strikes.at(10, false).suspect, innocent)
      strikes.survived(innocent, 20)
      assert.equal(strikes.mayStart(innocent), false, 'each attempt by itself')
    }
    strikes.begin(12)
    start = strikes.at(10, false)
    assert.deepEqual(start, { strikes: 3 + deaths, suspect: 12 })
  }
  assert.equal(new Strikes(start).givesUp(12), true)
  assert.equal(new Strikes(start).givesUp(11), false)
})

test('careful mode ends beyond its span; what was careful is no threat to whoever comes later', () => {
  const strikes = new Strikes({ strikes: 5, suspect: 10 })
  strikes.begin(10)
  strikes.survived(11, 20)
  assert.equal(strikes.quiet(1_009), false)
  assert.equal(strikes.spanEnds(1_009), false)
  assert.equal(strikes.spanEnds(1_010), true)
  assert.equal(strikes.quiet(1_010), true)
  assert.equal(strikes.careful, false)
  assert.deepEqual(strikes.at(1_010, false), { strikes: 0, suspect: 1_010 })
  strikes.begin(9)
  assert.deepEqual(strikes.at(9, false), { strikes: 3, suspect: 10 })
})

/**
 * Owners of a log in which some records stand still for ever and one may kill. Each handles what may start, in order, a
 * few beside each other, and stores what it is told; it dies of the killer, or by chance.
 */
function live(
  start: Strike & { readonly done: ReadonlySet<number> },
  log: { readonly size: number; readonly waits: ReadonlySet<number>; readonly killer: number; readonly beside: number },
  diesAfter: number,
) {
  const done = new Set(start.done)
  const standing = new Set<number>()
  const strikes = new Strikes(start)
  const running: number[] = []
  const front = () => {
    for (let at = 0; at < log.size; at++) if (!done.has(at) && !standing.has(at)) return at
    return log.size
  }
  let stored: Strike & { readonly done: ReadonlySet<number> } = start
  const store = () => {
    stored = { ...strikes.at(front(), false), done: new Set(done) }
  }
  for (let at = 0, ended = 0; at < log.size || running.length > 0; ) {
    while (running.length < (strikes.careful ? 1 : log.beside) && at < log.size) {
      if (done.has(at)) {
        at++
        continue
      }
      if (strikes.givesUp(at)) return { stored, givenUp: at }
      if (!strikes.mayStart(at)) {
        strikes.begin(at)
        store()
      }
      running.push(at++)
    }
    if (running.length === 0) break
    // Whichever comes first.
    const index = running.indexOf(log.killer)
    if (index >= 0 && (running.length === 1 || ended % 3 === 0)) return { stored, givenUp: -1 }
    const [ending] = running.splice(index === 0 ? 1 : 0, 1)
    if (log.waits.has(ending!)) standing.add(ending!)
    else done.add(ending!)
    if (strikes.survived(front(), at)) store()
    if (++ended >= diesAfter) return { stored, givenUp: -1 }
  }
  store()
  return { stored, givenUp: -1 }
}

const logs = fc.record({
  waits: fc.uniqueArray(fc.nat(59), { maxLength: 20 }).map((positions) => new Set(positions)),
  beside: fc.integer({ min: 1, max: 16 }),
})

test('a record that kills its owner each time is found, whatever stands still before it', () => {
  fc.assert(
    fc.property(logs, fc.nat(59), ({ waits, beside }, killer) => {
      let at: Strike & { readonly done: ReadonlySet<number> } = { strikes: 0, suspect: 0, done: new Set() }
      for (let life = 0; life < 300; life++) {
        const { stored, givenUp } = live(at, { size: 60, waits, killer, beside }, Number.POSITIVE_INFINITY)
        if (givenUp >= 0) return givenUp === killer
        at = stored
      }
      return false
    }),
  )
})

test('owners that make progress before they die blame nobody, whatever stands still', () => {
  fc.assert(
    fc.property(logs, fc.integer({ min: 40, max: 60 }), ({ waits, beside }, diesAfter) => {
      let at: Strike & { readonly done: ReadonlySet<number> } = { strikes: 0, suspect: 0, done: new Set() }
      for (let life = 0; life < 20; life++) {
        const { stored, givenUp } = live(at, { size: 60, waits, killer: -1, beside }, diesAfter)
        if (givenUp >= 0 || stored.strikes >= 3) return false
        at = stored
      }
      return true
    }),
  )
})
