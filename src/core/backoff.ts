/** How long to wait before trying again: exponential with a cap, full jitter, so that a crowd does not come back at once. */

export interface Backoff {
  /** Ceiling of the first wait. */
  readonly baseMs: number
  readonly factor: number
  /** No wait is longer. */
  readonly capMs: number
}

/** SEMANTICS' numbers for handlers: 250 ms, x 4, at most 30 s. */
export const handlerBackoff: Backoff = { baseMs: 250, factor: 4, capMs: 30_000 }

/** The ceiling of the wait after the n-th failure, n from 1. */
export function backoffCeilingMs(backoff: Backoff, failures: number): number {
  return Math.min(backoff.capMs, backoff.baseMs * backoff.factor ** Math.max(0, failures - 1))
}

/** Full jitter: anything between 0 and the ceiling. `random` is in [0, 1). */
export function backoffMs(backoff: Backoff, failures: number, random: number): number {
  return Math.floor(random * backoffCeilingMs(backoff, failures))
}
