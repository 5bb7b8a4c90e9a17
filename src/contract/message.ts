/**
 * Messages to records and records to messages: the two ways through the contract, written for the hot path. A type is
 * matched as bytes against the topic's table, JSON is parsed once, and nobody's payload is parsed for nothing.
 */
import type { Codec } from './codec.ts'
import {
  attributeBytes,
  type Envelope,
  type Header,
  header,
  type RecordView,
  readHeaders,
  readStructured,
  type TypeReader,
} from './envelope.ts'
import { OttlaError } from './errors.ts'
import { type AnyEvent, eventInternals, eventOf, keyText, type Message } from './event.ts'
import { latestOf, parse, type Schema } from './schema.ts'
import { decodeUtf8, encodeUtf8, sameBytesAt } from './text.ts'
import { type AnyTopic, topicInternals, topicOf } from './topic.ts'

// ── out ──

/** What a message gets on its way out. */
export interface EncodeOptions {
  /** `ce_id`. */
  readonly id: string
  /** `ce_source`: the name of the service, or of the app for what is published outside one. */
  readonly source: string
  /** `ce_time` and the record's timestamp, milliseconds since the epoch. */
  readonly timeMs: number
  readonly traceparent?: string
  readonly tracestate?: string
  /** Ours, beside the envelope's. */
  readonly headers?: readonly Header[]
}

/** A message as bytes. */
export interface EncodedMessage {
  readonly topic: string
  /** The transport chooses: murmur2 of the key over the partitions. */
  readonly partition: null
  /** The number of partitions that the contract declares; null leaves it to the broker. */
  readonly partitions: number | null
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: readonly Header[]
  readonly timestampMs: number
  readonly id: string
  /** `ce_type`. */
  readonly type: string
  readonly source: string
}

const specversion = header('ce_specversion', '1.0')
const eventHeaders = new WeakMap<AnyEvent, { readonly type: Header; readonly content: Header }>()
const sourceHeaders = new Map<string, Header>()
let timeHeader = { timeMs: Number.NaN, header: specversion }

function headersOf(event: AnyEvent, codec: Codec): { readonly type: Header; readonly content: Header } {
  let found = eventHeaders.get(event)
  if (found === undefined) {
    const { ceType } = eventInternals(event)
    found = { type: header('ce_type', ceType), content: header('content-type', codec.contentType) }
    eventHeaders.set(event, found)
  }
  return found
}

function sourceHeader(source: string): Header {
  let found = sourceHeaders.get(source)
  if (found === undefined) {
    const value = attributeBytes(source)
    if (value === null) {
      throw new OttlaError('OTTLA_CONTRACT_DEFINITION', 'A source has 1 to 256 bytes and no control characters')
    }
    found = { key: 'ce_source', value }
    if (sourceHeaders.size < 1000) sourceHeaders.set(source, found)
  }
  return found
}

function timeHeaderOf(timeMs: number): Header {
  if (timeHeader.timeMs !== timeMs) {
    timeHeader = { timeMs, header: header('ce_time', new Date(timeMs).toISOString()) }
  }
  return timeHeader.header
}

/**
 * The event that a message is of. One built by calling an event knows it; one written out by hand is looked up in
 * `topics` and checked. Throws OTTLA_CONTRACT_DEFINITION when nobody knows it, OTTLA_CONTRACT_INVALID when it does not fit.
 */
export function resolveEvent(message: Message, topics?: ReadonlyMap<string, AnyTopic>): AnyEvent {
  const built = eventOf(message)
  if (built !== undefined) return built
  const what = `${message?.topic}.${message?.type}`
  const topic = topics?.get(message?.topic)
  const event = topic === undefined ? undefined : topicInternals(topic).byName.get(message.type)
  if (event === undefined) {
    throw new OttlaError(
      'OTTLA_CONTRACT_DEFINITION',
      `The message ${what} was not built by an event of a topic. Call the event: Topic.Event({ … })`,
    )
  }
  parse(latestOf(event.schema), message.data, what)
  const key = keyText(eventInternals(event).keyOf(message.data), what)
  if (key !== message.key) {
    throw new OttlaError('OTTLA_CONTRACT_INVALID', `The key of the message ${what} is not the one its payload gives`, {
      details: {
        event: what,
        issues: [{ field: 'key', expected: 'the key that the contract takes from the payload' }],
      },
    })
  }
  return event
}

/**
 * A message as a record, in binary mode. Throws OTTLA_CONTRACT_DEFINITION for a message of no known event or an id or
 * source that breaks the grammar, OTTLA_CONTRACT_CODEC for a payload that the codec cannot write.
 */
export function encodeMessage(
  message: Message,
  options: EncodeOptions,
  topics?: ReadonlyMap<string, AnyTopic>,
): EncodedMessage {
  const event = resolveEvent(message, topics)
  const topic = topicOf(event)
  const { codec } = topicInternals(topic)
  const { ceType, tombstone } = eventInternals(event)
  const { id, source, timeMs } = options
  const idBytes = attributeBytes(id)
  if (idBytes === null) {
    throw new OttlaError('OTTLA_CONTRACT_DEFINITION', 'An id has 1 to 256 bytes and no control characters')
  }
  const constant = headersOf(event, codec)
  const key = message.key === null ? null : encodeUtf8(message.key)
  const headers: Header[] = [
    specversion,
    { key: 'ce_id', value: idBytes },
    constant.type,
    sourceHeader(source),
    timeHeaderOf(timeMs),
  ]
  if (key !== null) headers.push({ key: 'ce_subject', value: key })
  if (!tombstone) headers.push(constant.content)
  if (options.traceparent !== undefined) headers.push(header('traceparent', options.traceparent))
  if (options.tracestate !== undefined) headers.push(header('tracestate', options.tracestate))
  if (options.headers !== undefined) headers.push(...options.headers)
  return {
    topic: topic.name,
    partition: null,
    partitions: topic.partitions,
    key,
    value: tombstone ? null : codec.encode(message.data),
    headers,
    timestampMs: timeMs,
    id,
    type: ceType,
    source,
  }
}

// ── in ──

/**
 * What a record turned out to be.
 *
 * `event`: the payload is the schema's output. `unknownType`: its `ce_type` is none of the topic's, or it has none and
 * the topic declares no bare event. `noHandler`: the service does not handle it, so its payload was not looked at;
 * `event` is null for a null value on a topic without a tombstone. `unprepared`: the codec needs `schemaId` first.
 * `invalid`: these bytes will never be this event.
 */
export type Decoded =
  | {
      readonly kind: 'event'
      readonly event: AnyEvent
      /** Of the event. */
      readonly name: string
      readonly payload: unknown
      readonly envelope: Envelope
    }
  | { readonly kind: 'unknownType'; readonly type: string | null; readonly envelope: Envelope }
  | { readonly kind: 'noHandler'; readonly event: AnyEvent | null; readonly envelope: Envelope }
  | {
      readonly kind: 'unprepared'
      readonly event: AnyEvent
      readonly schemaId: string
      readonly codec: Codec
      readonly envelope: Envelope
    }
  | {
      readonly kind: 'invalid'
      readonly event: AnyEvent | null
      readonly error: OttlaError
      readonly envelope: Envelope
    }

/** The names of the events that a service handles; its handler map is one. */
export interface HandledNames {
  has(event: string): boolean
}

/** Reads a record of a topic for a service that handles some of its events. Never throws on account of the bytes. */
export function decodeRecord(topic: AnyTopic, record: RecordView, handled: HandledNames): Decoded {
  return new RecordReader(topic, handled).read(record)
}

/** An event of the topic that is read, with what reading it asks for. */
interface KnownEvent {
  readonly event: AnyEvent
  readonly name: string
  /** `<topic>.<Event>`, for errors. */
  readonly what: string
  readonly ceType: string
  readonly bytes: Uint8Array
  readonly schema: Schema<any, any>
  readonly tombstone: boolean
  readonly handled: boolean
}

/**
 * Reads the records of one topic for a service that handles some of its events. What can be looked up once is: an event is
 * a function with properties, and asking one for each record costs more than reading a header.
 */
export class RecordReader {
  readonly #codec: Codec
  readonly #known: readonly KnownEvent[]
  readonly #bare: KnownEvent | null
  readonly #tombstone: KnownEvent | null

  constructor(topic: AnyTopic, handled: HandledNames) {
    const { codec, types, bare, tombstone } = topicInternals(topic)
    this.#codec = codec
    this.#known = types.map(({ event, ceType, bytes }) => ({
      event,
      name: event.name,
      what: `${event.topic}.${event.name}`,
      ceType,
      bytes,
      schema: event.schema,
      tombstone: eventInternals(event).tombstone,
      handled: handled.has(event.name),
    }))
    this.#bare = this.#known.find(({ event }) => event === bare) ?? null
    this.#tombstone = this.#known.find(({ event }) => event === tombstone) ?? null
  }

  /** Never throws on account of the bytes. */
  read(record: RecordView): Decoded {
    const { envelope, contentType, structured } = readHeaders(record, this.#typeOf)
    const { value } = record
    if (value === null) return decodeTombstone(this.#tombstone, envelope)
    if (structured) return this.#readStructured(envelope)
    const known = this.#knownOf(envelope.type)
    if (known === null) return { kind: 'unknownType', type: envelope.type, envelope }
    if (!known.handled) return { kind: 'noHandler', event: known.event, envelope }
    return decodeValue(known, this.#codec, { envelope, contentType, value })
  }

  readonly #typeOf: TypeReader = (bytes, from, to) => {
    const known = this.#known
    for (let i = 0; i < known.length; i++) if (sameBytesAt(known[i]!.bytes, bytes, from, to)) return known[i]!.ceType
    return null
  }

  #knownOf(type: string | null): KnownEvent | null {
    if (type === null) return this.#bare
    const known = this.#known
    for (let i = 0; i < known.length; i++) if (known[i]!.ceType === type) return known[i]!
    return null
  }

  #readStructured(outer: Envelope): Decoded {
    const text = decodeUtf8(outer.record.value ?? new Uint8Array())
    const found = text === null ? null : readStructured(parsedOrNull(text), outer)
    if (found === null) {
      const error = new OttlaError('OTTLA_CONTRACT_CODEC', 'The value is no CloudEvents envelope in JSON')
      return { kind: 'invalid', event: null, error, envelope: outer }
    }
    const { envelope, contentType, data } = found
    const known = this.#knownOf(envelope.type)
    if (known === null) return { kind: 'unknownType', type: envelope.type, envelope }
    if (data === null) return decodeTombstoneOf(known, envelope)
    if (!known.handled) return { kind: 'noHandler', event: known.event, envelope }
    if ('bytes' in data) return decodeValue(known, this.#codec, { envelope, contentType, value: data.bytes })
    return decodePayload(known, data.parsed, envelope)
  }
}

function decodeTombstone(known: KnownEvent | null, envelope: Envelope): Decoded {
  if (known === null || !known.handled) return { kind: 'noHandler', event: known?.event ?? null, envelope }
  const { key } = envelope.record
  const text = key === null ? null : decodeUtf8(key)
  if (text === null) {
    const why = key === null ? 'it has no key' : 'its key is no valid UTF-8'
    const error = new OttlaError('OTTLA_CONTRACT_CODEC', `The null value cannot be ${known.what}: ${why}`)
    return { kind: 'invalid', event: known.event, error, envelope }
  }
  return decodePayload(known, text, envelope)
}

interface EncodedValue {
  readonly envelope: Envelope
  readonly contentType: string | null
  readonly value: Uint8Array
}

function decodeValue(known: KnownEvent, codec: Codec, { envelope, contentType, value }: EncodedValue): Decoded {
  const { event } = known
  if (known.tombstone) {
    const error = new OttlaError('OTTLA_CONTRACT_CODEC', `${known.what} is a tombstone, but it has a value`)
    return { kind: 'invalid', event, error, envelope }
  }
  if (contentType !== null && !codec.accepts(contentType)) {
    const error = new OttlaError(
      'OTTLA_CONTRACT_CODEC',
      `The value is ${contentType}; ${codec.contentType} is expected`,
    )
    return { kind: 'invalid', event, error, envelope }
  }
  let data: unknown
  try {
    const schemaId = codec.missing(value)
    if (schemaId !== null) return { kind: 'unprepared', event, schemaId, codec, envelope }
    data = codec.decode(value)
  } catch (error) {
    return { kind: 'invalid', event, error: asCodecError(error), envelope }
  }
  return decodePayload(known, data, envelope)
}

/** An envelope without data: the tombstone when its type is that, else a payload that is missing. */
function decodeTombstoneOf(known: KnownEvent, envelope: Envelope): Decoded {
  if (known.tombstone) return decodeTombstone(known, envelope)
  if (!known.handled) return { kind: 'noHandler', event: known.event, envelope }
  const error = new OttlaError('OTTLA_CONTRACT_CODEC', `The envelope of ${known.what} holds no data`)
  return { kind: 'invalid', event: known.event, error, envelope }
}

function parsedOrNull(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // The parser's message would quote the payload; the caller says what is wrong.
    return null
  }
}

function decodePayload({ event, name, what, schema }: KnownEvent, data: unknown, envelope: Envelope): Decoded {
  try {
    return { kind: 'event', event, name, payload: parse(schema, data, what), envelope }
  } catch (error) {
    return { kind: 'invalid', event, error: error as OttlaError, envelope }
  }
}

function asCodecError(error: unknown): OttlaError {
  if (error instanceof OttlaError) return error
  return new OttlaError('OTTLA_CONTRACT_CODEC', 'The codec failed on these bytes', { cause: error })
}
