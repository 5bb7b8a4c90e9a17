/** The codecs for tests: those of the client. */
import { builtInCompression } from '../../src/kafka/io/compression.ts'

export const compression = builtInCompression
export const { gzip, snappy, lz4, zstd } = builtInCompression
