/**
 * Reading dead letters, whoever wrote them: ottla, Kafka's share groups, Spring, Kafka Connect.
 *
 * What others wrote is never trusted: each header is judged alone, a bad one counts as absent and is counted, and a
 * letter whose origin cannot be read is still a letter. Spring writes its numbers as big-endian integers, the others as
 * text; the length alone does not tell them apart, the name of the header does.
 */
import { type Header, type Origin, readOrigin, readOwnHeaders } from './envelope.ts'
import { decodeUtf8, showUtf8 } from './text.ts'

export type LetterFamily = 'ottla' | 'kafka' | 'spring' | 'connect'

/** What the headers of a dead letter say. */
export interface LetterFacts {
  /** Whose headers were found; null: none that are known. */
  readonly family: LetterFamily | null
  /** Where the record came from; null when no family says it completely. */
  readonly origin: (Omit<Origin, 'topicId'> & { readonly topicId: string | null }) | null
  /** The consumer group or connector that gave it up. */
  readonly group: string | null
  /** The kind of error, fit for grouping: a code or a class name. */
  readonly cause: string | null
  readonly message: string | null
  readonly attempts: number | null
  readonly failedAtMs: number | null
  /** How often it was redriven and came back. */
  readonly redrives: number
  /** Header values that counted as absent. */
  readonly bad: number
}

const maxTopic = 249
const maxName = 512
const maxMessage = 16_384
const topicForm = /^[A-Za-z0-9._-]{1,249}$/
const countForm = /^\d{1,16}$/
/** An exception's class, a code: one word. */
const causeForm = /^[\w.$:<>-]{1,256}$/

/** Reads the headers of a dead letter. Never throws. */
export function readDeadLetter(headers: readonly Header[]): LetterFacts {
  const last = new Map<string, Uint8Array>()
  for (const { key, value } of headers) {
    if (value === null) last.delete(key)
    else last.set(key, value)
  }
  let bad = 0
  const read = <T>(name: string, reader: (bytes: Uint8Array) => T | null): T | null => {
    const bytes = last.get(name)
    if (bytes === undefined) return null
    const value = reader(bytes)
    if (value === null) bad++
    return value
  }
  const own = readOwnHeaders(headers)
  bad += own.bad
  const ours = <T>(word: string, reader: (text: string) => T | null): T | null => {
    const text = own.values.get(word)
    if (text === undefined) return null
    const value = reader(text)
    if (value === null) bad++
    return value
  }
  const redrives = ours('redrives', countOf) ?? 0
  const first = {
    origin: ours('origin', readOrigin),
    attempts: ours('attempts', countOf),
    cause: ours('error', causeOf),
    failedAtMs: ours('failed-at', timeOf),
  }
  const kafka = {
    origin: originOf(
      read('__dlq.errors.topic', topicOf),
      read('__dlq.errors.partition', textCount),
      read('__dlq.errors.offset', textCount),
    ),
    group: read('__dlq.errors.group', nameOf),
    attempts: read('__dlq.errors.delivery.count', textCount),
    message: read('__dlq.errors.message', messageOf),
  }
  const spring = {
    origin: originOf(
      read('kafka_dlt-original-topic', topicOf),
      read('kafka_dlt-original-partition', (bytes) => bigEndian(bytes, 4)),
      read('kafka_dlt-original-offset', (bytes) => bigEndian(bytes, 8)),
    ),
    group: read('kafka_dlt-original-consumer-group', nameOf),
    cause: read('kafka_dlt-exception-cause-fqcn', causeOfBytes) ?? read('kafka_dlt-exception-fqcn', causeOfBytes),
    message: read('kafka_dlt-exception-message', messageOf),
    attempts: read('retry_topic-attempts', (bytes) => bigEndian(bytes, 4)),
    failedAtMs: null,
  }
  const connect = {
    origin: originOf(
      read('__connect.errors.topic', topicOf),
      read('__connect.errors.partition', textCount),
      read('__connect.errors.offset', textCount),
    ),
    group: read('__connect.errors.connector.name', nameOf),
    cause: read('__connect.errors.exception.class.name', causeOfBytes),
    message: read('__connect.errors.exception.message', messageOf),
  }
  const family = own.values.has('origin')
    ? 'ottla'
    : last.has('__dlq.errors.topic')
      ? 'kafka'
      : last.has('kafka_dlt-original-topic')
        ? 'spring'
        : last.has('__connect.errors.topic')
          ? 'connect'
          : null
  return {
    family,
    origin: first.origin ?? kafka.origin ?? spring.origin ?? connect.origin,
    group: kafka.group ?? spring.group ?? connect.group,
    cause: first.cause ?? spring.cause ?? connect.cause,
    message: kafka.message ?? spring.message ?? connect.message,
    attempts: first.attempts ?? kafka.attempts ?? spring.attempts,
    failedAtMs: first.failedAtMs,
    redrives,
    bad,
  }
}

/** Is this header one that a dead letter adds, of any family? A redrive delivers the record without them. */
export function isLetterHeader(key: string): boolean {
  return (
    key.startsWith('__dlq.errors.') ||
    key.startsWith('__connect.errors.') ||
    key.startsWith('kafka_dlt-') ||
    key.startsWith('retry_topic-') ||
    isOwnWord(key)
  )
}

/** Is this header one that ottla writes on a dead letter or on a record that waits for its retry? */
export function isOwnWord(key: string): boolean {
  return ourWords.has(key)
}

const ourWords: ReadonlySet<string> = new Set([
  'ottla-origin',
  'ottla-attempts',
  'ottla-failed-at',
  'ottla-error',
  'ottla-redrives',
  'ottla-timestamp',
  'ottla-transient',
])

function originOf(topic: string | null, partition: number | null, position: number | null): LetterFacts['origin'] {
  if (topic === null || partition === null || position === null || partition > 0x7fffffff) return null
  return { topic, topicId: null, partition, position }
}

function topicOf(bytes: Uint8Array): string | null {
  const text = bytes.length > maxTopic ? null : decodeUtf8(bytes)
  return text !== null && topicForm.test(text) ? text : null
}

function nameOf(bytes: Uint8Array): string | null {
  return bytes.length === 0 || bytes.length > maxName ? null : decodeUtf8(bytes)
}

function messageOf(bytes: Uint8Array): string | null {
  return showUtf8(bytes.length > maxMessage ? bytes.subarray(0, maxMessage) : bytes)
}

function causeOf(text: string): string | null {
  return causeForm.test(text) ? text : null
}

function causeOfBytes(bytes: Uint8Array): string | null {
  const text = bytes.length > maxName ? null : decodeUtf8(bytes)
  return text === null ? null : causeOf(text)
}

function countOf(text: string): number | null {
  const count = countForm.test(text) ? Number(text) : Number.NaN
  return Number.isSafeInteger(count) ? count : null
}

function textCount(bytes: Uint8Array): number | null {
  const text = bytes.length > 16 ? null : decodeUtf8(bytes)
  return text === null ? null : countOf(text)
}

function timeOf(text: string): number | null {
  const ms = text.length > 40 ? Number.NaN : Date.parse(text)
  return Number.isNaN(ms) ? null : ms
}

function bigEndian(bytes: Uint8Array, length: 4 | 8): number | null {
  if (bytes.length !== length) return null
  const view = new DataView(bytes.buffer, bytes.byteOffset, length)
  const value = length === 4 ? view.getInt32(0) : Number(view.getBigInt64(0))
  return Number.isSafeInteger(value) && value >= 0 ? value : null
}
