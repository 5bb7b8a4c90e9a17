/** Compressors for the few questions that look into stored batches; the client's table, made anew. */
import { readFileSync } from 'node:fs'
import { gunzipSync, gzipSync, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { BlockCompressor } from '../wire/block-compressor.ts'
import type { Compression } from '../wire/compression.ts'
import { lz4Codec } from '../wire/lz4.ts'
import { snappyCodec } from '../wire/snappy.ts'

const blocks = new BlockCompressor(() =>
  readFileSync(new URL('native.wasm', import.meta.resolve('@platformatic/wasm-utils'))),
)

/** All that Kafka knows. */
export const compression: Compression = {
  gzip: {
    compress: (bytes) => gzipSync(bytes),
    decompress: (bytes, maxBytes) => gunzipSync(bytes, { maxOutputLength: maxBytes }),
  },
  snappy: snappyCodec(blocks),
  lz4: lz4Codec(blocks),
  zstd: {
    compress: (bytes) => zstdCompressSync(bytes),
    decompress: (bytes, maxBytes) => zstdDecompressSync(bytes, { maxOutputLength: maxBytes }),
  },
}
