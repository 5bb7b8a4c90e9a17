/**
 * The headers of a record that waits in a retry topic: where it comes from, how often it was tried, what it was like.
 *
 *   ottla-origin      where it was first stored
 *   ottla-attempts    failed attempts that count
 *   ottla-transient   <failures in a row that do not count>/<for how long they have lasted, in ms>
 *   ottla-timestamp   the record's own timestamp, ms since the epoch: the topic's is when the wait began
 *   ottla-failed-at, ottla-error   as on a dead letter
 *
 * Strict grammar: a bad one counts as absent. A record without a readable origin cannot be handled.
 */
import { isOwnWord } from './dead-letter.ts'
import { type Header, type Origin, readOrigin, readOwnHeaders } from './envelope.ts'

/** What the headers of a waiting record say. */
export interface RetryFacts {
  readonly origin: Origin | null
  readonly attempts: number
  readonly transient: number
  readonly transientForMs: number
  /** Null: not told, so the record's own is as good as any. */
  readonly timestampMs: number | null
}

const countForm = /^\d{1,15}$/
const transientForm = /^(\d{1,9})\/(\d{1,15})$/

/** Reads them. Never throws. */
export function readRetry(headers: readonly Header[]): RetryFacts {
  const { values } = readOwnHeaders(headers)
  const count = (word: string): number | null => {
    const text = values.get(word) ?? ''
    return countForm.test(text) ? Number(text) : null
  }
  const [, transient = '0', transientForMs = '0'] = transientForm.exec(values.get('transient') ?? '') ?? []
  return {
    origin: readOrigin(values.get('origin') ?? ''),
    attempts: count('attempts') ?? 0,
    transient: Number(transient),
    transientForMs: Number(transientForMs),
    timestampMs: count('timestamp'),
  }
}

/** The headers that the record had before it was put aside. */
export function withoutRetry(headers: readonly Header[]): readonly Header[] {
  return headers.filter(({ key }) => !isOwnWord(key) || key === 'ottla-redrives')
}
