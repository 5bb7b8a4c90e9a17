/**
 * Records waiting to be sent: one sequencer per partition, one account of the memory, and what may go to a broker now.
 *
 * When does a partition's batch go? SEMANTICS of `lingerMs`:
 *
 * - 0: at the end of the turn in which its records came, if nothing is in flight to that broker; otherwise when an answer
 *   comes, so that under load batches grow by themselves while a lone record never waits. A full batch goes at once, while
 *   the broker has a free slot.
 * - above 0: when it is full, or its oldest record has waited that long, or somebody flushes or waits for memory.
 *
 * One request carries one batch of every partition that is ready, up to `requestBytes`; partitions left over are first in
 * the next one.
 */
import type { RecordBatchBuilder } from '../../wire/record-batch.ts'
import type { Backoff } from './backoff.ts'
import { type Batch, type Expiry, type OutgoingBytes, type ProducerIdentity, Sequencer } from './sequencer.ts'

export interface AccumulatorOptions {
  readonly batchBytes: number
  readonly requestBytes: number
  readonly bufferedBytesMax: number
  readonly lingerMs: number
  readonly deliveryTimeoutMs: number
  readonly inFlightMax: number
  readonly backoff: Backoff
  readonly isRetriable: (errorCode: number) => boolean
}

/** What goes into one Produce request. */
export interface Drained<T> {
  readonly batches: Batch<T>[]
  readonly bytes: number
}

export class Accumulator<T> {
  readonly #options: AccumulatorOptions
  readonly #topics = new Map<string, Sequencer<T>[]>()
  /** Sequencers with anything unsettled. A partition that was served goes to the end. */
  readonly #active = new Set<Sequencer<T>>()
  readonly #builders: RecordBatchBuilder[] = []
  #bufferedBytes = 0
  /** The one the last record went to: mostly the next one's too. */
  #last: Sequencer<T> | null = null

  constructor(options: AccumulatorOptions) {
    this.#options = options
  }

  get bufferedBytes(): number {
    return this.#bufferedBytes
  }

  get isEmpty(): boolean {
    return this.#active.size === 0
  }

  /** Is there room for a record? One always fits into an empty buffer. */
  hasRoom(estimate: number): boolean {
    return this.#bufferedBytes === 0 || this.#bufferedBytes + estimate <= this.#options.bufferedBytesMax
  }

  /** Takes a record over. */
  append(topic: string, partition: number, record: OutgoingBytes, caller: T, nowMs: number): void {
    let sequencer = this.#last
    if (sequencer === null || sequencer.partition !== partition || sequencer.topic !== topic || sequencer.isIdle) {
      sequencer = this.#sequencer(topic, partition)
      this.#last = sequencer
      this.#active.add(sequencer)
    }
    this.#bufferedBytes += sequencer.append(record, caller, nowMs)
  }

  /**
   * Sequencers with work, by the broker that leads their partition; -1: nobody does. Without those that wait for answers of
   * the broker that led before.
   */
  byLeader(leaderOf: (topic: string, partition: number) => number): Map<number, Sequencer<T>[]> {
    const groups = new Map<number, Sequencer<T>[]>()
    for (const sequencer of this.#active) {
      if (!sequencer.hasWork) continue
      const leader = leaderOf(sequencer.topic, sequencer.partition)
      if (leader >= 0 && sequencer.waitsElsewhere(leader)) continue
      const group = groups.get(leader)
      if (group === undefined) groups.set(leader, [sequencer])
      else group.push(sequencer)
    }
    return groups
  }

  /**
   * The batches for one request out of `sequencers`, all led by one broker that has `inFlight` requests to answer. Empty
   * when nothing should go now. `urgent`: somebody waits for it (flush, memory), so lingering ends.
   */
  drain(
    sequencers: readonly Sequencer<T>[],
    now: {
      readonly identity: ProducerIdentity
      /** The broker. */
      readonly node: number
      readonly inFlight: number
      readonly nowMs: number
      readonly urgent: boolean
    },
  ): Drained<T> {
    const batches: Batch<T>[] = []
    let bytes = 0
    if (now.inFlight >= this.#options.inFlightMax) return { batches, bytes }
    for (const sequencer of sequencers) {
      if (!this.#isDue(sequencer, now)) continue
      if (bytes >= this.#options.requestBytes) break
      if (sequencer.needsNewId(now.identity)) continue
      const batch = sequencer.take(now.identity, now.nowMs, now.node)
      if (batch === null) continue
      batches.push(batch)
      bytes += batch.builder.size
      // Served: behind the others.
      this.#active.delete(sequencer)
      this.#active.add(sequencer)
    }
    return { batches, bytes }
  }

  /** When, in the future, something becomes due that is not due now: a linger or a pause ends. Infinity: never by itself. */
  nextDueMs(nowMs: number): number {
    let next = Number.POSITIVE_INFINITY
    for (const sequencer of this.#active) {
      if (!sequencer.hasWork) continue
      const lingerEnds = sequencer.isPressing ? nowMs : sequencer.oldestMs + this.#options.lingerMs
      const at = Math.max(sequencer.sendableAtMs, lingerEnds)
      if (at > nowMs && at < next) next = at
    }
    return next
  }

  /** Must somebody get another producer id before these can go on? */
  needsNewId(identity: ProducerIdentity): boolean {
    for (const sequencer of this.#active) if (sequencer.needsNewId(identity)) return true
    return false
  }

  sequencerOf(batch: Batch<T>): Sequencer<T> {
    return this.#sequencer(batch.topic, batch.partition)
  }

  /** The batch is out of the machine: its memory is free. */
  release(batch: Batch<T>): void {
    const sequencer = this.#sequencer(batch.topic, batch.partition)
    this.#bufferedBytes -= batch.bytes
    sequencer.recycle(batch)
    if (sequencer.isIdle) this.#active.delete(sequencer)
  }

  /** An expired batch came home: nothing is told any more, its sequencer may be at rest. */
  rest(batch: Batch<T>): void {
    const sequencer = this.#sequencer(batch.topic, batch.partition)
    if (sequencer.isIdle) this.#active.delete(sequencer)
  }

  /** Batches whose time is up. They count as released. */
  expire(nowMs: number): Expiry<T>[] {
    const gone: Expiry<T>[] = []
    for (const sequencer of [...this.#active]) {
      for (const expiry of sequencer.expire(nowMs)) {
        gone.push(expiry)
        this.#bufferedBytes -= expiry.batch.bytes
      }
      if (sequencer.isIdle) this.#active.delete(sequencer)
    }
    return gone
  }

  /** Gives up everything, as if its time were up. */
  giveUpAll(): Expiry<T>[] {
    return this.expire(Number.POSITIVE_INFINITY)
  }

  /** Everything unsettled, for giving up as a whole. */
  batches(): Batch<T>[] {
    return [...this.#active].flatMap((sequencer) => sequencer.batches())
  }

  /** Closes all batches being filled, so that what was handed in so far can be told apart from what comes. */
  sealAll(): void {
    for (const sequencer of this.#active) sequencer.seal()
  }

  /** Pauses of a partition end: it has a leader to try. */
  wake(topic: string, partition: number): void {
    this.#topics.get(topic)?.[partition]?.wake()
  }

  #isDue(sequencer: Sequencer<T>, now: { inFlight: number; nowMs: number; urgent: boolean }): boolean {
    if (now.nowMs < sequencer.sendableAtMs) return false
    if (sequencer.isPressing || now.urgent) return true
    if (this.#options.lingerMs === 0) return now.inFlight === 0
    return now.nowMs >= sequencer.oldestMs + this.#options.lingerMs
  }

  #sequencer(topic: string, partition: number): Sequencer<T> {
    let all = this.#topics.get(topic)
    if (all === undefined) {
      all = []
      this.#topics.set(topic, all)
    }
    let sequencer = all[partition]
    if (sequencer === undefined) {
      const { batchBytes, deliveryTimeoutMs, backoff, isRetriable } = this.#options
      sequencer = new Sequencer<T>(topic, partition, {
        batchBytes,
        deliveryTimeoutMs,
        backoff,
        isRetriable,
        builders: this.#builders,
      })
      all[partition] = sequencer
    }
    return sequencer
  }
}
