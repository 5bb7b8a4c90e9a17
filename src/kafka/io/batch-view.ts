/** What a consumer is handed: records of one batch, read in place. */
import type { HeaderVisitor, RecordBatch, RecordHeader } from '../../wire/record-batch.ts'

/** Consecutive records of one partition: accessors by index over the frame they came in. May be empty. */
export interface FetchedBatch {
  readonly count: number
  /** The position after the last one looked at, even when control records, aborted ones or gaps end the batch. */
  readonly nextPosition: number
  /** Bytes held by the batch. */
  readonly byteLength: number
  position(index: number): number
  timestampMs(index: number): number
  key(index: number): Uint8Array | null
  value(index: number): Uint8Array | null
  /** The key as UTF-8 text: cheaper than `key(index).toString()`. */
  keyText(index: number): string | null
  /** The value as UTF-8 text: cheaper than `value(index).toString()`. */
  valueText(index: number): string | null
  headers(index: number): readonly RecordHeader[]
  /** The same in place: no object for each. A null value's `valueFrom` is -1. */
  eachHeader(index: number, visit: HeaderVisitor): void
  /** Key and value bytes of one record. */
  size(index: number): number
  /**
   * Says that neither the batch nor any view it gave (keys, values, header values) will be looked at again: its memory is
   * used for the next records. Never needed, as memory is freed without it too; with it a fast reader spends a fifth less
   * on a topic that is not compressed. Records asked for afterwards throw; **views kept from before show other bytes**.
   */
  release(): void
}

/** The records of a batch from a position on. */
export function recordsFrom(batch: RecordBatch, position: number): FetchedBatch {
  let skipped = 0
  while (skipped < batch.count && batch.position(skipped) < position) skipped++
  return skipped === batch.count ? emptyBatch(batch.nextPosition) : new BatchTail(batch, skipped)
}

/** Nothing to handle up to a position: control records, aborted ones, or a gap left by compaction. */
export function emptyBatch(nextPosition: number): FetchedBatch {
  const none = (): never => {
    throw new RangeError('an empty batch has no records')
  }
  return {
    count: 0,
    nextPosition,
    byteLength: 0,
    position: none,
    timestampMs: none,
    key: none,
    value: none,
    keyText: none,
    valueText: none,
    headers: none,
    eachHeader: none,
    size: none,
    release: () => undefined,
  }
}

class BatchTail implements FetchedBatch {
  readonly #batch: RecordBatch
  readonly #skipped: number

  constructor(batch: RecordBatch, skipped: number) {
    this.#batch = batch
    this.#skipped = skipped
  }

  get count(): number {
    return this.#batch.count - this.#skipped
  }

  get nextPosition(): number {
    return this.#batch.nextPosition
  }

  get byteLength(): number {
    return this.#batch.byteLength
  }

  position(index: number): number {
    return this.#batch.position(index + this.#skipped)
  }

  timestampMs(index: number): number {
    return this.#batch.timestampMs(index + this.#skipped)
  }

  key(index: number): Uint8Array | null {
    return this.#batch.key(index + this.#skipped)
  }

  value(index: number): Uint8Array | null {
    return this.#batch.value(index + this.#skipped)
  }

  keyText(index: number): string | null {
    return this.#batch.keyText(index + this.#skipped)
  }

  valueText(index: number): string | null {
    return this.#batch.valueText(index + this.#skipped)
  }

  headers(index: number): readonly RecordHeader[] {
    return this.#batch.headers(index + this.#skipped)
  }

  eachHeader(index: number, visit: HeaderVisitor): void {
    this.#batch.eachHeader(index + this.#skipped, visit)
  }

  size(index: number): number {
    return this.#batch.size(index + this.#skipped)
  }

  release(): void {
    this.#batch.release()
  }
}
