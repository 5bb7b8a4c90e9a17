/**
 * How handling a record ended, as a value. Decided here, carried out in one switch in `runtime/dispatch.ts`.
 *
 * - `handled`     done.
 * - `retry`       failed; the attempt counts; its key waits until `atMs`.
 * - `park`        failed for a passing reason; the attempt does not count. `key`: the key waits until `atMs`;
 *                 `partition`: the store is away, every key waits; `breaker`: every key waits until it lets a probe through.
 * - `deadLetter`  given up; the original record goes to the dead letters with its cause.
 * - `drop`        given up without a trace but the ledger's; only where the service wrote that name down.
 */
import { type Backoff, backoffMs } from './backoff.ts'
import { type Classify, classify } from './classify.ts'

export type Outcome =
  | { readonly kind: 'handled' }
  | { readonly kind: 'retry'; readonly atMs: number }
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
  const given = policy.classify?.(error)
  let kind = given ?? classify(error)
  if (kind === 'store') {
    const waitMs = backoffMs(policy.backoff, tries.transient + 1, now.random)
    return { kind: 'park', scope: 'partition', atMs: now.nowMs + waitMs }
  }
  if (kind === 'transient') {
    const lastedMs = tries.transientSinceMs === 0 ? 0 : now.nowMs - tries.transientSinceMs
    if (lastedMs < policy.transientForMs) {
      const waitMs = backoffMs(policy.backoff, tries.transient + 1, now.random)
      return { kind: 'park', scope: 'key', atMs: now.nowMs + waitMs }
    }
    kind = 'unknown'
  }
  switch (kind) {
    case 'permanent':
      return giveUp(policy, 'permanent', error)
    case 'unknown': {
      const failures = tries.counted + 1
      if (failures >= policy.attemptsMax) return giveUp(policy, 'attemptsExhausted', error)
      return { kind: 'retry', atMs: now.nowMs + backoffMs(policy.backoff, failures, now.random) }
    }
    default:
      return kind satisfies never
  }
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
      return true
    case 'park':
      return outcome.scope === 'key' ? true : null
    case 'deadLetter':
      return outcome.cause === 'attemptsExhausted'
    case 'drop':
      return outcome.reason === 'attemptsExhausted'
    default:
      return outcome satisfies never
  }
}

function giveUp(policy: FailurePolicy, cause: DeadLetterCause, error: unknown): Outcome {
  return policy.finally === 'drop' ? { kind: 'drop', reason: cause } : { kind: 'deadLetter', cause, error }
}
