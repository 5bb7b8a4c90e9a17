/**
 * Looking into stored batches: the one place where the broker decodes records, for questions by time and for tests.
 */
import { OttlaError } from '../contract/errors.ts'
import type { Compression } from '../wire/compression.ts'
import { readBatches } from '../wire/record-batch.ts'
import type { StoredBatch } from './log.ts'

/** A stored record, copied out. */
export interface StoredRecord {
  readonly partition: number
  readonly offset: number
  readonly timestampMs: number
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: readonly { readonly key: string; readonly value: Uint8Array | null }[]
}

/** Offset and timestamp of a record. */
export interface RecordTime {
  readonly offset: number
  readonly timestampMs: number
}

/** The first record of these batches at or after `timestampMs`; undefined when there is none. */
export function firstSince(
  batches: readonly StoredBatch[],
  timestampMs: number,
  options: { readonly compression: Compression; readonly fromOffset: number },
): RecordTime | undefined {
  for (const stored of batches) {
    if (stored.maxTimestampMs < timestampMs) continue
    for (const found of times(stored, options)) {
      if (found.timestampMs >= timestampMs && found.offset >= options.fromOffset) return found
    }
  }
  return undefined
}

/** The first record of the batch that carries its highest timestamp. */
export function withHighestTime(stored: StoredBatch, compression: Compression): RecordTime {
  for (const found of times(stored, { compression, fromOffset: stored.baseOffset })) {
    if (found.timestampMs === stored.maxTimestampMs) return found
  }
  return { offset: stored.lastOffset, timestampMs: stored.maxTimestampMs }
}

/**
 * Offsets and times of a batch's records. A batch that cannot be opened (a codec that is not at hand, or damage inside
 * it) counts as one record at its start with its highest time: a reader told to start there misses nothing.
 */
function* times(
  stored: StoredBatch,
  options: { readonly compression: Compression; readonly fromOffset: number },
): Iterable<RecordTime> {
  try {
    for (const batch of readBatches(stored.bytes, { compression: options.compression, crc32c: false })) {
      for (let index = 0; index < batch.count; index++) {
        yield { offset: batch.offset(index), timestampMs: batch.timestampMs(index) }
      }
    }
  } catch (error) {
    if (!(error instanceof OttlaError)) throw error
    yield { offset: Math.max(stored.baseOffset, options.fromOffset), timestampMs: stored.maxTimestampMs }
  }
}

/** All records of some batches, copied. Throws OTTLA_WIRE_MALFORMED when one cannot be opened. */
export function* allRecords(
  partition: number,
  batches: readonly StoredBatch[],
  compression: Compression,
): Iterable<StoredRecord> {
  for (const stored of batches) {
    for (const batch of readBatches(stored.bytes, { compression, crc32c: false })) {
      for (let index = 0; index < batch.count; index++) {
        yield {
          partition,
          offset: batch.offset(index),
          timestampMs: batch.timestampMs(index),
          key: copied(batch.key(index)),
          value: copied(batch.value(index)),
          headers: batch.headers(index).map(({ key, value }) => ({ key, value: copied(value) })),
        }
      }
    }
  }
}

const copied = (bytes: Uint8Array | null): Uint8Array | null => (bytes === null ? null : new Uint8Array(bytes))
