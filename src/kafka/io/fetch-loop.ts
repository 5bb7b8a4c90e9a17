/**
 * Sends the fetches that the planner plans and hands their records on.
 *
 * The order of work on an answer: read only the headers of its batches to know the next positions, send the next fetch,
 * and only then verify, inflate and deliver. What a paused partition was sent waits in memory until it is resumed,
 * released or seeked: at most two answers' worth, as nothing more is fetched for it meanwhile.
 *
 * What goes wrong with one partition is dealt with for that partition: passing states wait and ask again, a damaged
 * batch or an offset out of range stops it with a fault until somebody seeks.
 */
import { OttlaError } from '../../contract/errors.ts'
import type { Compression } from '../../wire/compression.ts'
import type { Crc32c } from '../../wire/crc32c.ts'
import { ErrorCode, isRetriable } from '../../wire/error-codes.ts'
import type { FetchResponsePartitionData } from '../../wire/messages.gen.ts'
import { Api, type Draft, type Requests } from '../../wire/protocol.ts'
import { nextBatchBytes, RecordBatch } from '../../wire/record-batch.ts'
import { brokerError } from '../broker-error.ts'
import { AbortedFilter } from '../machine/aborted-filter.ts'
import { type FetchItem, type FetchPlan, FetchPlanner } from '../machine/fetch-planner.ts'
import type { MetadataChanges } from '../machine/metadata.ts'
import type { HeldPartition } from '../machine/ownership.ts'
import { emptyBatch, type FetchedBatch, recordsFrom } from './batch-view.ts'
import type { Cluster } from './cluster.ts'
import { listOffsets, offsetSpec } from './offsets.ts'

export interface FetchLoopOptions {
  readonly isolation: 'read_committed' | 'read_uncommitted'
  readonly maxWaitMs: number
  readonly minBytes: number
  /** Of one answer. */
  readonly maxBytes: number
  readonly maxBytesPerPartition: number
  readonly maxInflatedBytes: number
  readonly requestTimeoutMs: number
  readonly retryBackoffMs: number
  readonly retryBackoffMaxMs: number
  readonly compression: Compression
  readonly crc32c?: Crc32c
  /** The connection used for fetches: its own per consumer, as brokers answer one request per connection at a time. */
  readonly lane: string
}

export interface FetchEvents {
  batch(held: HeldPartition, records: FetchedBatch): void
  fault(held: HeldPartition, error: OttlaError): void
}

/** One partition's part of an answer, with how far it has been handed on. */
interface Cargo {
  readonly records: Uint8Array
  /** Records below are left out: the first batch may begin earlier than asked. */
  readonly from: number
  readonly filter: AbortedFilter
  at: number
}

const zeroId = 'AAAAAAAAAAAAAAAAAAAAAA'
const keyOf = (held: HeldPartition): string => `${held.topic}\0${held.partition}`

export class FetchLoop implements AsyncDisposable {
  readonly #cluster: Cluster
  readonly #options: FetchLoopOptions
  readonly #on: FetchEvents
  readonly #planner: FetchPlanner
  readonly #cargo = new Map<string, { held: HeldPartition; list: Cargo[] }>()
  readonly #abort = new AbortController()
  readonly #metadata: Disposable
  readonly #open = new Set<Promise<void>>()
  readonly #checking = new Set<HeldPartition>()
  #timer: NodeJS.Timeout | undefined
  #refreshing = false
  #refreshFailures = 0
  #delivering = false
  #stale = false

  constructor(cluster: Cluster, options: FetchLoopOptions, on: FetchEvents) {
    this.#cluster = cluster
    this.#options = options
    this.#on = on
    this.#planner = new FetchPlanner(options)
    this.#metadata = cluster.onMetadata((changes) => this.#learn(changes))
  }

  /** Takes a partition in; nothing is fetched before `open`. */
  add(held: HeldPartition, position: number): void {
    this.#planner.add(held, position)
  }

  open(held: HeldPartition): void {
    this.#planner.open(held)
    // Partitions are opened several at a time: the first fetch asks for all of them, or the others wait out its long poll.
    this.#soon()
  }

  /** Nothing of this partition is handed on any more. */
  remove(held: HeldPartition): void {
    this.#planner.remove(held)
    this.#unload(held)
  }

  pause(held: HeldPartition): void {
    this.#planner.pause(held)
  }

  resume(held: HeldPartition): void {
    this.#planner.resume(held)
    this.#soon()
  }

  /** Fetches and delivers, but not inside the caller: `resume` may be called while a batch is being handed on. */
  #soon(): void {
    if (this.#stale) return
    this.#stale = true
    queueMicrotask(() => {
      this.#stale = false
      this.#pump()
      this.#deliver()
    })
  }

  seek(held: HeldPartition, position: number): void {
    this.#planner.seek(held, position)
    this.#unload(held)
    this.#pump()
  }

  stop(held: HeldPartition): void {
    this.#planner.stop(held)
    this.#unload(held)
  }

  /** Where the next fetch starts. */
  position(held: HeldPartition): number | undefined {
    return this.#planner.position(held)
  }

  /** Leader epoch of the last batch taken, -1 when none was. */
  epoch(held: HeldPartition): number {
    return this.#planner.epoch(held)
  }

  /** End of the log as last told, -1 before the first answer. */
  highWatermark(held: HeldPartition): number {
    return this.#planner.highWatermark(held)
  }

  /** Left out of fetches: paused or stopped. */
  isIdle(held: HeldPartition): boolean {
    return this.#planner.isIdle(held)
  }

  knowHighWatermark(held: HeldPartition, highWatermark: number): void {
    this.#planner.knowHighWatermark(held, highWatermark)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort()
    this.#metadata[Symbol.dispose]()
    clearTimeout(this.#timer)
    await Promise.allSettled(this.#open)
    this.#cargo.clear()
  }

  get #closed(): boolean {
    return this.#abort.signal.aborted
  }

  #pump(): void {
    if (this.#closed) return
    const now = performance.now()
    const plans = this.#planner.plan((held) => {
      const state = this.#cluster.metadata.partition(held.topic, held.partition)
      return { node: state?.leader ?? -1, epoch: state?.leaderEpoch ?? -1 }
    }, now)
    for (const plan of plans) {
      const run = this.#fetch(plan).finally(() => this.#open.delete(run))
      this.#open.add(run)
    }
    if (this.#planner.leaderless) this.#refresh()
    clearTimeout(this.#timer)
    const wake = this.#planner.wakeAtMs
    if (wake !== null) this.#timer = setTimeout(() => this.#pump(), Math.max(1, Math.ceil(wake - now)))
  }

  /** Asks for fresh metadata, one call at a time, and plans again. Calls in a row are spaced out. */
  #refresh(): void {
    if (this.#refreshing || this.#closed) return
    this.#refreshing = true
    const { retryBackoffMs, retryBackoffMaxMs } = this.#options
    const delayMs = Math.min(retryBackoffMaxMs, retryBackoffMs * 2 ** Math.min(this.#refreshFailures++, 10))
    const run = this.#cluster
      .refresh()
      // What failed here is met again, and told, by the fetches that need it.
      .catch(() => undefined)
      .then(() => pause(this.#planner.leaderless ? delayMs : 1, this.#abort.signal))
      .then(() => {
        this.#refreshing = false
        this.#pump()
      })
      .finally(() => this.#open.delete(run))
    this.#open.add(run)
  }

  async #fetch(plan: FetchPlan): Promise<void> {
    const { maxWaitMs } = plan
    const { lane, requestTimeoutMs } = this.#options
    const byName = plan.items.some((item) => item.held.topicId === zeroId)
    let partitions: readonly { readonly item: FetchItem; readonly told: FetchResponsePartitionData }[]
    try {
      const { body } = await this.#cluster.request(plan.node, Api.Fetch, (version) => this.#request(plan, version), {
        lane,
        timeoutMs: maxWaitMs + requestTimeoutMs,
        maxVersion: byName ? 12 : 17,
        signal: this.#abort.signal,
      })
      if (body.errorCode !== ErrorCode.NONE) throw brokerError(body.errorCode, `Fetch at broker ${plan.node}`)
      partitions = matchAnswers(plan, body.responses)
    } catch (error) {
      this.#planner.release(plan)
      if (this.#closed) return
      this.#failedWhole(plan, error)
      return
    }
    this.#planner.release(plan)
    if (this.#closed) return
    this.#refreshFailures = 0
    for (const { item, told } of partitions) {
      if (!this.#planner.isWanted(item)) continue
      if (told.errorCode === ErrorCode.NONE) this.#take(item, told)
      else this.#refused(item, told)
    }
    this.#pump()
    this.#deliver()
  }

  #request(plan: FetchPlan, version: number): Draft<Requests[typeof Api.Fetch]> {
    const topics = new Map<string, { topic: string; topicId: string; partitions: object[] }>()
    for (const { held, position, leaderEpoch } of plan.items) {
      const id = held.topicId
      const topic = topics.get(id + held.topic) ?? {
        topic: version < 13 ? held.topic : '',
        topicId: version < 13 ? zeroId : id,
        partitions: [],
      }
      topic.partitions.push({
        partition: held.partition,
        currentLeaderEpoch: leaderEpoch,
        fetchOffset: position,
        partitionMaxBytes: this.#options.maxBytesPerPartition,
      })
      topics.set(id + held.topic, topic)
    }
    return {
      maxWaitMs: plan.maxWaitMs,
      minBytes: this.#options.minBytes,
      maxBytes: this.#options.maxBytes,
      isolationLevel: this.#options.isolation === 'read_committed' ? 1 : 0,
      sessionId: 0,
      sessionEpoch: -1,
      topics: [...topics.values()],
    }
  }

  /** No usable answer: every partition in it waits, and its leader may be another by now. */
  #failedWhole(plan: FetchPlan, error: unknown): void {
    const now = performance.now()
    const telling = error instanceof OttlaError && !error.retriable ? error : undefined
    for (const item of plan.items) {
      const isFirst = this.#planner.failures(item.held) === 0
      this.#planner.delay(item, now)
      if (telling !== undefined && isFirst && this.#planner.isWanted(item)) this.#on.fault(item.held, telling)
    }
    this.#refresh()
    this.#pump()
  }

  #take(item: FetchItem, told: FetchResponsePartitionData): void {
    const records = told.records ?? noRecords
    const end = scan(records)
    this.#planner.advance(item, {
      position: Math.max(end.position, item.position),
      epoch: end.epoch,
      highWatermark: told.highWatermark,
    })
    if (end.position <= item.position && !end.isOdd) {
      // Nothing but what lies before the position: no broker should, and one that does must not be asked in a circle.
      if (records.length > 0) this.#planner.delay(item, performance.now())
      return
    }
    const key = keyOf(item.held)
    const entry = this.#cargo.get(key)
    const cargo = { records, from: item.position, filter: new AbortedFilter(told.abortedTransactions), at: 0 }
    if (entry === undefined || entry.held !== item.held) this.#cargo.set(key, { held: item.held, list: [cargo] })
    else entry.list.push(cargo)
    this.#planner.setLoaded(item.held, true)
  }

  #refused(item: FetchItem, told: FetchResponsePartitionData): void {
    const { held } = item
    const code = told.errorCode
    const now = performance.now()
    const isFirst = this.#planner.failures(held) === 0
    const { leaderId, leaderEpoch } = told.currentLeader
    switch (code) {
      case ErrorCode.OFFSET_OUT_OF_RANGE:
        this.#planner.delay(item, now)
        this.#checkRange(item)
        return
      case ErrorCode.CORRUPT_MESSAGE:
        this.stop(held)
        this.#on.fault(held, damaged(held, `the broker finds the batch at offset ${item.position} damaged`))
        return
      default:
        if (leaderId >= 0 && this.#cluster.metadata.learnLeader(held.topic, held.partition, leaderId, leaderEpoch)) {
          // The answer itself says who leads now; no need to wait or ask.
          if (this.#cluster.metadata.node(leaderId) !== undefined) return
        }
        if (isRetriable(code) || code === ErrorCode.UNKNOWN_TOPIC_ID || code === ErrorCode.INCONSISTENT_TOPIC_ID) {
          this.#planner.delay(item, now)
          this.#refresh()
          return
        }
        this.#planner.delay(item, now, this.#options.retryBackoffMaxMs)
        if (isFirst) this.#on.fault(held, brokerError(code, `Fetch of ${held.topic}-${held.partition}`))
    }
  }

  /** Out of range is only believed when the current leader's log really does not hold the position. */
  #checkRange(item: FetchItem): void {
    const { held, position } = item
    if (this.#checking.has(held)) return
    this.#checking.add(held)
    const { topic, partition } = held
    const run = (async () => {
      await this.#cluster.refresh().catch(() => undefined)
      const [start, end] = await listOffsets(
        this.#cluster,
        [
          { topic, partition, timestamp: offsetSpec.earliest },
          { topic, partition, timestamp: offsetSpec.latest },
        ],
        { signal: this.#abort.signal },
      )
      if (this.#closed || !this.#planner.isWanted(item)) return
      if (start === undefined || end === undefined || start.error !== 0 || end.error !== 0) return
      if (position >= start.offset && position <= end.offset) return
      this.stop(held)
      this.#on.fault(
        held,
        new OttlaError(
          'OTTLA_KAFKA_OFFSET_OUT_OF_RANGE',
          `${topic}-${partition} holds offsets ${start.offset} to ${end.offset}, and ${position} was asked for`,
          { details: { topic, partition, position, logStart: start.offset, logEnd: end.offset } },
        ),
      )
    })().finally(() => {
      this.#checking.delete(held)
      this.#open.delete(run)
    })
    this.#open.add(run)
  }

  /** Hands on what may be handed on. Callbacks may pause, resume, seek and release. */
  #deliver(): void {
    if (this.#delivering || this.#closed) return
    this.#delivering = true
    try {
      for (const entry of [...this.#cargo.values()]) this.#deliverPartition(entry)
    } finally {
      this.#delivering = false
    }
  }

  #deliverPartition(entry: { readonly held: HeldPartition; readonly list: Cargo[] }): void {
    const { held, list } = entry
    const key = keyOf(held)
    const isCurrent = (): boolean => this.#cargo.get(key) === entry && this.#planner.mayDeliver(held)
    while (isCurrent()) {
      const cargo = list[0]
      if (cargo === undefined) {
        this.#cargo.delete(key)
        this.#planner.setLoaded(held, false)
        return
      }
      let batch: FetchedBatch | null
      try {
        batch = this.#nextBatch(cargo)
      } catch (error) {
        this.stop(held)
        this.#on.fault(held, asFault(held, error))
        return
      }
      if (batch === null) list.shift()
      else this.#on.batch(held, batch)
    }
  }

  /** The next batch with something in it, or null at the end. Batches left out are told as empty ones. */
  #nextBatch(cargo: Cargo): FetchedBatch | null {
    const { compression, maxInflatedBytes, crc32c } = this.#options
    for (;;) {
      const length = nextBatchBytes(cargo.records, cargo.at)
      if (length === 0) {
        if (cargo.at === 0 && cargo.records.length > 0) {
          throw new OttlaError('OTTLA_WIRE_MALFORMED', `${cargo.records.length} bytes came, but no whole batch`)
        }
        return null
      }
      const bytes = cargo.records.subarray(cargo.at, cargo.at + length)
      const batch = new RecordBatch(bytes, {
        compression,
        maxInflatedBytes,
        ...(crc32c === undefined ? {} : { crc32c }),
      })
      cargo.at += length
      const isLeftOut = cargo.filter.leavesOut({
        producerId: batch.producerId,
        lastOffset: batch.nextPosition - 1,
        isTransactional: batch.isTransactional,
        isControl: batch.isControl,
        aborts: batch.isControl && batch.count > 0 && batch.controlType(0) === 0,
      })
      if (batch.nextPosition <= cargo.from) continue
      if (isLeftOut || batch.count === 0) return emptyBatch(batch.nextPosition)
      return batch.position(0) >= cargo.from ? batch : recordsFrom(batch, cargo.from)
    }
  }

  #unload(held: HeldPartition): void {
    const entry = this.#cargo.get(keyOf(held))
    if (entry?.held === held) this.#cargo.delete(keyOf(held))
    this.#planner.setLoaded(held, false)
  }

  #learn(changes: MetadataChanges): void {
    for (const { topic, oldId, newId } of changes.recreated) {
      for (const held of this.#planner.held()) {
        if (held.topic !== topic || held.topicId !== oldId) continue
        this.stop(held)
        this.#on.fault(
          held,
          new OttlaError(
            'OTTLA_KAFKA_OFFSET_OUT_OF_RANGE',
            `topic ${topic} was deleted and made again (${oldId} is now ${newId}): its old offsets mean nothing`,
            { details: { topic, partition: held.partition, oldId, newId } },
          ),
        )
      }
    }
    if (changes.moved.length > 0 || changes.topics.length > 0) this.#pump()
  }
}

const noRecords = new Uint8Array()

/** Pairs what was told with what was asked; anything not asked for is dropped. */
function matchAnswers(
  plan: FetchPlan,
  responses: readonly {
    readonly topic: string
    readonly topicId: string
    readonly partitions: readonly FetchResponsePartitionData[]
  }[],
): { readonly item: FetchItem; readonly told: FetchResponsePartitionData }[] {
  const asked = new Map<string, FetchItem>()
  for (const item of plan.items) {
    asked.set(`${item.held.topic}\0${item.held.partition}`, item)
    if (item.held.topicId !== zeroId) asked.set(`${item.held.topicId}\0${item.held.partition}`, item)
  }
  const matched: { item: FetchItem; told: FetchResponsePartitionData }[] = []
  for (const { topic, topicId, partitions } of responses) {
    const name = topic === '' ? topicId : topic
    for (const told of partitions) {
      const item = asked.get(`${name}\0${told.partitionIndex}`)
      if (item !== undefined) matched.push({ item, told })
    }
  }
  return matched
}

/** Where the whole batches of an answer end, from their headers alone; what is odd is met when it is handed on. */
function scan(records: Uint8Array): { readonly position: number; readonly epoch: number; readonly isOdd: boolean } {
  const view = new DataView(records.buffer, records.byteOffset, records.byteLength)
  let position = -1
  let epoch = -1
  let at = 0
  try {
    for (let length = nextBatchBytes(records, 0); length > 0; length = nextBatchBytes(records, at)) {
      const next = Number(view.getBigInt64(at)) + view.getInt32(at + 23) + 1
      if (!Number.isSafeInteger(next) || next <= position) return { position, epoch, isOdd: true }
      position = next
      epoch = view.getInt32(at + 12)
      at += length
    }
  } catch {
    // Not swallowed: the same bytes are read again when they are handed on, and then it is a fault.
    return { position, epoch, isOdd: true }
  }
  // A cut-off batch behind others comes whole the next time. Alone it never would: brokers then send none.
  return { position, epoch, isOdd: at === 0 && records.length > 0 }
}

function damaged(held: HeldPartition, text: string, cause?: unknown): OttlaError {
  const { topic, partition } = held
  return new OttlaError('OTTLA_KAFKA_CORRUPT_BATCH', `${topic}-${partition} is stopped: ${text}`, {
    details: { topic, partition },
    ...(cause === undefined ? {} : { cause }),
  })
}

function asFault(held: HeldPartition, error: unknown): OttlaError {
  if (error instanceof OttlaError && error.code !== 'OTTLA_WIRE_MALFORMED') {
    const details = { topic: held.topic, partition: held.partition }
    return new OttlaError(error.code, `${held.topic}-${held.partition} is stopped: ${error.message}`, {
      cause: error,
      details,
    })
  }
  return damaged(held, error instanceof Error ? error.message : String(error), error)
}

function pause(delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve()
    const done = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, delayMs)
    signal.addEventListener('abort', done)
  })
}
