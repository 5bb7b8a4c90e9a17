/**
 * An app for tests: the real engine over the real protocol against an embedded broker of its own, and, when a service
 * names a store, a database of its own on an embedded PostgreSQL that all tests of the process share.
 *
 * `settled()` is the heart: it waits until nothing is left to happen, so that a test needs no sleeping. Nothing is left
 * when every record that any topic holds has ended in every service that reads it, no retry waits, and the outbox is
 * empty; the ends of the logs are read after the last emit, because a handler's emit is stored before its record ends.
 */

import { kafka } from '../adapters/kafka/transport.ts'
import { postgres } from '../adapters/postgres/store.ts'
import { consoleLog } from '../adapters/system/app.ts'
import { systemClock } from '../adapters/system/clock.ts'
import { type EmbeddedBroker, startBroker } from '../broker/embedded.ts'
import { OttlaError } from '../contract/errors.ts'
import { type AnyEvent, isEvent, type Message } from '../contract/event.ts'
import { decodeUtf8 } from '../contract/text.ts'
import { type AnyTopic, type MessageOf, topicInternals, topicOf } from '../contract/topic.ts'
import { balances } from '../core/ledger.ts'
import { RunningApp } from '../runtime/app.ts'
import type { NameOf, TestApp, TestAppDefinition } from '../runtime/app-types.ts'
import type { Operations } from '../runtime/operations.ts'
import type { Log, Store, Transport, Writer } from '../runtime/ports.ts'
import type { AnyService } from '../runtime/service.ts'
import type { LooseDefinition } from '../runtime/wiring.ts'
import { type EmbeddedPostgres, embeddedPostgres } from './embedded-postgres.ts'
import { MemoryStore } from './memory-store.ts'

/** Beside the services, what a test may say. */
export interface TestAppOptions {
  /** Run once inside a transaction of the store before the services start: makes the tables they write to. */
  readonly prepare?: (tx: any) => Promise<void>
  /** How long `settled()` waits. Default 10,000 ms. */
  readonly settleMs?: number
}

/** What `testApp` returns: a test app that can be looked into like any other. */
export type OperableTestApp<Names extends string> = TestApp<Names> &
  Operations & {
    /** `host:port` of its broker, for a client of your own. */
    readonly bootstrapServers: string
    /** The store that services got; null when none named one. */
    readonly store: Store<any> | null
  }

/**
 * Starts an app for a test. Disposing it drains the services and checks the ledger (OTTLA_TEST_LEDGER).
 *
 * ```ts
 * await using t = await testApp({ services: [inventory] })
 * await t.publish(Orders.OrderPlaced({ … }))
 * await t.settled()
 * assert.deepEqual(t.emitted(Stock), [Stock.StockReserved({ orderId: '1' })])
 * ```
 */
export async function testApp<const S extends readonly AnyService[]>(
  definition: TestAppDefinition<S> & TestAppOptions,
): Promise<OperableTestApp<NameOf<S[number]>>> {
  const { services, log, prepare, settleMs } = definition as unknown as Loose
  const started = await EmbeddedApp.open(services, { log: log ?? consoleLog, prepare, settleMs: settleMs ?? 10_000 })
  return started as unknown as OperableTestApp<NameOf<S[number]>>
}

interface Loose extends TestAppOptions {
  readonly services: readonly AnyService[]
  readonly log?: Log
}

interface Settings {
  readonly log: Log
  readonly prepare: ((tx: any) => Promise<void>) | undefined
  readonly settleMs: number
}

/** Draws short waits, so that retries do not make tests slow. */
const quickRandom = (): number => 0.02
const pollMs = 2
/** The source of what the test itself publishes; no service can be called so. */
const testSource = 'test:app'

class EmbeddedApp extends RunningApp {
  readonly #broker: EmbeddedBroker
  readonly #acknowledged: Acknowledged
  readonly #services: readonly AnyService[]
  readonly #settleMs: number
  readonly store: Store<any> | null
  readonly #closeStore: () => Promise<void>
  #closed = false

  private constructor(parts: Parts) {
    const acknowledged: Acknowledged = []
    super(
      {
        transport: listening(kafka({ bootstrapServers: parts.broker.bootstrapServers }), acknowledged),
        ...(parts.store === null ? {} : { store: parts.store }),
        services: parts.services,
        name: testSource,
        topics: 'create',
        drainTimeout: 5_000,
        log: parts.settings.log,
      } satisfies LooseDefinition,
      { clock: systemClock, log: parts.settings.log, random: quickRandom, instance: `test-${process.pid}` },
    )
    this.#broker = parts.broker
    this.#acknowledged = acknowledged
    this.#services = parts.services
    this.#settleMs = parts.settings.settleMs
    this.store = parts.store
    this.#closeStore = parts.closeStore
  }

  static async open(services: readonly AnyService[], settings: Settings): Promise<EmbeddedApp> {
    const [broker, { store, closeStore }] = await Promise.all([startBroker(), openStore(services)])
    const app = new EmbeddedApp({ broker, store, closeStore, services, settings })
    try {
      const { prepare } = settings
      if (prepare !== undefined) {
        if (store === null) {
          throw new OttlaError('OTTLA_RUNTIME_WIRING', 'prepare was given, but no service names a store')
        }
        await store.prepare('apply')
        await store.transact(async (tx) => ({ result: await prepare(tx), records: [] }))
      }
      await app.start()
    } catch (error) {
      await app.#closeParts()
      throw error
    }
    return app
  }

  get bootstrapServers(): string {
    return this.#broker.bootstrapServers
  }

  async settled(): Promise<void> {
    const endMs = performance.now() + this.#settleMs
    for (;;) {
      const open = await this.#unsettled()
      if (open.length === 0) return
      const hopeless = this.ledger().some(({ state, standing }) => state === 'stopped' || standing === 'brake')
      if (hopeless || performance.now() >= endMs) {
        throw new OttlaError('OTTLA_TEST_UNSETTLED', `Not settled:\n- ${open.join('\n- ')}`, { details: { open } })
      }
      await new Promise((done) => setTimeout(done, pollMs))
    }
  }

  emitted<T extends AnyTopic | AnyEvent>(of: T): readonly MessageOf<T>[] {
    const topic: AnyTopic = isEvent(of) ? topicOf(of) : (of as AnyTopic)
    const stored = new Map(
      this.#broker.records(topic.name).map((record) => [`${record.partition}/${record.offset}`, record]),
    )
    const names = new Set(this.#services.map(({ name }) => name))
    const seen = new Set<string>()
    const messages: Message[] = []
    for (const place of this.#acknowledged) {
      const record = place?.topic === topic.name ? stored.get(`${place.partition}/${place.position}`) : undefined
      if (record === undefined) continue
      const headers = new Map(record.headers.map(({ key, value }) => [key, value === null ? null : decodeUtf8(value)]))
      const source = headers.get('ce_source') ?? ''
      const id = `${source}\n${headers.get('ce_id')}`
      if (!names.has(source) || seen.has(id)) continue
      seen.add(id)
      const message = plainMessage(topic, headers.get('ce_type') ?? '', record)
      if (!isEvent(of) || message.type === of.name) messages.push(message)
    }
    return messages as unknown as readonly MessageOf<T>[]
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    try {
      await super[Symbol.asyncDispose]()
    } finally {
      await this.#closeParts()
    }
    const wrong = this.ledger().filter((row) => row.open !== 0 || !balances(row))
    if (wrong.length === 0) return
    const lines = wrong.map(({ service, topic, partition, ...counts }) => {
      return `${service} ${topic}-${partition}: ${JSON.stringify(counts)}`
    })
    throw new OttlaError('OTTLA_TEST_LEDGER', `The ledger does not balance:\n- ${lines.join('\n- ')}`)
  }

  /** What is still to happen, in sentences. Nothing: settled. */
  async #unsettled(): Promise<readonly string[]> {
    const open: string[] = []
    for (const each of this.parked()) {
      const place = `${each.topic}-${each.partition}@${each.position}`
      open.push(`${each.service}: ${place} waits after ${each.attempts} attempts (${each.why})`)
    }
    for (const row of this.ledger()) {
      if (row.open > 0) open.push(`${row.service}: ${row.open} open records of ${row.topic}-${row.partition}`)
    }
    const { relay } = this
    for (const key of relay?.parkedKeys ?? []) open.push(`outbox: ${key.id} rests (${key.error.code})`)
    if ((relay?.inHand ?? 0) > 0) open.push(`outbox: ${relay!.inHand} rows are being published`)
    if (open.length > 0) return open
    const backlog = await this.backlog()
    if (backlog !== null && backlog.rows > 0) return [`outbox: ${backlog.rows} rows wait`]
    for (const { plan, low } of this.#reading()) {
      for (const topic of [...plan.topics.keys(), ...plan.retryTopics.map((each) => each.topic)]) {
        for (const [partition, end] of this.#broker.ends(topic).entries()) {
          const at = low(topic, partition)
          if (end > 0 && (at === null || at < end)) {
            open.push(`${plan.name}: ${topic}-${partition} is ${at === null ? 'not held yet' : `at ${at}`} of ${end}`)
          }
        }
      }
    }
    return open
  }

  #reading() {
    return this.loops.map((loop) => ({
      plan: loop.plan,
      low: (topic: string, partition: number) => loop.low(topic, partition),
    }))
  }

  async #closeParts(): Promise<void> {
    await Promise.all([this.#broker[Symbol.asyncDispose](), this.#closeStore()])
  }
}

interface Parts {
  readonly broker: EmbeddedBroker
  readonly store: Store<any> | null
  readonly closeStore: () => Promise<void>
  readonly services: readonly AnyService[]
  readonly settings: Settings
}

// ── what was published, in order ──

/** Where records went, in the order in which they were handed in; null until acknowledged. */
type Acknowledged = (Place | null)[]

interface Place {
  readonly topic: string
  readonly partition: number
  readonly position: number
}

/** The same transport; where each record was stored is noted. */
function listening(transport: Transport, acknowledged: Acknowledged): Transport {
  const listen = (writer: Writer): Writer => ({
    async send(record, options) {
      const turn = acknowledged.push(null) - 1
      const sent = await writer.send(record, options)
      acknowledged[turn] = { topic: record.topic, partition: sent.partition, position: sent.position }
      return sent
    },
    flush: () => writer.flush(),
    [Symbol.asyncDispose]: () => writer[Symbol.asyncDispose](),
  })
  return {
    name: transport.name,
    embedded: transport.embedded,
    features: transport.features,
    describe: (topics) => transport.describe(topics),
    ensure: (topics) => transport.ensure(topics),
    writer: async (options) => listen(await transport.writer(options)),
    reader: (options, on) => transport.reader(options, on),
    tail: (options, on) => transport.tail(options, on),
    groupsOf: (topic) => transport.groupsOf(topic),
    [Symbol.asyncDispose]: () => transport[Symbol.asyncDispose](),
  }
}

interface Bytes {
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
}

/** The message as it was handed to `emit`: the payload's wire form, not the schema's output. */
function plainMessage(topic: AnyTopic, ceType: string, { key, value }: Bytes): Message {
  const { types, codec } = topicInternals(topic)
  const event = types.find((each) => each.ceType === ceType)?.event
  const text = key === null ? null : decodeUtf8(key)
  return {
    topic: topic.name,
    type: event?.name ?? ceType,
    key: text,
    data: value === null ? text : codec.decode(value),
  }
}

// ── the store ──

let server: Promise<EmbeddedPostgres> | null = null

/** One server per process, started when the first test needs it and stopped with the process. */
async function sharedServer(): Promise<EmbeddedPostgres> {
  server ??= embeddedPostgres()
  return server
}

async function openStore(
  services: readonly AnyService[],
): Promise<{ readonly store: Store<any> | null; readonly closeStore: () => Promise<void> }> {
  const kinds = new Set(services.map((each) => each['~definition'].storeKind).filter((kind) => kind !== null))
  const nothing = async (): Promise<void> => undefined
  if (kinds.size === 0) return { store: null, closeStore: nothing }
  if (kinds.size > 1) {
    throw new OttlaError('OTTLA_RUNTIME_WIRING', `testApp brings one store, but services name ${[...kinds].join(', ')}`)
  }
  const [kind] = kinds
  if (kind === 'memory') return { store: new MemoryStore(), closeStore: nothing }
  if (kind !== 'postgres') {
    throw new OttlaError('OTTLA_RUNTIME_WIRING', `testApp brings stores of the kinds postgres and memory, not ${kind}`)
  }
  const url = await (await sharedServer()).createDatabase()
  const { default: pg } = await import('pg')
  const pool = new pg.Pool({ connectionString: url, max: 10 })
  // A connection that ends while idle is replaced; without a listener it would end the process.
  pool.on('error', () => undefined)
  return { store: postgres(pool as never), closeStore: () => pool.end() }
}
