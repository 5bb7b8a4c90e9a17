/**
 * Compressors as the table of functions that `wire` takes: gzip and zstd of Node itself, snappy and LZ4 of a WebAssembly
 * package that is read when the first batch needs it.
 */
import { readFileSync } from 'node:fs'
import { gunzipSync, gzipSync, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { OttlaError } from '../../contract/errors.ts'
import { BlockCompressor } from '../../wire/block-compressor.ts'
import type { Codec } from '../../wire/compression.ts'
import { lz4Codec } from '../../wire/lz4.ts'
import { snappyCodec } from '../../wire/snappy.ts'

const gzip: Codec = {
  compress: (bytes) => gzipSync(bytes),
  decompress: (bytes, maxBytes) => gunzipSync(bytes, { maxOutputLength: maxBytes }),
}

const zstd: Codec = {
  compress: (bytes) => zstdCompressSync(bytes),
  decompress: (bytes, maxBytes) => zstdDecompressSync(bytes, { maxOutputLength: maxBytes }),
}

const blocks = new BlockCompressor(() => {
  try {
    return readFileSync(new URL('native.wasm', import.meta.resolve('@platformatic/wasm-utils')))
  } catch (cause) {
    throw new OttlaError(
      'OTTLA_KAFKA_COMPRESSION',
      'snappy and lz4 need the package @platformatic/wasm-utils, as it is installed: a bundle must leave it outside',
      { cause },
    )
  }
})

/** All that Kafka knows. snappy and lz4 throw OTTLA_KAFKA_COMPRESSION when their package cannot be read. */
export const builtInCompression = { gzip, snappy: snappyCodec(blocks), lz4: lz4Codec(blocks), zstd } as const
