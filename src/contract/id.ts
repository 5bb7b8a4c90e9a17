/**
 * Identities of events.
 *
 * Where an event starts: UUIDv7, from a time and randomness. Emitted by a handler: derived, UUIDv8 over the source
 * event and the place of the emission, so that a redelivery emits the same ids.
 */
import { OttlaError } from './errors.ts'
import { sha256 } from './sha256.ts'
import { encodeUtf8 } from './text.ts'

const hex = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'))

function uuid(b: Uint8Array, version: number): string {
  const h = hex as readonly string[]
  return (
    `${h[b[0]!]}${h[b[1]!]}${h[b[2]!]}${h[b[3]!]}-${h[b[4]!]}${h[b[5]!]}-` +
    `${h[(b[6]! & 0x0f) | (version << 4)]}${h[b[7]!]}-${h[(b[8]! & 0x3f) | 0x80]}${h[b[9]!]}-` +
    `${h[b[10]!]}${h[b[11]!]}${h[b[12]!]}${h[b[13]!]}${h[b[14]!]}${h[b[15]!]}`
  )
}

/** A UUIDv7 of a time in milliseconds since the epoch and ten random bytes. Pure. */
export function uuidv7(timeMs: number, random: Uint8Array): string {
  if (!(Number.isInteger(timeMs) && timeMs >= 0 && timeMs < 2 ** 48) || random.length < 10) {
    throw new OttlaError('OTTLA_CONTRACT_DEFINITION', 'A UUIDv7 needs a time of 48 bits and ten random bytes')
  }
  const bytes = new Uint8Array(16)
  writeTime(bytes, timeMs)
  bytes.set(random.subarray(0, 10), 6)
  return uuid(bytes, 7)
}

function writeTime(bytes: Uint8Array, timeMs: number): void {
  const view = new DataView(bytes.buffer)
  view.setUint16(0, Math.floor(timeMs / 2 ** 32))
  view.setUint32(2, timeMs % 2 ** 32)
}

const pool = new Uint8Array(4000)
let used = pool.length

/** A new id for an event that starts here: UUIDv7 of the given wall-clock time, random from the platform. */
export function newId(timeMs: number): string {
  if (used === pool.length) {
    globalThis.crypto.getRandomValues(pool)
    used = 0
  }
  const id = uuidv7(Math.trunc(timeMs), pool.subarray(used, used + 10))
  used += 10
  return id
}

/** What an emission is derived from. */
export interface Emission {
  /** `ce_id` of the event being handled. */
  readonly sourceId: string
  /** The service that emits. */
  readonly service: string
  /** `ce_type` of what is emitted. */
  readonly type: string
  /** The how many-th emission of this handler call, from 0. */
  readonly n: number
  /** Milliseconds since the epoch: the time in the source event's id, or its `ce_time` when its id holds none. */
  readonly timeMs: number
}

/**
 * The id of an emission: UUIDv8 that begins with the 48 bits of `timeMs`, like a UUIDv7, followed by the first 74 bits
 * of SHA-256 over the other four parts, each as UTF-8 behind its length in four bytes (big-endian), `n` in decimal. Any
 * language can compute it.
 *
 * The time is handed down from id to id, so that whoever files ids by day finds every copy of an event on the same day,
 * whenever the copy was emitted.
 */
export function derivedId(emission: Emission): string {
  const parts = [emission.sourceId, emission.service, emission.type, String(emission.n)].map(encodeUtf8)
  const bytes = new Uint8Array(parts.reduce((total, part) => total + 4 + part.length, 0))
  const view = new DataView(bytes.buffer)
  let offset = 0
  for (const part of parts) {
    view.setUint32(offset, part.length)
    bytes.set(part, offset + 4)
    offset += 4 + part.length
  }
  const id = new Uint8Array(16)
  writeTime(id, Math.min(Math.max(Math.trunc(emission.timeMs) || 0, 0), 2 ** 48 - 1))
  id.set(sha256(bytes).subarray(0, 10), 6)
  return uuid(id, 8)
}

const timed = /^[0-9a-f]{8}-[0-9a-f]{4}-[78][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/i

/** The time inside a UUIDv7 or a derived id (UUIDv8), milliseconds since the epoch; null for any other id. */
export function timeOfId(id: string): number | null {
  if (!timed.test(id)) return null
  return Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16)
}

/** The identity of a record without an envelope. */
export function recordUrn(topicId: string, partition: number, position: number): string {
  return `urn:kafka:${topicId}:${partition}:${position}`
}
