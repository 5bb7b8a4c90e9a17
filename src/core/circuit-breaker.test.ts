import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type BreakerLimits, CircuitBreaker, refused } from './circuit-breaker.ts'

const limits: BreakerLimits = {
  windowCalls: 20,
  windowMs: 10_000,
  callsMin: 10,
  failureRate: 0.5,
  slowRate: 0.8,
  slowMs: 1_000,
  keysMin: 1,
  openMs: 100,
  openMaxMs: 400,
}
const good = { failed: false, durationMs: 1, key: null }
const bad = { failed: true, durationMs: 1, key: null }
const slow = { failed: false, durationMs: 1_000, key: null }

/** Makes calls that end at once. */
function call(breaker: CircuitBreaker, result: typeof good | typeof bad, nowMs: number, times = 1): void {
  for (let n = 0; n < times; n++) breaker.settle(breaker.admit(nowMs), result, nowMs)
}

function opened(atMs = 0, more: Partial<BreakerLimits> = {}): CircuitBreaker {
  const breaker = new CircuitBreaker({ ...limits, ...more })
  call(breaker, bad, atMs, limits.callsMin)
  assert.equal(breaker.state, 'open')
  return breaker
}

test('it opens from half of the calls failed, and not before there were enough of them', () => {
  const breaker = new CircuitBreaker(limits)
  call(breaker, bad, 0, 9)
  assert.equal(breaker.state, 'closed')
  call(breaker, good, 0, 10)
  assert.equal(breaker.state, 'closed', '9 of 19 failed')
  call(breaker, bad, 0)
  assert.equal(breaker.state, 'open', '10 of 20 failed')
  assert.equal(breaker.admit(99), refused)
})

test('it opens from too many slow calls although none failed', () => {
  const breaker = new CircuitBreaker(limits)
  call(breaker, good, 0, 3)
  call(breaker, slow, 0, 11)
  assert.equal(breaker.state, 'closed', '11 of 14 were slow')
  call(breaker, slow, 0)
  assert.equal(breaker.state, 'open', '12 of 15 were slow')
})

test('only the last calls count, and none that is too old', () => {
  const byCount = new CircuitBreaker(limits)
  call(byCount, good, 0, 8)
  call(byCount, bad, 0, 7)
  call(byCount, good, 0, 8)
  assert.equal(byCount.state, 'closed')
  // The window holds 5 failures and 8 good calls of the old ones when these come.
  call(byCount, bad, 0, 4)
  assert.equal(byCount.state, 'open', 'the first good ones have left the window')
  const byAge = new CircuitBreaker(limits)
  call(byAge, bad, 0, 9)
  call(byAge, bad, 10_000)
  assert.equal(byAge.state, 'closed', 'nine of ten are too old')
  call(byAge, bad, 10_001, 9)
  assert.equal(byAge.state, 'open')
})

test('failures of few keys open nothing, however many; a call without a key is its own', () => {
  const keyed = (key: string | null) => ({ failed: true, durationMs: 1, key })
  const breaker = new CircuitBreaker({ ...limits, keysMin: 5 })
  for (let n = 0; n < 200; n++) call(breaker, keyed(`k${n % 4}`) as typeof bad, n)
  assert.equal(breaker.state, 'closed')
  call(breaker, keyed('k4') as typeof bad, 200)
  assert.equal(breaker.state, 'open')
  const keyless = new CircuitBreaker({ ...limits, keysMin: 5 })
  call(keyless, bad, 0, 10)
  assert.equal(keyless.state, 'open')
})

test('keys that have left the window no longer count', () => {
  const breaker = new CircuitBreaker({ ...limits, keysMin: 5, failureRate: 0.2 })
  const keyed = (key: string) => ({ failed: true, durationMs: 1, key }) as unknown as typeof bad
  for (const key of ['a', 'b', 'c', 'd']) call(breaker, keyed(key), 0)
  call(breaker, good, 0, 17)
  // `a` has gone: with `e` there are four keys again.
  call(breaker, keyed('e'), 0)
  assert.equal(breaker.state, 'closed')
})

test('once its time is over it lets one probe through and nothing else until that one has ended', () => {
  const breaker = opened()
  assert.equal(breaker.waitMs(40), 60)
  const probe = breaker.admit(100)
  assert.notEqual(probe, refused)
  assert.equal(breaker.state, 'half-open')
  assert.equal(breaker.waitMs(101), null)
  for (let atMs = 100; atMs < 100_000; atMs += 1_000) assert.equal(breaker.admit(atMs), refused)
  breaker.settle(probe, good, 100_000)
  assert.equal(breaker.state, 'closed')
})

test('a probe that fails or is slow opens it for twice as long, up to the maximum; success starts afresh', () => {
  const breaker = opened()
  let nowMs = 0
  const waits: (number | null)[] = []
  for (const result of [bad, slow, bad, bad]) {
    waits.push(breaker.waitMs(nowMs))
    nowMs += breaker.waitMs(nowMs)!
    call(breaker, result, nowMs)
    assert.equal(breaker.state, 'open')
  }
  waits.push(breaker.waitMs(nowMs))
  assert.deepEqual(waits, [100, 200, 400, 400, 400])
  nowMs += 400
  call(breaker, good, nowMs)
  call(breaker, bad, nowMs, 9)
  assert.equal(breaker.state, 'closed', 'the window began afresh')
  call(breaker, bad, nowMs)
  assert.equal(breaker.waitMs(nowMs), 100, 'and so did the open time')
})

test('a probe given up proves nothing: the next call probes, and what the first may still say is not heard', () => {
  const breaker = opened()
  const first = breaker.admit(100)
  breaker.abandon(first)
  assert.equal(breaker.state, 'half-open')
  assert.equal(breaker.waitMs(100), 0)
  const second = breaker.admit(100)
  assert.notEqual(second, refused)
  breaker.settle(first, good, 101)
  breaker.abandon(first)
  assert.equal(breaker.state, 'half-open')
  assert.equal(breaker.admit(101), refused)
  breaker.settle(second, good, 102)
  assert.equal(breaker.state, 'closed')
})

test('results of calls from before it opened change nothing', () => {
  const breaker = new CircuitBreaker(limits)
  const early = [breaker.admit(0), breaker.admit(0), breaker.admit(0)]
  call(breaker, bad, 0, 10)
  breaker.settle(early[0]!, good, 50)
  assert.equal(breaker.state, 'open')
  const probe = breaker.admit(100)
  breaker.settle(early[1]!, bad, 101)
  assert.equal(breaker.state, 'half-open')
  breaker.settle(probe, good, 102)
  for (let n = 0; n < 100; n++) breaker.settle(early[2]!, bad, 103)
  assert.equal(breaker.state, 'closed')
})

test('whatever happens: at most one probe is out, none before its time, and an open one waits no longer than the maximum', () => {
  const step = fc.oneof(
    fc.record({ do: fc.constant('call' as const) }),
    fc.record({
      do: fc.constant('settle' as const),
      which: fc.nat(30),
      failed: fc.boolean(),
      durationMs: fc.nat(1_500),
    }),
    fc.record({ do: fc.constant('abandon' as const), which: fc.nat(30) }),
    fc.record({ do: fc.constant('wait' as const), ms: fc.nat(300) }),
  )
  let probes = 0
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200, size: 'max' }), (steps) => {
      const small = { ...limits, windowCalls: 6, callsMin: 3 }
      const breaker = new CircuitBreaker(small)
      let nowMs = 0
      let openedMs = 0
      let state = breaker.state
      const out: { permit: number; probe: boolean }[] = []
      for (const each of steps) {
        switch (each.do) {
          case 'call': {
            const before = breaker.state
            const wait = breaker.waitMs(nowMs)
            const permit = breaker.admit(nowMs)
            assert.equal(permit !== refused, wait === 0, 'waitMs says what admit does')
            if (permit === refused) break
            const probe = before !== 'closed'
            if (probe) {
              probes++
              assert.ok(nowMs >= openedMs + small.openMs)
              assert.ok(!out.some((call) => call.probe), 'two probes are out')
            }
            out.push({ permit, probe })
            break
          }
          case 'settle':
          case 'abandon': {
            const [call] = out.splice(each.which % Math.max(1, out.length), 1)
            if (call === undefined) break
            const before = breaker.state
            if (each.do === 'abandon') {
              breaker.abandon(call.permit)
              assert.equal(breaker.state, before)
              break
            }
            breaker.settle(call.permit, { failed: each.failed, durationMs: each.durationMs, key: null }, nowMs)
            if (call.probe) {
              const failed = each.failed || each.durationMs >= small.slowMs
              assert.equal(breaker.state, failed ? 'open' : 'closed', 'the probe decides')
            } else if (before !== 'closed') assert.equal(breaker.state, before, 'only the probe decides')
            break
          }
          case 'wait':
            nowMs += each.ms
            break
          default:
            each satisfies never
        }
        if (breaker.state === 'open') {
          if (state !== 'open') openedMs = nowMs
          const wait = breaker.waitMs(nowMs)
          assert.ok(wait !== null && wait <= small.openMaxMs)
        }
        if (breaker.state === 'half-open' && !out.some((call) => call.probe)) {
          assert.equal(breaker.waitMs(nowMs), 0, 'half-open without a probe never gets stuck')
        }
        state = breaker.state
      }
    }),
    { numRuns: 500, seed: 4 },
  )
  assert.ok(probes > 100, `only ${probes} probes were made`)
})
