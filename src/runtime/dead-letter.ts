/**
 * Dead letters: the original record, bytes untouched, with headers that say where it comes from and why it was given up.
 *
 * Names: Kafka's own `__dlq.errors.*` for tools that know those, `ottla-*` for ours. The headers of the original stay,
 * except those an earlier dead letter of the same record left. When headers do not fit under the topic's record limit,
 * the stack goes first, then the message, then the rest of the extras; origin and error code always stay.
 */
import { isOwnWord } from '../contract/dead-letter.ts'
import { type Envelope, header, identityHeaders, originText, ownHeader } from '../contract/envelope.ts'
import { OttlaError } from '../contract/errors.ts'
import { encodeUtf8 } from '../contract/text.ts'
import type { DeadLetterCause } from '../core/outcome.ts'
import type { Header, Held, OutgoingRecord } from './ports.ts'

/** What a dead letter is made of. */
export interface DeadLetterFacts {
  readonly topic: string
  readonly service: string
  readonly held: Held
  readonly envelope: Envelope
  readonly cause: DeadLetterCause
  readonly error: unknown
  readonly attempts: number
  readonly failedAtMs: number
  /** The topic's own limit for one record. */
  readonly maxRecordBytes: number
  /** How often it was redriven and came back; left out: never. */
  readonly redrives?: number
}

/** Room that the source's record limit does not have: the dead-letter topic's limit is the source's plus this. */
export const deadLetterRoomBytes = 65_536

const maxMessageBytes = 4_096
const maxStackBytes = 16_384
/** Record and batch framing around keys, values and headers. */
const framingBytes = 256

/** The dead letter of a record. */
export function deadLetter(facts: DeadLetterFacts): OutgoingRecord {
  const { envelope, held, error } = facts
  const { record } = envelope
  const kept = record.headers.filter(({ key }) => !isOwnWord(key) && !key.startsWith('__dlq.errors.'))
  const origin = { topic: held.topic, topicId: held.topicId, partition: held.partition, position: record.position }
  const must: Header[] = [
    ...kept,
    ...identityHeaders(envelope),
    ownHeader('origin', originText(origin)),
    ownHeader('attempts', String(facts.attempts)),
    ownHeader('failed-at', new Date(facts.failedAtMs).toISOString()),
    ownHeader('error', errorCode(facts.cause, error)),
  ]
  if (facts.redrives !== undefined) must.push(ownHeader('redrives', String(facts.redrives)))
  const extras: Header[] = [
    header('__dlq.errors.topic', held.topic),
    header('__dlq.errors.partition', String(held.partition)),
    header('__dlq.errors.offset', String(record.position)),
    header('__dlq.errors.group', facts.service),
    header('__dlq.errors.delivery.count', String(facts.attempts)),
    { key: '__dlq.errors.message', value: cut(messageOf(error), maxMessageBytes) },
  ]
  const stack = error instanceof Error && error.stack !== undefined ? error.stack : null
  if (stack !== null) extras.push({ key: '__dlq.errors.stack', value: cut(stack, maxStackBytes) })

  let room = facts.maxRecordBytes - framingBytes - (record.key?.length ?? 0) - (record.value?.length ?? 0)
  for (const each of must) room -= sizeOf(each)
  while (extras.length > 0 && extras.reduce((sum, each) => sum + sizeOf(each), 0) > room) extras.pop()
  return {
    topic: facts.topic,
    partition: null,
    key: record.key,
    value: record.value,
    headers: [...must, ...extras],
    timestampMs: record.timestampMs,
  }
}

/** The word for a cause, as counted and shown: bounded, so fit for a label. */
export function errorCode(cause: DeadLetterCause, error: unknown): string {
  switch (cause) {
    case 'processDied':
      return 'ProcessDied'
    case 'held':
      return 'Held'
    case 'permanent':
    case 'attemptsExhausted':
    case 'undecodable':
      if (error instanceof OttlaError) return error.code
      return error instanceof Error && /^[A-Za-z0-9_.$-]{1,64}$/.test(error.name) ? error.name : 'Error'
    default:
      return cause satisfies never
  }
}

function messageOf(error: unknown): string {
  if (error instanceof Error) return error.message
  return typeof error === 'string' ? error : `not an Error: ${typeof error}`
}

function cut(text: string, maxBytes: number): Uint8Array {
  const bytes = encodeUtf8(text.toWellFormed())
  if (bytes.length <= maxBytes) return bytes
  let end = maxBytes
  while ((bytes[end]! & 0xc0) === 0x80) end--
  return bytes.subarray(0, end)
}

function sizeOf({ key, value }: Header): number {
  return key.length + (value?.length ?? 0) + 10
}
