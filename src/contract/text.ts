/** Text and bytes: UTF-8 both ways, strict, with a short way to write the short ASCII of headers and ids. */
const encoder = new TextEncoder()
const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
const lenient = new TextDecoder('utf-8', { ignoreBOM: true })

/** Bytes of Node read text faster than a decoder, and without a view in between. */
interface NodeBytes {
  utf8Slice?(from: number, to: number): string
  latin1Slice?(from: number, to: number): string
}

/** Up to this many bytes a loop beats the decoder's call. */
const shortBytes = 64

/** UTF-8 of a text. */
export function encodeUtf8(text: string): Uint8Array {
  const { length } = text
  if (length > shortBytes) return encoder.encode(text)
  const bytes = new Uint8Array(length)
  for (let i = 0; i < length; i++) {
    const unit = text.charCodeAt(i)
    if (unit > 0x7f) return encoder.encode(text)
    bytes[i] = unit
  }
  return bytes
}

/** The text of UTF-8 bytes, or null when they are none. */
export function decodeUtf8(bytes: Uint8Array): string | null {
  const { utf8Slice } = bytes as NodeBytes
  if (utf8Slice !== undefined) {
    // What is no UTF-8 becomes U+FFFD, which may also stand there by right: then the strict way decides.
    const text = utf8Slice.call(bytes, 0, bytes.length)
    if (!text.includes('\ufffd')) return text
  }
  try {
    return strict.decode(bytes)
  } catch {
    return null
  }
}

/** For showing: what is no UTF-8 becomes U+FFFD. */
export function showUtf8(bytes: Uint8Array): string {
  return lenient.decode(bytes)
}

/** The text of bytes that are known to be ASCII, from and to. */
export function asciiText(bytes: Uint8Array, from: number, to: number): string {
  const { latin1Slice } = bytes as NodeBytes
  return latin1Slice === undefined ? lenient.decode(bytes.subarray(from, to)) : latin1Slice.call(bytes, from, to)
}

/** Are these the same bytes? */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}

/** Are these the bytes from `from` to `to`? */
export function sameBytesAt(expected: Uint8Array, bytes: Uint8Array, from: number, to: number): boolean {
  if (expected.length !== to - from) return false
  for (let i = 0; i < expected.length; i++) if (expected[i] !== bytes[from + i]) return false
  return true
}
