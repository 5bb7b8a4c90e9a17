/**
 * Records on their way through the retry topics of a service: out with their bytes and how often they were tried, and
 * back as the records they were.
 *
 * A waiting record keeps its key, bytes and headers; what is added is read by `contract/retry.ts`. Whoever reads a retry
 * topic handles the record as if it had come from its source: same id, same source place in its dead letter.
 */
import {
  type Envelope,
  identityHeaders,
  type Origin,
  originText,
  ownHeader,
  type RecordView,
} from '../contract/envelope.ts'
import { type RetryFacts, readRetry, withoutRetry } from '../contract/retry.ts'
import type { AnyTopic } from '../contract/topic.ts'
import type { AppendClock } from '../core/append-clock.ts'
import type { RetryTopic } from './plan.ts'
import type { BatchView, Clock, OutgoingRecord } from './ports.ts'

/** A record that came back from a retry topic. */
export interface Returned {
  readonly facts: RetryFacts
  /** The topic it was first stored in; null when it does not say, or names one that this service does not read. */
  readonly topic: AnyTopic | null
}

/** What a record that moves to a retry topic says about itself. */
export interface Moving {
  readonly to: RetryTopic
  readonly envelope: Envelope
  readonly origin: Origin
  /** Failed attempts that count, the last one included. */
  readonly attempts: number
  readonly transient: number
  readonly transientForMs: number
  readonly error: string
  readonly failedAtMs: number
}

/** The record for the retry topic. Its timestamp there is the beginning of its wait. */
export function retryRecord(moving: Moving): OutgoingRecord {
  const { to, envelope, origin, attempts, transient, transientForMs, error, failedAtMs } = moving
  const { record } = envelope
  return {
    topic: to.topic,
    partition: null,
    key: record.key,
    value: record.value,
    headers: [
      ...withoutRetry(record.headers),
      ...identityHeaders(envelope),
      ownHeader('origin', originText(origin)),
      ownHeader('attempts', String(attempts)),
      ...(transient === 0 ? [] : [ownHeader('transient', `${transient}/${Math.round(transientForMs)}`)]),
      ownHeader('timestamp', String(record.timestampMs)),
      ownHeader('failed-at', new Date(failedAtMs).toISOString()),
      ownHeader('error', error),
    ],
    timestampMs: failedAtMs,
  }
}

/** What a record of a retry topic says about where it comes from. */
export function returned(batch: BatchView, index: number, topics: ReadonlyMap<string, AnyTopic>): Returned {
  const facts = readRetry(batch.headers(index))
  return { facts, topic: facts.origin === null ? null : (topics.get(facts.origin.topic) ?? null) }
}

/** The record as it was. */
export function originalView(
  batch: BatchView,
  index: number,
  { facts, origin }: { facts: RetryFacts; origin: Origin },
): RecordView {
  return {
    topicId: origin.topicId,
    partition: origin.partition,
    position: origin.position,
    timestampMs: facts.timestampMs ?? batch.timestampMs(index),
    key: batch.key(index),
    value: batch.value(index),
    headers: withoutRetry(batch.headers(index)),
  }
}

/**
 * Records of one retry partition that are not due yet, in the order of the log. The delay of a topic is one, so the first
 * is due first; while one waits, nothing more of the partition is fetched.
 */
export class Undue {
  readonly #delayMs: number
  readonly #batches: {
    readonly batch: BatchView
    next: number
    readonly arrivedMs: number
    readonly wallMs: number
  }[] = []

  constructor(delayMs: number) {
    this.#delayMs = delayMs
  }

  get empty(): boolean {
    return this.#batches.length === 0
  }

  /** The first that waits: its position, and when its wait is over (monotonic). */
  first(clock: AppendClock): { readonly position: number; readonly dueMs: number } | null {
    const head = this.#batches[0]
    if (head === undefined || head.batch.count === 0) return null
    return { position: head.batch.position(head.next), dueMs: this.#dueMs(clock, head, head.next) }
  }

  push(batch: BatchView, clock: Clock): void {
    this.#batches.push({ batch, next: 0, arrivedMs: clock.monotonicMs(), wallMs: clock.wallMs() })
  }

  /** Hands out those that are due, range by range. Returns when the next one is (monotonic); null: nothing waits. */
  release(
    clock: AppendClock,
    nowMs: number,
    take: (batch: BatchView, from: number, to: number) => void,
  ): number | null {
    for (;;) {
      const head = this.#batches[0]
      if (head === undefined) return null
      const { batch, next } = head
      let end = next
      while (end < batch.count && this.#dueMs(clock, head, end) <= nowMs) end++
      head.next = end
      if (end === batch.count) this.#batches.shift()
      if (end > next || batch.count === 0) take(batch, next, end)
      if (end < batch.count) return this.#dueMs(clock, head, end)
    }
  }

  #dueMs(
    clock: AppendClock,
    { batch, arrivedMs, wallMs }: { readonly batch: BatchView; readonly arrivedMs: number; readonly wallMs: number },
    index: number,
  ): number {
    return arrivedMs + clock.waitMs(batch.timestampMs(index), this.#delayMs, wallMs)
  }
}
