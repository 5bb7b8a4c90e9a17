/**
 * How much of a partition may be open before its fetching stops, in records and in bytes, with room between stop and go
 * so that a partition at the border does not flutter.
 */

export interface BudgetLimits {
  readonly maxRecords: number
  readonly maxBytes: number
}

export class Budget {
  readonly #limits: BudgetLimits
  /** Bytes at which it stops now: the limit, or a smaller share. */
  #maxBytes: number
  #records = 0
  #bytes = 0
  #stopped = false

  constructor(limits: BudgetLimits) {
    this.#limits = limits
    this.#maxBytes = limits.maxBytes
  }

  /** From now on at most so many bytes, and never more than the limit: what others leave of a memory they share. */
  share(maxBytes: number): void {
    this.#maxBytes = Math.min(this.#limits.maxBytes, maxBytes)
  }

  take(bytes: number): void {
    this.#records++
    this.#bytes += bytes
  }

  give(bytes: number): void {
    this.#records--
    this.#bytes -= bytes
  }

  /**
   * Should fetching stop or go on? Null: as it is. Ask after each change that matters. `stands`: all that is open waits
   * behind failures, so nothing of it makes room soon, and others may use what room there is.
   */
  change(stands = false): 'stop' | 'go' | null {
    if (!this.#stopped) {
      if (this.#records < this.#limits.maxRecords && this.#bytes < this.#maxBytes) return null
      this.#stopped = true
      return 'stop'
    }
    const isTooMuch = stands
      ? this.#records >= this.#limits.maxRecords || this.#bytes >= this.#maxBytes
      : this.#records > this.#limits.maxRecords / 2 || this.#bytes > this.#maxBytes / 2
    if (isTooMuch) return null
    this.#stopped = false
    return 'go'
  }

  get stopped(): boolean {
    return this.#stopped
  }

  get records(): number {
    return this.#records
  }

  get bytes(): number {
    return this.#bytes
  }
}
