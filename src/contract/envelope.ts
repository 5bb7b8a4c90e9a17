/**
 * The envelope of an event: CloudEvents 1.0 in binary mode over record headers, structured mode read too.
 *
 * The grammar is strict. A repeated header's last value counts; a bad value counts as absent, and `badHeaders` counts
 * it. What is written by others is never trusted to be short, ASCII or sane.
 */
import { recordUrn } from './id.ts'
import { asciiText, decodeUtf8, encodeUtf8, sameBytesAt, showUtf8 } from './text.ts'

/** One header. Keys repeat; the last one wins where ottla reads. */
export interface Header {
  readonly key: string
  readonly value: Uint8Array | null
}

/** A record as it came from a log, in pieces. */
export interface RecordView {
  /** Changes when a topic is deleted and made again. */
  readonly topicId: string
  readonly partition: number
  readonly position: number
  readonly timestampMs: number
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: readonly Header[]
  /** Shows the same headers in place, without an object for each. False: this log cannot. */
  eachHeader?(visit: HeaderVisitor): boolean
}

/**
 * Told of a header by where its name and its value lie in `bytes`, which is the same for all headers of a record.
 * `valueFrom` is -1 when the value is null.
 */
export type HeaderVisitor = (
  bytes: Uint8Array,
  nameFrom: number,
  nameTo: number,
  valueFrom: number,
  valueTo: number,
) => void

/** Longest `ce_id`, `ce_type`, `ce_source` and `ottla-*` value, in bytes. */
export const maxAttributeBytes = 256
/** Most `ottla-*` headers that are read or written on one record. */
export const maxOwnHeaders = 16
const maxStateBytes = 512

/** Text that is known to be good and has not been asked for yet. */
class TextInPlace {
  readonly #bytes: Uint8Array
  readonly #from: number
  readonly #to: number

  /** The bytes must be ASCII. */
  constructor(bytes: Uint8Array, from: number, to: number) {
    this.#bytes = bytes
    this.#from = from
    this.#to = to
  }

  read(): string {
    return asciiText(this.#bytes, this.#from, this.#to)
  }
}

/** Attributes of an event as they were found: absent ones are null. */
export interface Attributes {
  readonly id: string | TextInPlace | null
  readonly source: string | TextInPlace | null
  readonly type: string | null
  readonly timeMs: number | null
  readonly traceparent: string | TextInPlace | null
  readonly tracestate: string | null
}

/** The content type of structured mode. */
const structured = 'application/cloudevents'

/**
 * What is known of a record before its payload is looked at. Everything that most handlers never ask for is read when
 * it is asked for.
 */
export class Envelope {
  readonly record: RecordView
  /** `ce_type`, null on a record without an envelope. */
  readonly type: string | null
  /** `ce_time`, else the record's timestamp; milliseconds since the epoch. Orders nothing. */
  readonly timeMs: number
  readonly tracestate: string | null
  /** Did both `ce_id` and `ce_source` stand in the record? Copies of one where they did not need them added. */
  readonly identified: boolean
  /** Header values that counted as absent. */
  readonly badHeaders: number

  #id: string | TextInPlace | null
  #source: string | TextInPlace | null
  #traceparent: string | TextInPlace | null

  constructor(record: RecordView, attributes: Attributes, badHeaders: number) {
    this.record = record
    this.identified = attributes.id !== null && attributes.source !== null
    this.#id = attributes.id
    this.#source = attributes.source
    this.type = attributes.type
    this.timeMs = attributes.timeMs ?? record.timestampMs
    this.#traceparent = attributes.traceparent
    this.tracestate = attributes.tracestate
    this.badHeaders = badHeaders
  }

  /** `ce_id`, or `urn:kafka:<topic id>:<partition>:<offset>` of a record without one. */
  get id(): string {
    const id = this.#id
    if (typeof id === 'string') return id
    const { topicId, partition, position } = this.record
    const text = id === null ? recordUrn(topicId, partition, position) : id.read()
    this.#id = text
    return text
  }

  /** Reads the id now, for whoever may ask for it when the bytes of the record are gone. */
  readId(): void {
    this.#id = this.id
  }

  /** `ce_source`, or `urn:kafka:<topic id>` of a record without one. */
  get source(): string {
    const source = this.#source
    if (typeof source === 'string') return source
    const text = source === null ? `urn:kafka:${this.record.topicId}` : source.read()
    this.#source = text
    return text
  }

  get traceparent(): string | null {
    const traceparent = this.#traceparent
    if (traceparent === null || typeof traceparent === 'string') return traceparent
    const text = traceparent.read()
    this.#traceparent = text
    return text
  }

  /** The key as text, for showing: bytes that are no UTF-8 become U+FFFD. */
  get keyText(): string | null {
    const { key } = this.record
    return key === null ? null : showUtf8(key)
  }

  /** All headers as text, the last of repeated ones; null values left out. */
  get headers(): Readonly<Record<string, string>> {
    const texts: Record<string, string> = Object.create(null)
    for (const { key, value } of this.record.headers) {
      if (value === null) delete texts[key]
      else texts[key] = showUtf8(value)
    }
    return texts
  }
}

/** Headers that give a copy of this record the identity of the original: none when it carries its own. */
export function identityHeaders(envelope: Envelope): readonly Header[] {
  if (envelope.identified) return []
  return [header('ce_id', envelope.id), header('ce_source', envelope.source)]
}

/** What a record's headers say: its envelope, and how its value is to be read. */
export interface ReadHeaders {
  readonly envelope: Envelope
  /** Lower case, without parameters; null when absent. */
  readonly contentType: string | null
  /** Is the value an envelope in JSON around the payload? Then `readStructured` goes on. */
  readonly structured: boolean
}

/** Turns bytes of `ce_type`, from and to, into its text; a topic's table does it without decoding. */
export type TypeReader = (bytes: Uint8Array, from: number, to: number) => string | null

const versionBytes = encodeUtf8('1.0')
const jsonBytes = encodeUtf8('application/json')

/** The headers that are read, and the place of each in what was found. */
const readNames = [
  'ce_specversion',
  'ce_id',
  'ce_source',
  'ce_type',
  'ce_time',
  'content-type',
  'traceparent',
  'tracestate',
] as const
const [specversionAt, idAt, sourceAt, typeAt, timeAt, contentAt, traceparentAt, tracestateAt] = [0, 1, 2, 3, 4, 5, 6, 7]
const nameBytes = readNames.map(encodeUtf8)

/** Where the value of each was found in the record being read; `foundFrom` -1: absent, or null. Used again for each record. */
let foundIn = versionBytes
/** Of records whose headers are objects: each value has bytes of its own. */
const foundBytes: (Uint8Array | null)[] = readNames.map(() => null)
const foundFrom = new Int32Array(readNames.length)
const foundTo = new Int32Array(readNames.length)

/** Which of them a name is, by its bytes; -1: none. Their lengths tell them apart, nearly. */
function placeOf(bytes: Uint8Array, from: number, to: number): number {
  let at: number
  switch (to - from) {
    case 5:
      at = idAt!
      break
    case 7:
      at = bytes[from + 4] === 0x79 ? typeAt! : timeAt!
      break
    case 9:
      at = sourceAt!
      break
    case 10:
      at = tracestateAt!
      break
    case 11:
      at = traceparentAt!
      break
    case 12:
      at = contentAt!
      break
    case 14:
      at = specversionAt!
      break
    default:
      return -1
  }
  return sameBytesAt(nameBytes[at]!, bytes, from, to) ? at : -1
}

function note(bytes: Uint8Array, nameFrom: number, nameTo: number, valueFrom: number, valueTo: number): void {
  const at = placeOf(bytes, nameFrom, nameTo)
  if (at < 0) return
  foundIn = bytes
  foundFrom[at] = valueFrom
  foundTo[at] = valueTo
}

/** Where the values are. True: all in `foundIn`; false: in `foundBytes`. */
function findHeaders(record: RecordView): boolean {
  for (let at = 0; at < foundFrom.length; at++) foundFrom[at] = -1
  if (record.eachHeader?.(note) === true) return true
  const { headers } = record
  for (let i = 0; i < headers.length; i++) {
    const { key, value } = headers[i]!
    const at = (readNames as readonly string[]).indexOf(key)
    if (at < 0) continue
    foundBytes[at] = value
    foundFrom[at] = value === null ? -1 : 0
    foundTo[at] = value === null ? -1 : value.length
  }
  return false
}

/** Values of the record being read that counted as absent. */
let badValues = 0

/** The value found at a place, read by a reader of its grammar; null when absent or refused. */
function found<T>(at: number, reader: (bytes: Uint8Array, from: number, to: number) => T | null): T | null {
  const from = foundFrom[at]!
  if (from < 0) return null
  const value = reader(foundBytes[at] ?? foundIn, from, foundTo[at]!)
  if (value === null) badValues++
  return value
}

/** A type only means something in an envelope of a version that we know. */
function foundType(knownType: TypeReader): string | null {
  if (found(specversionAt!, isKnownVersion) !== true) return null
  const from = foundFrom[typeAt!]!
  if (from < 0) return null
  return knownType(foundBytes[typeAt!] ?? foundIn, from, foundTo[typeAt!]!) ?? found(typeAt!, attributeText)
}

/** Reads the headers of a record. Never throws on account of what stands in them. */
export function readHeaders(record: RecordView, knownType: TypeReader): ReadHeaders {
  const together = findHeaders(record)
  badValues = 0
  const attributes: Attributes = {
    id: found(idAt!, attributeInPlace),
    source: found(sourceAt!, attributeInPlace),
    type: foundType(knownType),
    timeMs: found(timeAt!, rfc3339Ms),
    traceparent: found(traceparentAt!, traceparentInPlace),
    tracestate: found(tracestateAt!, tracestateText),
  }
  const contentType = found(contentAt!, contentTypeText)
  // What was found must not keep the record's bytes in memory.
  foundIn = versionBytes
  if (!together) foundBytes.fill(null)
  return {
    envelope: new Envelope(record, attributes, badValues),
    contentType,
    structured: contentType?.startsWith(structured) ?? false,
  }
}

function isKnownVersion(bytes: Uint8Array, from: number, to: number): true | null {
  return sameBytesAt(versionBytes, bytes, from, to) ? true : null
}

/** An envelope that was the value of its record, and what it holds. */
export interface Structured {
  readonly envelope: Envelope
  readonly contentType: string | null
  /** The payload: JSON that is already parsed, or bytes. */
  readonly data: { readonly parsed: unknown } | { readonly bytes: Uint8Array } | null
}

/** Reads an envelope of structured mode from parsed JSON; null when it is none. Headers are what is left of it. */
export function readStructured(value: unknown, outer: Envelope): Structured | null {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return null
  const event = value as Readonly<Record<string, unknown>>
  let bad = outer.badHeaders
  const read = <T>(name: string, reader: (bytes: Uint8Array, from: number, to: number) => T | null): T | null => {
    const member = Object.hasOwn(event, name) ? event[name] : undefined
    if (member === undefined || member === null) return null
    const bytes = typeof member === 'string' ? encodeUtf8(member) : null
    const result = bytes === null ? null : reader(bytes, 0, bytes.length)
    if (result === null) bad++
    return result
  }
  if (event['specversion'] !== '1.0') return null
  const attributes: Attributes = {
    id: read('id', attributeText),
    source: read('source', attributeText),
    type: read('type', attributeText),
    timeMs: read('time', rfc3339Ms),
    traceparent: read('traceparent', traceparentText) ?? outer.traceparent,
    tracestate: read('tracestate', tracestateText) ?? outer.tracestate,
  }
  const contentType = read('datacontenttype', contentTypeText)
  let data: Structured['data'] = null
  if (Object.hasOwn(event, 'data_base64')) {
    const bytes = typeof event['data_base64'] === 'string' ? fromBase64(event['data_base64']) : null
    if (bytes === null) return null
    data = { bytes }
  } else if (Object.hasOwn(event, 'data')) {
    data = { parsed: event['data'] }
  }
  return { envelope: new Envelope(outer.record, attributes, bad), contentType, data }
}

// ── grammar: each reader looks at bytes from and to, and answers null for what it refuses ──

/** 1 to 256 bytes of UTF-8 without control characters. */
function attributeText(bytes: Uint8Array, from: number, to: number): string | null {
  const text = attributeInPlace(bytes, from, to)
  return text instanceof TextInPlace ? text.read() : text
}

/** The same, not read yet when it is ASCII. */
function attributeInPlace(bytes: Uint8Array, from: number, to: number): string | TextInPlace | null {
  if (to === from || to - from > maxAttributeBytes) return null
  let all = 0
  for (let i = from; i < to; i++) {
    const byte = bytes[i]!
    if (byte < 0x20 || byte === 0x7f) return null
    all |= byte
  }
  return all < 0x80 ? new TextInPlace(bytes, from, to) : decodeUtf8(bytes.subarray(from, to))
}

function contentTypeText(bytes: Uint8Array, from: number, to: number): string | null {
  if (sameBytesAt(jsonBytes, bytes, from, to)) return 'application/json'
  const text = attributeText(bytes, from, to)
  if (text === null) return null
  const essence = (text.split(';', 1)[0] as string).trim().toLowerCase()
  return /^[a-z0-9!#$&^_.+-]+\/[a-z0-9!#$&^_.+-]+$/.test(essence) ? essence : null
}

const traceparentForm = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?$/
const zeros = /^0+$/

function traceparentInPlace(bytes: Uint8Array, from: number, to: number): string | TextInPlace | null {
  return isPlainTraceparent(bytes, from, to) ? new TextInPlace(bytes, from, to) : traceparentText(bytes, from, to)
}

/** Version 00, and good: what nearly everybody writes, without a text in between. */
function isPlainTraceparent(bytes: Uint8Array, from: number, to: number): boolean {
  if (to - from !== 55 || bytes[from] !== 0x30 || bytes[from + 1] !== 0x30) return false
  if (bytes[from + 2] !== 0x2d || bytes[from + 35] !== 0x2d || bytes[from + 52] !== 0x2d) return false
  return (
    hexKind(bytes, from + 3, from + 35) === 'some' &&
    hexKind(bytes, from + 36, from + 52) === 'some' &&
    hexKind(bytes, from + 53, to) !== 'none'
  )
}

/** Per byte: 0 no lower-case digit of base 16, 1 the digit 0, 3 another. */
const hexKinds = Uint8Array.from({ length: 256 }, (_, byte) =>
  byte === 0x30 ? 1 : (byte > 0x30 && byte <= 0x39) || (byte >= 0x61 && byte <= 0x66) ? 3 : 0,
)

/** `none`: not only lower-case digits of base 16. */
function hexKind(bytes: Uint8Array, from: number, to: number): 'none' | 'zero' | 'some' {
  let all = 3
  let any = 0
  for (let i = from; i < to; i++) {
    const kind = hexKinds[bytes[i]!]!
    all &= kind
    any |= kind
  }
  if ((all & 1) === 0) return 'none'
  return (any & 2) === 0 ? 'zero' : 'some'
}

function traceparentText(bytes: Uint8Array, from: number, to: number): string | null {
  const text = attributeText(bytes, from, to)
  const match = text === null ? null : traceparentForm.exec(text)
  if (text === null || match === null) return null
  const [, version, trace, parent, rest] = match as unknown as [string, string, string, string, string | undefined]
  if (version === 'ff' || zeros.test(trace) || zeros.test(parent)) return null
  // Version 00 ends after the flags; later ones may go on.
  return version === '00' && rest !== undefined ? null : text
}

function tracestateText(bytes: Uint8Array, from: number, to: number): string | null {
  if (to === from || to - from > maxStateBytes) return null
  for (let i = from; i < to; i++) if (bytes[i]! < 0x20 || bytes[i]! > 0x7e) return null
  return decodeUtf8(bytes.subarray(from, to))
}

const rfc3339 = /^(\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d{2}):(\d{2}))$/

/** Milliseconds since the epoch of an RFC 3339 time. */
function rfc3339Ms(bytes: Uint8Array, from: number, to: number): number | null {
  if (to - from < 20 || to - from > 35) return null
  return canonicalMs(bytes, from, to) ?? anyRfc3339Ms(bytes.subarray(from, to))
}

/** The one form that ottla and `toISOString` write, `2026-01-02T03:04:05.678Z`, without a text in between. */
function canonicalMs(bytes: Uint8Array, at: number, to: number): number | null {
  if (to - at !== 24 || bytes[at + 4] !== 0x2d || bytes[at + 7] !== 0x2d || bytes[at + 10] !== 0x54) return null
  if (bytes[at + 13] !== 0x3a || bytes[at + 16] !== 0x3a || bytes[at + 19] !== 0x2e || bytes[at + 23] !== 0x5a)
    return null
  const year = digits(bytes, at, at + 4)
  const month = digits(bytes, at + 5, at + 7)
  const day = digits(bytes, at + 8, at + 10)
  const hour = digits(bytes, at + 11, at + 13)
  const minute = digits(bytes, at + 14, at + 16)
  const second = digits(bytes, at + 17, at + 19)
  const ms = digits(bytes, at + 20, at + 23)
  if (!(hour >= 0 && hour <= 23 && minute >= 0 && minute <= 59 && second >= 0 && second <= 59 && ms >= 0)) return null
  const date = (year * 100 + month) * 100 + day
  if (date !== lastDate) {
    // Date.UTC would take years below 100 for the last century's.
    if (year < 100 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month)) return null
    lastDateMs = Date.UTC(year, month - 1, day)
    lastDate = date
  }
  return lastDateMs + ((hour * 60 + minute) * 60 + second) * 1_000 + ms
}

/** The day that was read last, which is nearly always the day of the next record too, and when it began. */
let lastDate = Number.NaN
let lastDateMs = 0

/** The number that these digits are, or -1. */
function digits(bytes: Uint8Array, from: number, to: number): number {
  let value = 0
  for (let i = from; i < to; i++) {
    const digit = bytes[i]! - 0x30
    if (digit < 0 || digit > 9) return -1
    value = value * 10 + digit
  }
  return value
}

function anyRfc3339Ms(bytes: Uint8Array): number | null {
  const match = rfc3339.exec(decodeUtf8(bytes) ?? '')
  if (match === null) return null
  const [, year, month, day, hour, minute, second, fraction = '', sign, offsetHour = '0', offsetMinute = '0'] = match
  const [y, mo, d, h, mi, s] = [year, month, day, hour, minute, second].map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ]
  if (mo < 1 || mo > 12 || d < 1 || d > daysIn(y, mo) || h > 23 || mi > 59 || s > 60) return null
  if (Number(offsetHour) > 23 || Number(offsetMinute) > 59) return null
  const ms = fraction === '' ? 0 : Number(fraction.padEnd(3, '0').slice(0, 3))
  const offsetMs = (Number(offsetHour) * 60 + Number(offsetMinute)) * 60_000 * (sign === '-' ? -1 : 1)
  const date = new Date(0)
  date.setUTCFullYear(y, mo - 1, d)
  date.setUTCHours(h, mi, s, ms)
  return date.getTime() - offsetMs
}

function daysIn(year: number, month: number): number {
  if (month === 2) return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28
  return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31
}

function fromBase64(text: string): Uint8Array | null {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0))
  } catch {
    // Its only reason to throw: the text is no base64.
    return null
  }
}

// ── writing ──

/** A header with a text. */
export function header(key: string, text: string): Header {
  return { key, value: encodeUtf8(text) }
}

/** Bytes of a `ce_id` or `ce_source`; null for a text that cannot be one: 1 to 256 bytes, no control characters. */
export function attributeBytes(text: string): Uint8Array | null {
  if (!text.isWellFormed()) return null
  const bytes = encodeUtf8(text)
  if (bytes.length === 0 || bytes.length > maxAttributeBytes) return null
  for (let i = 0; i < bytes.length; i++) if (bytes[i]! < 0x20 || bytes[i] === 0x7f) return null
  return bytes
}

// ── our own headers ──

/** The words that stand behind `ottla-`. */
export type OwnHeader =
  | 'origin'
  | 'attempts'
  | 'failed-at'
  | 'error'
  | 'redrives'
  | 'edited'
  | 'sig'
  | 'timestamp'
  | 'transient'

const ownWord = /^ottla-[a-z]+(?:-[a-z]+)*$/

/** A header of ours; a text beyond 256 bytes is cut at a character. */
export function ownHeader(word: OwnHeader, text: string): Header {
  let value = encodeUtf8(text.toWellFormed())
  if (value.length > maxAttributeBytes) {
    let end = maxAttributeBytes
    while ((value[end]! & 0xc0) === 0x80) end--
    value = value.subarray(0, end)
  }
  return { key: `ottla-${word}`, value }
}

/** Reads our own headers: at most 16, each of at most 256 bytes; others count as bad. */
export function readOwnHeaders(headers: readonly Header[]): {
  readonly values: ReadonlyMap<string, string>
  readonly bad: number
} {
  const values = new Map<string, string>()
  let bad = 0
  for (const { key, value } of headers) {
    if (!key.startsWith('ottla-')) continue
    const text = value === null || !ownWord.test(key) ? null : attributeText(value, 0, value.length)
    const word = key.slice('ottla-'.length)
    // The last one counts, so a bad one also removes what stood before it.
    values.delete(word)
    if (text === null || values.size === maxOwnHeaders) bad++
    else values.set(word, text)
  }
  return { values, bad }
}

/** Where a record was first stored: `<topic>/<topic id>/<partition>/<offset>`. */
export interface Origin {
  readonly topic: string
  readonly topicId: string
  readonly partition: number
  readonly position: number
}

/** The text of `ottla-origin`. */
export function originText(origin: Origin): string {
  return `${origin.topic}/${origin.topicId}/${origin.partition}/${origin.position}`
}

const originForm = /^([A-Za-z0-9._-]{1,249})\/([A-Za-z0-9_-]{1,64})\/(\d{1,10})\/(\d{1,16})$/

/** Reads `ottla-origin`; null when it is none. */
export function readOrigin(text: string): Origin | null {
  const match = originForm.exec(text)
  if (match === null) return null
  const [, topic, topicId, partition, position] = match as unknown as [string, string, string, string, string]
  const origin = { topic, topicId, partition: Number(partition), position: Number(position) }
  return Number.isSafeInteger(origin.position) && origin.partition <= 0x7fffffff ? origin : null
}
