/**
 * The seams where ottla can be watched: diagnostics channels of Node, published synchronously.
 *
 * Metrics, traces and the demo's printed steps are subscribers. The durable steps have a channel each, published just
 * before or after the step, so that a test can stop the process exactly there without the product knowing of tests.
 */
import { channel } from 'node:diagnostics_channel'

/** A record ended: handled, duplicate, dead-lettered, dropped or ignored. Message: `Ended`. */
export const ended = channel('ottla:record.ended')
/** The relay or a publish stored a record. Message: `Published`. */
export const published = channel('ottla:record.published')
/** The outbox cannot be drained, or can again. Message: `{ state: 'stalled' | 'flowing', rows: number, error?: Error }`. */
export const outboxState = channel('ottla:outbox.state')
/** Something a person must look at. Message: `{ service, topic?, partition?, error }`. */
export const alarm = channel('ottla:alarm')

/** A breaker changed its state. Message: `BreakerChange`. */
export const breakerChanged = channel('ottla:breaker.changed')

/** Message of `ended`. */
export interface Ended {
  readonly service: string
  readonly topic: string
  readonly partition: number
  readonly position: number
  readonly type: string
  readonly id: string
  readonly key: string | null
  readonly outcome: string
  readonly attempts: number
  readonly durationMs: number
  /** Handled by the handler's fallback. */
  readonly fallback: boolean
}

/** Message of `published`. */
export interface Published {
  readonly source: string
  readonly topic: string
  readonly partition: number
  readonly position: number
  readonly type: string
  readonly id: string
  readonly key: string | null
}

/** The durable steps, in the order in which they happen to one event. */
export const steps = {
  dbBeforeCommit: channel('ottla:db.before_commit'),
  dbAfterCommit: channel('ottla:db.after_commit'),
  relayAfterSend: channel('ottla:relay.after_send'),
  relayAfterAck: channel('ottla:relay.after_ack'),
  relayAfterMark: channel('ottla:relay.after_mark'),
  offsetBeforeCommit: channel('ottla:offset.before_commit'),
  offsetAfterCommit: channel('ottla:offset.after_commit'),
} as const
