/**
 * A circuit breaker with a name, for calls to one thing outside: an HTTP API, a mail server, a cache.
 *
 * The states and their rules are `core/circuit-breaker.ts`; here they meet time, promises and listeners. One call:
 *
 *   call ──refused──► OTTLA_BREAKER_OPEN
 *     │ let through
 *     └──► fn runs ──returns──────────────────────────────► good (slow when it took that long)
 *                  ──throws──► is it a failure? ──yes─────► failed; with a retry allowed and a token left: again
 *                                               ──no──────► good: the other side answered
 *                  ──`timeout` passes─────────────────────► failed, and the caller gets a TimeoutError
 *                  ──the caller's signal aborts──► slow by now: failed; before: proves nothing
 *
 * An engine that meets OTTLA_BREAKER_OPEN finds the breaker behind the error (`openBreakerOf`) and stands its partitions
 * still until this breaker lets a probe through (`breaker-gate.ts`).
 */
import { type Duration, durationMs } from '../contract/duration.ts'
import { OttlaError } from '../contract/errors.ts'
import { type Backoff, backoffMs } from '../core/backoff.ts'
import { type BreakerLimits, type BreakerState, CircuitBreaker, refused } from '../core/circuit-breaker.ts'
import { classify } from '../core/classify.ts'
import { RetryBudget } from '../core/retry-budget.ts'
import { breakerChanged } from './channels.ts'
import type { Clock } from './ports.ts'

/** How a breaker judges, and what it does beside. */
export interface BreakerOptions {
  /** Opens from this share of failed calls, in (0, 1]. Default 0.5. */
  readonly failureRate?: number
  /** Opens from this share of slow calls, in (0, 1]. Default 0.8. */
  readonly slowRate?: number
  /** A call that takes this long is slow. Default `'5s'`. */
  readonly slowAfter?: Duration
  /** With fewer calls than this in the window nothing is decided. Default 20. */
  readonly minimumCalls?: number
  /** Calls looked at, at most. Default 100. */
  readonly windowCalls?: number
  /** Calls that ended longer ago are forgotten. Default `'60s'`. */
  readonly window?: Duration
  /** How long it stays open at first; doubled by each probe that fails. Default `'5s'`. */
  readonly openFor?: Duration
  /** The longest it stays open. Default `'60s'`. */
  readonly openForMax?: Duration
  /** A call is given up after this long and counts as failed. Default `'30s'`. */
  readonly timeout?: Duration
  /** Which errors count as failures. Default: all but those that say that repeating is pointless (`PermanentError`). */
  readonly isFailure?: (error: unknown) => boolean
  /** Repeats calls that failed for a passing reason. Default: none is repeated. */
  readonly retry?: BreakerRetry
}

/** Retries of a breaker's calls, bounded by a budget that all its callers share. */
export interface BreakerRetry {
  /** Attempts in all, the first included. Default 2. */
  readonly attempts?: number
  /** Retries per call in the long run, in [0, 1]. Default 0.1. */
  readonly budget?: number
}

/** A change of state. */
export interface BreakerChange {
  readonly breaker: string
  readonly from: BreakerState
  readonly to: BreakerState
}

/** What may be said beside the function to call. */
export interface BreakerCallOptions {
  /** Gives the call up. A handler passes its own. */
  readonly signal?: AbortSignal
}

/** How the calls of a breaker have ended so far. */
export interface BreakerCounts {
  succeeded: number
  failed: number
  /** Not made, because it was open. */
  refused: number
  /** Cancelled before they proved anything. */
  abandoned: number
  retried: number
  /** Changes of state, by the new one. */
  readonly changes: Record<BreakerState, number>
}

/** What a breaker takes from the machine it runs on. */
export interface BreakerMachine {
  readonly clock: Clock
  /** In [0, 1). */
  readonly random: () => number
}

const nameForm = /^[a-z][a-z0-9._-]{0,62}$/
const retryBackoff: Backoff = { baseMs: 100, factor: 4, capMs: 5_000 }
const retriesSavedMax = 10

/** A circuit breaker. Made by `breaker(name, options)`. */
export class Breaker {
  readonly name: string
  /** @internal For metrics. */
  readonly counts: BreakerCounts = {
    succeeded: 0,
    failed: 0,
    refused: 0,
    abandoned: 0,
    retried: 0,
    changes: { closed: 0, open: 0, 'half-open': 0 },
  }
  readonly #machine: BreakerMachine
  readonly #circuit: CircuitBreaker
  readonly #settings: Settings
  readonly #budget: RetryBudget | null
  readonly #listeners = new Set<(change: BreakerChange) => void>()

  constructor(name: string, settings: Settings, machine: BreakerMachine) {
    this.name = name
    this.#machine = machine
    this.#settings = settings
    this.#circuit = new CircuitBreaker(settings.limits)
    this.#budget = settings.attempts > 1 ? new RetryBudget({ share: settings.share, savedMax: retriesSavedMax }) : null
  }

  /** Open: no call is made until a time. Half-open: one probe may be out. A call, not time alone, makes it half-open. */
  get state(): BreakerState {
    return this.#circuit.state
  }

  /**
   * Calls `fn` unless too many calls failed lately. `fn` gets a signal that aborts at `timeout` and with the caller's.
   * Throws what `fn` throws; OTTLA_BREAKER_OPEN without calling it; a `TimeoutError`; the reason of `signal`.
   *
   * ```ts
   * const stripe = breaker('stripe')
   * await stripe.call((signal) => fetch(url, { signal }).then(okOrThrow), { signal })
   * ```
   */
  async call<R>(fn: (signal: AbortSignal) => R | PromiseLike<R>, options: BreakerCallOptions = {}): Promise<R> {
    const { signal } = options
    this.#budget?.called()
    for (let attempt = 1; ; attempt++) {
      signal?.throwIfAborted()
      try {
        return await this.#callOnce(fn, signal)
      } catch (error) {
        if (signal?.aborted === true || attempt >= this.#settings.attempts) throw error
        if (openBreakerOf(error) !== null || classify(error) !== 'transient') throw error
        if (this.#budget?.take() !== true) throw error
      }
      this.counts.retried++
      await this.#pause(backoffMs(retryBackoff, attempt, this.#machine.random()), signal)
    }
  }

  /** Told each change of state, in the turn in which it happens. What a listener throws ends up with the process. */
  subscribe(listener: (change: BreakerChange) => void): Disposable {
    // Wrapped, so that one function subscribed twice is told twice and each subscription ends by itself.
    const each = (change: BreakerChange): void => listener(change)
    this.#listeners.add(each)
    return { [Symbol.dispose]: () => void this.#listeners.delete(each) }
  }

  /** @internal How long until a call could be let through: 0 now, null not before the probe under way has ended. */
  waitMs(): number | null {
    return this.#circuit.waitMs(this.#machine.clock.monotonicMs())
  }

  /** @internal A permit for a call that somebody else makes, or `refused`. */
  admit(nowMs: number): number {
    const before = this.#circuit.state
    const permit = this.#circuit.admit(nowMs)
    if (permit === refused) this.counts.refused++
    else if (before !== 'closed') this.#tell(before)
    return permit
  }

  /** @internal */
  settle(permit: number, result: { failed: boolean; durationMs: number; key: string | null }, nowMs: number): void {
    if (result.failed) this.counts.failed++
    else this.counts.succeeded++
    const before = this.#circuit.state
    this.#circuit.settle(permit, result, nowMs)
    this.#tell(before)
  }

  /** @internal */
  abandon(permit: number): void {
    this.counts.abandoned++
    this.#circuit.abandon(permit)
  }

  /** @internal The error of a call that is not made; the engine finds this breaker behind it. */
  refusal(): OttlaError {
    const waitMs = this.waitMs()
    const when =
      waitMs === null
        ? 'a probe is under way'
        : waitMs === 0
          ? 'a probe is due'
          : `a probe is due in ${Math.ceil(waitMs)} ms`
    const error = new OttlaError('OTTLA_BREAKER_OPEN', `The breaker ${this.name} is open; ${when}`, {
      details: { breaker: this.name, waitMs },
    })
    Object.defineProperty(error, behind, { value: this })
    return error
  }

  async #callOnce<R>(fn: (signal: AbortSignal) => R | PromiseLike<R>, signal: AbortSignal | undefined): Promise<R> {
    const { clock } = this.#machine
    const startedMs = clock.monotonicMs()
    const permit = this.admit(startedMs)
    if (permit === refused) throw this.refusal()
    const { timeoutMs, limits, isFailure } = this.#settings
    const controller = new AbortController()
    const cut = Promise.withResolvers<never>()
    const giveUp = (reason: unknown): void => {
      controller.abort(reason)
      cut.reject(reason)
    }
    const onAbort = (): void => giveUp(signal!.reason)
    const timer = clock.after(timeoutMs, () =>
      giveUp(new DOMException(`${this.name} did not answer within ${timeoutMs} ms`, 'TimeoutError')),
    )
    signal?.addEventListener('abort', onAbort, { once: true })
    let failed = false
    let proven = true
    try {
      const running = Promise.resolve(fn(controller.signal))
      // Whichever is too late has nobody to tell: the result of the call was known before.
      running.catch(() => undefined)
      cut.promise.catch(() => undefined)
      return await Promise.race([running, cut.promise])
    } catch (error) {
      const cancelled = signal?.aborted === true
      failed = controller.signal.aborted || isFailure(error)
      proven = !cancelled || clock.monotonicMs() - startedMs >= limits.slowMs
      throw error
    } finally {
      timer[Symbol.dispose]()
      signal?.removeEventListener('abort', onAbort)
      const nowMs = clock.monotonicMs()
      if (proven) this.settle(permit, { failed, durationMs: nowMs - startedMs, key: null }, nowMs)
      else this.abandon(permit)
    }
  }

  async #pause(delayMs: number, signal: AbortSignal | undefined): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = this.#machine.clock.after(delayMs, resolve)
    const onAbort = (): void => resolve()
    signal?.addEventListener('abort', onAbort, { once: true })
    await promise
    signal?.removeEventListener('abort', onAbort)
    timer[Symbol.dispose]()
  }

  #tell(from: BreakerState): void {
    const to = this.#circuit.state
    if (to === from) return
    this.counts.changes[to]++
    const change: BreakerChange = { breaker: this.name, from, to }
    if (breakerChanged.hasSubscribers) breakerChanged.publish(change)
    for (const listener of [...this.#listeners]) {
      try {
        listener(change)
      } catch (error) {
        // A listener's mistake must not change the result of a call, nor stay unseen.
        queueMicrotask(() => {
          throw error
        })
      }
    }
  }
}

/** What the options come to. */
export interface Settings {
  readonly limits: BreakerLimits
  readonly timeoutMs: number
  readonly isFailure: (error: unknown) => boolean
  readonly attempts: number
  readonly share: number
}

const known: ReadonlySet<string> = new Set<keyof BreakerOptions>([
  'failureRate',
  'slowRate',
  'slowAfter',
  'minimumCalls',
  'windowCalls',
  'window',
  'openFor',
  'openForMax',
  'timeout',
  'isFailure',
  'retry',
])

/** Checks name and options and fills in every default. Throws OTTLA_CONFIG_INVALID with every problem. */
export function breakerSettings(name: string, options: BreakerOptions): Settings {
  const problems: string[] = []
  const check = (good: boolean, problem: string): void => {
    if (!good) problems.push(`- ${problem}`)
  }
  const share = (value: number, option: string, from: number): number => {
    check(value >= from && value <= 1, `${option} is ${value}; a share up to 1 is expected`)
    return value
  }
  const count = (value: number, option: string): number => {
    check(Number.isInteger(value) && value >= 1 && value <= 10_000, `${option} is ${value}; 1 to 10,000 is expected`)
    return value
  }
  const time = (value: Duration, option: string): number => {
    try {
      const ms = durationMs(value, option)
      check(ms > 0, `${option} must be longer than nothing`)
      return ms
    } catch (error) {
      problems.push(`- ${(error as Error).message}`)
      return 1
    }
  }
  check(
    nameForm.test(name),
    `the name ${JSON.stringify(name)}: lower case letters, digits, dots and dashes are expected`,
  )
  for (const option of Object.keys(options)) check(known.has(option), `there is no option ${option}`)
  const { retry } = options
  const settings: Settings = {
    limits: {
      windowCalls: count(options.windowCalls ?? 100, 'windowCalls'),
      windowMs: time(options.window ?? '60s', 'window'),
      callsMin: count(options.minimumCalls ?? 20, 'minimumCalls'),
      failureRate: share(options.failureRate ?? 0.5, 'failureRate', Number.MIN_VALUE),
      slowRate: share(options.slowRate ?? 0.8, 'slowRate', Number.MIN_VALUE),
      slowMs: time(options.slowAfter ?? '5s', 'slowAfter'),
      keysMin: 1,
      openMs: time(options.openFor ?? '5s', 'openFor'),
      openMaxMs: time(options.openForMax ?? '60s', 'openForMax'),
    },
    timeoutMs: time(options.timeout ?? '30s', 'timeout'),
    isFailure: options.isFailure ?? ((error) => classify(error) !== 'permanent'),
    attempts: retry === undefined ? 1 : count(retry.attempts ?? 2, 'retry.attempts'),
    share: share(retry?.budget ?? 0.1, 'retry.budget', 0),
  }
  const { limits } = settings
  check(limits.callsMin <= limits.windowCalls, 'minimumCalls exceeds windowCalls: it would never open')
  check(limits.openMs <= limits.openMaxMs, 'openFor exceeds openForMax')
  if (problems.length > 0) {
    throw new OttlaError('OTTLA_CONFIG_INVALID', `breaker(${JSON.stringify(name)}):\n${problems.join('\n')}`, {
      details: { problems },
    })
  }
  return settings
}

// ── the breaker behind an error ──

/** Shared through the global registry, so that it holds across two copies of the package in one process. */
const behind = Symbol.for('ottla.breaker')
const causesMax = 8

/** The breaker that refused, along the chain of causes, unless it is closed by now. */
export function openBreakerOf(error: unknown): Breaker | null {
  let current = error
  for (let depth = 0; depth < causesMax && typeof current === 'object' && current !== null; depth++) {
    const breaker = (current as { readonly [behind]?: Breaker })[behind]
    if (breaker !== undefined) return breaker.state === 'closed' ? null : breaker
    current = (current as { cause?: unknown }).cause
  }
  return null
}

// ── the breakers of this process ──

const named = new Map<string, WeakRef<Breaker>>()
const namedMax = 256

/** Makes a breaker known to metrics. Of two with one name the younger is shown. */
export function register(breaker: Breaker): void {
  for (const [name, ref] of named) if (ref.deref() === undefined) named.delete(name)
  if (named.size < namedMax) named.set(breaker.name, new WeakRef(breaker))
}

/** The named breakers of this process, at most 256. */
export function namedBreakers(): readonly Breaker[] {
  return [...named.values()].flatMap((ref) => ref.deref() ?? [])
}
