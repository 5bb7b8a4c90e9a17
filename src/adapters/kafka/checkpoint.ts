/**
 * How far a service has come, in the metadata string beside Kafka's committed offset.
 *
 * ```
 * o1.<base64url of:>  topic id (16) · base offset (8) · leader epoch (4) · strikes (1) ·
 *                     run lengths (unsigned varints: open, finished, open, finished …) · CRC-32C of all before (4)
 * o2.<base64url of:>  the same with more before the run lengths, when there is more to say, all unsigned varints:
 *                     distance of the suspect from the base offset · count · distance, attempts · distance, attempts …
 * ```
 *
 * The run lengths start at the base offset, which is the committed one. They save redoing what was finished beyond it;
 * they must never make anybody skip a record. So the string is believed only when every part of it fits what the broker
 * says now: this topic (not a mirror of it, nor one made again under its name), this offset and epoch (not one that a
 * tool put there and left our string standing), and no run beyond the end of the log, or of that epoch in it: behind a
 * cut lie other records by now. Anything odd counts as absent.
 *
 * Attempts are believed or not together with the rest. They belong to records that are open: without them a record that
 * failed is tried as often as if it never had.
 *
 * At most 4,000 ASCII characters, under the 4,096 of brokers. When the runs do not fit, the last ones are left out, and of
 * the attempts so that half of the room stays for the runs.
 */
import { crc32c } from '../../wire/crc32c.ts'

/** The longest string made. */
export const maxMetadataChars = 4_000

const prefix = 'o1.'
const longPrefix = 'o2.'
const headBytes = 29
const crcBytes = 4
const maxBytes = Math.floor(((maxMetadataChars - prefix.length) * 3) / 4)
const maxStrikes = 255
const maxAttempts = 255
/** Records whose attempts are kept. */
const triedMax = 400

/** What goes into the string. */
export interface CheckpointMap {
  /** Kafka's topic id in its 22-character form. */
  readonly topicId: string
  /** The lowest position not finished: the offset committed with it. */
  readonly low: number
  /** Leader epoch committed with the offset, -1 when unknown. */
  readonly leaderEpoch: number
  readonly strikes: number
  /** From where on the record is to be found under which owners died; default `low`. */
  readonly suspect?: number
  /** Ranges [from, to) beyond `low`, flattened and ascending. */
  readonly finished: readonly number[]
  /** Position, failed attempts, position, failed attempts … ascending, none below `low`. */
  readonly attempts?: readonly number[]
}

/** What the broker says, for checking a string against. */
export interface CommittedFacts {
  readonly topicId: string
  readonly offset: number
  readonly leaderEpoch: number
  /** How far the log is the one that was committed about, as the leader told when the partition was gained. */
  readonly logEnd: number
  readonly metadata: string | null
}

/** What can be believed of a string. */
export interface BelievedMap {
  readonly finished: readonly number[]
  readonly strikes: number
  /** Absent when it is the committed offset. */
  readonly suspect?: number
  readonly attempts: readonly number[]
}

/** The string to commit; empty when the offset alone says it all. */
export function encodeCheckpoint(map: CheckpointMap): string {
  const { suspect = map.low, attempts = [] } = map
  const long = attempts.length > 0 || suspect > map.low
  if (map.finished.length === 0 && map.strikes === 0 && !long) return ''
  const bytes = new Uint8Array(maxBytes)
  const view = new DataView(bytes.buffer)
  const id = Buffer.from(map.topicId, 'base64url')
  if (id.length !== 16) return ''
  bytes.set(id)
  view.setBigInt64(16, BigInt(map.low))
  view.setInt32(24, map.leaderEpoch)
  bytes[28] = Math.min(maxStrikes, map.strikes)
  let end = headBytes
  if (long) {
    end = putVarint(bytes, end, suspect - map.low)
    end = putAttempts(bytes, end, map.low, attempts)
  }
  let from = map.low
  for (let i = 0; i + 1 < map.finished.length; i += 2) {
    const start = map.finished[i] ?? 0
    const stop = map.finished[i + 1] ?? 0
    if (varintBytes(start - from) + varintBytes(stop - start) > maxBytes - crcBytes - end) break
    end = putVarint(bytes, end, start - from)
    end = putVarint(bytes, end, stop - start)
    from = stop
  }
  view.setUint32(end, crc32c(bytes, 0, end))
  return (long ? longPrefix : prefix) + Buffer.from(bytes.buffer, 0, end + crcBytes).toString('base64url')
}

/** Returns where they end. */
function putAttempts(bytes: Uint8Array, at: number, low: number, attempts: readonly number[]): number {
  const pairs: number[] = []
  let room = maxBytes / 2 - at
  let from = low
  for (let i = 0; i + 1 < attempts.length && pairs.length < 2 * triedMax; i += 2) {
    const position = attempts[i] ?? 0
    const tries = Math.min(maxAttempts, attempts[i + 1] ?? 0)
    room -= varintBytes(position - from) + varintBytes(tries)
    if (room < 0) break
    pairs.push(position - from, tries)
    from = position
  }
  let end = putVarint(bytes, at, pairs.length / 2)
  for (const each of pairs) end = putVarint(bytes, end, each)
  return end
}

/** What may be believed of the metadata committed at an offset; null when nothing. Never throws. */
export function decodeCheckpoint(facts: CommittedFacts): BelievedMap | null {
  const { metadata } = facts
  if (metadata === null || metadata.length > maxMetadataChars) return null
  const long = metadata.startsWith(longPrefix)
  if (!long && !metadata.startsWith(prefix)) return null
  const text = metadata.slice(prefix.length)
  const bytes = Buffer.from(text, 'base64url')
  // Node skips what it cannot read; only a string that comes back the same was all base64url.
  if (bytes.length < headBytes + crcBytes || bytes.toString('base64url') !== text) return null
  const end = bytes.length - crcBytes
  if (bytes.readUInt32BE(end) !== crc32c(bytes, 0, end)) return null
  if (bytes.toString('base64url', 0, 16) !== facts.topicId) return null
  if (bytes.readBigInt64BE(16) !== BigInt(facts.offset) || bytes.readInt32BE(24) !== facts.leaderEpoch) return null
  const attempts: number[] = []
  let suspect = facts.offset
  let at = headBytes
  if (long) {
    const distance = takeVarint(bytes, at, end)
    if (distance === null) return null
    suspect += distance.value
    // The end itself: all that there was has been seen.
    if (suspect > facts.logEnd) return null
    const next = takeAttempts(bytes, distance.next, { end, offset: facts.offset, logEnd: facts.logEnd, into: attempts })
    if (next === null) return null
    at = next
  }
  const finished: number[] = []
  let position = facts.offset
  while (at < end) {
    const open = takeVarint(bytes, at, end)
    if (open === null) return null
    const done = takeVarint(bytes, open.next, end)
    if (done === null || open.value === 0 || done.value === 0) return null
    finished.push(position + open.value, position + open.value + done.value)
    position += open.value + done.value
    if (position > facts.logEnd) return null
    at = done.next
  }
  return { finished, strikes: bytes[28] ?? 0, attempts, ...(suspect > facts.offset && { suspect }) }
}

/** Returns where they end; null when they cannot be believed. */
function takeAttempts(
  bytes: Uint8Array,
  at: number,
  { end, offset, logEnd, into }: { end: number; offset: number; logEnd: number; into: number[] },
): number | null {
  const count = takeVarint(bytes, at, end)
  if (count === null || count.value > triedMax) return null
  let { next } = count
  let position = offset
  for (let n = 0; n < count.value; n++) {
    const distance = takeVarint(bytes, next, end)
    const tries = distance && takeVarint(bytes, distance.next, end)
    if (distance === null || tries === null || (n > 0 && distance.value === 0)) return null
    position += distance.value
    if (tries.value < 1 || tries.value > maxAttempts || position >= logEnd) return null
    into.push(position, tries.value)
    next = tries.next
  }
  return next
}

function varintBytes(value: number): number {
  let count = 1
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) count++
  return count
}

function putVarint(bytes: Uint8Array, at: number, value: number): number {
  let next = at
  let rest = value
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes[next++] = (rest % 128) + 128
  bytes[next++] = rest
  return next
}

/** Null when it does not end in time or is no safe number. */
function takeVarint(bytes: Uint8Array, at: number, end: number): { value: number; next: number } | null {
  let value = 0
  let scale = 1
  for (let next = at; next < end && next < at + 8; next++) {
    const byte = bytes[next] ?? 0
    value += (byte & 127) * scale
    if (byte < 128) return Number.isSafeInteger(value) ? { value, next: next + 1 } : null
    scale *= 128
  }
  return null
}
