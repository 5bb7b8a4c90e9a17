/**
 * A circuit breaker: stops calls to something that fails, and finds out by single probes when it is well again.
 *
 *                 enough calls in the window, and too many failed or were slow
 *   CLOSED ────────────────────────────────────────────────────────────────────────► OPEN ◄──────────────┐
 *   every call is let through; its result goes into the window                       none is let through │
 *      ▲                                                                                │                │
 *      │                                                          its time is over, and │                │
 *      │                                                            somebody asks       ▼                │ failed or slow:
 *      └───────────────── the probe succeeded ────────────────────────────────────── HALF-OPEN ──────────┘ the next open
 *                         (window and open time begin afresh)          one probe at a time; no other call   time is longer
 *                                                                      is let through meanwhile
 *
 * A call that is let through gets a permit, a number above 0, and gives it back with its result, or without one when it
 * proved nothing (cancelled, or never reached what it was for): then the next call may probe. Each change of state
 * begins a new number, so results of calls that began before it are known and left out: a burst of old failures neither
 * reopens nor prolongs anything.
 *
 * The window holds the last `windowCalls` results, none older than `windowMs`. Failures are counted by key where keys
 * are given, because many failures of one key say something about that key and nothing about the rest.
 */

export type BreakerState = 'closed' | 'open' | 'half-open'

export interface BreakerLimits {
  /** Results looked at, at most. */
  readonly windowCalls: number
  /** Results older than this are forgotten. */
  readonly windowMs: number
  /** With fewer results than this nothing is decided. */
  readonly callsMin: number
  /** Opens from this share of failed calls, in (0, 1]. */
  readonly failureRate: number
  /** Opens from this share of slow calls, in (0, 1]. Failed calls may be slow too. */
  readonly slowRate: number
  /** A call that takes this long is slow. */
  readonly slowMs: number
  /** Bad results must come from at least so many keys. 1: keys do not matter. */
  readonly keysMin: number
  /** How long it stays open at first; doubled by each probe that fails, up to the maximum. */
  readonly openMs: number
  readonly openMaxMs: number
}

/** How a call ended. */
export interface CallResult {
  readonly failed: boolean
  readonly durationMs: number
  /** What the call was for. Null: for nothing else, so it counts as a key of its own. */
  readonly key: string | null
}

/** `permit` of a call that was not let through. */
export const refused = 0

const failedFlag = 1
const slowFlag = 2
const growth = 2

export class CircuitBreaker {
  readonly #limits: BreakerLimits
  #state: BreakerState = 'closed'
  /** Permits of the state it is in; anything else is from before. */
  #permit = 1
  #probing = false
  /** Open until then; kept while half-open. */
  #untilMs = 0
  /** Times in a row that it opened. */
  #openings = 0
  // The window: a ring of results.
  readonly #flags: Uint8Array
  readonly #atMs: Float64Array
  readonly #keys: (string | null)[]
  #first = 0
  #count = 0
  #failed = 0
  #slow = 0
  /** Bad results by key, and those without one. */
  readonly #badKeys = new Map<string, number>()
  #badKeyless = 0

  constructor(limits: BreakerLimits) {
    this.#limits = limits
    this.#flags = new Uint8Array(limits.windowCalls)
    this.#atMs = new Float64Array(limits.windowCalls)
    this.#keys = new Array<string | null>(limits.windowCalls).fill(null)
  }

  get state(): BreakerState {
    return this.#state
  }

  /** How long until a call could be let through: 0 now, null not before the probe under way has ended. */
  waitMs(nowMs: number): number | null {
    switch (this.#state) {
      case 'closed':
        return 0
      case 'open':
        return Math.max(0, this.#untilMs - nowMs)
      case 'half-open':
        return this.#probing ? null : 0
      default:
        return this.#state satisfies never
    }
  }

  /** May a call go out? Its permit, or `refused`. */
  admit(nowMs: number): number {
    switch (this.#state) {
      case 'closed':
        return this.#permit
      case 'open':
        if (nowMs < this.#untilMs) return refused
        this.#enter('half-open')
        this.#probing = true
        return this.#permit
      case 'half-open':
        if (this.#probing) return refused
        this.#probing = true
        return this.#permit
      default:
        return this.#state satisfies never
    }
  }

  /** A call that was let through has a result. */
  settle(permit: number, result: CallResult, nowMs: number): void {
    if (permit !== this.#permit) return
    const slow = result.durationMs >= this.#limits.slowMs
    switch (this.#state) {
      case 'closed':
        this.#record(result, slow, nowMs)
        // A good call opens nothing, even when it is the one that makes them enough.
        if ((result.failed || slow) && this.#tooBad()) this.#open(nowMs)
        return
      case 'half-open':
        if (result.failed || slow) this.#open(nowMs)
        else this.#close()
        return
      case 'open':
        // Nobody holds a permit of an open breaker.
        return
      default:
        this.#state satisfies never
    }
  }

  /** A call that was let through ends without a result. */
  abandon(permit: number): void {
    if (permit !== this.#permit || this.#state !== 'half-open') return
    // The next probe gets another number: what the abandoned one may still say is not listened to.
    this.#permit++
    this.#probing = false
  }

  #open(nowMs: number): void {
    const { openMs, openMaxMs } = this.#limits
    this.#untilMs = nowMs + Math.min(openMaxMs, openMs * growth ** this.#openings)
    this.#openings++
    this.#enter('open')
    this.#forgetAll()
  }

  #close(): void {
    this.#openings = 0
    this.#enter('closed')
  }

  #enter(state: BreakerState): void {
    this.#state = state
    this.#permit++
    this.#probing = false
  }

  // ── the window ──

  #tooBad(): boolean {
    const { callsMin, failureRate, slowRate, keysMin } = this.#limits
    if (this.#count < callsMin) return false
    if (this.#failed < this.#count * failureRate && this.#slow < this.#count * slowRate) return false
    return this.#badKeys.size + this.#badKeyless >= keysMin
  }

  #record({ failed, key }: CallResult, slow: boolean, nowMs: number): void {
    const { windowCalls, windowMs } = this.#limits
    while (this.#count > 0 && (this.#count === windowCalls || this.#atMs[this.#first]! <= nowMs - windowMs)) {
      this.#forgetFirst()
    }
    const slot = (this.#first + this.#count++) % windowCalls
    this.#atMs[slot] = nowMs
    this.#flags[slot] = (failed ? failedFlag : 0) | (slow ? slowFlag : 0)
    if (failed) this.#failed++
    if (slow) this.#slow++
    if (!failed && !slow) return
    this.#keys[slot] = key
    if (key === null) this.#badKeyless++
    else this.#badKeys.set(key, (this.#badKeys.get(key) ?? 0) + 1)
  }

  #forgetFirst(): void {
    const slot = this.#first
    this.#first = (slot + 1) % this.#limits.windowCalls
    this.#count--
    const flags = this.#flags[slot]!
    if (flags === 0) return
    if ((flags & failedFlag) !== 0) this.#failed--
    if ((flags & slowFlag) !== 0) this.#slow--
    const key = this.#keys[slot]!
    this.#keys[slot] = null
    if (key === null) {
      this.#badKeyless--
      return
    }
    const left = this.#badKeys.get(key)! - 1
    if (left === 0) this.#badKeys.delete(key)
    else this.#badKeys.set(key, left)
  }

  #forgetAll(): void {
    this.#first = this.#count = this.#failed = this.#slow = this.#badKeyless = 0
    this.#badKeys.clear()
    this.#keys.fill(null)
  }
}
