/** Medians, ranges and verdicts. */

export interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
}

export function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  const median = sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2
  return { median, min: sorted[0] ?? Number.NaN, max: sorted.at(-1) ?? Number.NaN }
}

/** `loud`: the machine was too restless to say. */
export type Verdict = 'holds' | 'fails' | 'loud'

/**
 * Is `value` at least `floor`? `noise` is how far apart two runs of the same thing were, at least 1: a value within
 * that of the floor says nothing.
 */
export function judge(value: number, floor: number, noise: number): Verdict {
  // Two runs of the same thing within 5 % are quiet.
  const slack = noise <= 1.05 ? 1 : noise
  if (value / slack >= floor) return 'holds'
  return value * slack < floor || slack === 1 ? 'fails' : 'loud'
}

/** How far a ratio of two equal things is from 1. */
export function noiseOf(control: number): number {
  return Math.max(control, 1 / control)
}
