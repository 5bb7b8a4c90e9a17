/**
 * Dead letters read back: as records that can be handled once more, and in order for one held key.
 *
 * A letter becomes the record it was: the headers that the dead letter added are taken off, its id and source stay, so
 * that an inbox knows it and what it emits has the same ids.
 */
import { isLetterHeader, type LetterFacts, readDeadLetter } from '../contract/dead-letter.ts'
import { type Header, ownHeader } from '../contract/envelope.ts'
import type { OttlaError } from '../contract/errors.ts'
import type { BatchView, Clock, Tail, Transport } from './ports.ts'

/** One dead letter as it is stored. Its bytes are a copy: nothing else of its batch is kept in memory. */
export interface Letter {
  readonly partition: number
  readonly position: number
  readonly timestampMs: number
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: readonly Header[]
  readonly facts: LetterFacts
}

/** Reads one letter of a batch. */
export function letterOf(partition: number, records: BatchView, index: number): Letter {
  const headers = records.headers(index).map(({ key, value }) => ({ key, value: value?.slice() ?? null }))
  return {
    partition,
    position: records.position(index),
    timestampMs: records.timestampMs(index),
    key: records.key(index)?.slice() ?? null,
    value: records.value(index)?.slice() ?? null,
    headers,
    facts: readDeadLetter(headers),
  }
}

/** What is different from what was stored. */
export interface Delivery {
  readonly redrives: number
  /** The payload to use instead, and who gave it. */
  readonly edited: { readonly value: Uint8Array; readonly by: string } | null
}

/** The record that a letter was, ready for a lane: a batch of one, at its source position. */
export function originalOf(letter: Letter, delivery: Delivery): BatchView {
  const headers: Header[] = letter.headers.filter(({ key }) => !isLetterHeader(key))
  headers.push(ownHeader('redrives', String(delivery.redrives)))
  if (delivery.edited !== null) headers.push(ownHeader('edited', delivery.edited.by || 'somebody'))
  const value = delivery.edited === null ? letter.value : delivery.edited.value
  const position = letter.facts.origin?.position ?? 0
  const size = (letter.key?.length ?? 0) + (value?.length ?? 0)
  return {
    count: 1,
    nextPosition: position + 1,
    byteLength: size,
    position: () => position,
    timestampMs: () => letter.timestampMs,
    key: () => letter.key,
    value: () => value,
    headers: () => headers,
    size: () => size,
  }
}

/** Letters of one dead-letter partition, one after the other, from a position on. */
export interface LetterQuery {
  readonly topic: string
  readonly partition: number
  readonly from: number
  /** Only these are kept and returned. */
  readonly wanted: (letter: Letter) => boolean
}

const queueMax = 64
const giveUpMs = 30_000

export class LetterScan implements AsyncDisposable {
  readonly #tail: Tail
  readonly #clock: Clock
  readonly #topic: string
  readonly #queue: Letter[] = []
  #fault: OttlaError | null = null
  #paused = false
  #arrived: () => void = () => undefined

  constructor(transport: Transport, clock: Clock, query: LetterQuery) {
    this.#clock = clock
    this.#topic = query.topic
    this.#tail = transport.tail(
      { topic: query.topic, partition: query.partition, from: query.from },
      {
        batch: (partition, records) => {
          for (let index = 0; index < records.count; index++) {
            const letter = letterOf(partition, records, index)
            if (query.wanted(letter)) this.#queue.push(letter)
          }
          if (this.#queue.length > 0) this.#arrived()
          if (this.#queue.length < queueMax || this.#paused) return
          this.#paused = true
          this.#tail.pause()
        },
        fault: (error) => {
          if (!error.retriable) this.#fault = error
        },
      },
    )
  }

  /** The next one; null when everything that is stored now has been looked at. */
  async next(): Promise<Letter | null> {
    if (this.#queue.length === 0) await this.#more()
    const letter = this.#queue.shift() ?? null
    if (this.#paused && this.#queue.length < queueMax / 2) {
      this.#paused = false
      this.#tail.resume()
    }
    return letter
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tail[Symbol.asyncDispose]()
  }

  async #more(): Promise<void> {
    if (this.#fault !== null) throw this.#fault
    const { promise, reject } = Promise.withResolvers<never>()
    const timer = this.#clock.after(giveUpMs, () =>
      reject(new Error(`the dead letters of ${this.#topic} could not be read within ${giveUpMs} ms`)),
    )
    // A full queue pauses the reading, so the end may only be reached after these have been taken.
    const arrived = new Promise<void>((done) => {
      this.#arrived = done
    })
    try {
      await Promise.race([this.#tail.caughtUp(), arrived, promise])
    } finally {
      timer[Symbol.dispose]()
    }
  }
}
