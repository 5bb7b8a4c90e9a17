/**
 * The stage on which the shows of failure handling are played: apps with a short patience on one Kafka, names that are
 * of this run alone, what happened, and an end that leaves nothing behind on a shared cluster.
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { kafka } from '../../src/adapters/kafka/transport.ts'
import { systemClock } from '../../src/adapters/system/clock.ts'
import { deadLetters } from '../../src/adapters/system/dead-letters.ts'
import { serviceNames } from '../../src/contract/names.ts'
import { KafkaClient } from '../../src/kafka.ts'
import { RunningApp } from '../../src/runtime/app.ts'
import { alarm, type Ended, ended } from '../../src/runtime/channels.ts'
import type { DeadLetterDesk } from '../../src/runtime/dlq.ts'
import type { Store } from '../../src/runtime/ports.ts'
import type { AnyService } from '../../src/runtime/service.ts'
import type { LedgerRow } from '../../src/runtime/service-loop.ts'

/** Nothing is said: the shows make failures on purpose. */
export const quiet = { debug() {}, info() {}, warn() {}, error() {} }

/** An alarm as the shows look at it. */
export interface Alarm {
  readonly service: string
  readonly topic?: string
  readonly partition?: number
  readonly error: { readonly code: string; readonly message: string }
}

/** Where a record stands in its log, and what it says. */
export interface Logged<T> {
  readonly partition: number
  readonly position: number
  readonly key: string
  readonly value: T
}

/** What the ledgers of several apps say of one service together. */
export interface Books {
  readonly fetched: number
  readonly open: number
  readonly retries: number
  readonly ended: Readonly<Record<keyof LedgerRow['ended'], number>>
}

/** How fast a show watches its apps and its conditions. */
const lookMs = 20

/** Waits until something is so. Throws what is missing when it is not by then. */
export async function until(what: string, maxMs: number, condition: () => boolean | Promise<boolean>): Promise<void> {
  const endMs = performance.now() + maxMs
  while (!(await condition())) {
    if (performance.now() > endMs) throw new Error(`waited ${maxMs} ms in vain for: ${what}`)
    await sleep(lookMs)
  }
}

/** The value below which a share of the numbers lies. */
export function percentile(numbers: readonly number[], share: number): number {
  const sorted = Float64Array.from(numbers).sort()
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0
}

/** Numbers from 0 to 1, the same ones for the same seed. */
export function dice(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Hands work out at an even pace, `rate` pieces a second, without waiting for what it started. */
export async function paced(count: number, rate: number, start: (index: number) => void): Promise<void> {
  const beganMs = performance.now()
  for (let index = 0; index < count; ) {
    const due = Math.min(count, Math.floor(((performance.now() - beganMs) / 1_000) * rate) + 1)
    for (; index < due; index++) start(index)
    await sleep(5)
  }
}

export class Stage implements AsyncDisposable {
  readonly bootstrapServers: string
  /** Stands in every name of this run. */
  readonly run = randomBytes(4).toString('hex')
  readonly alarms: Alarm[] = []
  /** What was wrong with a ledger while it was looked at; checked when the stage is left. */
  readonly imbalances: string[] = []
  readonly #apps = new Set<RunningApp>()
  /** What apps that are closed had in their books. */
  readonly #closed: LedgerRow[] = []
  readonly #topics = new Set<string>()
  readonly #watch: NodeJS.Timeout
  #members = 0

  constructor(bootstrapServers: string) {
    this.bootstrapServers = bootstrapServers
    alarm.subscribe(this.#onAlarm)
    this.#watch = setInterval(() => this.#audit(), 250)
  }

  /** This run's own name of something. */
  name(word: string): string {
    return `${word}-${this.run}`
  }

  transport() {
    const consumer = { heartbeatIntervalMs: 200, sessionTimeoutMs: 20_000, fetchMaxWaitMs: 50 }
    return kafka({ bootstrapServers: this.bootstrapServers, consumer })
  }

  /** Topics of another process that are deleted with the others: one that is read, and those of its service. */
  own(topic: string, service: string): void {
    const { deadLetters: letters, control } = serviceNames(service)
    for (const each of [topic, letters, control]) this.#topics.add(each)
  }

  /** Starts an app of these services: one more member of each. */
  async open(services: readonly AnyService[], store?: Store<unknown>): Promise<RunningApp> {
    for (const service of services) {
      const { deadLetters: letters, control } = serviceNames(service.name)
      for (const topic of [letters, control]) this.#topics.add(topic)
      for (const topic of service['~definition'].subscriptions.keys()) this.#topics.add(topic)
    }
    const app = new RunningApp(
      {
        transport: this.transport(),
        ...(store === undefined ? {} : { store }),
        services,
        topics: 'create',
        drainTimeout: 5_000,
      },
      { clock: systemClock, log: quiet, random: Math.random, instance: `${this.run}-${this.#members++}` },
    )
    await app.start()
    this.#apps.add(app)
    return app
  }

  async close(app: RunningApp): Promise<void> {
    await app[Symbol.asyncDispose]()
    this.#apps.delete(app)
    this.#closed.push(...app.ledger())
  }

  /** Waits until members of a service hold all its partitions, and each of them some. */
  async assigned(service: string, partitions: number, apps: readonly RunningApp[]): Promise<void> {
    await until(`${service} is handed out`, 60_000, () => {
      const held = apps.map((app) => app.ledger().filter((row) => row.service === service && row.state === 'running'))
      return held.every((rows) => rows.length > 0) && held.flat().length === partitions
    })
  }

  /** The ledgers of a service, of all its members so far together. */
  books(service: string): Books {
    const rows = [...this.#closed, ...[...this.#apps].flatMap((app) => app.ledger())]
    const sum = { fetched: 0, open: 0, retries: 0, ended: {} as Record<keyof LedgerRow['ended'], number> }
    for (const row of rows) {
      if (row.service !== service) continue
      sum.fetched += row.fetched
      sum.open += row.open
      sum.retries += row.retries
      for (const [ending, count] of Object.entries(row.ended) as [keyof LedgerRow['ended'], number][]) {
        sum.ended[ending] = (sum.ended[ending] ?? 0) + count
      }
    }
    return sum
  }

  /** In words, without the endings that nothing came to. */
  booksText(service: string): string {
    const { fetched, open, retries, ended: endings } = this.books(service)
    const words = Object.entries(endings).filter(([, count]) => count > 0)
    return `${service}: fetched ${fetched} = ${words.map(([ending, count]) => `${ending} ${count}`).join(' + ')} + open ${open}; ${retries} retries`
  }

  /** The whole log of a topic, partition by partition. */
  async read<T>(topic: string): Promise<readonly Logged<T>[]> {
    await using transport = this.transport()
    const found: Logged<T>[] = []
    await using tail = transport.tail(
      { topic },
      {
        batch: (partition, records) => {
          for (let index = 0; index < records.count; index++) {
            const value = JSON.parse(Buffer.from(records.value(index) ?? []).toString()) as T
            const key = Buffer.from(records.key(index) ?? []).toString()
            found.push({ partition, position: records.position(index), key, value })
          }
        },
        fault: (error) => {
          throw error
        },
      },
    )
    await tail.caughtUp()
    return found.sort((a, b) => a.partition - b.partition || a.position - b.position)
  }

  /** The dead letters of a service, while `use` needs them. */
  async desk<R>(service: string, use: (desk: DeadLetterDesk) => Promise<R>): Promise<R> {
    await using transport = this.transport()
    await using desk = await deadLetters({ transport, service, by: 'show', log: quiet })
    return await use(desk)
  }

  /** Tells every record of a service that ends, until disposed. */
  onEnded(listener: (record: Ended) => void): Disposable {
    const hear = (message: unknown) => listener(message as Ended)
    ended.subscribe(hear)
    return { [Symbol.dispose]: () => void ended.unsubscribe(hear) }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#watch)
    for (const app of [...this.#apps]) await this.close(app)
    alarm.unsubscribe(this.#onAlarm)
    await using client = new KafkaClient({ bootstrapServers: this.bootstrapServers })
    await client.admin().deleteTopics([...this.#topics])
    assert.deepEqual(this.imbalances, [], 'every ledger balanced whenever it was looked at')
    const stopped = this.alarms.filter(({ error }) => error.code === 'OTTLA_RUNTIME_LEDGER_IMBALANCE')
    assert.deepEqual(stopped, [], 'no partition was stopped because of its books')
  }

  readonly #onAlarm = (message: unknown): void => {
    const { service, topic, partition, error } = message as Alarm
    if (service.endsWith(this.run)) this.alarms.push({ service, topic, partition, error } as Alarm)
  }

  #audit(): void {
    for (const app of this.#apps) {
      for (const row of app.ledger()) {
        const total = Object.values(row.ended).reduce((sum, count) => sum + count, 0) + row.open
        if (row.fetched !== total) {
          this.imbalances.push(`${row.service} ${row.topic}-${row.partition}: fetched ${row.fetched}, found ${total}`)
        }
      }
    }
  }
}
