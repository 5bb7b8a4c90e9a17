/**
 * The records of one partition on their way out: in order, each once, whatever happens to requests.
 *
 * A batch goes through these states:
 *
 *     filling ──full, or taken──▶ sealed ──taken──▶ in flight ──answer: stored──▶ out (its records are told)
 *                                                    │    ▲ │
 *               answer: passing error, or no answer  │    │ └──answer: refused──▶ out (told), and a gap in the numbers
 *                                                    ▼    │
 *                                                   held ─┘ resent: in the order of their numbers, one at a time
 *
 * Up to five batches are in flight at once, numbered by sequence. Brokers take them only in the order of the numbers and
 * recognise the last five they took, so a batch may be sent again under its own number without being stored twice. From
 * that follow the rules:
 *
 * - As soon as one batch is held, nothing leaves until every batch in flight has come home. The followers will mostly come
 *   home as OUT_OF_ORDER_SEQUENCE, which then means only "your predecessor is missing", and are held too. Then all are
 *   resent in order. So no error reorders.
 * - OUT_OF_ORDER_SEQUENCE for the *lowest* batch outstanding means that the numbers before it are not in the log: one was
 *   given up, or the log was cut. That very answer proves that neither this batch nor a follower is stored (a stored one
 *   would have been recognised). When every attempt of this batch has had its answer, all are numbered anew, from 0 under
 *   the next epoch. When one has not, its request may lie in a broken connection that the broker still reads, behind the
 *   missing one's: it can be stored at any moment until the next epoch is. Only "outcome unknown" is true of such a batch.
 * - UNKNOWN_PRODUCER_ID proves less: the broker has forgotten us. A batch that may have been stored by an earlier attempt
 *   is then given up with "outcome unknown"; the others get the next epoch.
 * - A broker that has no state of a producer takes any number. So the first batch of a partition, or the first after a
 *   silence, travels alone: were it refused for the moment, a follower would be taken in its place (KAFKA-14359).
 * - All batches in flight are at one broker. When the leader has moved, nothing goes to the new one before the answers of
 *   the old one are in: followers that overtake a batch would be taken in its place, and after five of them the broker no
 *   longer recognises it and answers OUT_OF_ORDER_SEQUENCE, though it may be stored.
 * - A batch whose time is up is told to its callers at once, but while in flight it keeps its place, for its number is used
 *   up or not depending on its answer. It is never resent.
 *
 * The epoch counts per partition: for a producer without transactions brokers keep it so.
 */
import {
  batchHeaderBytes,
  type OutgoingHeader,
  type Payload,
  RecordBatch,
  RecordBatchBuilder,
} from '../../wire/record-batch.ts'
import { type Backoff, backoffMs } from './backoff.ts'

/** Some records of one partition that are sent together. `T` is what stands for a record's caller. */
export interface Batch<T> {
  readonly topic: string
  readonly partition: number
  readonly builder: RecordBatchBuilder
  /** One per record, in order. */
  readonly callers: T[]
  /** When its oldest record was handed in. */
  readonly createdMs: number
  /** Bytes of buffer it accounts for. */
  readonly bytes: number
  producerId: number
  epoch: number
  /** Number of its first record; -1 until it is first taken. */
  sequence: number
  attempts: number
  /** An attempt ended without a clear answer: the records may be in the log. */
  maybeStored: boolean
  /** An attempt ended without any answer: its request may still lie in a socket, for a broker to read at any time. */
  unanswered: boolean
  /** Its callers have been told that time is up. */
  expired: boolean
  /** Records not settled yet; shared by the parts when a batch is split. */
  readonly tally: { left: number }
}

/** What a broker said about one batch. */
export interface BatchAnswer {
  readonly errorCode: number
  readonly baseOffset: number
  /** -1 when the records' own timestamps count. */
  readonly appendTimeMs: number
}

export type Verdict =
  /** Tell the callers. `baseOffset` is -1 when the broker knows the batch but no longer where it is. */
  | { readonly kind: 'stored'; readonly baseOffset: number; readonly appendTimeMs: number }
  /** Tell the callers. `maybeStored`: an earlier attempt may have succeeded all the same. */
  | { readonly kind: 'failed'; readonly errorCode: number; readonly maybeStored: boolean }
  /** Nothing to tell yet; it will be sent again. */
  | { readonly kind: 'again'; readonly refresh: boolean }
  /** The callers have been told before. */
  | { readonly kind: 'forgotten' }

/** Why a batch that is out of time was given up. */
export interface Expiry<T> {
  readonly batch: Batch<T>
  readonly maybeStored: boolean
}

/** Who numbers the batches: the producer id to begin with, and the next one when epochs run out. */
export interface ProducerIdentity {
  readonly id: number
  readonly epoch: number
}

/** One moment, with the chance that goes into a pause. */
export interface Moment {
  readonly nowMs: number
  /** From 0 up to 1. */
  readonly random: number
}

/** Sequence numbers end here and go on at 0. */
const sequenceMax = 0x7fff_ffff
const epochMax = 0x7fff
/** Brokers recognise so many repeated batches per partition. */
const inFlightMax = 5
/**
 * After such a silence a partition's next batch travels alone. Brokers forget a silent producer after
 * `producer.id.expiration.ms`, a day if nobody has made it less.
 */
const silenceMs = 60_000
/** Buffers kept for later batches. */
const spareMax = 16

const code = {
  none: 0,
  unknownTopicOrPartition: 3,
  leaderNotAvailable: 5,
  notLeader: 6,
  messageTooLarge: 10,
  invalidMessage: 2,
  notEnoughReplicas: 19,
  outOfOrderSequence: 45,
  duplicateSequence: 46,
  invalidProducerEpoch: 47,
  unknownProducerId: 59,
  throttlingQuotaExceeded: 89,
  unknownTopicId: 100,
  inconsistentTopicId: 103,
} as const

/**
 * Answers that prove: this attempt stored nothing. That a broker is no leader proves nothing: one that was demoted while it
 * waited for the copies of what it had appended says the same, and the next leader may have them.
 */
const provesNotStored = new Set<number>([
  code.invalidMessage,
  code.notEnoughReplicas,
  code.throttlingQuotaExceeded,
  code.unknownTopicId,
  code.inconsistentTopicId,
])

/** Answers that say: you look for this partition in the wrong place. */
const asksForRefresh = new Set<number>([
  code.unknownTopicOrPartition,
  code.leaderNotAvailable,
  code.notLeader,
  code.unknownTopicId,
  code.inconsistentTopicId,
])

/** `a` and the `count` numbers after it, where the last is followed by 0. */
export function nextSequence(a: number, count: number): number {
  const next = a + count
  return next > sequenceMax ? next - sequenceMax - 1 : next
}

export interface SequencerOptions {
  readonly batchBytes: number
  readonly deliveryTimeoutMs: number
  readonly backoff: Backoff
  /** Is a broker's error code a passing state? */
  readonly isRetriable: (errorCode: number) => boolean
  /** Buffers that have served, shared by the sequencers of one producer. */
  readonly builders: RecordBatchBuilder[]
}

export class Sequencer<T> {
  readonly topic: string
  readonly partition: number
  readonly #options: SequencerOptions
  #filling: Batch<T> | null = null
  #fillingBytes = 0
  #sealed: Batch<T>[] = []
  #inFlight: Batch<T>[] = []
  #held: Batch<T>[] = []
  /** The broker that has the batches in flight. */
  #node = -1
  #producerId = -1
  #epoch = -1
  #nextSequence = 0
  /** The numbers before the next batch are not all in the log: number anew before sending. */
  #gap = false
  /** When a broker last showed that it has state of this producer. */
  #knownMs = Number.NEGATIVE_INFINITY
  /** The broker may know nothing of this producer: nothing follows the batch in flight. */
  #isAlone = true
  #failures = 0
  #notBeforeMs = 0

  constructor(topic: string, partition: number, options: SequencerOptions) {
    this.topic = topic
    this.partition = partition
    this.#options = options
  }

  /** Batches that wait to be sent, for the first time or again. */
  get hasWork(): boolean {
    return this.#held.length > 0 || this.#sealed.length > 0 || this.#filling !== null
  }

  get isIdle(): boolean {
    return !this.hasWork && this.#inFlight.length === 0
  }

  /** A whole batch is ready, or one must go again: no reason to wait for more records. */
  get isPressing(): boolean {
    return this.#held.length > 0 || this.#sealed.length > 0
  }

  /** When the oldest record that has not been sent was handed in; infinity when there is none. */
  get oldestMs(): number {
    return (this.#held[0] ?? this.#sealed[0] ?? this.#filling)?.createdMs ?? Number.POSITIVE_INFINITY
  }

  /** Not before this moment may something be sent; infinity when batches must come home first. */
  get sendableAtMs(): number {
    if (this.#held.length > 0 && this.#inFlight.length > 0) return Number.POSITIVE_INFINITY
    if (this.#inFlight.length >= (this.#isAlone ? 1 : inFlightMax)) return Number.POSITIVE_INFINITY
    return this.#notBeforeMs
  }

  /** Every batch not settled, oldest first. */
  batches(): Batch<T>[] {
    const all = [...this.#inFlight, ...this.#held, ...this.#sealed]
    if (this.#filling !== null) all.push(this.#filling)
    return all
  }

  // ── in ──

  /** Appends a record to the batch being filled. Returns the bytes it takes there. */
  append(record: OutgoingBytes, caller: T, nowMs: number): number {
    let filling = this.#filling
    const estimate = record.estimate
    if (filling !== null && filling.builder.size + estimate > this.#options.batchBytes) {
      this.seal()
      filling = null
    }
    if (filling === null) {
      const builder =
        this.#options.builders.pop() ?? new RecordBatchBuilder(Math.max(2048, estimate + batchHeaderBytes))
      filling = {
        topic: this.topic,
        partition: this.partition,
        builder,
        callers: [],
        createdMs: nowMs,
        bytes: 0,
        producerId: -1,
        epoch: -1,
        sequence: -1,
        attempts: 0,
        maybeStored: false,
        unanswered: false,
        expired: false,
        tally: { left: 0 },
      }
      this.#filling = filling
    }
    const bytes = filling.builder.append(record.key, record.value, record.headers, record.timestampMs)
    filling.callers.push(caller)
    filling.tally.left += 1
    this.#fillingBytes += bytes
    if (filling.builder.size >= this.#options.batchBytes) this.seal()
    return bytes
  }

  /** Closes the batch being filled; later records begin another. */
  seal(): void {
    if (this.#filling === null) return
    ;(this.#filling as { bytes: number }).bytes = this.#fillingBytes
    this.#fillingBytes = 0
    this.#sealed.push(this.#filling)
    this.#filling = null
  }

  // ── out ──

  /** Has another broker than this one answers to give? */
  waitsElsewhere(node: number): boolean {
    return this.#inFlight.length > 0 && this.#node !== node
  }

  /**
   * The next batch to send to the broker `node` now, or null. `identity` numbers batches of a partition that has no numbers
   * yet.
   */
  take(identity: ProducerIdentity, nowMs: number, node = -1): Batch<T> | null {
    if (nowMs < this.sendableAtMs || this.waitsElsewhere(node)) return null
    this.#node = node
    if (this.#inFlight.length === 0) {
      if (this.#gap) this.#renumber(identity)
      this.#isAlone = nowMs - this.#knownMs > silenceMs
    }
    let batch = this.#held.shift()
    if (batch === undefined) {
      if (this.#sealed.length === 0) this.seal()
      batch = this.#sealed.shift()
      if (batch === undefined) return null
      if (this.#producerId === -1) {
        this.#producerId = identity.id
        this.#epoch = identity.epoch
      }
      batch.producerId = this.#producerId
      batch.epoch = this.#epoch
      batch.sequence = this.#nextSequence
      this.#nextSequence = nextSequence(this.#nextSequence, batch.callers.length)
    }
    batch.attempts += 1
    this.#inFlight.push(batch)
    return batch
  }

  /** Would numbering anew need another producer id than this? Then `take` needs a fresh one as its identity. */
  needsNewId(identity: ProducerIdentity): boolean {
    return this.#gap && this.#epoch >= epochMax && this.#producerId === identity.id
  }

  /** A broker answered. */
  onAnswer(batch: Batch<T>, answer: BatchAnswer, moment: Moment): Verdict {
    const isLowest = this.#isLowest(batch)
    this.#leave(batch)
    const { errorCode } = answer
    if (errorCode === code.none || errorCode === code.duplicateSequence) {
      this.#failures = 0
      this.#notBeforeMs = 0
      this.#knownMs = moment.nowMs
      this.#isAlone = false
      if (batch.expired) return { kind: 'forgotten' }
      const baseOffset = errorCode === code.none ? answer.baseOffset : -1
      return { kind: 'stored', baseOffset, appendTimeMs: answer.appendTimeMs }
    }
    if (errorCode === code.outOfOrderSequence) {
      if (isLowest) {
        this.#gap = true
        if (batch.unanswered) return this.#refuse(batch, errorCode)
        batch.maybeStored = false
      }
      return this.#again(batch, { refresh: false, moment, pause: isLowest })
    }
    if (errorCode === code.unknownProducerId || errorCode === code.invalidProducerEpoch) {
      this.#gap = true
      // An epoch of ours was refused as too old: somebody has a newer one under this id. Take another id.
      if (errorCode === code.invalidProducerEpoch) this.#epoch = epochMax
      if (batch.maybeStored) return this.#refuse(batch, errorCode)
      return this.#again(batch, { refresh: false, moment, pause: isLowest })
    }
    if (errorCode === code.messageTooLarge && batch.callers.length > 1 && !batch.maybeStored && !batch.expired) {
      // The batch was too much for the topic; each half, and in the end each record, is judged by itself.
      this.#hold(...split(batch))
      return { kind: 'again', refresh: false }
    }
    if (this.#options.isRetriable(errorCode)) {
      if (!provesNotStored.has(errorCode)) batch.maybeStored = true
      return this.#again(batch, { refresh: asksForRefresh.has(errorCode), moment, pause: isLowest })
    }
    // An error of unknown meaning does not prove that nothing was stored.
    if (errorCode === -1) batch.maybeStored = true
    return this.#refuse(batch, errorCode)
  }

  /** No answer will come. `sent`: the bytes may have reached the broker. */
  onNoAnswer(batch: Batch<T>, sent: boolean, moment: Moment): Verdict {
    const isLowest = this.#isLowest(batch)
    this.#leave(batch)
    if (sent) {
      batch.maybeStored = true
      batch.unanswered = true
    }
    return this.#again(batch, { refresh: true, moment, pause: isLowest })
  }

  /** It can never be sent. */
  onImpossible(batch: Batch<T>): Verdict {
    this.#leave(batch)
    return this.#refuse(batch, -1)
  }

  /** The partition has a leader to try: pauses end. */
  wake(): void {
    this.#notBeforeMs = 0
  }

  /** Gives up what is out of time. */
  expire(nowMs: number): Expiry<T>[] {
    const bornBeforeMs = nowMs - this.#options.deliveryTimeoutMs
    const gone: Expiry<T>[] = []
    const isOver = (batch: Batch<T>): boolean => batch.createdMs <= bornBeforeMs && !batch.expired
    for (const batch of this.#inFlight) {
      if (!isOver(batch)) continue
      batch.expired = true
      gone.push({ batch, maybeStored: true })
    }
    for (const batch of this.#held.filter(isOver)) {
      this.#held.splice(this.#held.indexOf(batch), 1)
      this.#gap = true
      batch.expired = true
      gone.push({ batch, maybeStored: batch.maybeStored })
    }
    if (this.#filling !== null && isOver(this.#filling)) this.seal()
    for (const batch of this.#sealed.filter(isOver)) {
      this.#sealed.splice(this.#sealed.indexOf(batch), 1)
      batch.expired = true
      gone.push({ batch, maybeStored: false })
    }
    return gone
  }

  /**
   * The batch is settled and its bytes are needed no more: its buffer may serve again. Not after a second attempt or one
   * without an answer: requests are views of the buffer, and the first may still lie in a socket that is stuck.
   */
  recycle(batch: Batch<T>): void {
    if (this.#options.builders.length >= spareMax || batch.expired || batch.attempts > 1 || batch.maybeStored) return
    batch.builder.reset()
    this.#options.builders.push(batch.builder)
  }

  // ── inside ──

  #isLowest(batch: Batch<T>): boolean {
    return this.#inFlight[0] === batch && this.#held.every((held) => isBefore(batch, held))
  }

  #leave(batch: Batch<T>): void {
    const at = this.#inFlight.indexOf(batch)
    if (at >= 0) this.#inFlight.splice(at, 1)
  }

  #again(batch: Batch<T>, how: { refresh: boolean; moment: Moment; pause: boolean }): Verdict {
    // The followers fail for the lowest one's reason: counting them too would only make the pause longer.
    if (how.pause) {
      this.#failures += 1
      this.#notBeforeMs = how.moment.nowMs + backoffMs(this.#options.backoff, this.#failures, how.moment.random)
    }
    if (batch.expired) {
      this.#gap = true
      return { kind: 'forgotten' }
    }
    this.#hold(batch)
    return { kind: 'again', refresh: how.refresh }
  }

  #refuse(batch: Batch<T>, errorCode: number): Verdict {
    this.#gap = true
    return batch.expired ? { kind: 'forgotten' } : { kind: 'failed', errorCode, maybeStored: batch.maybeStored }
  }

  #hold(...batches: Batch<T>[]): void {
    this.#held.push(...batches)
    this.#held.sort((a, b) => (isBefore(a, b) ? -1 : 1))
  }

  /**
   * Nothing is in flight and the log lacks what should come before: the held batches begin again at 0.
   *
   * Of several held batches the first may not have been asked about yet (it was held for lack of an answer, while another
   * one left the gap). Then the old numbers stay for now: its own answer will say whether they still fit.
   */
  #renumber(identity: ProducerIdentity): void {
    if (this.#held[0]?.maybeStored === true) return
    this.#gap = false
    if (this.#epoch >= epochMax || this.#producerId === -1) {
      this.#producerId = identity.id
      this.#epoch = identity.epoch
      this.#knownMs = Number.NEGATIVE_INFINITY
    } else {
      this.#epoch += 1
    }
    this.#nextSequence = 0
    for (const batch of this.#held) {
      batch.producerId = this.#producerId
      batch.epoch = this.#epoch
      batch.sequence = this.#nextSequence
      // It is behind what is not there and no longer comes, so it cannot be there, nor come.
      batch.maybeStored = false
      batch.unanswered = false
      this.#nextSequence = nextSequence(this.#nextSequence, batch.callers.length)
    }
  }
}

/** A record in the form it is sent. */
export interface OutgoingBytes {
  readonly key: Payload
  readonly value: Payload
  readonly headers: readonly OutgoingHeader[]
  readonly timestampMs: number
  /** So many bytes will it take in a batch: at most, unless its texts are short and not ASCII. */
  readonly estimate: number
}

/** Does `a` come before `b`? Numbers wrap, and of two outstanding ones at most a few thousand lie between. */
function isBefore<T>(a: Batch<T>, b: Batch<T>): boolean {
  const ahead = b.sequence - a.sequence
  return ahead > 0 ? ahead < sequenceMax / 2 : ahead < -sequenceMax / 2
}

function split<T>(batch: Batch<T>): [Batch<T>, Batch<T>] {
  const records = new RecordBatch(batch.builder.build(), { crc32c: false })
  const middle = records.count >>> 1
  const part = (from: number, to: number): Batch<T> => {
    const builder = new RecordBatchBuilder(batch.builder.size)
    for (let i = from; i < to; i += 1) {
      builder.append(records.key(i), records.value(i), records.headers(i), records.timestampMs(i))
    }
    return {
      ...batch,
      builder,
      callers: batch.callers.slice(from, to),
      bytes: Math.floor((batch.bytes * (to - from)) / records.count) + (from === 0 ? 1 : 0),
      sequence: nextSequence(batch.sequence, from),
    }
  }
  const first = part(0, middle)
  const second = { ...part(middle, records.count) }
  ;(second as { bytes: number }).bytes = batch.bytes - first.bytes
  return [first, second]
}
