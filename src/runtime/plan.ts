/**
 * What a service loop runs: a service definition with everything looked up and every default filled in. The app makes
 * it once; nothing in here changes afterwards.
 */
import type { AnyTopic } from '../contract/topic.ts'
import type { BudgetLimits } from '../core/budget.ts'
import type { BreakerLimits } from '../core/circuit-breaker.ts'
import type { FailurePolicy } from '../core/outcome.ts'
import type { HandlerContext } from './context.ts'
import type { Guards } from './guards.ts'
import type { Clock, Log, Store, TopicFacts, Writer } from './ports.ts'

/** One handler of one event. */
export interface HandlerPlan {
  /** `<topic>.<Event>`, for messages and metrics. */
  readonly name: string
  /** The event's own name. */
  readonly event: string
  readonly handle: (payload: unknown, context: HandlerContext) => unknown
  readonly policy: FailurePolicy
  /** Asked when the handler has failed for good, or cannot be asked because a breaker is open. */
  readonly fallback: ((payload: unknown, context: HandlerContext, error: unknown) => unknown) | null
  /** Until `signal` aborts. */
  readonly timeoutMs: number
  /** Does it take a redriven record of whose key later ones were handled? */
  readonly late: boolean
  /** Is its record acknowledged before it starts? */
  readonly early: boolean
}

/** A topic where failed records of a service wait for their delay. */
export interface RetryTopic {
  readonly topic: string
  readonly delayMs: number
}

/** One service, ready to run. */
export interface ServicePlan {
  readonly name: string
  /** The consumer group. */
  readonly group: string
  readonly clientId: string
  readonly deadLetterTopic: string
  readonly controlTopic: string
  /** What happens to the followers of a dead letter's key. */
  readonly afterDeadLetter: 'hold' | 'continue'
  /** By ascending delay; none: records are retried in their place. */
  readonly retryTopics: readonly RetryTopic[]
  /** The topics it reads, by name, beside those for its retries. */
  readonly topics: ReadonlyMap<string, AnyTopic>
  /** Handlers by topic, then by event name. */
  readonly handlers: ReadonlyMap<string, ReadonlyMap<string, HandlerPlan>>
  /** Topics it may write to; null: any. */
  readonly emits: ReadonlySet<string> | null
  /** Where to go on when the offsets of a partition are gone; null: nowhere, until somebody says so. */
  readonly offsetsVanished: 'earliest' | 'latest' | null
  readonly store: Store | null
  /** Handlers that run at once. */
  readonly concurrency: number
  readonly budget: BudgetLimits
  /** Bytes that may be open in all partitions together; each has an equal share, and its own limit. */
  readonly budgetBytes: number
  /** The service's own breaker, over what its handlers come to. */
  readonly breaker: BreakerLimits
  /** Records that may stand still in place per partition before it pauses with an alarm. */
  readonly standingMax: number
  readonly checkpointIntervalMs: number
  /** How long running handlers may take when the app stops. */
  readonly drainMs: number
}

/** What every service of an app shares. */
export interface Surroundings {
  readonly clock: Clock
  readonly log: Log
  /** In [0, 1). */
  readonly random: () => number
  readonly writer: Writer
  /** Remembers which record a detached failure belongs to; null: nobody asked for it. */
  readonly guards: Guards | null
  /** Every topic of the app by name: contracts for messages written out by hand. */
  readonly topics: ReadonlyMap<string, AnyTopic>
  /** What the broker said about them at start. */
  readonly facts: ReadonlyMap<string, TopicFacts>
}
