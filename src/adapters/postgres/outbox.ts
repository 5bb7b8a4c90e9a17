/**
 * Outbox rows: which shard a record belongs to, how its headers are stored, and the insert that writes them last.
 *
 * A row that exists is unpublished; the relay deletes what has been acknowledged. Headers are one value:
 * count, then per header key length, key, value length + 1 (0 = null), value; numbers as unsigned LEB128.
 */
import { OttlaError } from '../../contract/errors.ts'
import type { Header, OutboxRecord } from '../../runtime/ports.ts'
import type { Statement } from './round-trip.ts'

const encoder = new TextEncoder()
const decoder = new TextDecoder()

/** FNV-1a of topic and key; without a key the id spreads the rows, which have no order then. */
export function shardOf(record: Pick<OutboxRecord, 'topic' | 'key' | 'id'>, shards: number): number {
  let hash = 0x811c9dc5
  const mix = (byte: number): void => {
    hash = Math.imul(hash ^ byte, 0x01000193)
  }
  for (const byte of encoder.encode(record.topic)) mix(byte)
  mix(record.key === null ? 0xff : 0xfe)
  for (const byte of record.key ?? encoder.encode(record.id)) mix(byte)
  // FNV's low bits are weak on short input: fold the high half in.
  return ((hash ^ (hash >>> 15)) >>> 0) % shards
}

/** Headers as one value for the row. */
export function encodeHeaders(headers: readonly Header[]): Uint8Array {
  const parts: Uint8Array[] = []
  let size = 0
  const add = (part: Uint8Array): void => {
    parts.push(part)
    size += part.byteLength
  }
  add(leb(headers.length))
  for (const { key, value } of headers) {
    const name = encoder.encode(key)
    add(leb(name.byteLength))
    add(name)
    add(leb(value === null ? 0 : value.byteLength + 1))
    if (value !== null) add(value)
  }
  const bytes = new Uint8Array(size)
  let at = 0
  for (const part of parts) {
    bytes.set(part, at)
    at += part.byteLength
  }
  return bytes
}

function leb(value: number): Uint8Array {
  const bytes: number[] = []
  let rest = value
  while (rest >= 0x80) {
    bytes.push((rest & 0x7f) | 0x80)
    rest >>>= 7
  }
  bytes.push(rest)
  return Uint8Array.from(bytes)
}

/** The headers of a row; values are views of the row's bytes. */
export function decodeHeaders(bytes: Uint8Array): readonly Header[] {
  let at = 0
  const number = (): number => {
    let value = 0
    for (let shift = 0; shift <= 28; shift += 7) {
      const byte = bytes[at++]
      if (byte === undefined) throw damaged('ends early')
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) return value
    }
    throw damaged('has a number without end')
  }
  const take = (length: number): Uint8Array => {
    if (length > bytes.byteLength - at) throw damaged('ends early')
    at += length
    return bytes.subarray(at - length, at)
  }
  const count = number()
  // Each header takes two bytes at least.
  if (count * 2 > bytes.byteLength - at) throw damaged('counts more headers than fit')
  const headers: Header[] = []
  for (let i = 0; i < count; i++) {
    const key = decoder.decode(take(number()))
    const length = number()
    headers.push({ key, value: length === 0 ? null : take(length - 1) })
  }
  if (at !== bytes.byteLength) throw damaged('is longer than its headers')
  return headers
}

const damaged = (what: string): OttlaError =>
  new OttlaError('OTTLA_STORE_SCHEMA', `a header column of ottla.outbox ${what}: the row was written by something else`)

const columns = 'shard, topic, partition, key, value, headers, id, type, source, timestamp_ms'
const columnTypes = ['int2', 'text', 'int4', 'bytea', 'bytea', 'bytea', 'text', 'text', 'text', 'int8']
/** 10 values per row, 65,535 parameters per statement at most. */
const rowsPerStatement = 500
const texts = new Map<number, string>()

function insertText(rows: number): string {
  let text = texts.get(rows)
  if (text === undefined) {
    const tuples: string[] = []
    for (let row = 0; row < rows; row++) {
      tuples.push(`(${columnTypes.map((type, i) => `$${row * columnTypes.length + i + 1}::${type}`).join(', ')})`)
    }
    text = `insert into ottla.outbox (${columns}) values ${tuples.join(', ')}`
    if (rows <= 16) texts.set(rows, text)
  }
  return text
}

/** The inserts for these records, in order: row numbers ascend in the order of the records. */
export function outboxInserts(records: readonly OutboxRecord[], shards: number): readonly Statement[] {
  const statements: Statement[] = []
  for (let from = 0; from < records.length; from += rowsPerStatement) {
    const part = records.slice(from, from + rowsPerStatement)
    const values: (string | Uint8Array | null)[] = []
    for (const record of part) {
      values.push(
        String(shardOf(record, shards)),
        record.topic,
        record.partition === null ? null : String(record.partition),
        record.key,
        record.value,
        encodeHeaders(record.headers),
        record.id,
        record.type,
        record.source,
        record.timestampMs === undefined ? null : String(record.timestampMs),
      )
    }
    statements.push({ text: insertText(part.length), values })
  }
  return statements
}
