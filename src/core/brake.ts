/**
 * The dead-letter brake of one partition: a bad deploy must not empty a topic into the dead letters.
 *
 * It looks at the last `window` records that ended. Once more than `deadLettersMax` of them went to the dead letters and
 * that is more than `share` of them, the next one is refused and the partition stands until somebody releases it.
 * Counting is by a ring of flags, with causes counted so that the alarm can name the commonest.
 *
 * Dead letters are written many at once, so each takes its place before it is written, and counts from then on.
 *
 *   take(cause) ──► its letter is being written ──► ended(true): it is written
 *                              └──────────────────► giveBack(cause): it could not be written
 */

export interface BrakeLimits {
  readonly window: number
  readonly deadLettersMax: number
  readonly share: number
}

export const brakeLimits: BrakeLimits = { window: 500, deadLettersMax: 50, share: 0.1 }

const causesMax = 32

export class Brake {
  readonly #limits: BrakeLimits
  readonly #ring: Uint8Array
  #seen = 0
  #deadLetters = 0
  /** Taken, and neither ended nor given back. */
  #writing = 0
  readonly #causes = new Map<string, number>()

  constructor(limits: BrakeLimits = brakeLimits) {
    this.#limits = limits
    this.#ring = new Uint8Array(limits.window)
  }

  /** May one more go to the dead letters? Then it counts as being written. */
  take(cause: string): boolean {
    const total = Math.min(this.#seen, this.#limits.window)
    const count = this.#deadLetters + this.#writing
    if (count >= this.#limits.deadLettersMax && count > total * this.#limits.share) return false
    this.#writing++
    const name = this.#causes.has(cause) || this.#causes.size < causesMax ? cause : 'other'
    this.#causes.set(name, (this.#causes.get(name) ?? 0) + 1)
    return true
  }

  /** It could not be written, or not now. */
  giveBack(cause: string): void {
    this.#writing--
    const name = this.#causes.has(cause) ? cause : 'other'
    this.#causes.set(name, Math.max(0, (this.#causes.get(name) ?? 0) - 1))
  }

  /** A record ended; `deadLettered` when one taken before is written. */
  ended(deadLettered: boolean): void {
    const slot = this.#seen % this.#limits.window
    if (this.#seen >= this.#limits.window) this.#deadLetters -= this.#ring[slot]!
    this.#ring[slot] = deadLettered ? 1 : 0
    this.#seen++
    if (!deadLettered) return
    this.#writing--
    this.#deadLetters++
  }

  commonestCause(): string {
    let best = 'none'
    let count = 0
    for (const [cause, times] of this.#causes) {
      if (times > count) {
        best = cause
        count = times
      }
    }
    return best
  }

  /** Somebody says: go on. Starts counting afresh, beside what is being written. */
  release(): void {
    this.#seen = 0
    this.#deadLetters = 0
    this.#causes.clear()
  }
}
