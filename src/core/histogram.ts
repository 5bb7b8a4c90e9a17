/** Durations counted in fixed buckets: no allocation per value, ready for Prometheus. */

/** Upper bounds in milliseconds; the last bucket takes the rest. Handlers take from microseconds to a minute. */
export const durationBoundsMs: readonly number[] = [
  0.1, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000,
]

export class Histogram {
  readonly #counts = new Float64Array(durationBoundsMs.length + 1)
  #sumMs = 0
  #count = 0

  add(valueMs: number): void {
    let bucket = 0
    while (bucket < durationBoundsMs.length && valueMs > durationBoundsMs[bucket]!) bucket++
    this.#counts[bucket]!++
    this.#sumMs += valueMs
    this.#count++
  }

  /** How many were at most each bound, and in all. */
  cumulative(): readonly number[] {
    let sum = 0
    return Array.from(this.#counts, (count) => {
      sum += count
      return sum
    })
  }

  get sumMs(): number {
    return this.#sumMs
  }

  get count(): number {
    return this.#count
  }
}
