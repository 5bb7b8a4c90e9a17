/**
 * Snappy as Kafka's clients write it: in the frames of Java's `SnappyOutputStream`, or as one block without any.
 *
 *     magic 82 'SNAPPY' 00 │ version int32 │ oldest compatible version int32 │ { length int32 │ block }*
 *
 * A block begins with the length of what it inflates to, an unsigned varint, which is judged before anything is made of
 * that size: against the limit, and against what so few bytes can inflate to at all.
 */
import type { BlockCompressor } from './block-compressor.ts'
import type { Codec } from './compression.ts'
import { malformed } from './malformed.ts'

const magic = [0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0x00] as const
const headerBytes = 16
/** What Java puts into a block. */
const blockBytes = 32 * 1024
/** The densest element says in 3 bytes that 64 are to be repeated. */
const densityMax = 22

/** Writes frames, as Java does; reads both forms. Decompressing throws OTTLA_WIRE_MALFORMED. */
export function snappyCodec(compressor: BlockCompressor): Codec {
  const inflate = (block: Uint8Array, maxBytes: number): Uint8Array => {
    const length = inflatedBytes(block)
    if (length > maxBytes) throw malformed(`a snappy block of ${length} bytes where at most ${maxBytes} are allowed`)
    if (length > block.length * densityMax) throw malformed(`a snappy block of ${length} in ${block.length} bytes`)
    const inflated = compressor.call('snappy_decompress', block)
    if (inflated.length !== length) throw malformed(`a snappy block of ${inflated.length} bytes instead of ${length}`)
    return inflated
  }
  return {
    compress(bytes) {
      const blocks: Uint8Array[] = []
      let size = headerBytes
      for (let at = 0; at < bytes.length; at += blockBytes) {
        const block = compressor.call('snappy_compress', bytes.subarray(at, at + blockBytes))
        blocks.push(block)
        size += 4 + block.length
      }
      const framed = new Uint8Array(size)
      const view = new DataView(framed.buffer)
      framed.set(magic)
      view.setInt32(8, 1)
      view.setInt32(12, 1)
      let at = headerBytes
      for (const block of blocks) {
        view.setInt32(at, block.length)
        framed.set(block, at + 4)
        at += 4 + block.length
      }
      return framed
    },

    decompress(bytes, maxBytes) {
      if (!magic.every((byte, i) => bytes[i] === byte)) return inflate(bytes, maxBytes)
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
      if (bytes.length < headerBytes || view.getInt32(12) > 1) throw malformed('a snappy stream of another version')
      const blocks: Uint8Array[] = []
      let total = 0
      for (let at = headerBytes; at < bytes.length; ) {
        const length = bytes.length - at < 4 ? -1 : view.getInt32(at)
        at += 4
        if (length <= 0 || length > bytes.length - at) throw malformed(`a snappy block of length ${length}`)
        const inflated = inflate(bytes.subarray(at, at + length), maxBytes - total)
        blocks.push(inflated)
        total += inflated.length
        at += length
      }
      return joined(blocks, total)
    },
  }
}

/** The pieces as one. */
export function joined(pieces: readonly Uint8Array[], total: number): Uint8Array {
  if (pieces.length === 1) return pieces[0] as Uint8Array
  const whole = new Uint8Array(total)
  let at = 0
  for (const piece of pieces) {
    whole.set(piece, at)
    at += piece.length
  }
  return whole
}

function inflatedBytes(block: Uint8Array): number {
  let length = 0
  for (let i = 0; i < 5; i++) {
    const byte = block[i]
    if (byte === undefined) break
    length += (byte & 0x7f) * 2 ** (7 * i)
    if (byte < 0x80) return length
  }
  throw malformed('a snappy block without a length')
}
