/**
 * The control topic of a service: held keys, pauses, commands and their results, followed by every member.
 *
 * The whole topic is read before the first record of a partition is handled: `ready()` waits until everything has been
 * taken in that was stored when it was called, so a hold that the last owner wrote is known to the next one.
 *
 * What this member writes takes effect here once it is stored, a key let go at once. What counts is the order of the log,
 * whichever of acknowledgement and own record arrives first: until the own record has come back, older ones with the same
 * key are not believed, and an acknowledgement that comes after the key was let go changes nothing. Else a key just let
 * go would be held again.
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

/** What this member has done under a name, kept until the tail has come to it. */
interface Own {
  /** Writes under way. */
  writes: number
  /** Counts how often the key was let go: a write that began before one is older than it. */
  letGo: number
  /** The key was let go, and that is not stored yet: nothing in the topic is newer. */
  storing: boolean
  /** The newest of our records that is acknowledged, -1 for none: older ones of the topic are not believed. */
  stored: number
  /** How far the tail has come under this name. */
  taken: number
}

/** How long to wait for a topic that cannot be read before `ready` says so. */
const readyMs = 30_000

export class ControlLog implements AsyncDisposable {
  readonly holds = new Holds<HoldRecord>()
  readonly commands = new CommandLog<CommandRecord>()
  readonly #pauses = new Map<string, PauseRecord>()
  readonly #parts: ControlParts
  readonly #tail: Tail
  readonly #own = new Map<string, Own>()
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
    await this.#store({ name: controlKey(record), key, value, record })
  }

  /** Lets go what stands under this key, once that is stored. */
  async remove(name: string): Promise<void> {
    await this.#store({ name, key: encodeUtf8(name), value: null, record: null })
  }

  /** Lets a held key go at once and stores that in the background: a crash before only holds it longer. */
  release(held: HeldKey): void {
    const name = holdName(held)
    const own = this.#ownOf(name)
    own.letGo++
    own.storing = true
    this.#apply(name, null)
    void this.#persist(name, own)
    this.#events.changed()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true
    await this.#tail[Symbol.asyncDispose]()
  }

  async #store(what: {
    readonly name: string
    readonly key: Uint8Array
    readonly value: Uint8Array | null
    readonly record: ControlRecord | null
  }): Promise<void> {
    const { name } = what
    const own = this.#ownOf(name)
    // Held again: nobody need store any more that it was let go.
    own.storing = false
    const { letGo } = own
    own.writes++
    try {
      const position = await this.#send(what)
      if (own.letGo !== letGo || position <= own.stored || position <= own.taken) return
      own.stored = position
      this.#apply(name, what.record)
    } finally {
      own.writes--
      this.#forget(name, own)
    }
    this.#events.changed()
  }

  async #persist(name: string, own: Own): Promise<void> {
    const { clock, log, random } = this.#parts
    const { letGo } = own
    for (let failures = 1; !this.#closed; failures++) {
      if (own.letGo !== letGo || !own.storing) return
      try {
        const position = await this.#send({ key: encodeUtf8(name), value: null })
        if (own.letGo !== letGo) return
        own.storing = false
        own.stored = Math.max(own.stored, position)
        this.#forget(name, own)
        return
      } catch (error) {
        log.warn('a key was let go, but that could not be stored; trying again', { key: name, error })
        await new Promise<void>((done) => void clock.after(backoffMs(handlerBackoff, failures, random()), done))
      }
    }
  }

  async #send({ key, value }: { readonly key: Uint8Array; readonly value: Uint8Array | null }): Promise<number> {
    const { topic, writer, clock } = this.#parts
    const sent = await writer.send({ topic, partition: 0, key, value, headers: [], timestampMs: clock.wallMs() })
    return sent.position
  }

  #ownOf(name: string): Own {
    let own = this.#own.get(name)
    if (own === undefined) {
      own = { writes: 0, letGo: 0, storing: false, stored: -1, taken: -1 }
      this.#own.set(name, own)
    }
    return own
  }

  /** The tail has come to all that was done under this name. */
  #forget(name: string, own: Own): void {
    if (own.writes === 0 && !own.storing && own.taken >= own.stored) this.#own.delete(name)
  }

  #take(records: BatchView): void {
    for (let index = 0; index < records.count; index++) {
      const entry = decodeControl(records.key(index), records.value(index))
      if (entry.kind === 'foreign') continue
      const own = this.#own.get(entry.key)
      if (own !== undefined) {
        own.taken = records.position(index)
        const older = own.storing || own.taken < own.stored
        this.#forget(entry.key, own)
        if (older) continue
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
