/**
 * A clock that a test moves: timers fire in their order when their time has come, each with turns of the event loop
 * behind it, so that what it started comes to rest before the next one. An hour passes in milliseconds.
 */
import type { Clock } from '../runtime/ports.ts'

interface Timer {
  readonly atMs: number
  readonly turn: number
  readonly callback: () => void
}

export class ManualClock implements Clock {
  #nowMs: number
  #turn = 0
  readonly #timers = new Set<Timer>()
  readonly #wallOffsetMs: number

  /** `wallMs`: what the wall clock says at the beginning. */
  constructor(options: { readonly wallMs?: number } = {}) {
    this.#nowMs = 1_000
    this.#wallOffsetMs = (options.wallMs ?? 1_700_000_000_000) - this.#nowMs
  }

  monotonicMs(): number {
    return this.#nowMs
  }

  wallMs(): number {
    return this.#nowMs + this.#wallOffsetMs
  }

  after(delayMs: number, callback: () => void): Disposable {
    const timer = { atMs: this.#nowMs + Math.max(0, delayMs), turn: this.#turn++, callback }
    this.#timers.add(timer)
    return { [Symbol.dispose]: () => void this.#timers.delete(timer) }
  }

  /** Lets this much time pass. */
  async pass(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms
    await this.rest()
    for (;;) {
      let next: Timer | undefined
      for (const timer of this.#timers) {
        const earlier =
          next === undefined || timer.atMs < next.atMs || (timer.atMs === next.atMs && timer.turn < next.turn)
        if (timer.atMs <= endMs && earlier) next = timer
      }
      if (next === undefined) break
      this.#timers.delete(next)
      this.#nowMs = Math.max(this.#nowMs, next.atMs)
      next.callback()
      await this.rest()
    }
    this.#nowMs = endMs
  }

  /** Lets what is under way go on until it waits for time. */
  async rest(): Promise<void> {
    for (let turn = 0; turn < 6; turn++) await new Promise((done) => setImmediate(done))
  }
}
