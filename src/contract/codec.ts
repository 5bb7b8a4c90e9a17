/**
 * How payloads become bytes: the synchronous seam, and JSON behind it.
 *
 * Decoding never waits. A codec that needs something first (a schema from a registry) says so with `missing`; the
 * engine pauses the partition, awaits `prepare` and goes on.
 */
import { OttlaError } from './errors.ts'
import { decodeUtf8, encodeUtf8 } from './text.ts'

/** Turns payloads into bytes and back. */
export interface Codec {
  /** Written as `content-type`. */
  readonly contentType: string
  /** Can it read this `content-type`? The text is lower case and without parameters. */
  accepts(contentType: string): boolean
  /** The schema that must be prepared before `decode` can read these bytes, or null. */
  missing(bytes: Uint8Array): string | null
  /** Fetches schemas. Rejects with a retriable `OttlaError` when whoever knows them cannot be reached. */
  prepare(schemaIds: readonly string[]): Promise<void>
  /** Throws OTTLA_CONTRACT_CODEC for bytes that prove unreadable. */
  decode(bytes: Uint8Array): unknown
  /**
   * True: nothing that `decode` returns is a view of the bytes it was given, so that the memory of a record may be used
   * again once it has ended. Left out: payloads may hold such views, and stay valid for as long as somebody holds them.
   * `json` has it, and a codec made of it by spreading does not: that one has to say it for itself.
   */
  readonly copies?: boolean
  /** Throws OTTLA_CONTRACT_CODEC for what this format cannot say. */
  encode(data: unknown): Uint8Array
}

const jsonCodec: Codec = {
  contentType: 'application/json',
  accepts: (contentType) =>
    contentType === 'application/json' || contentType === 'text/json' || contentType.endsWith('+json'),
  missing: () => null,
  prepare: () => Promise.resolve(),
  decode(bytes) {
    const text = decodeUtf8(bytes)
    if (text === null) throw new OttlaError('OTTLA_CONTRACT_CODEC', 'The value is no valid UTF-8')
    try {
      // Some producers put a byte order mark in front.
      return JSON.parse(text.charCodeAt(0) === 0xfeff ? text.slice(1) : text)
    } catch {
      // The parser's own message quotes the payload, so it is not passed on.
      throw new OttlaError('OTTLA_CONTRACT_CODEC', `The value is no JSON (${bytes.length} bytes)`)
    }
  },
  encode(data) {
    let text: string | undefined
    try {
      text = JSON.stringify(data)
    } catch (error) {
      throw new OttlaError('OTTLA_CONTRACT_CODEC', 'The payload cannot be written as JSON', { cause: error })
    }
    if (text === undefined) {
      throw new OttlaError('OTTLA_CONTRACT_CODEC', `The payload cannot be written as JSON: it is ${typeof data}`)
    }
    return encodeUtf8(text)
  },
}

/** JSON in UTF-8. */
export const json: Codec = Object.defineProperty(jsonCodec, 'copies', { value: true, enumerable: false })
