import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { breaker as publicBreaker } from '../adapters/system/breaker.ts'
import { OttlaError, PermanentError } from '../contract/errors.ts'
import {
  Breaker,
  type BreakerCallOptions,
  type BreakerChange,
  type BreakerOptions,
  breakerSettings,
  namedBreakers,
  openBreakerOf,
} from './breaker.ts'
import type { Clock } from './ports.ts'

/** Time that moves when the test says so. */
class HandClock implements Clock {
  #nowMs = 1_000
  readonly #timers = new Set<{ atMs: number; callback: () => void }>()
  monotonicMs = () => this.#nowMs
  wallMs = () => this.#nowMs
  after(delayMs: number, callback: () => void): Disposable {
    const timer = { atMs: this.#nowMs + delayMs, callback }
    this.#timers.add(timer)
    return { [Symbol.dispose]: () => void this.#timers.delete(timer) }
  }
  pass(ms: number): void {
    this.#nowMs += ms
    for (const timer of [...this.#timers]) {
      if (timer.atMs > this.#nowMs) continue
      this.#timers.delete(timer)
      timer.callback()
    }
  }
  get waiting(): number {
    return this.#timers.size
  }
}

function make(options: BreakerOptions = {}) {
  const clock = new HandClock()
  const settings = breakerSettings('mail', { minimumCalls: 4, openFor: 1_000, openForMax: 4_000, ...options })
  return { clock, breaker: new Breaker('mail', settings, { clock, random: () => 0.5 }) }
}

const refusedCode = (error: unknown) => error instanceof OttlaError && error.code === 'OTTLA_BREAKER_OPEN'
const down = () => Promise.reject(Object.assign(new Error('down'), { code: 'ECONNREFUSED' }))

async function fail(breaker: Breaker, times: number, how: () => Promise<never> = down): Promise<void> {
  for (let n = 0; n < times; n++) await assert.rejects(breaker.call(how))
}

/** Lets everything that is ready to run, run. */
const turn = () => new Promise((done) => setImmediate(done))

test('a call gives what the function gives and throws what it throws', async () => {
  const { breaker, clock } = make()
  assert.equal(await breaker.call(() => 7), 7)
  assert.equal(await breaker.call(async (signal) => signal.aborted), false)
  await assert.rejects(
    breaker.call(() => {
      throw new TypeError('at once')
    }),
    TypeError,
  )
  assert.equal(clock.waiting, 0, 'no timer is left behind')
})

test('open, it refuses without calling, with a retriable error that leads back to it through any wrapping', async () => {
  const { breaker } = make()
  await fail(breaker, 4)
  assert.equal(breaker.state, 'open')
  let called = false
  const error = await breaker
    .call(() => {
      called = true
    })
    .then(
      () => assert.fail('let through'),
      (thrown: unknown) => thrown,
    )
  assert.equal(called, false)
  assert.ok(refusedCode(error) && (error as OttlaError).retriable)
  assert.match((error as Error).message, /mail is open; a probe is due in 1000 ms/)
  assert.equal(openBreakerOf(new Error('could not send', { cause: error })), breaker)
  assert.equal(openBreakerOf(new Error('another')), null)
  assert.equal(breaker.counts.refused, 1)
})

test('an error kept from before it closed leads nowhere, so that nobody waits for a breaker that is closed', async () => {
  const { breaker, clock } = make()
  await fail(breaker, 4)
  const kept = breaker.refusal()
  assert.equal(openBreakerOf(kept), breaker)
  clock.pass(1_000)
  await breaker.call(() => 1)
  assert.equal(openBreakerOf(kept), null)
})

test('of a crowd that comes when its time is over one probes, and its success lets everybody through', async () => {
  const { breaker, clock } = make()
  const changes: string[] = []
  const subscription = breaker.subscribe(({ from, to }: BreakerChange) => changes.push(`${from} > ${to}`))
  await fail(breaker, 4)
  clock.pass(1_000)
  const probe = Promise.withResolvers<string>()
  let calls = 0
  const crowd = Array.from({ length: 20 }, () =>
    breaker.call(() => {
      calls++
      return probe.promise
    }),
  )
  const ends = Promise.allSettled(crowd)
  await turn()
  assert.equal(calls, 1)
  probe.resolve('well')
  assert.deepEqual(
    (await ends).map(({ status }) => status),
    ['fulfilled', ...Array.from({ length: 19 }, () => 'rejected')],
  )
  assert.equal(await breaker.call(() => 'again'), 'again')
  assert.deepEqual(changes, ['closed > open', 'open > half-open', 'half-open > closed'])
  subscription[Symbol.dispose]()
  await fail(breaker, 4)
  assert.equal(changes.length, 3, 'nobody is told any more')
})

test('answers that say no are answers: a permanent failure opens nothing', async () => {
  const { breaker } = make()
  await fail(breaker, 50, () => Promise.reject(new PermanentError('no such customer')))
  assert.equal(breaker.state, 'closed')
  const strict = make({ isFailure: (error) => (error as Error).message === 'bad' }).breaker
  await fail(strict, 10, () => Promise.reject(new Error('fine')))
  assert.equal(strict.state, 'closed')
  await fail(strict, 10, () => Promise.reject(new Error('bad')))
  assert.equal(strict.state, 'open')
})

test('what does not answer is given up at the timeout, told so by its signal, and counts as failed', async () => {
  const { breaker, clock } = make({ timeout: 500 })
  for (let n = 0; n < 4; n++) {
    let aborted = false
    const call = breaker.call((signal) => {
      signal.addEventListener('abort', () => {
        aborted = true
      })
      return new Promise(() => undefined)
    })
    clock.pass(500)
    await assert.rejects(call, { name: 'TimeoutError' })
    assert.ok(aborted)
  }
  assert.equal(breaker.state, 'open')
})

test('a caller that gives up early proves nothing, one that gives up after the call was slow proves that it hangs', async () => {
  const { breaker, clock } = make({ slowAfter: 100 })
  const giveUp = async (afterMs: number) => {
    const controller = new AbortController()
    const options: BreakerCallOptions = { signal: controller.signal }
    const call = breaker.call(() => new Promise(() => undefined), options)
    clock.pass(afterMs)
    controller.abort(new Error('deadline'))
    await assert.rejects(call, /deadline/)
  }
  for (let n = 0; n < 20; n++) await giveUp(99)
  assert.equal(breaker.state, 'closed')
  assert.equal(breaker.counts.abandoned, 20)
  for (let n = 0; n < 4; n++) await giveUp(100)
  assert.equal(breaker.state, 'open')
  await assert.rejects(
    breaker.call(() => 1, { signal: AbortSignal.abort(new Error('never')) }),
    /never/,
  )
})

test('a probe that is cancelled leaves the way free for the next one', async () => {
  const { breaker, clock } = make()
  await fail(breaker, 4)
  clock.pass(1_000)
  const controller = new AbortController()
  const probe = breaker.call(() => new Promise(() => undefined), { signal: controller.signal })
  await assert.rejects(
    breaker.call(() => 1),
    refusedCode,
  )
  controller.abort(new Error('stop'))
  await assert.rejects(probe, /stop/)
  assert.equal(await breaker.call(() => 2), 2)
  assert.equal(breaker.state, 'closed')
})

test('retries repeat only what may pass, and when everything fails they stay a tenth of the calls', async () => {
  const { breaker, clock } = make({ minimumCalls: 10_000, windowCalls: 10_000, retry: { attempts: 3 } })
  let calls = 0
  const run = async (how: () => Promise<unknown>) => {
    const call = breaker.call(() => {
      calls++
      return how()
    })
    let ended = false
    const onEnd = () => {
      ended = true
    }
    const end = call.then(onEnd, onEnd)
    while (!ended) {
      clock.pass(5_000)
      await turn()
    }
    await end
    return call
  }
  await assert.rejects(
    run(() => Promise.reject(new Error('a bug'))),
    /a bug/,
  )
  assert.equal(calls, 1, 'an unknown failure is not repeated')
  let failures = 0
  assert.equal(await run(() => (failures++ === 0 ? down() : Promise.resolve('well'))), 'well')
  calls = 0
  for (let n = 0; n < 500; n++) await run(down).catch(() => undefined)
  assert.ok(calls >= 500 + 50 && calls <= 500 + 50 + 10, `${calls} calls for 500`)
  assert.equal(breaker.counts.retried, calls - 500 + 1)
})

test('a listener that throws changes no call and is not silent', async () => {
  const { breaker } = make()
  const heard = Promise.withResolvers<unknown>()
  const before = process.listeners('uncaughtException')
  process.removeAllListeners('uncaughtException')
  process.once('uncaughtException', (error) => heard.resolve(error))
  try {
    breaker.subscribe(() => {
      throw new Error('listener')
    })
    await fail(breaker, 4)
    assert.match(String(await heard.promise), /listener/)
  } finally {
    for (const listener of before) process.on('uncaughtException', listener)
  }
  assert.equal(breaker.state, 'open')
})

const kept: Breaker[] = []
after(() => kept.length)

test('mistakes in the options are told all at once, and a breaker made in public is known by name', () => {
  const options = { failureRate: 2, openFor: '10s', openForMax: '1s', minimumCalls: 200, halfOpen: 3 } as BreakerOptions
  assert.throws(
    () => publicBreaker('Bad Name', options),
    (error: OttlaError) =>
      error.code === 'OTTLA_CONFIG_INVALID' &&
      [
        /the name "Bad Name"/,
        /failureRate is 2/,
        /openFor exceeds/,
        /minimumCalls exceeds/,
        /no option halfOpen/,
      ].every((part) => part.test(error.message)),
  )
  const stripe = publicBreaker('stripe-test')
  kept.push(stripe)
  assert.ok(namedBreakers().includes(stripe))
})
