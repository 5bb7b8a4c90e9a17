/**
 * Compression of record batches, as functions that are handed in: this room imports no compressor.
 *
 * A codec must stop when the output would exceed `maxBytes`, without making it first; what it throws is told as
 * OTTLA_WIRE_MALFORMED.
 */

/** Compresses and decompresses whole buffers. */
export interface Codec {
  compress(bytes: Uint8Array): Uint8Array
  /** Throws when the output would be larger than `maxBytes`. */
  decompress(bytes: Uint8Array, maxBytes: number): Uint8Array
}

/** The ways a batch may be compressed. */
export type CompressionName = 'gzip' | 'snappy' | 'lz4' | 'zstd'

/** The codecs at hand. */
export type Compression = Partial<Readonly<Record<CompressionName, Codec>>>

/** The name for the number in a batch's attributes; null for 0, not compressed; undefined for an unknown number. */
export function compressionName(id: number): CompressionName | null | undefined {
  return byId[id]
}

/** The number in a batch's attributes. */
export function compressionId(name: CompressionName | null): number {
  return byId.indexOf(name)
}

const byId: readonly (CompressionName | null)[] = [null, 'gzip', 'snappy', 'lz4', 'zstd']
