/** Writes Kafka's primitives into one growing buffer. */
import { OttlaError } from '../contract/errors.ts'
import { uuidBytes } from './uuid.ts'

const utf8 = new TextEncoder()

function unfit(what: string): OttlaError {
  return new OttlaError('OTTLA_WIRE_MALFORMED', what)
}

/** Bytes an unsigned varint takes. */
export function unsignedVarintSize(value: number): number {
  const raw = value >>> 0
  return raw < 0x80 ? 1 : raw < 0x4000 ? 2 : raw < 0x200000 ? 3 : raw < 0x10000000 ? 4 : 5
}

/** A buffer that need not be cleared, as only what was written is ever shown. Not from Node's pool: it is not shared. */
export function unclearedBytes(length: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.allocUnsafeSlow(length).buffer)
}

/** Bytes in growing number. A value that does not fit its type throws OTTLA_WIRE_MALFORMED. */
export class Writer {
  #bytes: Uint8Array<ArrayBuffer>
  #view: DataView
  #at = 0

  constructor(capacityBytes = 256) {
    this.#bytes = new Uint8Array(capacityBytes)
    this.#view = new DataView(this.#bytes.buffer)
  }

  /** Bytes written so far. */
  get length(): number {
    return this.#at
  }

  /** What was written, as a view of the buffer. */
  finish(): Uint8Array {
    return this.#bytes.subarray(0, this.#at)
  }

  bool(value: boolean): void {
    const at = this.#room(1)
    this.#bytes[at] = value ? 1 : 0
  }

  int8(value: number): void {
    const at = this.#room(1)
    this.#view.setInt8(at, integer(value, -0x80, 0x7f))
  }

  int16(value: number): void {
    const at = this.#room(2)
    this.#view.setInt16(at, integer(value, -0x8000, 0x7fff))
  }

  uint16(value: number): void {
    const at = this.#room(2)
    this.#view.setUint16(at, integer(value, 0, 0xffff))
  }

  int32(value: number): void {
    const at = this.#room(4)
    this.#view.setInt32(at, integer(value, -0x80000000, 0x7fffffff))
  }

  uint32(value: number): void {
    const at = this.#room(4)
    this.#view.setUint32(at, integer(value, 0, 0xffffffff))
  }

  int64(value: number): void {
    integer(value, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER)
    const start = this.#room(8)
    this.#view.setInt32(start, Math.floor(value / 0x100000000))
    this.#view.setUint32(start + 4, value >>> 0)
  }

  float64(value: number): void {
    const at = this.#room(8)
    this.#view.setFloat64(at, value)
  }

  /** 22 characters of base64url. */
  uuid(text: string): void {
    const at = this.#room(16)
    uuidBytes(text, this.#bytes, at)
  }

  unsignedVarint(value: number): void {
    let rest = integer(value, 0, 0xffffffff)
    let at = this.#room(unsignedVarintSize(rest))
    while (rest >= 0x80) {
      this.#bytes[at++] = (rest & 0x7f) | 0x80
      rest >>>= 7
    }
    this.#bytes[at] = rest
  }

  /** Zigzag, 32 bits. */
  varint(value: number): void {
    integer(value, -0x80000000, 0x7fffffff)
    this.unsignedVarint(((value << 1) ^ (value >> 31)) >>> 0)
  }

  /** Zigzag, 64 bits; a safe integer. */
  varlong(value: number): void {
    integer(value, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER)
    // Twice the value may leave the safe integers, so the lowest seven bits go out first, with the sign bit in them.
    const magnitude = value < 0 ? -(value + 1) : value
    const first = (magnitude % 64) * 2 + (value < 0 ? 1 : 0)
    let rest = Math.floor(magnitude / 64)
    this.#byte(rest > 0 ? first | 0x80 : first)
    while (rest > 0) {
      const low = rest % 128
      rest = Math.floor(rest / 128)
      this.#byte(rest > 0 ? low | 0x80 : low)
    }
  }

  string(text: string): void {
    const start = this.#room(2)
    const length = this.text(text)
    if (length > 0x7fff) throw unfit(`a string of ${length} bytes; at most 32767 fit`)
    this.#view.setInt16(start, length)
  }

  nullableString(text: string | null): void {
    if (text === null) this.int16(-1)
    else this.string(text)
  }

  compactString(text: string): void {
    // The length comes first and its own size depends on it: one byte fits up to 126, the common case.
    if (text.length <= 42) {
      const start = this.#room(1)
      const length = this.text(text)
      this.#bytes[start] = length + 1
      return
    }
    const bytes = utf8.encode(text)
    this.unsignedVarint(bytes.length + 1)
    this.raw(bytes)
  }

  compactNullableString(text: string | null): void {
    if (text === null) this.unsignedVarint(0)
    else this.compactString(text)
  }

  byteString(bytes: Uint8Array): void {
    this.int32(bytes.length)
    this.raw(bytes)
  }

  nullableBytes(bytes: Uint8Array | null): void {
    if (bytes === null) this.int32(-1)
    else this.byteString(bytes)
  }

  compactBytes(bytes: Uint8Array): void {
    this.unsignedVarint(bytes.length + 1)
    this.raw(bytes)
  }

  compactNullableBytes(bytes: Uint8Array | null): void {
    if (bytes === null) this.unsignedVarint(0)
    else this.compactBytes(bytes)
  }

  /** The bytes alone, without a length. */
  raw(bytes: Uint8Array): void {
    const at = this.#room(bytes.length)
    this.#bytes.set(bytes, at)
  }

  /** The characters as UTF-8 without a length; returns how many bytes they took. */
  text(text: string): number {
    const length = text.length
    const start = this.#room(length * 3)
    const bytes = this.#bytes
    if (length <= 48) {
      let i = 0
      for (; i < length; i++) {
        const code = text.charCodeAt(i)
        if (code >= 0x80) break
        bytes[start + i] = code
      }
      if (i === length) {
        this.#at = start + length
        return length
      }
    }
    const { written } = utf8.encodeInto(text, bytes.subarray(start))
    this.#at = start + written
    return written
  }

  /** Overwrites four bytes written before. */
  patchInt32(at: number, value: number): void {
    this.#view.setInt32(at, value)
  }

  #byte(value: number): void {
    const at = this.#room(1)
    this.#bytes[at] = value
  }

  /** Moves over `length` bytes, growing the buffer first; called before the buffer is looked at. */
  #room(length: number): number {
    const start = this.#at
    const needed = start + length
    if (needed > this.#bytes.length) {
      // Some room beyond: a large field is rarely the last.
      const grown = unclearedBytes(Math.max(needed + 512, this.#bytes.length * 2))
      grown.set(this.#bytes)
      this.#bytes = grown
      this.#view = new DataView(grown.buffer)
    }
    this.#at = needed
    return start
  }
}

function integer(value: number, min: number, max: number): number {
  if (!(Number.isInteger(value) && value >= min && value <= max)) {
    throw unfit(`${String(value)} is no integer from ${min} to ${max}`)
  }
  return value
}
