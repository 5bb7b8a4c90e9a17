/**
 * The 61 bytes in front of every record batch (format 2): all that the broker needs to know of one.
 *
 * Position  0 baseOffset int64 *       17 crc int32 (of everything from 21)     43 producerId int64
 *           8 batchLength int32        21 attributes int16                      51 producerEpoch int16
 *          12 leaderEpoch int32 *      23 lastOffsetDelta int32                 53 baseSequence int32
 *          16 magic int8               27 baseTimestamp, 35 maxTimestamp int64  57 count int32
 *
 * The two marked * lie outside the CRC: the broker writes them into its copy. Attributes: bits 0-2 compression, 3 log
 * append time, 4 transactional, 5 control.
 */
import { crc32c } from '../wire/crc32c.ts'

/** Bytes of a batch before its first record. */
export const batchHeaderBytes = 61

/** Bytes not counted by the batch's own length field. */
const lengthOverheadBytes = 12

/** What stands in the header. */
export interface BatchHeader {
  readonly baseOffset: number
  /** The whole batch, header included. */
  readonly sizeBytes: number
  readonly leaderEpoch: number
  readonly compression: number
  readonly logAppendTime: boolean
  readonly transactional: boolean
  readonly control: boolean
  readonly lastOffsetDelta: number
  readonly maxTimestampMs: number
  readonly producerId: number
  readonly producerEpoch: number
  readonly baseSequence: number
  readonly count: number
}

/** Why some bytes are no batch. */
export type BatchFault = 'truncated' | 'old-magic' | 'bad-magic' | 'bad-crc' | 'bad-counts'

const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

const int64 = (data: DataView, at: number): number => data.getInt32(at) * 0x1_0000_0000 + data.getUint32(at + 4)

/** Reads the header of the batch at the start of `bytes`; `check` also verifies CRC and counts. */
export function readBatchHeader(bytes: Uint8Array, check: boolean): BatchHeader | BatchFault {
  if (bytes.byteLength < batchHeaderBytes) {
    return bytes.byteLength > 16 && bytes[16]! < 2 ? 'old-magic' : 'truncated'
  }
  const data = view(bytes)
  const magic = data.getInt8(16)
  if (magic === 0 || magic === 1) return 'old-magic'
  if (magic !== 2) return 'bad-magic'
  const sizeBytes = data.getInt32(8) + lengthOverheadBytes
  if (sizeBytes < batchHeaderBytes || sizeBytes > bytes.byteLength) return 'truncated'
  if (check && crc32c(bytes, 21, sizeBytes) >>> 0 !== data.getUint32(17)) return 'bad-crc'
  const attributes = data.getInt16(21)
  const header: BatchHeader = {
    baseOffset: int64(data, 0),
    sizeBytes,
    leaderEpoch: data.getInt32(12),
    compression: attributes & 0x07,
    logAppendTime: (attributes & 0x08) !== 0,
    transactional: (attributes & 0x10) !== 0,
    control: (attributes & 0x20) !== 0,
    lastOffsetDelta: data.getInt32(23),
    maxTimestampMs: int64(data, 35),
    producerId: int64(data, 43),
    producerEpoch: data.getInt16(51),
    baseSequence: data.getInt32(53),
    count: data.getInt32(57),
  }
  if (check && (header.count < 1 || header.lastOffsetDelta !== header.count - 1)) return 'bad-counts'
  return header
}

/** Writes where the batch stands and under which leader; both lie outside the CRC. */
export function patchBatch(bytes: Uint8Array, baseOffset: number, leaderEpoch: number): void {
  const data = view(bytes)
  data.setInt32(0, Math.floor(baseOffset / 0x1_0000_0000))
  data.setUint32(4, baseOffset % 0x1_0000_0000)
  data.setInt32(12, leaderEpoch)
}

/** Stamps the batch with the broker's time: attribute bit, max timestamp, new CRC. The base timestamp stays. */
export function stampAppendTime(bytes: Uint8Array, appendTimeMs: number): void {
  const data = view(bytes)
  data.setInt16(21, data.getInt16(21) | 0x08)
  data.setInt32(35, Math.floor(appendTimeMs / 0x1_0000_0000))
  data.setUint32(39, appendTimeMs % 0x1_0000_0000)
  data.setUint32(17, crc32c(bytes, 21, bytes.byteLength) >>> 0)
}
