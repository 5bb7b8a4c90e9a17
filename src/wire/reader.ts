/**
 * Reads Kafka's primitives from untrusted bytes.
 *
 * Every length is checked against the bytes left before it is used, and every count against the bytes its elements need
 * at least. What is allocated for a frame is accounted (`charge`) and bounded by four times the input plus 1 MiB, so
 * that a small frame cannot claim much memory and a large one of tiny elements cannot either. The only error is
 * OTTLA_WIRE_MALFORMED.
 */
import { malformed } from './malformed.ts'
import { uuidText } from './uuid.ts'

/** What may be allocated for a frame beyond four times its size. */
const allowanceBytes = 1024 * 1024

/** What an array slot, and an object beside its slot, is accounted as. */
export const slotBytes = 8
export const objectBytes = 16
const viewBytes = 64

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true })

/** A position in some bytes, moving forward. */
export class Reader {
  readonly bytes: Uint8Array
  /** Where the next read starts. */
  at: number
  /** Where the readable part ends. */
  readonly end: number
  /** The accounted allocation left. */
  budgetBytes: number

  constructor(bytes: Uint8Array, start = 0, end: number = bytes.length) {
    if (!(start >= 0 && start <= end && end <= bytes.length)) throw malformed(`no range ${start} to ${end}`)
    this.bytes = bytes
    this.at = start
    this.end = end
    this.budgetBytes = 4 * (end - start) + allowanceBytes
  }

  /** Bytes not read yet. */
  get remaining(): number {
    return this.end - this.at
  }

  /** Accounts an allocation before it is made. */
  charge(bytes: number): void {
    this.budgetBytes -= bytes
    if (this.budgetBytes < 0) throw malformed('the frame asks for more memory than its size justifies')
  }

  /** Moves over `length` bytes and returns where they started. */
  skip(length: number): number {
    const start = this.at
    if (!(length >= 0 && length <= this.end - start)) throw malformed(`${length} bytes asked, ${this.end - start} left`)
    this.at = start + length
    return start
  }

  bool(): boolean {
    return this.int8() !== 0
  }

  int8(): number {
    return (this.bytes[this.skip(1)]! << 24) >> 24
  }

  int16(): number {
    return (this.uint16() << 16) >> 16
  }

  uint16(): number {
    const start = this.skip(2)
    return (this.bytes[start]! << 8) | this.bytes[start + 1]!
  }

  int32(): number {
    const start = this.skip(4)
    const { bytes } = this
    return (bytes[start]! << 24) | (bytes[start + 1]! << 16) | (bytes[start + 2]! << 8) | bytes[start + 3]!
  }

  uint32(): number {
    return this.int32() >>> 0
  }

  /** A safe integer. The largest int64, which Kafka writes for "no limit", reads as the largest safe integer. */
  int64(): number {
    if (this.end - this.at < 8) throw malformed(`8 bytes asked, ${this.end - this.at} left`)
    const high = this.int32()
    const low = this.uint32()
    const value = high * 0x100000000 + low
    if (Number.isSafeInteger(value)) return value
    if (high === 0x7fffffff && low === 0xffffffff) return Number.MAX_SAFE_INTEGER
    throw malformed('an int64 beyond the safe integers')
  }

  float64(): number {
    const start = this.skip(8)
    return new DataView(this.bytes.buffer, this.bytes.byteOffset + start, 8).getFloat64(0)
  }

  /** Kafka's text form: 22 characters of base64url. */
  uuid(): string {
    return uuidText(this.bytes, this.skip(16))
  }

  /** At most 32 bits in at most five bytes, as an unsigned number. */
  unsignedVarint(): number {
    const { bytes, end } = this
    let { at } = this
    if (at < end && bytes[at]! < 0x80) {
      this.at = at + 1
      return bytes[at]!
    }
    let value = 0
    for (let shift = 0; shift < 35; shift += 7) {
      if (at >= end) throw malformed('a varint is cut off')
      const byte = bytes[at++]!
      if (shift === 28 && byte > 0x0f) throw malformed('a varint beyond 32 bits')
      value |= (byte & 0x7f) << shift
      if (byte < 0x80) {
        this.at = at
        return value >>> 0
      }
    }
    throw malformed('a varint of more than five bytes')
  }

  /** Zigzag, 32 bits. */
  varint(): number {
    const raw = this.unsignedVarint()
    return (raw >>> 1) ^ -(raw & 1)
  }

  /** Zigzag, 64 bits in at most ten bytes; a safe integer. */
  varlong(): number {
    const { bytes, end } = this
    let { at } = this
    let low = 0
    let high = 0
    for (let i = 0; i < 10; i++) {
      if (at >= end) throw malformed('a varlong is cut off')
      const byte = bytes[at++]!
      // 28 bits in `low`, the rest in `high`, both exact as doubles.
      if (i < 4) low |= (byte & 0x7f) << (7 * i)
      else high += (byte & 0x7f) * 2 ** (7 * (i - 4))
      if (byte < 0x80) {
        this.at = at
        const negative = (low & 1) === 1
        const value = (low >>> 1) + high * 2 ** 27
        const signed = negative ? -value - 1 : value
        if (!Number.isSafeInteger(signed)) throw malformed('a varlong beyond the safe integers')
        return signed
      }
    }
    throw malformed('a varlong of more than ten bytes')
  }

  string(): string {
    return this.#text(this.int16())
  }

  nullableString(): string | null {
    const length = this.int16()
    return length === -1 ? null : this.#text(length)
  }

  compactString(): string {
    return this.#text(this.unsignedVarint() - 1)
  }

  compactNullableString(): string | null {
    const length = this.unsignedVarint() - 1
    return length === -1 ? null : this.#text(length)
  }

  /** A view, no copy. */
  byteString(): Uint8Array {
    return this.view(this.int32())
  }

  nullableBytes(): Uint8Array | null {
    const length = this.int32()
    return length === -1 ? null : this.view(length)
  }

  compactBytes(): Uint8Array {
    return this.view(this.unsignedVarint() - 1)
  }

  compactNullableBytes(): Uint8Array | null {
    const length = this.unsignedVarint() - 1
    return length === -1 ? null : this.view(length)
  }

  /** The next `length` bytes as a view. */
  view(length: number): Uint8Array {
    const start = this.skip(length)
    this.charge(viewBytes)
    return this.bytes.subarray(start, start + length)
  }

  /**
   * An array's count, -1 for null. It is believed only when that many elements of at least `elementBytes` fit into the
   * bytes left; the slots are charged.
   */
  count(elementBytes: number): number {
    return this.#counted(this.int32(), elementBytes)
  }

  compactCount(elementBytes: number): number {
    return this.#counted(this.unsignedVarint() - 1, elementBytes)
  }

  /** Throws unless everything was read. */
  finish(): void {
    if (this.at !== this.end) throw malformed(`${this.end - this.at} bytes too many`)
  }

  #counted(count: number, elementBytes: number): number {
    if (count === -1) return -1
    if (count < 0 || count * Math.max(1, elementBytes) > this.end - this.at) {
      throw malformed(`${count} elements do not fit into ${this.end - this.at} bytes`)
    }
    this.charge(objectBytes + count * slotBytes)
    return count
  }

  #text(length: number): string {
    const start = this.skip(length)
    this.charge(length)
    const { bytes } = this
    // Short ASCII, which nearly every name is, without a call out of JavaScript.
    if (length <= 24) {
      let text = ''
      for (let i = start; i < start + length; i++) {
        const byte = bytes[i]!
        if (byte >= 0x80) return utf8.decode(bytes.subarray(start, start + length))
        text += String.fromCharCode(byte)
      }
      return text
    }
    return utf8.decode(bytes.subarray(start, start + length))
  }
}
