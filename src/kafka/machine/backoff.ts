/** How long to wait before trying again: doubling from a base to a cap, with jitter so that a fleet does not march in step. */

export interface Backoff {
  readonly baseMs: number
  readonly maxMs: number
}

/**
 * The pause after `failures` failures in a row (1 = the first). `random` is a number from 0 up to 1, handed in by the
 * caller; the result lies between half and all of the doubled value.
 */
export function backoffMs(backoff: Backoff, failures: number, random: number): number {
  if (failures <= 0) return 0
  const full = Math.min(backoff.maxMs, backoff.baseMs * 2 ** Math.min(failures - 1, 30))
  return Math.ceil(full * (0.5 + random / 2))
}
