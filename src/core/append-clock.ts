/**
 * What time it is for the broker, as far as a client can know.
 *
 * Delays run from the broker's append time, and the host's clock may be hours off. So the host's clock is believed until
 * a record of our own is acknowledged: its append time is the broker's now, and says how far off the host is. A record
 * may be read before that acknowledgement has come; while one is outstanding and nothing is known yet, it waits in full.
 */
export class AppendClock {
  #skewMs = 0
  #known = false
  #outstanding = 0

  /** Now, by the broker. `wallMs` is the host's. */
  nowMs(wallMs: number): number {
    return wallMs + this.#skewMs
  }

  /** A record of ours is on its way. */
  sending(): void {
    this.#outstanding++
  }

  /** It has just been acknowledged with this append time; null: it has not. */
  sent(appendMs: number | null, wallMs: number): void {
    this.#outstanding--
    if (appendMs === null) return
    this.#known = true
    this.#skewMs = appendMs - wallMs
  }

  /**
   * How long a record with this append time still waits when it is read now: never longer than the delay, whatever its
   * timestamp claims.
   */
  waitMs(appendMs: number, delayMs: number, wallMs: number): number {
    if (!this.#known && this.#outstanding > 0) return delayMs
    const passedMs = Math.max(0, this.nowMs(wallMs) - appendMs)
    return Math.max(0, delayMs - passedMs)
  }
}
