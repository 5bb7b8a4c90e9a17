/**
 * The log of one partition, in memory: raw batches as the producer sent them, nothing re-encoded.
 *
 * Only base offset and leader epoch are patched (both outside the CRC), and with log append time the timestamp fields
 * and the CRC. One small object per batch is the index. Offsets may have gaps at the front (`startOffset`) only.
 * Not done: segments, files, retention, compaction.
 */
import { type BatchHeader, patchBatch, stampAppendTime } from './batch-header.ts'
import type { Slab } from './slab.ts'

/** A batch in the log. */
export interface StoredBatch {
  readonly baseOffset: number
  readonly lastOffset: number
  readonly leaderEpoch: number
  readonly maxTimestampMs: number
  readonly bytes: Uint8Array
}

/** A batch on its way in. */
export interface Incoming {
  readonly bytes: Uint8Array
  readonly header: BatchHeader
  readonly leaderEpoch: number
  /** Set on topics with log append time. */
  readonly appendTimeMs?: number
}

/** What a fetch gets: consecutive batches, the first of which may begin before the offset asked for. */
export interface Slice {
  readonly batches: readonly StoredBatch[]
  readonly sizeBytes: number
}

/** Where a leader epoch begins. */
interface EpochStart {
  readonly epoch: number
  readonly startOffset: number
}

/** One partition's records. The high watermark and the last stable offset are always the end. */
export class PartitionLog {
  readonly #slab: Slab
  #batches: StoredBatch[] = []
  /** Highest timestamp of the batches up to and including each one: ascending, so it can be searched. */
  #highestSoFar: number[] = []
  #epochs: EpochStart[] = []
  #startOffset = 0
  #endOffset = 0
  #sizeBytes = 0

  constructor(slab: Slab) {
    this.#slab = slab
  }

  get startOffset(): number {
    return this.#startOffset
  }

  /** The offset the next record gets. */
  get endOffset(): number {
    return this.#endOffset
  }

  get sizeBytes(): number {
    return this.#sizeBytes
  }

  get batches(): readonly StoredBatch[] {
    return this.#batches
  }

  append(incoming: Incoming): StoredBatch {
    const { header, leaderEpoch, appendTimeMs } = incoming
    const bytes = this.#slab.copy(incoming.bytes)
    const baseOffset = this.#endOffset
    patchBatch(bytes, baseOffset, leaderEpoch)
    if (appendTimeMs !== undefined) stampAppendTime(bytes, appendTimeMs)
    const batch: StoredBatch = {
      baseOffset,
      lastOffset: baseOffset + header.lastOffsetDelta,
      leaderEpoch,
      maxTimestampMs: appendTimeMs ?? header.maxTimestampMs,
      bytes,
    }
    if ((this.#epochs.at(-1)?.epoch ?? -1) < leaderEpoch) {
      this.#epochs.push({ epoch: leaderEpoch, startOffset: baseOffset })
    }
    this.#batches.push(batch)
    this.#highestSoFar.push(Math.max(this.#highestSoFar.at(-1) ?? Number.NEGATIVE_INFINITY, batch.maxTimestampMs))
    this.#endOffset = batch.lastOffset + 1
    this.#sizeBytes += bytes.byteLength
    return batch
  }

  /**
   * Batches from `offset` on, at most `maxBytes` of them; with `atLeastOne` the first comes whatever its size.
   * `offset` must lie within the log.
   */
  read(offset: number, maxBytes: number, atLeastOne: boolean): Slice {
    const batches: StoredBatch[] = []
    let sizeBytes = 0
    for (let index = this.#indexOf(offset); index < this.#batches.length; index++) {
      const batch = this.#batches[index]!
      if (sizeBytes + batch.bytes.byteLength > maxBytes && !(atLeastOne && batches.length === 0)) break
      batches.push(batch)
      sizeBytes += batch.bytes.byteLength
    }
    return { batches, sizeBytes }
  }

  /** The first batch that may hold a record at or after `timestampMs`, and those after it. */
  fromTimestamp(timestampMs: number): readonly StoredBatch[] {
    const index = lowest(this.#highestSoFar.length, (at) => this.#highestSoFar[at]! >= timestampMs)
    return this.#batches.slice(index)
  }

  /** The first batch that holds the highest timestamp of the log. */
  withHighestTimestamp(): StoredBatch | undefined {
    const highest = this.#highestSoFar.at(-1)
    if (highest === undefined) return undefined
    return this.#batches[lowest(this.#highestSoFar.length, (at) => this.#highestSoFar[at]! >= highest)]
  }

  /** The leader epoch under which the record at `offset` was written; -1 when there is none. */
  epochAt(offset: number): number {
    const index = lowest(this.#epochs.length, (at) => this.#epochs[at]!.startOffset > offset)
    return this.#epochs[index - 1]?.epoch ?? -1
  }

  /** The largest epoch not above `epoch` and the offset at which it ended, as OffsetForLeaderEpoch answers it. */
  endOfEpoch(epoch: number, currentEpoch: number): { readonly epoch: number; readonly endOffset: number } {
    if (epoch === currentEpoch) return { epoch, endOffset: this.#endOffset }
    if (epoch > currentEpoch) return { epoch: -1, endOffset: -1 }
    const after = lowest(this.#epochs.length, (at) => this.#epochs[at]!.epoch > epoch)
    const found = this.#epochs[after - 1]
    if (found === undefined) return { epoch, endOffset: this.#epochs[after]?.startOffset ?? this.#startOffset }
    return { epoch: found.epoch, endOffset: this.#epochs[after]?.startOffset ?? this.#endOffset }
  }

  /** Forgets what lies before `offset`: whole batches are freed, the rest of a batch is hidden. */
  deleteBefore(offset: number): void {
    const count = this.#indexOf(offset)
    for (let index = 0; index < count; index++) this.#sizeBytes -= this.#batches[index]!.bytes.byteLength
    this.#batches.splice(0, count)
    let highest = Number.NEGATIVE_INFINITY
    this.#highestSoFar = this.#batches.map((batch) => {
      highest = Math.max(highest, batch.maxTimestampMs)
      return highest
    })
    this.#startOffset = offset
    const first = lowest(this.#epochs.length, (at) => this.#epochs[at]!.startOffset > offset) - 1
    if (first > 0) this.#epochs.splice(0, first)
    if (first >= 0) this.#epochs[0] = { epoch: this.#epochs[0]!.epoch, startOffset: offset }
  }

  /** Index of the first batch whose last offset is at or after `offset`. */
  #indexOf(offset: number): number {
    return lowest(this.#batches.length, (at) => this.#batches[at]!.lastOffset >= offset)
  }
}

/** The lowest index in [0, length) for which `holds` is true, given that it stays true from there on; else `length`. */
function lowest(length: number, holds: (index: number) => boolean): number {
  let low = 0
  let high = length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (holds(middle)) high = middle
    else low = middle + 1
  }
  return low
}
