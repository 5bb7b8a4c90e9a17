/**
 * LZ4 in its frame format, as far as Kafka uses it: blocks that do not refer to each other, no dictionary.
 *
 *     magic 04 22 4d 18 │ flags │ block size │ [content size int64] │ checksum of these │ { length │ block [checksum] }*
 *                                                                     │ 0 │ [content checksum]
 *
 * (Numbers are little-endian; a length with its highest bit set means a block that is not compressed.)
 *
 * Every block is handed to the compressor as a frame of its own, so that nothing larger than the announced block size, at
 * most 4 MiB, is ever made without looking at the limit; and nothing large for a small block, because the compressor
 * makes room for as much as a frame announces. The checksum of the content is not verified: that of the batch
 * covers the same bytes.
 */
import type { BlockCompressor } from './block-compressor.ts'
import type { Codec } from './compression.ts'
import { malformed } from './malformed.ts'
import { joined } from './snappy.ts'

const magic = 0x184d2204
const flag = {
  version: 0xc0,
  independent: 0x20,
  blockChecksum: 0x10,
  contentSize: 0x08,
  contentChecksum: 0x04,
} as const
const version1 = 0x40
const notCompressed = 0x8000_0000
/** 64 KiB, as Java and most others. */
const smallBlocks = 4
const smallBlockBytes = 64 * 1024
/** A byte of a block stands for at most so many. */
const densityMax = 255
/** Magic, flags, block size and their checksum. */
const headBytes = 7
const endBytes = 4

/** Decompressing throws OTTLA_WIRE_MALFORMED. */
export function lz4Codec(compressor: BlockCompressor): Codec {
  return {
    compress(bytes) {
      const pieces: Uint8Array[] = [head(version1 | flag.independent, smallBlocks)]
      let size = headBytes
      for (let at = 0; at < bytes.length; at += smallBlockBytes) {
        const frame = compressor.call('lz4_compress', bytes.subarray(at, at + smallBlockBytes))
        const block = frame.subarray(headBytes, frame.length - endBytes)
        pieces.push(block)
        size += block.length
      }
      pieces.push(new Uint8Array(endBytes))
      return joined(pieces, size + endBytes)
    },

    decompress(bytes, maxBytes) {
      const frame = readHead(bytes, maxBytes)
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
      const flags = version1 | flag.independent | (frame.hasBlockChecksums ? flag.blockChecksum : 0)
      const pieces: Uint8Array[] = []
      let total = 0
      let at = frame.bytes
      for (;;) {
        if (bytes.length - at < 4) throw malformed('an LZ4 frame without end')
        const word = view.getUint32(at, true)
        at += 4
        if (word === 0) break
        const length = word & ~notCompressed
        const withChecksum = length + (frame.hasBlockChecksums ? 4 : 0)
        if (length > frame.blockBytes || withChecksum > bytes.length - at) {
          throw malformed(`an LZ4 block of length ${length}`)
        }
        let block: Uint8Array
        if (word >= notCompressed && !frame.hasBlockChecksums) {
          block = bytes.subarray(at, at + length)
        } else {
          const alone = new Uint8Array(headBytes + 4 + withChecksum + endBytes)
          alone.set(head(flags, Math.min(frame.sizeId, sizeIdFor(length))))
          alone.set(bytes.subarray(at - 4, at + withChecksum), headBytes)
          block = compressor.call('lz4_decompress', alone)
        }
        total += block.length
        if (total > maxBytes) throw malformed(`an LZ4 frame of more than ${maxBytes} bytes`)
        pieces.push(block)
        at += withChecksum
      }
      if (bytes.length - at !== (frame.hasContentChecksum ? 4 : 0)) throw malformed('bytes behind an LZ4 frame')
      if (frame.contentBytes >= 0 && frame.contentBytes !== total) {
        throw malformed(`an LZ4 frame of ${total} bytes that announces ${frame.contentBytes}`)
      }
      return joined(pieces, total)
    },
  }
}

/** The smallest announcement that is enough for whatever a block of this length inflates to. */
function sizeIdFor(length: number): number {
  let sizeId = smallBlocks
  while (sizeId < 7 && blockBytesOf(sizeId) < length * densityMax) sizeId++
  return sizeId
}

function blockBytesOf(sizeId: number): number {
  return 1024 << (2 * sizeId - 2)
}

interface Head {
  /** Where the first block is. */
  readonly bytes: number
  readonly sizeId: number
  readonly blockBytes: number
  readonly hasBlockChecksums: boolean
  readonly hasContentChecksum: boolean
  /** -1: not announced. */
  readonly contentBytes: number
}

function readHead(bytes: Uint8Array, maxBytes: number): Head {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (bytes.length < headBytes || view.getUint32(0, true) !== magic) throw malformed('no LZ4 frame')
  const flags = view.getUint8(4)
  const sizeId = view.getUint8(5) >>> 4
  // Bit 0 asks for a dictionary, bit 1 means nothing yet; nor do the other bits of the block size.
  if ((flags & flag.version) !== version1 || (flags & 0x03) !== 0 || (view.getUint8(5) & 0x8f) !== 0 || sizeId < 4) {
    throw malformed('an LZ4 frame of unknown form')
  }
  if ((flags & flag.independent) === 0) throw malformed('an LZ4 frame whose blocks refer to each other')
  const hasContentSize = (flags & flag.contentSize) !== 0
  const end = hasContentSize ? 14 : 6
  if (bytes.length <= end) throw malformed('an LZ4 frame that ends in its header')
  if (view.getUint8(end) !== headChecksum(bytes.subarray(4, end)))
    throw malformed('the checksum of an LZ4 header differs')
  const contentBytes = hasContentSize ? view.getUint32(6, true) + view.getUint32(10, true) * 0x1_0000_0000 : -1
  if (contentBytes > maxBytes) throw malformed(`an LZ4 frame of ${contentBytes} bytes where ${maxBytes} are allowed`)
  return {
    bytes: end + 1,
    sizeId,
    blockBytes: blockBytesOf(sizeId),
    hasBlockChecksums: (flags & flag.blockChecksum) !== 0,
    hasContentChecksum: (flags & flag.contentChecksum) !== 0,
    contentBytes,
  }
}

function head(flags: number, sizeId: number): Uint8Array {
  const bytes = new Uint8Array(headBytes)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, magic, true)
  view.setUint8(4, flags)
  view.setUint8(5, sizeId << 4)
  view.setUint8(6, headChecksum(bytes.subarray(4, 6)))
  return bytes
}

/** The second byte of the XXH32 of at most 15 bytes, which is what a header's fields are. */
function headChecksum(fields: Uint8Array): number {
  const [prime1, prime2, prime3, prime4, prime5] = [0x9e3779b1, 0x85ebca77, 0xc2b2ae3d, 0x27d4eb2f, 0x165667b1] as const
  const view = new DataView(fields.buffer, fields.byteOffset, fields.byteLength)
  let hash = (prime5 + fields.length) | 0
  let at = 0
  for (; at + 4 <= fields.length; at += 4) {
    hash = Math.imul(rotated((hash + Math.imul(view.getUint32(at, true), prime3)) | 0, 17), prime4)
  }
  for (; at < fields.length; at++) {
    hash = Math.imul(rotated((hash + Math.imul(view.getUint8(at), prime5)) | 0, 11), prime1)
  }
  hash = Math.imul(hash ^ (hash >>> 15), prime2)
  hash = Math.imul(hash ^ (hash >>> 13), prime3)
  return ((hash ^ (hash >>> 16)) >>> 8) & 0xff
}

function rotated(word: number, by: number): number {
  return (word << by) | (word >>> (32 - by))
}
