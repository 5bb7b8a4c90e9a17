/**
 * The control topic of a service: held keys, pauses, commands and their results, followed by every member.
 *
 * The whole topic is read before the first record of a partition is handled: `ready()` waits until everything has been
 * taken in that was stored when it was called, so a hold that the last owner wrote is known to the next one.
 *
 * What this member writes takes effect here at once. Until its own record comes back, older records with the same key
 * are not believed: else a key just let go would be held again for a moment.
 */
import {
  type CommandRecord,
  type ControlRecord,
  controlKey,
  decodeControl,
  encodeControl,
  type HeldKey,
  type HoldRecord,
  type PauseRecord,
  type ResultRecord,
} from '../contract/control.ts'
import { encodeUtf8 } from '../contract/text.ts'
import { backoffMs, handlerBackoff } from '../core/backoff.ts'
import { Holds } from '../core/holds.ts'
import { CommandLog } from '../core/redrive.ts'
import type { BatchView, Clock, Log, Tail, Transport, Writer } from './ports.ts'

export interface ControlParts {
  readonly topic: string
  readonly transport: Transport
  readonly writer: Writer
  readonly clock: Clock
  readonly log: Log
  readonly random: () => number
}

export interface ControlEvents {
  /** Something changed that may concern a partition: look again. */
  changed(): void
  /** Somebody says that partitions may go on; null: all. */
  resumed(topic: string | null, partition: number | null): void
}

/** How long to wait for a topic that cannot be read before `ready` says so. */
const readyMs = 30_000

export class ControlLog implements AsyncDisposable {
  readonly holds = new Holds<HoldRecord>()
  readonly commands = new CommandLog<CommandRecord>()
  readonly #pauses = new Map<string, PauseRecord>()
  readonly #parts: ControlParts
  readonly #tail: Tail
  /** By key: below which position records of the topic are older than what was done here. */
  readonly #mine = new Map<string, number>()
  /** Told of every result: whoever waits for one. */
  onResult: (result: ResultRecord) => void = () => undefined
  #events: ControlEvents = { changed: () => undefined, resumed: () => undefined }
  #closed = false

  constructor(parts: ControlParts) {
    this.#parts = parts
    this.#tail = parts.transport.tail(
      { topic: parts.topic, partition: 0 },
      {
        batch: (_partition, records) => this.#take(records),
        fault: (error) => parts.log.warn('the control topic cannot be followed', { topic: parts.topic, error }),
      },
    )
  }

  listen(events: ControlEvents): void {
    this.#events = events
  }

  /** Everything that stands in the topic now has been taken in. Rejects when that cannot be known. */
  async ready(): Promise<void> {
    const { promise, reject } = Promise.withResolvers<never>()
    const timer = this.#parts.clock.after(readyMs, () =>
      reject(new Error(`the control topic ${this.#parts.topic} could not be read within ${readyMs} ms`)),
    )
    try {
      await Promise.race([this.#tail.caughtUp(), promise])
    } finally {
      timer[Symbol.dispose]()
    }
  }

  /** Shall this partition stand still? */
  paused(topic: string, partition: number): boolean {
    if (this.#pauses.size === 0) return false
    const names = ['pause/*/*', `pause/${topic}/*`, `pause/${topic}/${partition}`]
    return names.some((name) => this.#pauses.has(name))
  }

  get pauses(): readonly PauseRecord[] {
    return [...this.#pauses.values()]
  }

  /** Stores a record; it counts here once it is stored. */
  async write(record: ControlRecord): Promise<void> {
    const { key, value } = encodeControl(record)
    await this.#send(controlKey(record), key, value)
    this.#apply(controlKey(record), record)
    this.#events.changed()
  }

  /** Lets go what stands under this key, once that is stored. */
  async remove(name: string): Promise<void> {
    await this.#send(name, encodeUtf8(name), null)
    this.#apply(name, null)
    this.#events.changed()
  }

  /** Lets a held key go at once and stores that in the background: a crash before only holds it longer. */
  release(held: HeldKey): void {
    const name = holdName(held)
    this.#mine.set(name, Number.POSITIVE_INFINITY)
    this.#apply(name, null)
    void this.#persist(name)
    this.#events.changed()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true
    await this.#tail[Symbol.asyncDispose]()
  }

  async #persist(name: string): Promise<void> {
    const { clock, log, random } = this.#parts
    for (let failures = 1; !this.#closed; failures++) {
      // Held again meanwhile: the newer record says so.
      if (this.#mine.get(name) !== Number.POSITIVE_INFINITY) return
      try {
        await this.#send(name, encodeUtf8(name), null)
        return
      } catch (error) {
        log.warn('a key was let go, but that could not be stored; trying again', { key: name, error })
        await new Promise<void>((done) => void clock.after(backoffMs(handlerBackoff, failures, random()), done))
      }
    }
  }

  async #send(name: string, key: Uint8Array, value: Uint8Array | null): Promise<void> {
    const { position } = await this.#parts.writer.send({
      topic: this.#parts.topic,
      partition: 0,
      key,
      value,
      headers: [],
      timestampMs: this.#parts.clock.wallMs(),
    })
    this.#mine.set(name, position)
  }

  #take(records: BatchView): void {
    for (let index = 0; index < records.count; index++) {
      const entry = decodeControl(records.key(index), records.value(index))
      if (entry.kind === 'foreign') continue
      const mine = this.#mine.get(entry.key)
      if (mine !== undefined) {
        if (records.position(index) < mine) continue
        this.#mine.delete(entry.key)
      }
      this.#apply(entry.key, entry.kind === 'gone' ? null : entry.record)
    }
    this.#events.changed()
  }

  #apply(name: string, record: ControlRecord | null): void {
    if (record === null) {
      const [kind, first = '', partition = '', key = ''] = name.split('/')
      if (kind === 'hold') this.holds.release(first, Number(partition), key)
      if (kind === 'command') this.commands.done(first)
      if (kind !== 'pause') return
      this.#pauses.delete(name)
      this.#events.resumed(first === '*' ? null : first, partition === '*' ? null : Number(partition))
      return
    }
    switch (record.kind) {
      case 'hold':
        this.holds.set(record)
        return
      case 'pause':
        this.#pauses.set(name, record)
        return
      case 'command':
        if (!this.commands.asked(record)) {
          this.#parts.log.warn('too many commands are open; one waits for a restart', { id: record.id })
        }
        return
      case 'result':
        if (record.last) this.commands.done(record.id)
        this.onResult(record)
        return
      default:
        record satisfies never
    }
  }
}

function holdName(held: HeldKey): string {
  return `hold/${held.topicId}/${held.partition}/${held.key}`
}
