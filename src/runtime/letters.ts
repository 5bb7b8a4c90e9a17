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

/** What is kept of a dead letter for a list of them: where it is and what it says, not what it holds. */
export interface LetterEntry {
  readonly partition: number
  readonly position: number
  readonly timestampMs: number
  readonly key: Uint8Array | null
  /** The message cut to 256 characters. */
  readonly facts: LetterFacts
}

/** One dead letter as it is stored. Its bytes are a copy: nothing else of its batch is kept in memory. */
export interface Letter extends LetterEntry {
  readonly value: Uint8Array | null
  readonly headers: readonly Header[]
}

/** Names a letter: its place in the dead-letter topic. */
export interface LetterPosition {
  readonly partition: number
  readonly position: number
}

const entryMessageMax = 256

/** Bytes of their own: `slice` of a Node buffer would be another view. */
function copyOf(view: Uint8Array | null): Uint8Array | null {
  return view && new Uint8Array(view)
}

/** Reads one letter of a batch. */
export function letterOf(partition: number, records: BatchView, index: number): Letter {
  const headers = records.headers(index).map(({ key, value }) => ({ key, value: copyOf(value) }))
  return {
    partition,
    position: records.position(index),
    timestampMs: records.timestampMs(index),
    key: copyOf(records.key(index)),
    value: copyOf(records.value(index)),
    headers,
    facts: readDeadLetter(headers),
  }
}

/** The same, for a list. */
export function entryOf(partition: number, records: BatchView, index: number): LetterEntry {
  const facts = readDeadLetter(records.headers(index))
  return {
    partition,
    position: records.position(index),
    timestampMs: records.timestampMs(index),
    key: copyOf(records.key(index)),
    facts: facts.message === null ? facts : { ...facts, message: facts.message.slice(0, entryMessageMax) },
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
export interface LetterQuery<L> {
  readonly topic: string
  readonly partition: number
  readonly from: number
  /** Reads one; null: it is not wanted. */
  readonly take: (partition: number, records: BatchView, index: number) => L | null
}

const queueMax = 64
const giveUpMs = 30_000

export class LetterScan<L extends LetterPosition> implements AsyncDisposable {
  readonly #tail: Tail
  readonly #clock: Clock
  readonly #topic: string
  readonly #queue: L[] = []
  #fault: OttlaError | null = null
  #paused = false
  #arrived: () => void = () => undefined

  constructor(transport: Transport, clock: Clock, query: LetterQuery<L>) {
    this.#clock = clock
    this.#topic = query.topic
    this.#tail = transport.tail(
      { topic: query.topic, partition: query.partition, from: query.from },
      {
        batch: (partition, records) => {
          for (let index = 0; index < records.count; index++) {
            const letter = query.take(partition, records, index)
            if (letter !== null) this.#queue.push(letter)
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
  async next(): Promise<L | null> {
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
    // A full queue pauses the reading, so the end may only be reached after these have been taken.
    const arrived = new Promise<void>((done) => {
      this.#arrived = done
    })
    await inTime(this.#clock, this.#topic, Promise.race([this.#tail.caughtUp(), arrived]))
  }
}

/**
 * Single letters by their place. Whoever asks for several, one after the other, is served by one reading of their
 * partition: it stands still between two questions, keeps what it read last (8 MiB), goes on to what lies a little further
 * on, and ends when nobody has asked for a while.
 */
export class LetterReader implements AsyncDisposable {
  readonly #transport: Transport
  readonly #clock: Clock
  readonly #topic: string
  readonly #shelves = new Map<number, Shelf>()
  readonly #ending = new Set<Promise<void>>()

  constructor(transport: Transport, clock: Clock, topic: string) {
    this.#transport = transport
    this.#clock = clock
    this.#topic = topic
  }

  /** The letter there; null when there is none. Rejects when the topic cannot be read. */
  async read({ partition, position }: LetterPosition): Promise<Letter | null> {
    let shelf = this.#shelves.get(partition)
    if (shelf === undefined || !shelf.reaches(position)) {
      if (shelf !== undefined) this.#end(partition, shelf)
      shelf = new Shelf(this.#transport, { topic: this.#topic, partition, from: position })
      this.#shelves.set(partition, shelf)
    }
    const mine = shelf
    try {
      return await inTime(this.#clock, this.#topic, mine.find(position))
    } catch (error) {
      // Whatever is wrong with this reading, the next question begins anew.
      if (this.#shelves.get(partition) === mine) this.#end(partition, mine)
      throw error
    } finally {
      mine.restFor(this.#clock, () => {
        if (this.#shelves.get(partition) === mine) this.#end(partition, mine)
      })
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const [partition, shelf] of [...this.#shelves]) this.#end(partition, shelf)
    await Promise.all(this.#ending)
  }

  /** It serves those that have asked already. */
  #end(partition: number, shelf: Shelf): void {
    this.#shelves.delete(partition)
    const ending = shelf.end().finally(() => this.#ending.delete(ending))
    this.#ending.add(ending)
  }
}

/** How far a reading goes on to the next letter before it is cheaper to begin anew. */
const reachMax = 2_000
const idleMs = 5_000
const recentBytesMax = 8 * 1024 * 1024

class Shelf {
  readonly #tail: Tail
  readonly #wanted = new Map<number, ((letter: Letter | null) => void)[]>()
  /** Everything below was looked at. */
  #next: number
  /** What was read last, oldest first. */
  readonly #recent: BatchView[] = []
  #recentBytes = 0
  readonly #partition: number
  #paused = false
  #fault: OttlaError | null = null
  #failed: (error: OttlaError) => void = () => undefined
  #timer: Disposable | null = null
  #finding = 0
  #served: () => void = () => undefined

  constructor(
    transport: Transport,
    where: { readonly topic: string; readonly partition: number; readonly from: number },
  ) {
    this.#next = where.from
    this.#partition = where.partition
    this.#tail = transport.tail(where, {
      batch: (partition, records) => this.#take(partition, records),
      fault: (error) => {
        if (error.retriable) return
        this.#fault = error
        this.#failed(error)
      },
    })
  }

  reaches(position: number): boolean {
    if (this.#fault !== null) return false
    if (position >= this.#next) return position - this.#next <= reachMax
    const [first] = this.#recent
    return first !== undefined && first.count > 0 && position >= first.position(0)
  }

  async find(position: number): Promise<Letter | null> {
    if (position < this.#next) return this.#recall(position)
    this.#timer?.[Symbol.dispose]()
    this.#finding++
    try {
      const failed = new Promise<never>((_, reject) => {
        const before = this.#failed
        this.#failed = (error) => {
          before(error)
          reject(error)
        }
      })
      failed.catch(() => undefined)
      const found = new Promise<Letter | null>((done) => {
        this.#wanted.set(position, [...(this.#wanted.get(position) ?? []), done])
      })
      if (this.#paused) {
        this.#paused = false
        this.#tail.resume()
      }
      // Looked at to the end, and it did not come: a gap.
      const over = this.#tail.caughtUp().then(() => null)
      const letter = await Promise.race([found, over, failed])
      this.#wanted.delete(position)
      return letter
    } finally {
      if (--this.#finding === 0) {
        this.#failed = () => undefined
        this.#served()
      }
    }
  }

  restFor(clock: Clock, over: () => void): void {
    this.#timer?.[Symbol.dispose]()
    if (this.#finding === 0) this.#timer = clock.after(idleMs, over)
  }

  async end(): Promise<void> {
    this.#timer?.[Symbol.dispose]()
    if (this.#finding > 0) await new Promise<void>((done) => (this.#served = done))
    await this.#tail[Symbol.asyncDispose]()
  }

  #recall(position: number): Letter | null {
    for (const records of this.#recent) {
      for (let index = 0; index < records.count && records.position(index) <= position; index++) {
        if (records.position(index) === position) return letterOf(this.#partition, records, index)
      }
    }
    return null
  }

  #take(partition: number, records: BatchView): void {
    for (let index = 0; index < records.count; index++) {
      const waiting = this.#wanted.get(records.position(index))
      if (waiting === undefined) continue
      const letter = letterOf(partition, records, index)
      for (const done of waiting) done(letter)
    }
    this.#recent.push(records)
    this.#recentBytes += records.byteLength
    while (this.#recent.length > 1 && this.#recentBytes > recentBytesMax) {
      this.#recentBytes -= this.#recent.shift()!.byteLength
    }
    this.#next = Math.max(this.#next, records.nextPosition)
    for (const [position, waiting] of this.#wanted) if (position < this.#next) for (const done of waiting) done(null)
    if (this.#paused || [...this.#wanted.keys()].some((position) => position >= this.#next)) return
    this.#paused = true
    this.#tail.pause()
  }
}

async function inTime<T>(clock: Clock, topic: string, work: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const timer = clock.after(giveUpMs, () =>
    reject(new Error(`the dead letters of ${topic} could not be read within ${giveUpMs} ms`)),
  )
  try {
    return await Promise.race([work, promise])
  } finally {
    timer[Symbol.dispose]()
  }
}
