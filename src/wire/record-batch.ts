/**
 * Record batches, format 2: built record by record into one buffer, read lazily out of another.
 *
 * A batch is a header of 61 bytes and its records, compressed as a whole or not at all:
 *
 *      0 baseOffset int64        17 crc uint32, of all from 21     43 producerId int64
 *      8 batchLength int32       21 attributes int16               51 producerEpoch int16
 *     12 leaderEpoch int32       23 lastOffsetDelta int32          53 baseSequence int32
 *     16 magic int8              27 baseTimestamp int64            57 count int32
 *                                35 maxTimestamp int64
 *
 * Attributes: bits 0 to 2 compression, 3 log append time, 4 transactional, 5 control. A record is a varint length, then
 * attributes int8, timestamp delta varlong, offset delta varint, key and value (varint length, -1 for null), a varint
 * count of headers, each with a key and a value of varint length.
 *
 * Reading makes one array of numbers per batch and no object per record. Headers are parsed when asked for.
 */
import { OttlaError } from '../contract/errors.ts'
import { type Codec, type Compression, type CompressionName, compressionId, compressionName } from './compression.ts'
import { type Crc32c, crc32c } from './crc32c.ts'
import { malformed } from './malformed.ts'
import { Reader } from './reader.ts'
import { unclearedBytes, unsignedVarintSize } from './writer.ts'

/** One header of a record. */
export interface RecordHeader {
  readonly key: string
  readonly value: Uint8Array | null
}

/** Bytes, or a text that goes out as UTF-8, or null. */
export type Payload = Uint8Array | string | null

/** One header of a record that is to be written. */
export interface OutgoingHeader {
  readonly key: string
  readonly value: Payload
}

/** Told of a header by where its name and its value lie in `bytes`. */
export type HeaderVisitor = (
  bytes: Uint8Array,
  nameFrom: number,
  nameTo: number,
  valueFrom: number,
  valueTo: number,
) => void

/** Bytes of a batch before its first record. */
export const batchHeaderBytes = 61

/** The fields in front that the batch's own length does not count. */
const uncountedBytes = 12
const crcAt = 17
const checkedFrom = 21
const currentMagic = 2
/** The shortest record: six one-byte fields and its length. */
const minRecordBytes = 7
/** Numbers kept per record: see `RecordBatch.#index`. */
const stride = 6
const defaultMaxInflatedBytes = 128 * 1024 * 1024

const attribute = { compression: 0x07, logAppendTime: 0x08, transactional: 0x10, control: 0x20 } as const

const utf8Decoder = new TextDecoder('utf-8', { ignoreBOM: true })

// ── writing ──

/** What stands in the header of a batch beside what its records say. */
export interface BuildOptions {
  /** Default -1: not idempotent. */
  readonly producerId?: number
  readonly producerEpoch?: number
  /** The sequence number of the first record. Default -1. */
  readonly baseSequence?: number
  readonly transactional?: boolean
  /** A batch of control records (transaction markers). */
  readonly control?: boolean
  /** How to compress; not at all when left out or null. */
  readonly compression?: { readonly name: CompressionName; readonly codec: Codec } | null
  /** Default 0; brokers write their own. */
  readonly baseOffset?: number
  /** Default -1. */
  readonly leaderEpoch?: number
}

/** A batch in two pieces that follow one another. */
export interface BuiltParts {
  /** The batch up to its first record: a view of the builder's buffer that the next `build` overwrites. */
  readonly head: Uint8Array
  /** The records. Without compression a view of the builder's buffer, which only `append` and `reset` change. */
  readonly records: Uint8Array
}

/** Texts up to this length are written by a loop: a call out of JavaScript costs as much. */
const shortText = 16
/** From here on texts are measured before they are written. */
const longText = 8 * 1024

/** Collects records of one batch in the form they have on the wire. */
export class RecordBatchBuilder {
  #bytes: Uint8Array<ArrayBuffer>
  /** The same bytes, for writing texts into them. */
  #buffer: Buffer
  #at = batchHeaderBytes
  #count = 0
  #baseTimestampMs = 0
  #maxTimestampMs = 0

  /** `capacityBytes`: how large the first buffer is; it grows as needed. */
  constructor(capacityBytes = 4096) {
    this.#bytes = unclearedBytes(Math.max(capacityBytes, batchHeaderBytes))
    this.#buffer = Buffer.from(this.#bytes.buffer)
  }

  /** Records appended so far. */
  get count(): number {
    return this.#count
  }

  /** Bytes of the batch as it stands, not compressed, its header included. */
  get size(): number {
    return this.#at
  }

  /** Appends a record and returns the bytes it takes, not compressed. Texts are written in place, as UTF-8. */
  append(key: Payload, value: Payload, headers: readonly OutgoingHeader[], timestampMs: number): number {
    if (this.#count === 0) this.#baseTimestampMs = this.#maxTimestampMs = timestampMs
    if (!Number.isSafeInteger(timestampMs) || !Number.isSafeInteger(timestampMs - this.#baseTimestampMs)) {
      throw malformed('a timestamp must be a whole number of milliseconds')
    }
    let textLength = lengthOfText(key) + lengthOfText(value)
    for (let i = 0; i < headers.length; i++) {
      const header = headers[i]!
      textLength += header.key.length + lengthOfText(header.value)
    }
    // Texts are taken for ASCII; one that is not is found out while it is written, and all is done again. Writing needs
    // room for what the text may turn out to be, so long ones are measured first.
    let size = textLength > longText ? -1 : this.#put(key, value, headers, timestampMs, textLength)
    if (size < 0) size = this.#put(key, value, headers, timestampMs, -1)
    this.#at += size
    this.#count++
    if (timestampMs > this.#maxTimestampMs) this.#maxTimestampMs = timestampMs
    return size
  }

  /**
   * Writes a record behind the last one and returns its size. `asciiLength`: its texts have so many characters, all
   * ASCII; the answer is -1 when they are not. -1: they are measured.
   */
  #put(
    key: Payload,
    value: Payload,
    headers: readonly OutgoingHeader[],
    timestampMs: number,
    asciiLength: number,
  ): number {
    const ascii = asciiLength >= 0
    const delta = timestampMs - this.#baseTimestampMs
    let length = 1 + varlongSize(delta) + varintSize(this.#count) + varintSize(headers.length)
    length += payloadSize(key, ascii) + payloadSize(value, ascii)
    for (let i = 0; i < headers.length; i++) {
      const header = headers[i]!
      length += payloadSize(header.key, ascii) + payloadSize(header.value, ascii)
    }
    const size = varintSize(length) + length
    const start = this.#at
    // Whatever a text turns out to be, at most three bytes per character, it is written as a whole: its length tells.
    const room = ascii ? start + size + 2 * asciiLength : start + size
    if (room > this.#bytes.length) this.#grow(room)
    const bytes = this.#bytes
    let at = putVarint(bytes, start, length)
    bytes[at++] = 0
    at = putVarlong(bytes, at, delta)
    at = putVarint(bytes, at, this.#count)
    at = this.#putPayload(at, key, ascii)
    if (at >= 0) at = this.#putPayload(at, value, ascii)
    if (at >= 0) at = putVarint(bytes, at, headers.length)
    for (let i = 0; i < headers.length && at >= 0; i++) {
      const header = headers[i]!
      at = this.#putPayload(at, header.key, ascii)
      if (at >= 0) at = this.#putPayload(at, header.value, ascii)
    }
    return at < 0 ? -1 : size
  }

  /** Returns where it ended; -1 when `ascii` was promised and is wrong. */
  #putPayload(start: number, given: Payload, ascii: boolean): number {
    if (typeof given !== 'string') return putBytes(this.#bytes, start, given)
    const length = given.length
    if (!ascii) {
      const at = putVarint(this.#bytes, start, Buffer.byteLength(given))
      return at + this.#buffer.write(given, at, 'utf8')
    }
    if (length <= shortText) return putAscii(this.#bytes, start, given)
    const at = putVarint(this.#bytes, start, length)
    return this.#buffer.write(given, at, 'utf8') === length ? at + length : -1
  }

  /** Forgets all records and keeps the buffer. What `build` returned before must not be needed any more. */
  reset(): void {
    this.#at = batchHeaderBytes
    this.#count = 0
  }

  /**
   * The batch. Without compression it is a view of the builder's own buffer: call this again, append or `reset` only
   * when the earlier result was copied (into a request frame, say) or is no longer needed. Throws OTTLA_WIRE_MALFORMED
   * when there are no records.
   */
  build(options: BuildOptions = {}): Uint8Array {
    const { head, records } = this.buildParts(options)
    if (options.compression == null) return this.#bytes.subarray(0, this.#at)
    const batch = new Uint8Array(batchHeaderBytes + records.length)
    batch.set(head)
    batch.set(records, batchHeaderBytes)
    return batch
  }

  /** The batch in two pieces, so that its records need not be copied into a request. Throws as `build` does. */
  buildParts(options: BuildOptions = {}): BuiltParts {
    if (this.#count === 0) throw malformed('a batch without records')
    const compression = options.compression ?? null
    const plain = this.#bytes.subarray(batchHeaderBytes, this.#at)
    const records = compression === null ? plain : compression.codec.compress(plain)
    const head = this.#bytes.subarray(0, batchHeaderBytes)
    const view = new DataView(head.buffer, 0, batchHeaderBytes)
    putInt64(view, 0, options.baseOffset ?? 0)
    view.setInt32(8, batchHeaderBytes + records.length - uncountedBytes)
    view.setInt32(12, options.leaderEpoch ?? -1)
    view.setInt8(16, currentMagic)
    view.setInt16(
      21,
      compressionId(compression === null ? null : compression.name) |
        (options.transactional === true ? attribute.transactional : 0) |
        (options.control === true ? attribute.control : 0),
    )
    view.setInt32(23, this.#count - 1)
    putInt64(view, 27, this.#baseTimestampMs)
    putInt64(view, 35, this.#maxTimestampMs)
    putInt64(view, 43, options.producerId ?? -1)
    view.setInt16(51, options.producerEpoch ?? -1)
    view.setInt32(53, options.baseSequence ?? -1)
    view.setInt32(57, this.#count)
    const sum =
      compression === null
        ? crc32c(this.#bytes, checkedFrom, this.#at)
        : crc32c(records, 0, records.length, crc32c(head, checkedFrom, batchHeaderBytes))
    view.setUint32(crcAt, sum)
    return { head, records }
  }

  #grow(neededBytes: number): void {
    const grown = unclearedBytes(Math.max(neededBytes, this.#bytes.length * 2))
    grown.set(this.#bytes.subarray(0, this.#at))
    this.#bytes = grown
    this.#buffer = Buffer.from(grown.buffer)
  }
}

/** At most so many bytes will a record take in a batch, not compressed. */
export function recordBytesAtMost(key: Payload, value: Payload, headers: readonly OutgoingHeader[]): number {
  let bytes = 36 + byteLength(key) + byteLength(value)
  for (const header of headers) bytes += 10 + header.key.length * 3 + byteLength(header.value)
  return bytes
}

/** The same, if all texts are ASCII: without looking at them. */
export function recordBytesIfAscii(key: Payload, value: Payload, headers: readonly OutgoingHeader[]): number {
  let bytes = 36 + (key === null ? 0 : key.length) + (value === null ? 0 : value.length)
  for (const header of headers) bytes += 10 + header.key.length + (header.value === null ? 0 : header.value.length)
  return bytes
}

function byteLength(given: Payload): number {
  if (given === null) return 0
  return typeof given === 'string' ? Buffer.byteLength(given) : given.length
}

// ── reading ──

/** How batches are read. */
export interface ReadOptions {
  /** Verifies checksums; `false` skips that. Default the built-in function. */
  readonly crc32c?: Crc32c | false
  /** The codecs at hand. Default none. */
  readonly compression?: Compression
  /** What a compressed batch may inflate to. Default 128 MiB. */
  readonly maxInflatedBytes?: number
  /** `true`: records are looked at only when asked for, and what is wrong with them is thrown then. Default false. */
  readonly lazy?: boolean
}

/** A batch, read in place: accessors by index over the bytes. Fits `BatchView` of the runtime. */
export class RecordBatch {
  /** The whole batch as it came. */
  readonly bytes: Uint8Array
  readonly baseOffset: number
  readonly leaderEpoch: number
  readonly lastOffsetDelta: number
  readonly baseTimestampMs: number
  readonly maxTimestampMs: number
  readonly producerId: number
  readonly producerEpoch: number
  readonly baseSequence: number
  /** Records in it, control records too. */
  readonly count: number
  /** Null when not compressed. */
  readonly compression: CompressionName | null
  /** The broker's clock stamped the records, not the producer's. */
  readonly isLogAppendTime: boolean
  readonly isTransactional: boolean
  readonly isControl: boolean
  readonly #options: ReadOptions
  #records: Uint8Array | null = null
  /**
   * Per record: where it starts after its length, offset delta, start of the key, its length or -1, start of the value,
   * its length or -1. Made on first use.
   */
  #index: Int32Array | null = null
  #onRelease: (() => void) | null = null

  /** `bytes` is one whole batch; `readBatches` makes these. */
  constructor(bytes: Uint8Array, options: ReadOptions = {}) {
    const reader = new Reader(bytes)
    this.bytes = bytes
    this.#options = options
    this.baseOffset = reader.int64()
    const length = reader.int32()
    if (length !== bytes.length - uncountedBytes || bytes.length < batchHeaderBytes) {
      throw malformed(`a batch of ${bytes.length} bytes says that ${length} follow`)
    }
    this.leaderEpoch = reader.int32()
    const magic = reader.int8()
    if (magic !== currentMagic) throw notCurrent(magic)
    const crc = reader.uint32()
    const attributes = reader.int16()
    this.lastOffsetDelta = reader.int32()
    this.baseTimestampMs = timestamp(reader)
    this.maxTimestampMs = timestamp(reader)
    this.producerId = reader.int64()
    this.producerEpoch = reader.int16()
    this.baseSequence = reader.int32()
    this.count = reader.int32()
    const sum = options.crc32c ?? crc32c
    if (sum !== false && sum(bytes, checkedFrom, bytes.length) !== crc) {
      throw new OttlaError(
        'OTTLA_KAFKA_CORRUPT_BATCH',
        `the checksum of the batch at offset ${this.baseOffset} differs`,
      )
    }
    const compression = compressionName(attributes & attribute.compression)
    if (compression === undefined) throw malformed(`no compression has number ${attributes & attribute.compression}`)
    this.compression = compression
    this.isLogAppendTime = (attributes & attribute.logAppendTime) !== 0
    this.isTransactional = (attributes & attribute.transactional) !== 0
    this.isControl = (attributes & attribute.control) !== 0
    if (this.baseOffset < 0 || this.lastOffsetDelta < 0 || !Number.isSafeInteger(this.nextPosition)) {
      throw malformed(`a batch from offset ${this.baseOffset} over ${this.lastOffsetDelta}`)
    }
    if (this.count < 0 || this.count > this.lastOffsetDelta + 1) {
      throw malformed(`${this.count} records in ${this.lastOffsetDelta + 1} offsets`)
    }
    if (options.lazy !== true) this.load()
  }

  /** The offset after the last one the batch stands for, gaps included. */
  get nextPosition(): number {
    return this.baseOffset + this.lastOffsetDelta + 1
  }

  /** Bytes held: the batch, or what it inflated to when that is known. */
  get byteLength(): number {
    return this.#records === null || this.compression === null
      ? this.bytes.length
      : this.#records.length + batchHeaderBytes
  }

  /**
   * Inflates and checks the records now. Throws OTTLA_WIRE_MALFORMED, or OTTLA_KAFKA_COMPRESSION when no codec for the
   * batch was handed in. Called by every accessor that needs it.
   */
  load(): void {
    if (this.#index === null) this.#index = this.#locate()
  }

  /** Who wants to know when `release` is called. */
  set onRelease(listener: (() => void) | null) {
    this.#onRelease = listener
  }

  /**
   * Says that neither the batch nor any view it gave will be looked at again, so that its memory may be used for other
   * bytes. Records asked for afterwards throw; views kept from before show what comes next.
   */
  release(): void {
    this.#records = null
    this.#index = releasedIndex
    const listener = this.#onRelease
    this.#onRelease = null
    listener?.()
  }

  /** The offset of a record. */
  offset(index: number): number {
    return this.baseOffset + this.#at(index, 1)
  }

  /** The same as `offset`. */
  position(index: number): number {
    return this.baseOffset + this.#at(index, 1)
  }

  /**
   * Milliseconds since the epoch, by the producer's clock unless `isLogAppendTime`. Throws OTTLA_WIRE_MALFORMED for a
   * distance to the batch's own time beyond the safe integers.
   */
  timestampMs(index: number): number {
    const start = this.#at(index, 0)
    if (this.isLogAppendTime) return this.maxTimestampMs
    // Nearly always one or two bytes.
    const records = this.#records!
    const first = records[start + 1]!
    if (first < 0x80) return this.baseTimestampMs + ((first >>> 1) ^ -(first & 1))
    return this.baseTimestampMs + new Reader(records, start + 1).varlong()
  }

  /** A view, or null. */
  key(index: number): Uint8Array | null {
    const length = this.#at(index, 3)
    const start = this.#index![index * stride + 2]!
    return length < 0 ? null : this.#records!.subarray(start, start + length)
  }

  /** A view, or null. */
  value(index: number): Uint8Array | null {
    const length = this.#at(index, 5)
    const start = this.#index![index * stride + 4]!
    return length < 0 ? null : this.#records!.subarray(start, start + length)
  }

  /** The key as text (UTF-8), or null: without a view in between. */
  keyText(index: number): string | null {
    const length = this.#at(index, 3)
    return length < 0 ? null : textOf(this.#records!, this.#index![index * stride + 2]!, length)
  }

  /** The value as text (UTF-8), or null: without a view in between. */
  valueText(index: number): string | null {
    const length = this.#at(index, 5)
    return length < 0 ? null : textOf(this.#records!, this.#index![index * stride + 4]!, length)
  }

  /** Key and value bytes. */
  size(index: number): number {
    return Math.max(0, this.#at(index, 3)) + Math.max(0, this.#at(index, 5))
  }

  /** Parses the headers of a record, in their order. Throws OTTLA_WIRE_MALFORMED. */
  headers(index: number): readonly RecordHeader[] {
    const valueLength = this.#at(index, 5)
    const records = this.#records!
    const valueStart = this.#index![index * stride + 4]!
    const isLast = index === this.count - 1
    const end = isLast ? records.length : this.#index![(index + 1) * stride]!
    const reader = new Reader(records, valueStart + Math.max(0, valueLength), end)
    const count = reader.varint()
    if (count < 0) throw malformed(`${count} headers`)
    const headers: RecordHeader[] = []
    for (let i = 0; i < count; i++) {
      const keyLength = reader.varint()
      const key = headerName(records, reader.skip(keyLength), keyLength)
      const length = reader.varint()
      if (length < -1) throw malformed(`a header value of length ${length}`)
      const start = length < 0 ? 0 : reader.skip(length)
      headers.push({ key, value: length < 0 ? null : records.subarray(start, start + length) })
    }
    // What is left is exactly the length of the next record.
    if (!isLast) reader.varint()
    reader.finish()
    return count === 0 ? noHeaders : headers
  }

  /**
   * Shows the headers of a record in place, in their order: no object and no view for each. A null value's `valueFrom`
   * is -1. Throws OTTLA_WIRE_MALFORMED.
   */
  eachHeader(index: number, visit: HeaderVisitor): void {
    const valueLength = this.#at(index, 5)
    const records = this.#records!
    const isLast = index === this.count - 1
    const end = isLast ? records.length : this.#index![(index + 1) * stride]!
    let at = this.#index![index * stride + 4]! + Math.max(0, valueLength)
    // Nearly always all numbers are of one byte: a zigzag number below 0x80 is even unless it is negative.
    let left = records[at]!
    if (at < end && left < 0x80 && (left & 1) === 0) {
      at++
      for (left >>>= 1; left > 0; left--) {
        const nameLength = records[at]!
        const name = at + 1
        const valueAt = name + (nameLength >>> 1)
        if (valueAt >= end || nameLength >= 0x80 || (nameLength & 1) === 1) break
        const length = records[valueAt]!
        const value = valueAt + 1
        const next = value + (length >>> 1)
        if (next > end || length >= 0x80 || (length & 1) === 1) break
        visit(records, name, valueAt, value, next)
        at = next
      }
      if (left === 0) {
        // What is left is exactly the length of the next record.
        while (!isLast && at < end - 1 && records[at]! >= 0x80) at++
        if (at === (isLast ? end : end - 1)) return
      }
    } else left = -1
    this.#eachHeaderFrom(new Reader(records, at, end), left, { isLast, visit })
  }

  /** The rest of them: `left`, or when that is -1 as many as stands there. */
  #eachHeaderFrom(reader: Reader, left: number, { isLast, visit }: { isLast: boolean; visit: HeaderVisitor }): void {
    const records = this.#records!
    const count = left < 0 ? reader.varint() : left
    if (count < 0) throw malformed(`${count} headers`)
    for (let i = 0; i < count; i++) {
      const nameLength = reader.varint()
      const name = reader.skip(nameLength)
      const length = reader.varint()
      if (length < -1) throw malformed(`a header value of length ${length}`)
      const start = length < 0 ? -1 : reader.skip(length)
      visit(records, name, name + nameLength, start, start + Math.max(0, length))
    }
    if (!isLast) reader.varint()
    reader.finish()
  }

  /** The type of a control record: 0 abort, 1 commit, others of no concern to clients; -1 when it has no such key. */
  controlType(index: number): number {
    const key = this.key(index)
    return key === null || key.length < 4 ? -1 : (key[2]! << 8) | key[3]!
  }

  #at(index: number, part: number): number {
    if (this.#index === null) this.load()
    if (!(index >= 0 && index < this.count)) throw malformed(`record ${index} of ${this.count}`)
    if (this.#records === null) throw new RangeError('the batch was released')
    return this.#index![index * stride + part]!
  }

  #locate(): Int32Array {
    const records = this.#inflate()
    const { count, lastOffsetDelta } = this
    if (count * minRecordBytes > records.length) throw malformed(`${count} records in ${records.length} bytes`)
    const index = new Int32Array(count * stride)
    const total = records.length
    let lastDelta = -1
    varintEnd = 0
    for (let i = 0, slot = 0; i < count; i++, slot += stride) {
      const length = varintAt(records, varintEnd)
      const start = varintEnd
      if (length < minRecordBytes - 1 || length > total - start) throw malformed(`a record of length ${length}`)
      const end = start + length
      // The timestamp is only skipped here; ten bytes at most, and its end is inside the record.
      let at = start + 1
      while (records[at]! >= 0x80) at++
      if (at >= end || at - start > 10) throw malformed('a timestamp without end')
      const offsetDelta = varintAt(records, at + 1)
      if (offsetDelta <= lastDelta || offsetDelta > lastOffsetDelta)
        throw malformed(`offset ${offsetDelta} after ${lastDelta}`)
      lastDelta = offsetDelta
      const keyLength = varintAt(records, varintEnd)
      const keyStart = varintEnd
      if (keyLength < -1 || keyLength > end - keyStart) throw malformed(`a key of length ${keyLength}`)
      const valueLength = varintAt(records, keyLength > 0 ? keyStart + keyLength : keyStart)
      const valueStart = varintEnd
      // One byte at least is left for the count of headers.
      if (valueLength < -1 || Math.max(0, valueLength) >= end - valueStart) {
        throw malformed(`a value of length ${valueLength}`)
      }
      index[slot] = start
      index[slot + 1] = offsetDelta
      index[slot + 2] = keyStart
      index[slot + 3] = keyLength
      index[slot + 4] = valueStart
      index[slot + 5] = valueLength
      varintEnd = end
    }
    if (varintEnd !== total) throw malformed(`${total - varintEnd} bytes too many`)
    this.#records = records
    return index
  }

  #inflate(): Uint8Array {
    const packed = this.bytes.subarray(batchHeaderBytes)
    if (this.compression === null) return packed
    const codec = this.#options.compression?.[this.compression]
    if (codec === undefined) {
      throw new OttlaError('OTTLA_KAFKA_COMPRESSION', `no codec for ${this.compression} was handed in`)
    }
    const maxBytes = this.#options.maxInflatedBytes ?? defaultMaxInflatedBytes
    let records: Uint8Array
    try {
      records = codec.decompress(packed, maxBytes)
    } catch (cause) {
      // Its codec could not be had: nothing is wrong with the batch.
      if (cause instanceof OttlaError && cause.code === 'OTTLA_KAFKA_COMPRESSION') throw cause
      throw new OttlaError('OTTLA_WIRE_MALFORMED', `a ${this.compression} batch does not inflate`, { cause })
    }
    if (records.length > maxBytes) throw malformed(`a batch inflates beyond ${maxBytes} bytes`)
    // What could not be made smaller may lie in the frame as it is. The frame's memory is used again when the frame has been
    // handed on, and records of a compressed batch are promised memory of their own.
    if (!overlap(records, packed)) return records
    return records instanceof Buffer ? Buffer.from(records) : new Uint8Array(records)
  }
}

/**
 * The batches in the `records` field of a Fetch or Produce, one after another. A last batch that is cut off is left
 * out, as brokers cut at a byte limit. Throws OTTLA_WIRE_MALFORMED, OTTLA_KAFKA_CORRUPT_BATCH (checksum) and
 * OTTLA_KAFKA_MESSAGE_FORMAT (formats 0 and 1) when the batch in question is reached.
 */
export function* readBatches(records: Uint8Array, options: ReadOptions = {}): Generator<RecordBatch, void, undefined> {
  let at = 0
  for (;;) {
    const length = nextBatchBytes(records, at)
    if (length === 0) return
    yield new RecordBatch(records.subarray(at, at + length), options)
    at += length
  }
}

/** The bytes of the batch that starts at `at`; 0 when it is cut off. */
export function nextBatchBytes(records: Uint8Array, at: number): number {
  if (records.length - at <= 16) return 0
  const magic = (records[at + 16]! << 24) >> 24
  if (magic !== currentMagic) throw notCurrent(magic)
  const length = (records[at + 8]! << 24) | (records[at + 9]! << 16) | (records[at + 10]! << 8) | records[at + 11]!
  if (length < batchHeaderBytes - uncountedBytes) throw malformed(`a batch of length ${length}`)
  return length > records.length - at - uncountedBytes ? 0 : length + uncountedBytes
}

const releasedIndex = new Int32Array(0)
const noHeaders: readonly RecordHeader[] = Object.freeze([])

function notCurrent(magic: number): OttlaError {
  if (magic === 0 || magic === 1) {
    return new OttlaError('OTTLA_KAFKA_MESSAGE_FORMAT', `a batch of message format ${magic}; 2 is needed`)
  }
  return malformed(`no message format has number ${magic}`)
}

/** Where the varint read last ended: a second result without an object for it. */
let varintEnd = 0

/** A zigzag varint. One or two bytes, which most are, take the short way. */
function varintAt(bytes: Uint8Array, at: number): number {
  const first = bytes[at]!
  if (first < 0x80) {
    varintEnd = at + 1
    return (first >>> 1) ^ -(first & 1)
  }
  const second = bytes[at + 1]!
  if (second < 0x80) {
    varintEnd = at + 2
    const raw = (first & 0x7f) | (second << 7)
    return (raw >>> 1) ^ -(raw & 1)
  }
  const reader = new Reader(bytes, Math.min(at, bytes.length))
  const value = reader.varint()
  varintEnd = reader.at
  return value
}

/** Clocks are not trusted: a timestamp beyond the safe integers is rounded, not refused. */
function timestamp(reader: Reader): number {
  const high = reader.int32()
  return high * 0x100000000 + reader.uint32()
}

/** Have these a byte in common? */
function overlap(a: Uint8Array, b: Uint8Array): boolean {
  if (a.buffer !== b.buffer) return false
  return a.byteOffset < b.byteOffset + b.length && b.byteOffset < a.byteOffset + a.length
}

function textOf(bytes: Uint8Array, start: number, length: number): string {
  // Of a Buffer, which frames are, without the price of a view. A byte order mark stays in both.
  if (bytes instanceof Buffer) return bytes.toString('utf8', start, start + length)
  return utf8Decoder.decode(bytes.subarray(start, start + length))
}

/** Names of headers seen lately, so that the few there are need not be made again for every record. */
const seenNames: string[] = new Array<string>(256).fill('')

/** The text at `start`. Short ASCII comes out of `seenNames` when it is there, checked character by character. */
function headerName(bytes: Uint8Array, start: number, length: number): string {
  if (length === 0 || length > 32) return utf8Decoder.decode(bytes.subarray(start, start + length))
  const slot = (bytes[start]! * 31 + bytes[start + length - 1]! * 7 + bytes[start + (length >> 1)]! + length) & 0xff
  const seen = seenNames[slot]!
  if (seen.length === length) {
    let i = 0
    while (i < length && seen.charCodeAt(i) === bytes[start + i]!) i++
    if (i === length) return seen
  }
  const name = utf8Decoder.decode(bytes.subarray(start, start + length))
  // As many characters as bytes: nothing but ASCII, unless bytes were invalid.
  if (name.length === length && !name.includes('\ufffd')) seenNames[slot] = name
  return name
}

// ── numbers and bytes into a buffer that is known to be large enough; each returns where it ended ──

function varintSize(value: number): number {
  return unsignedVarintSize((value << 1) ^ (value >> 31))
}

function varlongSize(value: number): number {
  if (value === (value | 0)) return varintSize(value)
  let rest = Math.floor((value < 0 ? -(value + 1) : value) / 64)
  let size = 1
  for (; rest > 0; size++) rest = Math.floor(rest / 128)
  return size
}

function putVarint(bytes: Uint8Array, start: number, value: number): number {
  let at = start
  let rest = ((value << 1) ^ (value >> 31)) >>> 0
  while (rest >= 0x80) {
    bytes[at++] = rest | 0x80
    rest >>>= 7
  }
  bytes[at++] = rest
  return at
}

function putVarlong(bytes: Uint8Array, start: number, value: number): number {
  if (value === (value | 0)) return putVarint(bytes, start, value)
  let at = start
  const magnitude = value < 0 ? -(value + 1) : value
  let low = (magnitude % 64) * 2 + (value < 0 ? 1 : 0)
  let rest = Math.floor(magnitude / 64)
  while (rest > 0) {
    bytes[at++] = low | 0x80
    low = rest % 128
    rest = Math.floor(rest / 128)
  }
  bytes[at++] = low
  return at
}

function lengthOfText(given: Payload): number {
  return typeof given === 'string' ? given.length : 0
}

function payloadSize(given: Payload, ascii: boolean): number {
  if (given === null) return 1
  const length = ascii || typeof given !== 'string' ? given.length : Buffer.byteLength(given)
  return varintSize(length) + length
}

function putBytes(bytes: Uint8Array, start: number, given: Uint8Array | null): number {
  if (given === null) {
    bytes[start] = 1
    return start + 1
  }
  const length = given.length
  const at = putVarint(bytes, start, length)
  // A call into `set` costs as much as copying sixteen bytes.
  if (length <= 16) for (let i = 0; i < length; i++) bytes[at + i] = given[i]!
  else bytes.set(given, at)
  return at + length
}

/** -1 when the text is not ASCII. */
function putAscii(bytes: Uint8Array, start: number, given: string): number {
  const length = given.length
  const at = putVarint(bytes, start, length)
  let seen = 0
  for (let i = 0; i < length; i++) {
    const code = given.charCodeAt(i)
    seen |= code
    bytes[at + i] = code
  }
  return seen < 0x80 ? at + length : -1
}

function putInt64(view: DataView, at: number, value: number): void {
  view.setInt32(at, Math.floor(value / 0x100000000))
  view.setUint32(at + 4, value >>> 0)
}
