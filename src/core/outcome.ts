/**
 * How handling a record ended, as a value. Decided here, carried out in one switch in `runtime/dispatch.ts`.
 *
 * - `handled`     done.
 * - `retry`       failed; the attempt counts; its key waits until `atMs`. `aged`: it failed for a passing reason, but for
 *                 too long. `endless`: only because the handler says `retry: 'forever'`.
 * - `move`        failed; it goes to the retry topic of that `delay`, and its key does not wait for it.
 * - `park`        failed for a passing reason; the attempt does not count. `key`: the key waits until `atMs`;
 *                 `partition`: the store is away, every key waits; `breaker`: every key waits until it lets a probe through.
 * - `deadLetter`  given up; the original record goes to the dead letters with its cause.
 * - `drop`        given up without a trace but the ledger's; only where the service wrote that name down.
 */
import { type Backoff, backoffMs } from './backoff.ts'
import { type Classify, classify, isOpinion } from './classify.ts'

export type Outcome =
  | { readonly kind: 'handled' }
  | { readonly kind: 'retry'; readonly atMs: number; readonly aged: boolean; readonly endless: boolean }
  | { readonly kind: 'move'; readonly delay: number; readonly counted: boolean; readonly endless: boolean }
  | { readonly kind: 'park'; readonly scope: 'key' | 'partition'; readonly atMs: number }
  | { readonly kind: 'park'; readonly scope: 'breaker' }
  | { readonly kind: 'deadLetter'; readonly cause: DeadLetterCause; readonly error: unknown }
  | { readonly kind: 'drop'; readonly reason: string }

/** Why a record was given up. */
export type DeadLetterCause = 'permanent' | 'attemptsExhausted' | 'undecodable' | 'processDied' | 'held'

export const handled: Outcome = { kind: 'handled' }

/** It met an open breaker: whatever its error is called, the record is innocent and nothing counts. */
export const atBreaker: Outcome = { kind: 'park', scope: 'breaker' }

export interface FailurePolicy {
  /** Attempts of an unknown failure in all, the first included. */
  readonly attemptsMax: number
  readonly backoff: Backoff
  /** How long a transient failure may last before it counts as unknown. */
  readonly transientForMs: number
  readonly classify?: Classify
  /** What happens in the end: the record goes to the dead letters, or is dropped because the service said so. */
  readonly finally: 'deadLetter' | 'drop'
  /** Unknown failures are repeated beyond `attemptsMax`, without end. */
  readonly endless: boolean
  /** How many retry topics there are, by ascending delay; 0: it is repeated in its place, its key waits. */
  readonly delays: number
}

/** What happened to one record so far. */
export interface Tries {
  /** Failed attempts that count, the one just failed not included. */
  readonly counted: number
  /** Failures in a row that did not count. */
  readonly transient: number
  /** When the current run of transient failures began (monotonic), 0 when there is none. */
  readonly transientSinceMs: number
}

/** Decides what becomes of a record whose handler failed. `nowMs` is monotonic, `random` in [0, 1). */
export function decide(
  error: unknown,
  tries: Tries,
  policy: FailurePolicy,
  now: { nowMs: number; random: number },
): Outcome {
  const ours = classify(error)
  // Asked of nobody else: a store that is away must not be able to empty a topic into the dead letters.
  if (ours === 'store') {
    const waitMs = backoffMs(policy.backoff, tries.transient + 1, now.random)
    return { kind: 'park', scope: 'partition', atMs: now.nowMs + waitMs }
  }
  const said = policy.classify?.(error)
  // What is none of the three words, a promise for example, is no opinion.
  let kind = isOpinion(said) ? said : ours
  let aged = false
  if (kind === 'transient') {
    const lastedMs = tries.transientSinceMs === 0 ? 0 : now.nowMs - tries.transientSinceMs
    if (lastedMs < policy.transientForMs) {
      if (policy.delays > 0) return moveTo(policy, tries.transient, { counted: false, endless: false })
      const waitMs = backoffMs(policy.backoff, tries.transient + 1, now.random)
      return { kind: 'park', scope: 'key', atMs: now.nowMs + waitMs }
    }
    kind = 'unknown'
    aged = true
  }
  switch (kind) {
    case 'permanent':
      return giveUp(policy, 'permanent', error)
    case 'unknown': {
      const failures = tries.counted + 1
      const endless = failures >= policy.attemptsMax
      if (endless && !policy.endless) return giveUp(policy, 'attemptsExhausted', error)
      if (policy.delays > 0) return moveTo(policy, failures - 1, { counted: true, endless })
      return { kind: 'retry', atMs: now.nowMs + backoffMs(policy.backoff, failures, now.random), aged, endless }
    }
    default:
      return kind satisfies never
  }
}

/**
 * The failure of a record that was tried on behalf of all others, while the breaker it stood for is still not closed: it
 * says what the others would have met, so it does not count against this one. A record that is itself to blame stays so.
 */
export function asProbe(outcome: Outcome, policy: FailurePolicy, now: { nowMs: number; random: number }): Outcome {
  const blames =
    outcome.kind === 'retry' ||
    outcome.kind === 'move' ||
    (outcome.kind === 'deadLetter' && outcome.cause === 'attemptsExhausted') ||
    (outcome.kind === 'drop' && outcome.reason === 'attemptsExhausted')
  return blames ? { kind: 'park', scope: 'key', atMs: now.nowMs + backoffMs(policy.backoff, 1, now.random) } : outcome
}

/**
 * What a failed attempt says about everything beside its record, for the service's own breaker: true when the handler or
 * what it needs is failing, false when the record is to blame, null when something with a wait of its own was away.
 */
export function speaksOfTheService(outcome: Outcome): boolean | null {
  switch (outcome.kind) {
    case 'handled':
      return false
    case 'retry':
    case 'move':
      return true
    case 'park':
      return outcome.scope === 'key' ? true : null
    case 'deadLetter':
      return outcome.cause === 'attemptsExhausted'
    case 'drop':
      return outcome.reason === 'attemptsExhausted' || outcome.reason === 'acknowledgedBeforeHandling'
    default:
      return outcome satisfies never
  }
}

/** The n-th failure waits for the n-th delay; the last one is the longest there is. */
function moveTo(policy: FailurePolicy, before: number, how: { counted: boolean; endless: boolean }): Outcome {
  return { kind: 'move', delay: Math.min(before, policy.delays - 1), ...how }
}

function giveUp(policy: FailurePolicy, cause: DeadLetterCause, error: unknown): Outcome {
  return policy.finally === 'drop' ? { kind: 'drop', reason: cause } : { kind: 'deadLetter', cause, error }
}
