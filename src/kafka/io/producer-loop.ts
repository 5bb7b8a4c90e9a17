/**
 * Runs the producer's machine: looks up topics, waits for memory, sends requests at the end of a turn, and tells every
 * caller how its record ended.
 *
 * A record's way:
 *
 *     accept ──topic known, room──▶ placed in a batch ──turn ends──▶ Produce ──▶ stored | refused | outcome unknown
 *        │                              ▲
 *        └──▶ waiting (per topic, in order; bounded in bytes and time) ─┘
 *
 * Turns end with `setImmediate`, not with a microtask: it runs after all callbacks of one poll of the event loop, so what
 * many sockets' handlers publish goes out in one request, and it costs once per turn, whatever the number of records. The
 * answer to a request also only asks for a turn: what its callers publish next is then part of it.
 */
import { OttlaError } from '../../contract/errors.ts'
import type { Codec, CompressionName } from '../../wire/compression.ts'
import { isRetriable } from '../../wire/error-codes.ts'
import type { GatheredRequest } from '../../wire/gathered-request.ts'
import { type ProduceTopic, produceRequest } from '../../wire/produce-request.ts'
import { Api, type Responses } from '../../wire/protocol.ts'
import {
  batchHeaderBytes,
  type OutgoingHeader,
  type Payload,
  recordBytesAtMost,
  recordBytesIfAscii,
} from '../../wire/record-batch.ts'
import { zeroUuid } from '../../wire/uuid.ts'
import { brokerError } from '../broker-error.ts'
import { Accumulator } from '../machine/accumulator.ts'
import { backoffMs } from '../machine/backoff.ts'
import type { TopicState } from '../machine/metadata.ts'
import { keyPartition, type Partitioner, StickyPartitioner } from '../machine/partitioner.ts'
import type { Batch, Moment, ProducerIdentity, Verdict } from '../machine/sequencer.ts'
import type { Cluster } from './cluster.ts'

export interface ProducerLoopOptions {
  readonly lingerMs: number
  readonly batchBytes: number
  readonly maxRequestBytes: number
  readonly maxBufferedBytes: number
  readonly maxBlockMs: number
  readonly deliveryTimeoutMs: number
  readonly requestTimeoutMs: number
  readonly maxInFlight: number
  readonly retryBackoffMs: number
  readonly compression: { readonly name: CompressionName; readonly codec: Codec } | null
  /** Declared partition counts by topic. */
  readonly partitions: Readonly<Record<string, number>>
  readonly partitioner: Partitioner | null
}

/** A record as the loop takes it, and who waits for it: exactly one of `stored` and `failed` is called, once. */
export interface Outgoing {
  readonly topic: string
  /** -1: choose. */
  readonly partition: number
  readonly key: Payload
  readonly value: Payload
  readonly headers: readonly OutgoingHeader[]
  readonly timestampMs: number
  /** The loop's own note of what it takes in a batch; 0 at first. */
  estimate: number
  /** The loop's own note of when it was taken; 0 at first. */
  sinceMs: number
  stored(partition: number, offset: number, timestampMs: number): void
  failed(error: OttlaError): void
}

interface Topic {
  readonly name: string
  readonly sticky: StickyPartitioner
  waiting: Outgoing[]
  lookingUp: boolean
  /** When the cluster first said that it does not exist; 0 when it did not. */
  unknownSinceMs: number
}

interface Broker {
  readonly node: number
  inFlight: number
}

/** A topic made a moment ago may not be known to every broker yet; after this long it does not exist. */
const unknownTopicMs = 5_000
/** So much goes to one partition before records without a key move on, as Java's producer does it. */
const stickyBytes = 16 * 1024
/** Of Produce; the first that names topics by id. */
const newestVersion = 13
/** Texts of records larger than this are measured when they are taken; those of smaller ones while they are written. */
const measuredBytes = 8 * 1024
/** Errors that no later attempt can cure. */
const hopeless = new Set([
  'OTTLA_KAFKA_AUTHENTICATION',
  'OTTLA_KAFKA_TLS',
  'OTTLA_KAFKA_CLOSED',
  'OTTLA_KAFKA_UNSUPPORTED_VERSION',
])

export class ProducerLoop {
  readonly #cluster: Cluster
  readonly #options: ProducerLoopOptions
  readonly #accumulator: Accumulator<Outgoing>
  readonly #topics = new Map<string, Topic>()
  readonly #brokers = new Map<number, Broker>()
  readonly #subscription: Disposable
  readonly #sweepMs: number
  /** Called whenever something was settled or left the queue of the waiting. */
  #watchers: (() => void)[] = []
  #identity: ProducerIdentity | null = null
  #identifying = false
  #lastTopic: Topic | null = null
  #waitingBytes = 0
  #waitingCount = 0
  #turnAsked = false
  #turnStartMs = 0
  #timer: NodeJS.Timeout | undefined
  #timerAtMs = Number.POSITIVE_INFINITY
  #refreshing = false
  #lastTrouble: OttlaError | null = null
  #closing = false
  #ended: OttlaError | null = null

  constructor(cluster: Cluster, options: ProducerLoopOptions) {
    this.#cluster = cluster
    this.#options = options
    this.#sweepMs = Math.min(500, Math.max(10, options.deliveryTimeoutMs / 20))
    this.#accumulator = new Accumulator<Outgoing>({
      batchBytes: options.batchBytes,
      requestBytes: options.maxRequestBytes,
      bufferedBytesMax: options.maxBufferedBytes,
      lingerMs: options.lingerMs,
      deliveryTimeoutMs: options.deliveryTimeoutMs,
      inFlightMax: options.maxInFlight,
      backoff: { baseMs: options.retryBackoffMs, maxMs: Math.max(1_000, options.retryBackoffMs) },
      isRetriable,
    })
    this.#subscription = cluster.onMetadata((changes) => {
      for (const moved of changes.moved) if (moved.leader >= 0) this.#accumulator.wake(moved.topic, moved.partition)
      this.#askForTurn()
    })
  }

  /** Bytes of records taken and not settled, waiting ones included. */
  get bufferedBytes(): number {
    return this.#accumulator.bufferedBytes + this.#waitingBytes
  }

  // ── in ──

  /** Takes a record over, or fails it. Records of one partition keep the order of these calls. */
  accept(record: Outgoing): void {
    const refusal = this.#ended ?? (this.#closing ? closed() : null)
    if (refusal !== null) {
      record.failed(refusal)
      return
    }
    const { maxRequestBytes } = this.#options
    let estimate = recordBytesIfAscii(record.key, record.value, record.headers)
    if (estimate > measuredBytes || estimate * 3 > maxRequestBytes) {
      estimate = recordBytesAtMost(record.key, record.value, record.headers)
      if (estimate + batchHeaderBytes > maxRequestBytes) {
        record.failed(tooLarge(record.topic, estimate, maxRequestBytes))
        return
      }
    }
    record.estimate = estimate
    const topic = this.#lastTopic?.name === record.topic ? this.#lastTopic : this.#topic(record.topic)
    if (!this.#turnAsked) this.#turnStartMs = performance.now()
    record.sinceMs = this.#turnStartMs
    if (topic.waiting.length === 0 && this.#accumulator.hasRoom(estimate)) {
      const state = this.#cluster.metadata.topic(record.topic)
      if (state !== undefined && state.error === 0 && state.partitions.length > 0) {
        this.#place(topic, state, record)
        return
      }
    }
    this.#wait(topic, record)
  }

  /** Gives a waiting record up: true when it was still waiting, and will not be sent. */
  withdraw(record: Outgoing): boolean {
    const topic = this.#topics.get(record.topic)
    const at = topic?.waiting.indexOf(record) ?? -1
    if (topic === undefined || at < 0) return false
    topic.waiting.splice(at, 1)
    this.#leftWaiting(record)
    this.#changed()
    return true
  }

  /** Resolves when everything accepted before has been settled. */
  async flush(): Promise<void> {
    const before = performance.now()
    await this.#until(() => {
      for (const topic of this.#topics.values()) if ((topic.waiting[0]?.sinceMs ?? Infinity) <= before) return false
      return true
    })
    this.#accumulator.sealAll()
    const tallies = new Set(this.#accumulator.batches().map((batch) => batch.tally))
    this.#askForTurn()
    await this.#until(() => {
      for (const tally of tallies) if (tally.left > 0) return false
      return true
    })
  }

  /** Takes nothing more, waits for what was taken, and stops. Every record is settled before this resolves. */
  async close(): Promise<void> {
    if (this.#ended !== null) return
    this.#closing = true
    await this.flush()
    this.#end(closed())
  }

  /** Stops at once: what is not settled fails. */
  #end(error: OttlaError): void {
    if (this.#ended !== null) return
    this.#ended = error
    this.#subscription[Symbol.dispose]()
    clearTimeout(this.#timer)
    this.#failAll(error)
  }

  // ── placing ──

  #topic(name: string): Topic {
    let topic = this.#topics.get(name)
    if (topic === undefined) {
      topic = { name, sticky: new StickyPartitioner(stickyBytes), waiting: [], lookingUp: false, unknownSinceMs: 0 }
      this.#topics.set(name, topic)
    }
    this.#lastTopic = topic
    return topic
  }

  #place(topic: Topic, state: TopicState, record: Outgoing): void {
    const partition = this.#choose(topic, state, record)
    if (typeof partition !== 'number') {
      record.failed(partition)
      return
    }
    this.#accumulator.append(topic.name, partition, record, record, record.sinceMs)
    if (!this.#turnAsked) this.#askForTurn()
  }

  #choose(topic: Topic, state: TopicState, record: Outgoing): number | OttlaError {
    const count = state.partitions.length
    if (record.partition >= 0) {
      return record.partition < count ? record.partition : noPartition(topic.name, record.partition, count)
    }
    const declared = this.#options.partitions[topic.name]
    if (declared !== undefined && declared > count) {
      return new OttlaError(
        'OTTLA_PUBLISH_PARTITION',
        `${topic.name} has ${count} partitions, but ${declared} are declared`,
        { details: { topic: topic.name, partitions: count, declared } },
      )
    }
    const { key } = record
    if (this.#options.partitioner !== null) {
      const bytes = typeof key === 'string' ? Buffer.from(key, 'utf8') : key
      const chosen = this.#options.partitioner({ topic: topic.name, key: bytes, partitions: declared ?? count })
      return Number.isInteger(chosen) && chosen >= 0 && chosen < count ? chosen : noPartition(topic.name, chosen, count)
    }
    if (key !== null) return keyPartition(key, declared ?? count)
    return topic.sticky.choose(state.partitions, record.estimate, Math.random)
  }

  #wait(topic: Topic, record: Outgoing): void {
    if (this.#waitingCount > 0 && this.#waitingBytes + record.estimate > this.#options.maxBufferedBytes) {
      record.failed(this.#full(topic.name))
      return
    }
    topic.waiting.push(record)
    this.#waitingBytes += record.estimate
    this.#waitingCount += 1
    this.#lookUp(topic)
    this.#armTimer(record.sinceMs + this.#sweepMs)
  }

  /** Moves waiting records on, in order, as far as there is room. */
  #placeWaiting(nowMs: number): void {
    if (this.#waitingCount === 0) return
    for (const topic of this.#topics.values()) {
      if (topic.waiting.length === 0) continue
      const state = this.#cluster.metadata.topic(topic.name)
      if (state === undefined || state.error !== 0 || state.partitions.length === 0) {
        this.#lookUp(topic)
        continue
      }
      let placed = 0
      for (const waiting of topic.waiting) {
        if (!this.#accumulator.hasRoom(waiting.estimate)) break
        placed += 1
        this.#leftWaiting(waiting)
        this.#place(topic, state, waiting)
      }
      if (placed > 0) {
        topic.waiting = topic.waiting.slice(placed)
        this.#changed()
      }
    }
    this.#armTimer(nowMs + this.#sweepMs)
  }

  #leftWaiting(waiting: Outgoing): void {
    this.#waitingBytes -= waiting.estimate
    this.#waitingCount -= 1
  }

  #failWaiting(topic: Topic, error: OttlaError): void {
    for (const waiting of topic.waiting.splice(0)) {
      this.#leftWaiting(waiting)
      waiting.failed(error)
    }
    this.#changed()
  }

  // ── topics ──

  #lookUp(topic: Topic): void {
    if (topic.lookingUp) return
    const state = this.#cluster.metadata.topic(topic.name)
    if (state !== undefined && state.error === 0 && state.partitions.length > 0) return
    topic.lookingUp = true
    this.#cluster
      .ensureTopics([topic.name])
      .then(
        () => this.#onLookedUp(topic),
        (error: OttlaError) => {
          this.#lastTrouble = error
          if (hopeless.has(error.code)) this.#failWaiting(topic, error)
        },
      )
      .finally(() => {
        topic.lookingUp = false
        this.#askForTurn()
      })
  }

  #onLookedUp(topic: Topic): void {
    const state = this.#cluster.metadata.topic(topic.name)
    if (state === undefined || state.error === 0) {
      topic.unknownSinceMs = 0
      return
    }
    const error = brokerError(state.error, `Looking up topic ${topic.name}`)
    this.#lastTrouble = error
    if (state.error === 3) {
      const nowMs = performance.now()
      if (topic.unknownSinceMs === 0) topic.unknownSinceMs = nowMs
      if (nowMs - topic.unknownSinceMs < unknownTopicMs) return
      topic.unknownSinceMs = 0
      this.#failWaiting(
        topic,
        new OttlaError(error.code, `Topic ${topic.name} does not exist`, {
          ...(error.kafka === undefined ? {} : { kafka: error.kafka }),
          details: { topic: topic.name },
        }),
      )
      return
    }
    topic.unknownSinceMs = 0
    if (!error.retriable) this.#failWaiting(topic, error)
  }

  // ── turns ──

  #askForTurn(): void {
    if (this.#turnAsked || this.#ended !== null) return
    this.#turnAsked = true
    // A turn may be asked for by an answer, and what its receiver then sends belongs to it: not to a turn long ago.
    this.#turnStartMs = performance.now()
    setImmediate(() => {
      this.#turnAsked = false
      if (this.#ended === null) this.#turn()
    })
  }

  #turn(): void {
    const nowMs = performance.now()
    this.#placeWaiting(nowMs)
    if (this.#accumulator.isEmpty) return
    const identity = this.#identity
    if (identity === null || this.#accumulator.needsNewId(identity)) this.#identify()
    if (identity !== null) {
      const urgent = this.#waitingCount > 0
      const { metadata } = this.#cluster
      const groups = this.#accumulator.byLeader((topic, p) => metadata.partition(topic, p)?.leader ?? -1)
      for (const [node, sequencers] of groups) {
        if (node < 0) {
          this.#refresh()
          continue
        }
        const broker = this.#broker(node)
        for (;;) {
          const { batches } = this.#accumulator.drain(sequencers, {
            identity,
            node,
            inFlight: broker.inFlight,
            nowMs,
            urgent,
          })
          if (batches.length === 0) break
          this.#produce(broker, batches)
        }
      }
    }
    this.#armTimer(Math.min(this.#accumulator.nextDueMs(nowMs), nowMs + this.#sweepMs))
  }

  #armTimer(atMs: number): void {
    if (this.#timerAtMs <= atMs || this.#ended !== null) return
    clearTimeout(this.#timer)
    this.#timerAtMs = atMs
    this.#timer = setTimeout(
      () => {
        this.#timerAtMs = Number.POSITIVE_INFINITY
        this.#sweep()
      },
      Math.max(1, Math.ceil(atMs - performance.now())),
    )
  }

  /** What time alone brings about: pauses end, batches and waiting records run out of it. */
  #sweep(): void {
    const nowMs = performance.now()
    for (const { batch, maybeStored } of this.#accumulator.expire(nowMs)) {
      this.#tell(batch, this.#expired(batch.topic, batch.partition, maybeStored))
    }
    for (const topic of this.#topics.values()) {
      const deadMs = nowMs - this.#options.maxBlockMs
      while ((topic.waiting[0]?.sinceMs ?? Infinity) <= deadMs) {
        const waiting = topic.waiting.shift() as Outgoing
        this.#leftWaiting(waiting)
        const state = this.#cluster.metadata.topic(topic.name)
        const known = state !== undefined && state.error === 0 && state.partitions.length > 0
        waiting.failed(known ? this.#full(topic.name) : this.#unknownTopic(topic.name))
        this.#changed()
      }
    }
    this.#turn()
    if (this.#waitingCount > 0) this.#armTimer(nowMs + this.#sweepMs)
  }

  // ── out ──

  #broker(node: number): Broker {
    let broker = this.#brokers.get(node)
    if (broker === undefined) {
      broker = { node, inFlight: 0 }
      this.#brokers.set(node, broker)
    }
    return broker
  }

  #produce(broker: Broker, batches: Batch<Outgoing>[]): void {
    broker.inFlight += 1
    const ids = new Map<string, string>()
    let byId = true
    for (const { topic } of batches) {
      const id = this.#cluster.metadata.topic(topic)?.id ?? zeroUuid
      if (id === zeroUuid) byId = false
      ids.set(topic, id)
    }
    this.#cluster
      .request(broker.node, Api.Produce, () => this.#produceRequest(batches, ids), {
        lane: 'produce',
        timeoutMs: this.#options.requestTimeoutMs,
        // From 13 on topics are named by id.
        maxVersion: byId ? newestVersion : newestVersion - 1,
      })
      .then(
        ({ body, version }) => {
          this.#cameHome(broker)
          this.#onAnswers(batches, body, version >= 13 ? ids : null)
        },
        (error: unknown) => {
          this.#cameHome(broker)
          this.#onNoAnswers(batches, error)
        },
      )
  }

  #cameHome(broker: Broker): void {
    broker.inFlight -= 1
    // A turn is only asked for: what the callers that are told now publish next is part of it.
    this.#askForTurn()
  }

  #produceRequest(batches: readonly Batch<Outgoing>[], ids: ReadonlyMap<string, string>): GatheredRequest {
    const topics = new Map<string, { name: string; id: string; partitions: ProduceTopic['partitions'][number][] }>()
    const { compression, requestTimeoutMs } = this.#options
    for (const { topic: name, partition: index, builder, producerId, epoch, sequence } of batches) {
      const batch = builder.buildParts({ producerId, producerEpoch: epoch, baseSequence: sequence, compression })
      const topic = topics.get(name)
      if (topic === undefined) {
        topics.set(name, { name, id: ids.get(name) ?? zeroUuid, partitions: [{ index, batch }] })
      } else {
        topic.partitions.push({ index, batch })
      }
    }
    return produceRequest(requestTimeoutMs, [...topics.values()])
  }

  #onAnswers(
    batches: readonly Batch<Outgoing>[],
    body: Responses[typeof Api.Produce],
    ids: ReadonlyMap<string, string> | null,
  ): void {
    const moment = this.#moment()
    for (const batch of batches) {
      const key = ids === null ? batch.topic : ids.get(batch.topic)
      const answer = body.responses
        .find((t) => (ids === null ? t.name : t.topicId) === key)
        ?.partitionResponses.find((p) => p.index === batch.partition)
      const sequencer = this.#accumulator.sequencerOf(batch)
      if (answer === undefined) {
        this.#carryOut(batch, sequencer.onNoAnswer(batch, true, moment), null)
        continue
      }
      const { errorCode, baseOffset, logAppendTimeMs } = answer
      let learned = false
      if (errorCode !== 0 && answer.currentLeader.leaderId >= 0) {
        const { leaderId, leaderEpoch } = answer.currentLeader
        learned = this.#cluster.metadata.learnLeader(batch.topic, batch.partition, leaderId, leaderEpoch)
      }
      const verdict = sequencer.onAnswer(batch, { errorCode, baseOffset, appendTimeMs: logAppendTimeMs }, moment)
      if (learned) sequencer.wake()
      const error =
        errorCode === 0
          ? null
          : brokerError(errorCode, `Produce to ${batch.topic}-${batch.partition}`, answer.errorMessage)
      this.#carryOut(batch, verdict, error)
    }
  }

  #onNoAnswers(batches: readonly Batch<Outgoing>[], cause: unknown): void {
    const moment = this.#moment()
    const error =
      cause instanceof OttlaError
        ? cause
        : new OttlaError('OTTLA_KAFKA_CONNECTION', `Produce failed: ${String(cause)}`, { cause })
    const sent = error.details.sent === true || error.code === 'OTTLA_WIRE_MALFORMED'
    const isHopeless = hopeless.has(error.code) || (!sent && !error.retriable)
    for (const batch of batches) {
      const sequencer = this.#accumulator.sequencerOf(batch)
      if (sent) batch.maybeStored = true
      this.#carryOut(
        batch,
        isHopeless ? sequencer.onImpossible(batch) : sequencer.onNoAnswer(batch, sent, moment),
        error,
      )
    }
  }

  #carryOut(batch: Batch<Outgoing>, verdict: Verdict, error: OttlaError | null): void {
    if (error !== null) this.#lastTrouble = error
    switch (verdict.kind) {
      case 'stored': {
        this.#accumulator.release(batch)
        const { callers, partition } = batch
        const { baseOffset, appendTimeMs } = verdict
        for (let i = 0; i < callers.length; i += 1) {
          const caller = callers[i] as Outgoing
          const timestampMs = appendTimeMs >= 0 ? appendTimeMs : caller.timestampMs
          caller.stored(partition, baseOffset < 0 ? -1 : baseOffset + i, timestampMs)
        }
        this.#settled(batch)
        return
      }
      case 'failed': {
        this.#accumulator.release(batch)
        const cause = error ?? brokerError(verdict.errorCode, `Produce to ${batch.topic}-${batch.partition}`)
        this.#tell(batch, verdict.maybeStored ? unknownOutcome(batch, cause) : refusedFor(batch, cause))
        return
      }
      case 'again':
        if (verdict.refresh) this.#refresh()
        return
      case 'forgotten':
        this.#accumulator.rest(batch)
        return
      default:
        verdict satisfies never
    }
  }

  #tell(batch: Batch<Outgoing>, error: OttlaError): void {
    for (const caller of batch.callers) caller.failed(error)
    this.#settled(batch)
  }

  #settled(batch: Batch<Outgoing>): void {
    batch.tally.left -= batch.callers.length
    this.#changed()
  }

  #failAll(error: OttlaError): void {
    for (const topic of this.#topics.values()) this.#failWaiting(topic, error)
    for (const batch of this.#accumulator.batches()) {
      if (!batch.expired) this.#tell(batch, batch.attempts > 0 ? unknownOutcome(batch, error) : error)
      batch.expired = true
    }
  }

  // ── identity and metadata ──

  /** Asks for a producer id; what waits for one goes on when it comes. */
  #identify(): void {
    if (this.#identifying) return
    this.#identifying = true
    const ask = async (): Promise<void> => {
      for (let failures = 1; this.#ended === null && !this.#accumulator.isEmpty; failures += 1) {
        try {
          const { body } = await this.#cluster.request('any', Api.InitProducerId, {
            transactionalId: null,
            transactionTimeoutMs: 0x7fff_ffff,
          })
          if (body.errorCode !== 0) throw brokerError(body.errorCode, 'InitProducerId')
          this.#identity = { id: body.producerId, epoch: body.producerEpoch }
          return
        } catch (cause) {
          const error =
            cause instanceof OttlaError ? cause : new OttlaError('OTTLA_KAFKA_CONNECTION', String(cause), { cause })
          this.#lastTrouble = error
          if (!error.retriable) {
            // No id, nothing is sent: what waits for one would only wait for its deadline.
            for (const { batch, maybeStored } of this.#accumulator.giveUpAll()) {
              this.#tell(batch, maybeStored ? unknownOutcome(batch, error) : error)
            }
            return
          }
          const pauseMs = backoffMs({ baseMs: this.#options.retryBackoffMs, maxMs: 1_000 }, failures, Math.random())
          await new Promise((resolve) => setTimeout(resolve, pauseMs))
        }
      }
    }
    ask().finally(() => {
      this.#identifying = false
      this.#askForTurn()
    })
  }

  #refresh(): void {
    if (this.#refreshing || this.#ended !== null) return
    this.#refreshing = true
    this.#cluster
      .refresh()
      .catch((error: OttlaError) => {
        this.#lastTrouble = error
      })
      .finally(() => {
        this.#refreshing = false
        this.#askForTurn()
      })
  }

  // ── small things ──

  #moment(): Moment {
    return { nowMs: performance.now(), random: Math.random() }
  }

  #changed(): void {
    if (this.#watchers.length > 0) for (const watcher of [...this.#watchers]) watcher()
  }

  #until(isSo: () => boolean): Promise<void> {
    if (isSo()) return Promise.resolve()
    return new Promise((resolve) => {
      const watcher = (): void => {
        if (!isSo()) return
        this.#watchers = this.#watchers.filter((w) => w !== watcher)
        resolve()
      }
      this.#watchers.push(watcher)
    })
  }

  #full(topic: string): OttlaError {
    return new OttlaError(
      'OTTLA_PUBLISH_BUFFER_FULL',
      `No room for a record for ${topic}: ${this.#accumulator.bufferedBytes} bytes are buffered and ${this.#waitingBytes} more wait (maxBufferedBytes ${this.#options.maxBufferedBytes})`,
      { ...(this.#lastTrouble === null ? {} : { cause: this.#lastTrouble }), details: { topic } },
    )
  }

  #unknownTopic(topic: string): OttlaError {
    const trouble = this.#lastTrouble
    return new OttlaError(
      'OTTLA_KAFKA_TIMEOUT',
      `Nothing could be learned of topic ${topic} within ${this.#options.maxBlockMs} ms${trouble === null ? '' : `: ${trouble.message}`}`,
      { ...(trouble === null ? {} : { cause: trouble }), details: { topic, maybeStored: false } },
    )
  }

  #expired(topic: string, partition: number, maybeStored: boolean): OttlaError {
    const trouble = this.#lastTrouble
    return new OttlaError(
      'OTTLA_PUBLISH_OUTCOME_UNKNOWN',
      `${topic}-${partition} did not confirm within ${this.#options.deliveryTimeoutMs} ms${trouble === null ? '' : `; last trouble: ${trouble.message}`}`,
      { ...(trouble === null ? {} : { cause: trouble }), details: { topic, partition, maybeStored } },
    )
  }
}

function tooLarge(topic: string, bytes: number, maxRequestBytes: number): OttlaError {
  return new OttlaError(
    'OTTLA_PUBLISH_TOO_LARGE',
    `A record for ${topic} takes about ${bytes} bytes; maxRequestBytes allows ${maxRequestBytes}`,
    { details: { topic, bytes } },
  )
}

function closed(): OttlaError {
  return new OttlaError('OTTLA_KAFKA_CLOSED', 'The producer was closed')
}

function noPartition(topic: string, partition: number, count: number): OttlaError {
  return new OttlaError('OTTLA_PUBLISH_PARTITION', `${topic} has partitions 0 to ${count - 1}, not ${partition}`, {
    details: { topic, partition, partitions: count },
  })
}

/** The broker refused the batch, and nothing of it is stored. */
function refusedFor(batch: Batch<Outgoing>, cause: OttlaError): OttlaError {
  if (cause.kafka?.code !== 10 && cause.kafka?.code !== 18) return cause
  return new OttlaError(
    'OTTLA_PUBLISH_TOO_LARGE',
    `A record for ${batch.topic}-${batch.partition} is larger than the topic takes (max.message.bytes)`,
    { cause, kafka: cause.kafka, details: { topic: batch.topic, partition: batch.partition } },
  )
}

function unknownOutcome(batch: Batch<Outgoing>, cause: OttlaError): OttlaError {
  return new OttlaError(
    'OTTLA_PUBLISH_OUTCOME_UNKNOWN',
    `${batch.topic}-${batch.partition} may or may not have stored it: ${cause.message}`,
    {
      cause,
      ...(cause.kafka === undefined ? {} : { kafka: cause.kafka }),
      details: { topic: batch.topic, partition: batch.partition, maybeStored: true },
    },
  )
}
