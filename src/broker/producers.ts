/**
 * Idempotence: what one partition remembers of each producer.
 *
 * A batch is answered with its first offset again when its sequence range is among the last five of the same producer
 * and epoch; otherwise it must be the next one. A producer never seen on the partition may begin anywhere; a new epoch
 * must begin at 0. After 2^31 - 1 comes 0. Bounded: the producer silent for longest goes first.
 */
import { ErrorCode } from '../wire/error-codes.ts'
import type { BatchHeader } from './batch-header.ts'

const rememberedBatches = 5
const rememberedProducers = 10_000
const highestSequence = 0x7fff_ffff

interface Remembered {
  readonly firstSequence: number
  readonly lastSequence: number
  readonly baseOffset: number
  readonly appendTimeMs: number
}

interface ProducerState {
  epoch: number
  nextSequence: number
  readonly last: Remembered[]
}

/** `append`: go on. `duplicate`: stored before, answer with these. Otherwise an error code of the protocol. */
export type SequenceVerdict =
  | { readonly kind: 'append' }
  | { readonly kind: 'duplicate'; readonly baseOffset: number; readonly appendTimeMs: number }
  | { readonly kind: 'refuse'; readonly errorCode: number }

const append: SequenceVerdict = { kind: 'append' }

/** The sequence number `delta` after `sequence`, wrapping as Kafka's do. */
export function sequenceAfter(sequence: number, delta: number): number {
  const sum = sequence + delta
  return sum > highestSequence ? sum - highestSequence - 1 : sum
}

/** The producers of one partition. */
export class Producers {
  readonly #states = new Map<number, ProducerState>()

  /** May this batch be appended? Batches without a producer id always may. */
  check(header: BatchHeader): SequenceVerdict {
    if (header.producerId < 0) return append
    const state = this.#states.get(header.producerId)
    if (state === undefined) return append
    if (header.producerEpoch < state.epoch) return { kind: 'refuse', errorCode: ErrorCode.INVALID_PRODUCER_EPOCH }
    if (header.producerEpoch > state.epoch) {
      return header.baseSequence === 0 ? append : { kind: 'refuse', errorCode: ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER }
    }
    const lastSequence = sequenceAfter(header.baseSequence, header.lastOffsetDelta)
    for (const known of state.last) {
      if (known.firstSequence === header.baseSequence && known.lastSequence === lastSequence) {
        return { kind: 'duplicate', baseOffset: known.baseOffset, appendTimeMs: known.appendTimeMs }
      }
    }
    return header.baseSequence === state.nextSequence
      ? append
      : { kind: 'refuse', errorCode: ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER }
  }

  /** Remembers a batch just appended. */
  appended(header: BatchHeader, baseOffset: number, appendTimeMs: number): void {
    if (header.producerId < 0) return
    let state = this.#states.get(header.producerId)
    // Taken out and put back, so that the first of the map is the one silent for longest.
    this.#states.delete(header.producerId)
    if (state === undefined || state.epoch !== header.producerEpoch) {
      state = { epoch: header.producerEpoch, nextSequence: 0, last: [] }
    }
    const lastSequence = sequenceAfter(header.baseSequence, header.lastOffsetDelta)
    state.nextSequence = sequenceAfter(lastSequence, 1)
    state.last.push({ firstSequence: header.baseSequence, lastSequence, baseOffset, appendTimeMs })
    if (state.last.length > rememberedBatches) state.last.shift()
    this.#states.set(header.producerId, state)
    if (this.#states.size > rememberedProducers) this.#states.delete(this.#states.keys().next().value!)
  }
}
