/**
 * A Kafka cluster as seen by a client: who is there, who leads what, and a way to ask each broker something.
 *
 * Owns the connections (one per node and lane, made when first needed), the metadata cache and its refreshing, and the
 * addresses of group coordinators. Producer, consumer and admin share one cluster.
 *
 * Life of a slot (a node and a lane):
 *
 *     idle ──asked──▶ opening ──▶ ready ──lost──▶ idle
 *                        │ failed
 *                        ▼
 *                     resting (backoff with jitter; who asks meanwhile waits for its end) ──▶ opening …
 *
 * A refused login or a broken trust in TLS is not a passing state. Before anything ever worked it ends the whole cluster
 * at once; afterwards (credentials being rotated, one broker ill) the third refusal in a row does, with rests of seconds
 * between them, so that no account gets locked by our knocking.
 */
import { OttlaError } from '../../contract/errors.ts'
import type { GatheredRequest } from '../../wire/gathered-request.ts'
import { Api, type ApiKey, apiName, type Draft, type Requests, type Responses } from '../../wire/protocol.ts'
import { brokerError } from '../broker-error.ts'
import { backoffMs } from '../machine/backoff.ts'
import { MetadataCache, type MetadataChanges } from '../machine/metadata.ts'
import type { ResolvedClientOptions, ServerAddress } from '../options.ts'
import { openReady, pickVersion, type ReadyConnection } from './bootstrap.ts'

export interface RequestOptions {
  /** Default: the client's `requestTimeoutMs`. Runs from the call, connecting included. */
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
  /** A connection of its own per node, so that long polls block nobody. Default `'default'`. */
  readonly lane?: string
  readonly maxVersion?: number
  readonly minVersion?: number
}

export interface WaitOptions {
  /** Default: the client's `requestTimeoutMs`. */
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

export interface Answer<A extends ApiKey> {
  readonly version: number
  readonly body: Responses[A]
  /** The node that answered; -1 for a bootstrap server whose id is not known yet. */
  readonly node: number
}

export type RequestBody<A extends ApiKey> = Draft<Requests[A]> | GatheredRequest

interface Slot {
  readonly node: number
  readonly address: () => ServerAddress | undefined
  ready: ReadyConnection | null
  opening: Promise<ReadyConnection> | null
  failures: number
  /** Not before this moment (monotonic) is another attempt made. */
  notBeforeMs: number
  lastError: OttlaError | null
}

const retryBackoff = { baseMs: 100, maxMs: 1_000 }
/** After a refused login: at most three attempts in ten seconds, also with several brokers and lanes. */
const refusalRestMs = 5_000
const refusalsMax = 3

export class Cluster implements AsyncDisposable {
  readonly metadata: MetadataCache = new MetadataCache()
  readonly #options: ResolvedClientOptions
  readonly #slots = new Map<string, Slot>()
  readonly #interest = new Set<string>()
  readonly #listeners = new Set<(changes: MetadataChanges) => void>()
  readonly #coordinators = new Map<string, number>()
  readonly #coordinatorFlights = new Map<string, Promise<number>>()
  readonly #closing = new AbortController()
  #refreshing: Promise<void> | null = null
  /** Topics wanted by callers that came after the running refresh had gone out. */
  #refreshFailures = 0
  /** Refreshes in a row, shortly after one another, that brought nothing new. */
  #refreshVain = 0
  #refreshedMs = Number.NEGATIVE_INFINITY
  #refreshTimer: NodeJS.Timeout | undefined
  #nextServer: number
  #everWorked = false
  #refusals = 0
  #refusedUntilMs = 0
  #failed: OttlaError | null = null

  constructor(options: ResolvedClientOptions) {
    this.#options = options
    // Clients of one configuration should not all knock at its first server.
    this.#nextServer = Math.floor(Math.random() * Math.max(1, options.bootstrapServers.length))
  }

  // ── asking ──

  /**
   * Picks the highest version both sides know, sends and decodes. Per-item error codes in the answer are the caller's.
   * Nothing is sent twice: a caller that wants another attempt makes it. `'any'` tries further brokers only while
   * nothing has been sent.
   *
   * Throws OTTLA_KAFKA_CONNECTION, OTTLA_KAFKA_TIMEOUT (both with `details.sent`), OTTLA_KAFKA_UNSUPPORTED_VERSION,
   * OTTLA_KAFKA_AUTHENTICATION, OTTLA_KAFKA_TLS, OTTLA_KAFKA_CLOSED, OTTLA_WIRE_MALFORMED; the signal's reason when
   * aborted.
   */
  async request<A extends ApiKey>(
    node: number | 'any',
    api: A,
    body: RequestBody<A> | ((version: number) => RequestBody<A>),
    options: RequestOptions = {},
  ): Promise<Answer<A>> {
    const timeoutMs = options.timeoutMs ?? this.#options.requestTimeoutMs
    const deadlineMs = performance.now() + timeoutMs
    const slot = node === 'any' ? null : this.#slotOfNode(node, options.lane ?? 'default')
    const found =
      slot === null
        ? await this.#anyReady(options.lane ?? 'default', deadlineMs, options.signal)
        : {
            slot,
            ready: slot.ready?.connection.isOpen ? slot.ready : await this.#ready(slot, deadlineMs, options.signal),
          }
    const { connection } = found.ready
    const version = pickVersion(found.ready, api, { min: options.minVersion, max: options.maxVersion })
    const draft = typeof body === 'function' ? (body as (version: number) => RequestBody<A>)(version) : body
    const leftMs = Math.max(1, Math.ceil(deadlineMs - performance.now()))
    const answer = await connection.send(api, version, draft, { timeoutMs: leftMs, signal: options.signal })
    return { version, body: answer, node: found.slot.node }
  }

  /** Node ids of the brokers known. */
  nodes(): readonly number[] {
    return this.metadata.nodes().map((n) => n.id)
  }

  // ── metadata ──

  /**
   * Resolves when each topic is known, or known to fail: see `metadata.topic(name).error`. One topic's trouble never fails
   * another. From now on the topics are part of every refresh. Retries until its deadline; throws what `request` does.
   */
  async ensureTopics(topics: readonly string[], options: WaitOptions = {}): Promise<void> {
    const deadlineMs = performance.now() + (options.timeoutMs ?? this.#options.requestTimeoutMs)
    for (const topic of topics) this.#interest.add(topic)
    let failures = 0
    let trouble: unknown
    for (;;) {
      const oldestMs = performance.now() - this.#options.metadataMaxAgeMs
      const missing = topics.some((name) => {
        const state = this.metadata.topic(name)
        return state === undefined || state.error !== 0 || state.updatedMs < oldestMs
      })
      if (!missing) return
      const askedMs = performance.now()
      try {
        await this.#waitFor(this.refresh(), deadlineMs, options.signal, 'cluster metadata')
      } catch (error) {
        failures += 1
        // What went wrong before says more than that time was up while trying again.
        if (performance.now() >= deadlineMs && trouble !== undefined && !options.signal?.aborted) throw trouble
        trouble = error
        await this.#pauseBeforeRetry(error, failures, deadlineMs, options.signal)
        continue
      }
      // A refresh that was under way already may have gone out before our topics were added.
      if (topics.every((name) => (this.metadata.topic(name)?.updatedMs ?? 0) >= askedMs)) return
      if (topics.every((name) => this.metadata.topic(name) !== undefined)) return
    }
  }

  /**
   * Asks for the metadata of all topics in use now. Calls in flight share one request; failures, and calls in quick
   * succession that bring nothing new, are spaced out with jitter. Throws what `request` does.
   */
  refresh(): Promise<void> {
    this.#refreshing ??= this.#refreshOnce().finally(() => {
      this.#refreshing = null
    })
    return this.#refreshing
  }

  /** Told after each answer that changed anything. */
  onMetadata(listener: (changes: MetadataChanges) => void): Disposable {
    this.#listeners.add(listener)
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) }
  }

  /** Nobody needs this topic any more: it leaves the cache and later refreshes. */
  forgetTopic(topic: string): void {
    this.#interest.delete(topic)
    this.metadata.forget(topic)
  }

  // ── coordinators ──

  /**
   * The node that coordinates a group: looked up once and remembered until `forgetCoordinator`. Retries until its
   * deadline. Throws OTTLA_KAFKA_AUTHORIZATION and what `request` does.
   */
  async coordinator(group: string, options: WaitOptions = {}): Promise<number> {
    const known = this.#coordinators.get(group)
    if (known !== undefined) return known
    let flight = this.#coordinatorFlights.get(group)
    if (flight === undefined) {
      flight = this.#findCoordinator(group, this.#options.requestTimeoutMs).finally(() => {
        this.#coordinatorFlights.delete(group)
      })
      this.#coordinatorFlights.set(group, flight)
    }
    const deadlineMs = performance.now() + (options.timeoutMs ?? this.#options.requestTimeoutMs)
    return this.#waitFor(flight, deadlineMs, options.signal, `the coordinator of group ${group}`)
  }

  /** Call on NOT_COORDINATOR, COORDINATOR_NOT_AVAILABLE or a lost connection; the next `coordinator` asks again. */
  forgetCoordinator(group: string, node: number): void {
    if (this.#coordinators.get(group) === node) this.#coordinators.delete(group)
  }

  /** Closes every connection; what is still asked fails with OTTLA_KAFKA_CLOSED. */
  async [Symbol.asyncDispose](): Promise<void> {
    const error = new OttlaError('OTTLA_KAFKA_CLOSED', 'The client was closed')
    this.#fail(error)
    this.#listeners.clear()
    const opening = [...this.#slots.values()].map((slot) => slot.opening)
    await Promise.allSettled(opening)
  }

  // ── connections ──

  #slotOfNode(node: number, lane: string): Slot {
    const key = `${node}/${lane}`
    let slot = this.#slots.get(key)
    if (slot === undefined) {
      slot = {
        node,
        address: () => this.metadata.node(node),
        ready: null,
        opening: null,
        failures: 0,
        notBeforeMs: 0,
        lastError: null,
      }
      this.#slots.set(key, slot)
    }
    return slot
  }

  #slotOfServer(address: ServerAddress, lane: string): Slot {
    const key = `${address.host}:${address.port}/${lane}`
    let slot = this.#slots.get(key)
    if (slot === undefined) {
      slot = {
        node: -1,
        address: () => address,
        ready: null,
        opening: null,
        failures: 0,
        notBeforeMs: 0,
        lastError: null,
      }
      this.#slots.set(key, slot)
    }
    return slot
  }

  /** A usable connection of this slot before the deadline; one attempt, shared by all who ask. */
  #ready(slot: Slot, deadlineMs: number, signal: AbortSignal | undefined): Promise<ReadyConnection> {
    if (this.#failed !== null) return Promise.reject(this.#failed)
    if (slot.ready?.connection.isOpen) return Promise.resolve(slot.ready)
    slot.opening ??= this.#open(slot).finally(() => {
      slot.opening = null
    })
    return this.#waitFor(slot.opening, deadlineMs, signal, 'a connection', slot)
  }

  async #open(slot: Slot): Promise<ReadyConnection> {
    const restMs = Math.max(slot.notBeforeMs, this.#refusedUntilMs) - performance.now()
    if (restMs > 0) await this.#sleep(restMs)
    if (slot.address() === undefined) await this.refresh()
    const address = slot.address()
    if (address === undefined) {
      throw new OttlaError('OTTLA_KAFKA_CONNECTION', `Broker ${slot.node} is not part of the cluster now`, {
        details: { sent: false },
      })
    }
    try {
      const ready = await openReady(address, this.#options, this.#closing.signal)
      if (this.#failed !== null) {
        ready.connection.close()
        throw this.#failed
      }
      slot.ready = ready
      slot.failures = 0
      slot.lastError = null
      this.#everWorked = true
      this.#refusals = 0
      ready.connection.onClose((error) => this.#onLost(slot, ready, error))
      return ready
    } catch (error) {
      throw this.#onOpenFailure(slot, error)
    }
  }

  #onOpenFailure(slot: Slot, error: unknown): OttlaError {
    if (this.#failed !== null) return this.#failed
    const known =
      error instanceof OttlaError
        ? error
        : new OttlaError('OTTLA_KAFKA_CONNECTION', `Connecting failed: ${String(error)}`, { cause: error })
    slot.failures += 1
    slot.lastError = known
    slot.notBeforeMs =
      performance.now() +
      backoffMs(
        { baseMs: this.#options.reconnectBackoffMs, maxMs: this.#options.reconnectBackoffMaxMs },
        slot.failures,
        Math.random(),
      )
    return this.#judgeRefusal(known)
  }

  /** A login or certificate that was refused: the end, or, after better days, the beginning of it. */
  #judgeRefusal(error: OttlaError): OttlaError {
    if (error.code !== 'OTTLA_KAFKA_AUTHENTICATION' && error.code !== 'OTTLA_KAFKA_TLS') return error
    this.#refusals += 1
    if (!this.#everWorked || this.#refusals >= refusalsMax) {
      this.#fail(error)
      return error
    }
    this.#refusedUntilMs = performance.now() + refusalRestMs
    return new OttlaError('OTTLA_KAFKA_CONNECTION', error.message, {
      cause: error,
      details: { ...error.details, sent: false },
    })
  }

  #onLost(slot: Slot, ready: ReadyConnection, error: OttlaError): void {
    if (slot.ready === ready) slot.ready = null
    if (this.#failed !== null) return
    slot.lastError = error
    // The first attempt after a loss is made at once; if the broker is gone, the failures of that count.
    if (error.code === 'OTTLA_KAFKA_AUTHENTICATION') this.#judgeRefusal(error)
  }

  /** Somebody who answers: an open connection, else a known broker, else a bootstrap server; each tried once per round. */
  async #anyReady(
    lane: string,
    deadlineMs: number,
    signal: AbortSignal | undefined,
  ): Promise<{ slot: Slot; ready: ReadyConnection }> {
    if (this.#failed !== null) throw this.#failed
    const known = this.metadata.nodes().map((n) => this.#slotOfNode(n.id, lane))
    const open = known.filter((slot) => slot.ready?.connection.isOpen)
    if (open.length > 0) {
      const slot = open.reduce((a, b) => ((a.ready?.connection.load ?? 0) <= (b.ready?.connection.load ?? 0) ? a : b))
      if (slot.ready !== null) return { slot, ready: slot.ready }
    }
    const servers = this.#options.bootstrapServers
    const rotated = servers.map((_, i) => servers[(this.#nextServer + i) % servers.length] as ServerAddress)
    const candidates = [
      ...known.sort((a, b) => a.notBeforeMs - b.notBeforeMs),
      ...rotated.map((s) => this.#slotOfServer(s, lane)),
    ]
    const errors: OttlaError[] = []
    for (const slot of candidates) {
      try {
        return { slot, ready: await this.#ready(slot, deadlineMs, signal) }
      } catch (error) {
        if (!(error instanceof OttlaError) || this.#failed !== null) throw this.#failed ?? error
        if (signal?.aborted) throw signal.reason
        errors.push(error)
        if (slot.node === -1) this.#nextServer = (this.#nextServer + 1) % servers.length
        if (performance.now() >= deadlineMs) break
      }
    }
    const reasons = [...new Set(errors.map((e) => e.message))]
    throw new OttlaError('OTTLA_KAFKA_CONNECTION', `No broker can be reached: ${reasons.join('; ')}`, {
      cause: errors.at(-1),
      details: { sent: false },
    })
  }

  #fail(error: OttlaError): void {
    if (this.#failed !== null) return
    this.#failed = error
    clearTimeout(this.#refreshTimer)
    this.#closing.abort()
    for (const slot of this.#slots.values()) slot.ready?.connection.close(error)
  }

  // ── metadata, inside ──

  async #refreshOnce(): Promise<void> {
    if (this.#failed !== null) throw this.#failed
    const troubles = this.#refreshFailures + this.#refreshVain
    const sinceMs = performance.now() - this.#refreshedMs
    const restMs = backoffMs(retryBackoff, troubles, Math.random()) - sinceMs
    if (restMs > 0) await this.#sleep(restMs)
    const topics = [...this.#interest]
    let changes: MetadataChanges
    try {
      const { body, node } = await this.request('any', Api.Metadata, (version) => ({
        topics: topics.map((name) => ({ name })),
        ...(version >= 4 ? { allowAutoTopicCreation: false } : {}),
      }))
      if (body.errorCode !== 0) throw brokerError(body.errorCode, 'Metadata')
      changes = this.metadata.update(body, performance.now())
      this.#refreshFailures = 0
      if (node === -1) this.#adoptOrRetire()
    } catch (error) {
      this.#refreshFailures += 1
      throw error
    } finally {
      this.#refreshedMs = performance.now()
    }
    const isNew = changes.nodesChanged || changes.topics.length > 0
    this.#refreshVain = isNew || sinceMs > 5_000 ? 0 : this.#refreshVain + 1
    this.#scheduleRefresh()
    if (changes.nodesChanged) this.#dropStrangers()
    if (isNew || changes.recreated.length > 0) for (const listener of [...this.#listeners]) listener(changes)
  }

  #scheduleRefresh(): void {
    clearTimeout(this.#refreshTimer)
    if (this.#failed !== null || this.#interest.size === 0) return
    this.#refreshTimer = setTimeout(() => {
      this.refresh().catch(() => this.#scheduleRefresh())
    }, this.#options.metadataMaxAgeMs)
    this.#refreshTimer.unref()
  }

  /** Connections to bootstrap servers become those of the nodes behind them where the address says which that is. */
  #adoptOrRetire(): void {
    for (const [key, slot] of [...this.#slots]) {
      if (slot.node !== -1 || slot.ready === null) continue
      const { ready } = slot
      const node = this.metadata
        .nodes()
        .find((n) => n.host === ready.connection.address.host && n.port === ready.connection.address.port)
      const lane = key.slice(key.lastIndexOf('/') + 1)
      this.#slots.delete(key)
      const target = node === undefined ? null : this.#slotOfNode(node.id, lane)
      if (target === null || target.ready !== null || target.opening !== null) {
        // Somebody else's question may still be out on it: it closes by itself when that has been answered.
        this.#closeWhenIdle(ready)
        continue
      }
      target.ready = ready
      ready.connection.onClose((error) => this.#onLost(target, ready, error))
    }
  }

  #closeWhenIdle(ready: ReadyConnection): void {
    if (this.#failed !== null || ready.connection.load === 0) {
      ready.connection.close()
      return
    }
    setTimeout(() => this.#closeWhenIdle(ready), 100).unref()
  }

  /** Brokers that left the cluster, or moved to another address, keep no connection. */
  #dropStrangers(): void {
    for (const [key, slot] of [...this.#slots]) {
      if (slot.node === -1 || slot.ready === null) continue
      const address = this.metadata.node(slot.node)
      const at = slot.ready.connection.address
      if (address !== undefined && address.host === at.host && address.port === at.port) continue
      if (address === undefined) this.#slots.delete(key)
      const { ready } = slot
      slot.ready = null
      this.#closeWhenIdle(ready)
    }
  }

  async #findCoordinator(group: string, timeoutMs: number): Promise<number> {
    const deadlineMs = performance.now() + timeoutMs
    for (let failures = 1; ; failures += 1) {
      try {
        const { version, body } = await this.request(
          'any',
          Api.FindCoordinator,
          (v) =>
            v >= 4 ? { keyType: 0, coordinatorKeys: [group] } : { key: group, ...(v >= 1 ? { keyType: 0 } : {}) },
          { timeoutMs: Math.max(1, deadlineMs - performance.now()) },
        )
        const told = version >= 4 ? body.coordinators.find((c) => c.key === group) : body
        if (told === undefined) throw brokerError(15, `FindCoordinator for group ${group}`)
        if (told.errorCode !== 0)
          throw brokerError(told.errorCode, `FindCoordinator for group ${group}`, told.errorMessage)
        if (this.metadata.node(told.nodeId) === undefined) await this.refresh()
        this.#coordinators.set(group, told.nodeId)
        return told.nodeId
      } catch (error) {
        await this.#pauseBeforeRetry(error, failures, deadlineMs, undefined)
      }
    }
  }

  // ── waiting ──

  /** Sleeps a while before another attempt, or throws `error` again when there must or can be none. */
  async #pauseBeforeRetry(
    error: unknown,
    failures: number,
    deadlineMs: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    if (this.#failed !== null) throw this.#failed
    if (!(error instanceof OttlaError) || !error.retriable) throw error
    const pauseMs = backoffMs(retryBackoff, failures, Math.random())
    if (performance.now() + pauseMs >= deadlineMs) throw error
    await this.#sleep(pauseMs, signal)
  }

  #sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => end(null), Math.ceil(delayMs))
      const onAbort = (): void => end(signal?.reason)
      const onClose = (): void => end(this.#failed)
      const end = (reason: unknown): void => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', onAbort)
        this.#closing.signal.removeEventListener('abort', onClose)
        if (reason === null) resolve()
        else reject(reason)
      }
      signal?.addEventListener('abort', onAbort, { once: true })
      this.#closing.signal.addEventListener('abort', onClose, { once: true })
      if (signal?.aborted) onAbort()
      else if (this.#closing.signal.aborted) onClose()
    })
  }

  /** Waits for shared work with a deadline and a signal of one's own; the work itself goes on for the others. */
  #waitFor<T>(
    work: Promise<T>,
    deadlineMs: number,
    signal: AbortSignal | undefined,
    what: string,
    slot?: Slot,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      const leftMs = Math.max(0, Math.ceil(deadlineMs - performance.now()))
      const end = (): void => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', onAbort)
      }
      const timer = setTimeout(() => {
        end()
        const last = slot?.lastError
        const why = last === undefined || last === null ? '' : `; the last attempt failed: ${last.message}`
        reject(
          new OttlaError('OTTLA_KAFKA_TIMEOUT', `No ${what.replace(/^the /, '')} in time${why}`, {
            ...(last === undefined || last === null ? {} : { cause: last }),
            details: { sent: false },
          }),
        )
      }, leftMs)
      const onAbort = (): void => {
        end()
        reject(signal?.reason)
      }
      signal?.addEventListener('abort', onAbort, { once: true })
      if (signal?.aborted) onAbort()
      work.then(
        (value) => {
          end()
          resolve(value)
        },
        (error: unknown) => {
          end()
          reject(error)
        },
      )
    })
  }

  /** For messages: what this client talks to. */
  toString(): string {
    return `Cluster(${this.#options.bootstrapServers.map((s) => `${s.host}:${s.port}`).join(', ')})`
  }
}

/** For messages: `Metadata at broker 2`. */
export function requestName(api: ApiKey, node: number): string {
  return `${apiName(api)} at broker ${node}`
}
