/**
 * The dead-letter brake of one partition: a bad deploy must not empty a topic into the dead letters.
 *
 * It looks at the last `window` records that ended. Once more than `deadLettersMax` of them went to the dead letters and
 * that is more than `share` of them, the next one is refused and the partition stands until somebody releases it.
 * Counting is by a ring of flags, with causes counted so that the alarm can name the commonest.
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
  readonly #causes = new Map<string, number>()

  constructor(limits: BrakeLimits = brakeLimits) {
    this.#limits = limits
    this.#ring = new Uint8Array(limits.window)
  }

  /** May one more go to the dead letters? */
  allows(): boolean {
    const total = Math.min(this.#seen, this.#limits.window)
    return this.#deadLetters < this.#limits.deadLettersMax || this.#deadLetters <= total * this.#limits.share
  }

  /** A record ended; `cause` when it was dead-lettered. */
  ended(cause: string | null): void {
    const slot = this.#seen % this.#limits.window
    if (this.#seen >= this.#limits.window) this.#deadLetters -= this.#ring[slot]!
    this.#ring[slot] = cause === null ? 0 : 1
    this.#seen++
    if (cause === null) return
    this.#deadLetters++
    const name = this.#causes.has(cause) || this.#causes.size < causesMax ? cause : 'other'
    this.#causes.set(name, (this.#causes.get(name) ?? 0) + 1)
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

  /** Somebody says: go on. Starts counting afresh. */
  release(): void {
    this.#seen = 0
    this.#deadLetters = 0
    this.#causes.clear()
  }
}
