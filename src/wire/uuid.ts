/** Kafka's text form of a uuid: base64url of its 16 bytes, without padding. */
import { OttlaError } from '../contract/errors.ts'

const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
const digits = new Int8Array(128).fill(-1)
for (let i = 0; i < alphabet.length; i++) digits[alphabet.charCodeAt(i)] = i

/** The uuid that means "none". */
export const zeroUuid = 'AAAAAAAAAAAAAAAAAAAAAA'

/** The text of the 16 bytes at `start`; the caller has checked that they are there. */
export function uuidText(bytes: Uint8Array, start: number): string {
  let text = ''
  let bits = 0
  let held = 0
  for (let i = start; i < start + 16; i++) {
    held = ((held << 8) | bytes[i]!) & 0xffff
    bits += 8
    while (bits >= 6) {
      bits -= 6
      text += alphabet[(held >>> bits) & 63]
    }
  }
  return text + alphabet[(held << (6 - bits)) & 63]
}

/** Writes the 16 bytes of `text` at `start`. Throws OTTLA_WIRE_MALFORMED unless it is 22 characters of base64url. */
export function uuidBytes(text: string, into: Uint8Array, start: number): void {
  if (text.length !== 22) throw notUuid(text)
  let bits = 0
  let held = 0
  let at = start
  for (let i = 0; i < 22; i++) {
    const code = text.charCodeAt(i)
    const digit = code < 128 ? digits[code]! : -1
    if (digit < 0) throw notUuid(text)
    held = ((held << 6) | digit) & 0xffff
    bits += 6
    if (bits >= 8) {
      bits -= 8
      into[at++] = (held >>> bits) & 0xff
    }
  }
  if ((held & ((1 << bits) - 1)) !== 0) throw notUuid(text)
}

function notUuid(text: string): OttlaError {
  return new OttlaError('OTTLA_WIRE_MALFORMED', `not a uuid in Kafka's text form (${text.length} characters)`)
}
