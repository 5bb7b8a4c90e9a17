/**
 * Publishes what the outbox holds.
 *
 * One relay per process, one writer, all shards this process holds. Rows are claimed in order, and per key one row at a
 * time is with the writer: the next goes out when the one before it has been acknowledged. So whatever fails, freezes or
 * is taken over, the first copies of a key's events stand in the log in row order; different keys go out side by side.
 *
 *   row:   stored ─claim─► waiting ─lease good─► sent ─ack─► acknowledged ─mark─► gone
 *             ▲               │                    │ failed
 *             └──shard lost───┴──key parked◄───────┘
 *
 *   relay: opening ─session─► flowing ◄──first ack──┐
 *             ▲                  │ nothing acknowledged for `stalledAfterMs` although rows are out,
 *             │                  │ or a send failed and nothing went through beside it
 *             │                  └───────────────► stalled: one probe at a time, with backoff
 *             └──── the session or the database failed ◄──── both
 *          any ──dispose──► stopped
 *
 * A key whose record is refused for good (too large, no permission) is parked with an alarm and tried again every
 * `refusedRetryMs`; it is never dropped, and only its own followers wait. Other failures park the key with backoff.
 */
import { OttlaError } from '../contract/errors.ts'
import { showUtf8 } from '../contract/text.ts'
import { alarm, outboxState, type Published, published, steps } from './channels.ts'
import type { ClaimedEvent, Clock, Log, OutboxKey, RelaySession, Sent, Store, Transport, Writer } from './ports.ts'
import { within } from './within.ts'

export interface RelayOptions {
  readonly store: Store<any>
  /** Where records go. With a `transport` the relay makes a writer of its own, and another when that one is finished. */
  readonly writer?: Writer
  readonly transport?: Transport
  readonly clock: Clock
  readonly log: Log
  /** Client id of the relay's own writer. */
  readonly clientId?: string
  /** How long the writer may try to deliver a record. Default 15,000 ms. */
  readonly deliveryTimeoutMs?: number
  /** Rows asked for at a time. Default 1,000. */
  readonly claimRows?: number
  /** Longest pause between looks at the outbox when nobody wakes the relay. Default 500 ms. */
  readonly pollMs?: number
  /** How long sends may go unanswered before the outbox counts as stalled. Default 3,000 ms. */
  readonly stalledAfterMs?: number
  /** How long a refused record rests before it is tried again. Default 60,000 ms. */
  readonly refusedRetryMs?: number
}

/** `opening` until the outbox was first looked at. */
export type RelayState = 'opening' | 'flowing' | 'stalled' | 'stopped'

/** A running relay. Disposing waits a moment for what is out, marks it, and gives the shards back. */
export interface Relay extends AsyncDisposable {
  readonly state: RelayState
  /** The first session is open; rejects with OTTLA_STORE_POOLER or OTTLA_STORE_SCHEMA, which do not pass by waiting. */
  readonly opened: Promise<void>
  /** The shards this process publishes for. */
  readonly shards: readonly number[]
  /** Rows published and marked since the start. */
  readonly publishedRows: number
  /** Rows claimed and not yet marked. */
  readonly inHand: number
  /** Keys that rest, and why. */
  readonly parkedKeys: readonly ParkedKey[]
  /** Looks at the outbox now. */
  wake(): void
}

export interface ParkedKey {
  readonly topic: string
  readonly key: Uint8Array | null
  readonly id: string
  readonly error: OttlaError
  /** Refused for good, as against failed for now. */
  readonly refused: boolean
}

/** Starts at once and goes on by itself, through lost databases and brokers. Throws OTTLA_CONFIG_INVALID. */
export function startRelay(options: RelayOptions): Relay {
  if (!options.writer && !options.transport) {
    throw new OttlaError('OTTLA_CONFIG_INVALID', 'startRelay needs a writer or a transport')
  }
  return new OutboxRelay(options)
}

const renewEveryMs = 1_000
/** The lease must be good for this much longer when a record is handed to the writer. */
const leaseMarginMs = 500
const bytesInHandMax = 8 << 20
const claimBytes = 4 << 20
const rowsInHandMax = 4_000
/** More parked keys than this and nothing new is claimed until some are released. */
const parkedMax = 1_000
const drainMs = 1_500
const backoff = { baseMs: 100, factor: 2, capMs: 5_000 }

/** Rows of one key, in order. `sent`: the first of them is with the writer. */
interface Lane {
  readonly id: string
  readonly topic: string
  readonly key: Uint8Array | null
  readonly rows: ClaimedEvent[]
  sent: boolean
}

interface Parking extends ParkedKey {
  readonly attempts: number
  readonly untilMs: number
  /** Being tried again: known until it went through, so that its alarm is raised once. */
  trying: boolean
  /** A row without a key has no followers and no key to leave out of claims: it stays in hand. */
  readonly row: ClaimedEvent | null
}

class OutboxRelay implements Relay {
  readonly #options: RelayOptions
  readonly #claimRows: number
  readonly #pollMs: number
  readonly #lanes = new Map<string, Lane>()
  /** Every row in hand, waiting, sent or acknowledged, with its bytes. */
  readonly #rows = new Map<number, { readonly event: ClaimedEvent; readonly bytes: number; sentMs: number | null }>()
  readonly #parked = new Map<string, Parking>()
  #acknowledged: ClaimedEvent[] = []
  #bytes = 0
  #sentRows = 0
  #session: RelaySession | null = null
  #shards: readonly number[] = []
  #held = new Set<number>()
  #writer: Writer | null
  #writerFinished = false
  #state: RelayState = 'opening'
  #publishedRows = 0
  #acks = 0
  /** Who is away while stalled. */
  #away: 'broker' | 'store' | null = null
  #brokerFailures = 0
  /** Broker away: one record is tried when this time has come. */
  #probeAtMs = 0
  #lastProgressMs = 0
  #dirty = true
  #idleLooks = 0
  #renewAtMs = 0
  #pollAtMs = 0
  #leaseLate = false
  #wakeUp: (() => void) | null = null
  #nudged = false
  #stopping: Promise<void> | null = null
  readonly #subscription: Disposable
  readonly #opened = Promise.withResolvers<void>()
  readonly #loop: Promise<void>

  constructor(options: RelayOptions) {
    this.#options = options
    this.#claimRows = options.claimRows ?? 1_000
    this.#pollMs = options.pollMs ?? 500
    this.#writer = options.writer ?? null
    this.#subscription = options.store.onOutbox(() => this.wake())
    this.#opened.promise.catch(() => undefined) // told in the log too; nobody has to ask
    this.#loop = this.#run()
  }

  get opened(): Promise<void> {
    return this.#opened.promise
  }

  get state(): RelayState {
    return this.#state
  }

  get shards(): readonly number[] {
    return this.#shards
  }

  get publishedRows(): number {
    return this.#publishedRows
  }

  get inHand(): number {
    return this.#rows.size
  }

  get parkedKeys(): readonly ParkedKey[] {
    return [...this.#parked.values()].map(({ topic, key, id, error, refused }) => ({ topic, key, id, error, refused }))
  }

  wake(): void {
    this.#dirty = true
    this.#nudge()
  }

  #nudge(): void {
    this.#nudged = true
    this.#wakeUp?.()
  }

  /** Until nudged, or `delayMs` later. */
  async #pause(delayMs: number): Promise<void> {
    if (!this.#nudged && delayMs > 0) {
      await new Promise<void>((resolve) => {
        const timer = this.#options.clock.after(delayMs, resolve)
        this.#wakeUp = () => {
          timer[Symbol.dispose]()
          resolve()
        }
      })
      this.#wakeUp = null
    }
    this.#nudged = false
  }

  #now(): number {
    return this.#options.clock.monotonicMs()
  }

  // ── the loop: one question to the session at a time ──

  async #run(): Promise<void> {
    let failures = 0
    while (!this.#stopping) {
      try {
        const session = await this.#options.store.relay()
        this.#session = session
        this.#opened.resolve()
        this.#renewAtMs = 0
        this.#dirty = true
        while (!this.#stopping) {
          await this.#turn(session)
          failures = 0
          await this.#pause(this.#nextDueMs() - this.#now())
        }
      } catch (error) {
        failures += 1
        await this.#sessionFailed(error, failures)
      }
    }
  }

  /** The database, or the making of a writer, failed: rows not with the writer are forgotten, they are safe in the store. */
  async #sessionFailed(cause: unknown, failures: number): Promise<void> {
    const session = this.#session
    this.#session = null
    this.#shards = []
    this.#held.clear()
    for (const lane of [...this.#lanes.values()]) this.#forgetWaiting(lane)
    for (const [laneId, { row }] of this.#parked) {
      if (row === null) continue
      this.#parked.delete(laneId)
      if (!this.#lanes.has(laneId)) this.#forgetRow(row)
    }
    await this.#end(session)
    if (this.#stopping) return
    const error = cause instanceof Error ? cause : new Error(String(cause))
    const hopeless = error instanceof OttlaError && error.fatal
    if (hopeless) {
      this.#opened.reject(error)
      if (failures === 1) alarm.publish({ service: 'relay', error })
      this.#options.log.error('the relay cannot work', { error })
    } else {
      this.#options.log.warn('the relay lost its session and opens another', { error })
    }
    this.#stall('store', error)
    const untilMs = this.#now() + (hopeless ? 10_000 : this.#backoffMs(failures))
    while (!this.#stopping && this.#now() < untilMs) await this.#pause(untilMs - this.#now())
  }

  /** When the next turn is due, by the monotonic clock. */
  #nextDueMs(): number {
    const nowMs = this.#now()
    if (this.#acknowledged.length > 0) return nowMs
    let due = this.#renewAtMs
    if (this.#mayClaim()) due = this.#dirty ? nowMs : Math.min(due, this.#pollAtMs)
    else due = Math.min(due, nowMs + this.#pollMs)
    if (this.#away === 'broker') due = Math.min(due, Math.max(this.#probeAtMs, nowMs + 20))
    for (const { untilMs, trying } of this.#parked.values()) if (!trying) due = Math.min(due, untilMs)
    return due
  }

  async #turn(session: RelaySession): Promise<void> {
    await this.#ensureWriter()
    if (this.#now() >= this.#renewAtMs) await this.#renew(session)
    if (this.#acknowledged.length > 0) await this.#mark(session)
    this.#tryParked()
    if (this.#mayClaim() && (this.#dirty || this.#now() >= this.#pollAtMs)) await this.#claim(session)
    this.#pump()
    this.#watchProgress()
  }

  async #ensureWriter(): Promise<void> {
    const { transport } = this.#options
    if (this.#writer !== null && !(this.#writerFinished && transport)) return
    const old = this.#writer
    this.#writer = null
    this.#writerFinished = false
    await this.#end(old)
    if (transport) {
      this.#writer = await transport.writer({
        deliveryTimeoutMs: this.#options.deliveryTimeoutMs ?? 15_000,
        ...(this.#options.clientId === undefined ? {} : { clientId: this.#options.clientId }),
      })
    }
  }

  async #renew(session: RelaySession): Promise<void> {
    const shards = await session.shards()
    this.#renewAtMs = this.#now() + renewEveryMs
    this.#leaseLate = false
    const gained = shards.some((shard) => !this.#held.has(shard))
    this.#shards = shards
    this.#held = new Set(shards)
    if (gained) this.#dirty = true
    // What waits for a shard that is now somebody else's was claimed in vain.
    for (const lane of [...this.#lanes.values()]) {
      const shard = lane.rows[0]?.shard
      if (shard !== undefined && !this.#held.has(shard)) this.#forgetWaiting(lane)
    }
    for (const [laneId, parking] of this.#parked) {
      if (parking.row !== null && !this.#held.has(parking.row.shard)) {
        this.#parked.delete(laneId)
        this.#forgetRow(parking.row)
      }
    }
  }

  async #mark(session: RelaySession): Promise<void> {
    const done = this.#acknowledged
    this.#acknowledged = []
    try {
      await session.published(done.map(({ row }) => row))
    } catch (error) {
      // Published but not marked: to be marked through the next session.
      this.#acknowledged = [...done, ...this.#acknowledged]
      throw error
    }
    for (const event of done) this.#forgetRow(event)
    this.#publishedRows += done.length
    if (steps.relayAfterMark.hasSubscribers) {
      steps.relayAfterMark.publish({ rows: done.map(({ row }) => row), ids: done.map(({ record }) => record.id) })
    }
  }

  #mayClaim(): boolean {
    if (this.#shards.length === 0 || this.#writer === null || this.#leaseLate) return false
    if (this.#parked.size >= parkedMax) return false
    // One record at a time finds out whether the broker is back.
    if (this.#away === 'broker') return this.#lanes.size === 0 && this.#now() >= this.#probeAtMs
    return this.#rows.size + this.#claimRows <= rowsInHandMax && this.#bytes < bytesInHandMax
  }

  async #claim(session: RelaySession): Promise<void> {
    this.#dirty = false
    const skip: OutboxKey[] = []
    for (const { topic, key, trying } of this.#parked.values()) if (key !== null && !trying) skip.push({ topic, key })
    const limit = this.#away === 'broker' ? 1 : this.#claimRows
    const claimed = await session.claim(limit, claimBytes, skip, [...this.#rows.keys()])
    let fresh = 0
    for (const event of claimed) if (this.#takeIn(event)) fresh += 1
    this.#idleLooks = fresh > 0 ? 0 : Math.min(this.#idleLooks + 1, 16)
    // Whatever came may be followed by more, also when bytes and not rows ended the claim.
    if (fresh > 0) this.#dirty = true
    const nowMs = this.#now()
    this.#pollAtMs = nowMs + Math.min(this.#pollMs, 25 * 2 ** this.#idleLooks)
    if (this.#away === 'broker' && fresh === 0) this.#probeAtMs = nowMs + this.#pollMs
    if (this.#away === 'store') this.#flowAgain()
    if (this.#state === 'opening') this.#state = 'flowing'
    if (claimed.length === 0) this.#forgetTried()
  }

  /** Parked keys whose rows somebody else published or removed. */
  #forgetTried(): void {
    for (const [laneId, { trying, row }] of this.#parked) {
      if (trying && row === null && !this.#lanes.has(laneId)) this.#parked.delete(laneId)
    }
  }

  #takeIn(event: ClaimedEvent): boolean {
    if (this.#rows.has(event.row)) return false
    const { record } = event
    const laneId = laneOf(event)
    if (this.#parked.get(laneId)?.trying === false) return false
    let bytes = 64
    bytes += (record.key?.byteLength ?? 0) + (record.value?.byteLength ?? 0)
    for (const { key, value } of record.headers) bytes += key.length + (value?.byteLength ?? 0)
    this.#rows.set(event.row, { event, bytes, sentMs: null })
    this.#bytes += bytes
    const lane = this.#lanes.get(laneId)
    if (lane) lane.rows.push(event)
    else {
      this.#lanes.set(laneId, { id: laneId, topic: record.topic, key: record.key, rows: [event], sent: false })
    }
    return true
  }

  // ── sending ──

  #pump(): void {
    if (this.#writer === null) return
    for (const lane of this.#lanes.values()) if (!lane.sent) this.#send(lane)
  }

  /** Hands the first row of a lane to the writer, unless the lease does not allow it. */
  #send(lane: Lane): void {
    const event = lane.rows[0]
    const writer = this.#writer
    if (!event || !writer || this.#stopping) return
    // Asked in the same turn of the event loop in which the bytes go to the writer: a frozen process stops here.
    if (!this.#session?.mayPublish(event.shard, leaseMarginMs)) {
      this.#leaseLate = true
      this.#renewAtMs = Math.min(this.#renewAtMs, this.#now() + 20)
      return
    }
    lane.sent = true
    const entry = this.#rows.get(event.row)
    const nowMs = this.#now()
    if (entry) entry.sentMs = nowMs
    if (this.#sentRows === 0) this.#lastProgressMs = nowMs
    this.#sentRows += 1
    const acksBefore = this.#acks
    writer.send(event.record).then(
      (sent) => this.#onAck(lane, event, sent),
      (error) => this.#onFailure(lane, event, error, acksBefore),
    )
    if (steps.relayAfterSend.hasSubscribers) steps.relayAfterSend.publish(stepFacts(event))
  }

  #onAck(lane: Lane, event: ClaimedEvent, sent: Sent): void {
    this.#sentRows -= 1
    this.#acks += 1
    this.#brokerFailures = 0
    this.#lastProgressMs = this.#now()
    if (steps.relayAfterAck.hasSubscribers) steps.relayAfterAck.publish(stepFacts(event))
    if (published.hasSubscribers) published.publish(publishedFacts(event, sent))
    this.#acknowledged.push(event)
    this.#parked.delete(lane.id)
    lane.rows.shift()
    lane.sent = false
    if (this.#away === 'broker') this.#flowAgain()
    if (lane.rows.length === 0) this.#lanes.delete(lane.id)
    else this.#send(lane)
    this.#nudge()
  }

  #onFailure(lane: Lane, event: ClaimedEvent, cause: unknown, acksBefore: number): void {
    this.#sentRows -= 1
    lane.sent = false
    const error =
      cause instanceof OttlaError
        ? cause
        : new OttlaError('OTTLA_KAFKA_CONNECTION', `a record was not published: ${messageOf(cause)}`, { cause })
    if (error.code === 'OTTLA_KAFKA_CLOSED') this.#writerFinished = true
    const refused = !error.retriable && !error.fatal
    if (refused || this.#acks > acksBefore) this.#park(lane, event, error, refused)
    else {
      // Nothing at all went through while this one was tried: it is not about this key.
      if (this.#lanes.size <= 1 || this.#away !== 'broker') this.#brokerFailures += 1
      this.#probeAtMs = this.#now() + this.#backoffMs(this.#brokerFailures)
      for (const waiting of [...this.#lanes.values()]) if (!waiting.sent) this.#forgetWaiting(waiting)
      this.#stall('broker', error)
    }
    this.#nudge()
  }

  #park(lane: Lane, event: ClaimedEvent, error: OttlaError, refused: boolean): void {
    const { topic, key, id, source } = event.record
    const before = this.#parked.get(lane.id)
    const attempts = (before?.attempts ?? 0) + 1
    const restMs = refused ? (this.#options.refusedRetryMs ?? 60_000) : this.#backoffMs(attempts)
    this.#parked.set(lane.id, {
      topic,
      key,
      id,
      error,
      refused,
      attempts,
      untilMs: this.#now() + restMs,
      trying: false,
      row: key === null ? event : null,
    })
    if (key === null) this.#lanes.delete(lane.id)
    else this.#forgetWaiting(lane)
    if (refused && before === undefined) {
      this.#options.log.error('a record of the outbox is refused; its key waits behind it', { topic, id, error })
      alarm.publish({ service: source, topic, error })
    } else {
      this.#options.log.warn('a record of the outbox was not published; its key rests', { topic, id, restMs, error })
    }
  }

  #backoffMs(attempts: number): number {
    const top = Math.min(backoff.capMs, backoff.baseMs * backoff.factor ** (attempts - 1))
    return top / 2 + (Math.random() * top) / 2
  }

  /** Parked keys whose rest is over: claimed again, or sent again when they have no key. */
  #tryParked(): void {
    if (this.#away === 'broker') return
    const nowMs = this.#now()
    for (const [laneId, parking] of this.#parked) {
      if (parking.trying || parking.untilMs > nowMs) continue
      parking.trying = true
      const { row } = parking
      if (row === null) this.#dirty = true
      else this.#lanes.set(laneId, { id: laneId, topic: row.record.topic, key: null, rows: [row], sent: false })
    }
  }

  // ── what is told ──

  /** Rows are out and nothing comes back: say so long before the writer gives up. */
  #watchProgress(): void {
    if (this.#sentRows === 0 || this.#away !== null) return
    if (this.#now() - this.#lastProgressMs < (this.#options.stalledAfterMs ?? 3_000)) return
    this.#stall('broker', new OttlaError('OTTLA_KAFKA_TIMEOUT', 'the broker has not acknowledged anything for a while'))
  }

  #stall(away: 'broker' | 'store', error: Error): void {
    const before = this.#state
    this.#away = away
    this.#state = 'stalled'
    if (before !== 'stalled') this.#announce('stalled', error)
  }

  #flowAgain(): void {
    this.#away = null
    this.#state = 'flowing'
    this.#dirty = true
    this.#announce('flowing')
  }

  #announce(state: 'stalled' | 'flowing', error?: Error): void {
    const { store, log } = this.#options
    const say = (rows: number): void => {
      if (state === 'stalled') log.warn('the outbox is stalled: events wait in the store', { rows, error })
      else log.info('the outbox flows again', { rows })
      if (outboxState.hasSubscribers) outboxState.publish(error ? { state, rows, error } : { state, rows })
    }
    // Without the store nobody knows how many rows wait; those in hand are what is known.
    store.backlog().then(
      ({ rows }) => say(rows),
      () => say(this.#rows.size),
    )
  }

  // ── forgetting: rows not published stay in the store and are claimed again ──

  /** Drops the rows of a lane that are not with the writer. */
  #forgetWaiting(lane: Lane): void {
    const keep = lane.sent ? 1 : 0
    for (const event of lane.rows.splice(keep)) this.#forgetRow(event)
    if (lane.rows.length === 0) this.#lanes.delete(lane.id)
    this.#dirty = true
  }

  #forgetRow(event: ClaimedEvent): void {
    const entry = this.#rows.get(event.row)
    if (!entry) return
    this.#rows.delete(event.row)
    this.#bytes -= entry.bytes
  }

  // ── the end ──

  [Symbol.asyncDispose](): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  async #stop(): Promise<void> {
    // Let `#stopping` be set before anything looks at it.
    await Promise.resolve()
    this.#subscription[Symbol.dispose]()
    // Has no effect once a session was open.
    this.#opened.reject(
      new OttlaError('OTTLA_RUNTIME_STOPPING', 'the relay was stopped before its first session was open'),
    )
    const untilMs = this.#now() + drainMs
    this.#nudge()
    await within(this.#options.clock, Math.max(0, untilMs - this.#now()), this.#loop)
    while (this.#sentRows > 0 && this.#now() < untilMs) await this.#pause(untilMs - this.#now())
    const session = this.#session
    this.#session = null
    const { log } = this.#options
    try {
      if (session && this.#acknowledged.length > 0) await this.#mark(session)
    } catch (error) {
      log.warn('published rows could not be marked; they go out again with the same ids', { error })
    }
    await this.#end(session)
    if (this.#options.writer === undefined) await this.#end(this.#writer)
    this.#state = 'stopped'
  }

  async #end(one: AsyncDisposable | null): Promise<void> {
    try {
      await one?.[Symbol.asyncDispose]()
    } catch (error) {
      this.#options.log.debug('a session or writer of the relay did not end in order', { error })
    }
  }
}

/** Keyed rows share a lane by topic and key; a row without a key is alone. */
function laneOf({ row, record }: ClaimedEvent): string {
  if (record.key === null) return `row ${row}`
  return `${record.topic} ${Buffer.from(record.key.buffer, record.key.byteOffset, record.key.byteLength).toString('latin1')}`
}

const stepFacts = ({ row, record }: ClaimedEvent): object => ({
  row,
  id: record.id,
  topic: record.topic,
  type: record.type,
  source: record.source,
})

const publishedFacts = ({ record }: ClaimedEvent, sent: Sent): Published => ({
  source: record.source,
  topic: record.topic,
  partition: sent.partition,
  position: sent.position,
  type: record.type,
  id: record.id,
  key: record.key === null ? null : showUtf8(record.key),
})

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))
