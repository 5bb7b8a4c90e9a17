/**
 * Sends the fetches that the planner plans and hands their records on.
 *
 * The order of work on an answer: read only the headers of its batches to know the next positions, send the next fetch,
 * and only then verify, inflate and deliver. What a paused partition was sent waits in memory until it is resumed,
 * released or seeked: at most two answers' worth, as nothing more is fetched for it meanwhile.
 *
 * What goes wrong with one partition is dealt with for that partition: passing states wait and ask again, a damaged
 * batch, an offset out of range or a log cut off below what was read stops it with a fault until somebody seeks.
 *
 * Each broker has a fetch session, so that a request names only the partitions that changed. It is an economy and never
 * a condition: whatever goes wrong with it, the next request names everything again.
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
import {
  type CheckItem,
  type CheckPlan,
  type FetchItem,
  type FetchPlan,
  FetchPlanner,
  type Leader,
} from '../machine/fetch-planner.ts'
import { FetchSession, type SessionRequest } from '../machine/fetch-session.ts'
import type { MetadataChanges } from '../machine/metadata.ts'
import type { HeldPartition } from '../machine/ownership.ts'
import { emptyBatch, type FetchedBatch, recordsFrom } from './batch-view.ts'
import type { Cluster } from './cluster.ts'
import { framePool } from './frames.ts'
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
  /** What to do when the log does not hold a position. `fail` stops the partition. Default `fail`. */
  readonly outOfRange?: 'fail' | 'earliest' | 'latest'
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
  readonly frame: Frame
  at: number
}

/** The frame of an answer, used again when nobody reads in it any more. */
class Frame {
  readonly #buffer: ArrayBufferLike
  #readers = 0

  constructor(buffer: ArrayBufferLike) {
    this.#buffer = buffer
  }

  enter(): void {
    this.#readers++
  }

  /** Who never leaves, because it was dropped or its batch is not released, keeps the frame from being used again. */
  leave(): void {
    if (--this.#readers === 0) framePool.give(this.#buffer)
  }
}

/** One partition's undelivered part of answers. */
interface Load {
  readonly held: HeldPartition
  readonly list: Cargo[]
  /** Everything below has been handed on. */
  delivered: number
}

/** The first version of Fetch that names topics by id, and the last that is spoken. */
const firstWithIds = 13
const lastVersion = 17
const firstWithLastEpoch = 12
/** From this version on a consumer needs no more right than to read the topic. */
const firstEpochVersion = 3
/** How long the end of a session may take. Nobody waits for it. */
const closeTimeoutMs = 1_000

const zeroId = 'AAAAAAAAAAAAAAAAAAAAAA'
const keyOf = (held: HeldPartition): string => `${held.topic}\0${held.partition}`

export class FetchLoop implements AsyncDisposable {
  readonly #cluster: Cluster
  readonly #options: FetchLoopOptions
  readonly #on: FetchEvents
  readonly #planner: FetchPlanner
  readonly #cargo = new Map<string, Load>()
  readonly #sessions = new Map<number, FetchSession>()
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

  /** Takes a partition in; nothing is fetched before `open`. `epoch`: leader epoch that came with the position, or -1. */
  add(held: HeldPartition, position: number, epoch = -1): void {
    this.#planner.add(held, position, epoch)
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

  /** End of what can be read, as last told; -1 before the first answer. */
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
    this.#endSessions()
    this.#cargo.clear()
  }

  /** Gives the brokers their memory back. They would forget by themselves, so nobody waits for their answers. */
  #endSessions(): void {
    for (const [node, session] of this.#sessions) {
      const { byId } = session
      const last = session.close()
      if (last === null) continue
      const { lane } = this.#options
      const body = { maxWaitMs: 0, minBytes: 0, maxBytes: 0, isolationLevel: 0, ...last, topics: [] }
      this.#cluster
        .request(node, Api.Fetch, body, { lane, timeoutMs: closeTimeoutMs, maxVersion: byId ? lastVersion : 12 })
        // Refused or lost: the session expires instead.
        .catch(() => undefined)
    }
    this.#sessions.clear()
  }

  #sessionOf(node: number): FetchSession {
    let session = this.#sessions.get(node)
    if (session === undefined) {
      session = new FetchSession()
      this.#sessions.set(node, session)
    }
    return session
  }

  get #closed(): boolean {
    return this.#abort.signal.aborted
  }

  #pump(): void {
    if (this.#closed) return
    const now = performance.now()
    const leaderOf = (held: HeldPartition): Leader => {
      const state = this.#cluster.metadata.partition(held.topic, held.partition)
      return { node: state?.leader ?? -1, epoch: state?.leaderEpoch ?? -1 }
    }
    for (const plan of this.#planner.checks(leaderOf, now)) this.#track(this.#check(plan))
    for (const plan of this.#planner.plan(leaderOf, now)) this.#track(this.#fetch(plan))
    if (this.#planner.leaderless) this.#refresh()
    clearTimeout(this.#timer)
    const wake = this.#planner.wakeAtMs
    if (wake !== null) this.#timer = setTimeout(() => this.#pump(), Math.max(1, Math.ceil(wake - now)))
  }

  #track(work: Promise<void>): void {
    const run = work.finally(() => this.#open.delete(run))
    this.#open.add(run)
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
    const { maxWaitMs, node, items } = plan
    const { lane, requestTimeoutMs } = this.#options
    const byName = items.some((item) => item.held.topicId === zeroId)
    const session = this.#sessionOf(node)
    let isFull = true
    let answers: Answers
    try {
      const draft = (version: number): Draft<Requests[typeof Api.Fetch]> => {
        const asked = session.begin(items, version >= firstWithIds)
        isFull = asked.isFull
        return this.#request(asked, { maxWaitMs, version })
      }
      const { body } = await this.#cluster.request(node, Api.Fetch, draft, {
        lane,
        timeoutMs: maxWaitMs + requestTimeoutMs,
        maxVersion: byName ? 12 : lastVersion,
        signal: this.#abort.signal,
      })
      answers = matchAnswers(items, body.responses)
      const verdict = session.answered({
        errorCode: body.errorCode,
        sessionId: body.sessionId,
        told: answers.known.length,
        strangers: answers.strangers,
      })
      if (verdict === 'error') throw brokerError(body.errorCode, `Fetch at broker ${node}`)
      if (verdict === 'again') {
        this.#planner.release(plan)
        this.#pump()
        return
      }
    } catch (error) {
      this.#planner.release(plan)
      // At the end it is only ended, for which it does not matter how far it got.
      if (this.#closed) return
      session.lost()
      this.#failedWhole(plan, error)
      return
    }
    this.#planner.release(plan)
    if (this.#closed) return
    this.#refreshFailures = 0
    let frame: Frame | null = null
    for (const { item, told } of answers.known) {
      if (!this.#planner.isWanted(item)) continue
      if (told.errorCode === ErrorCode.NONE) {
        // All records of one answer lie in one frame.
        frame ??= new Frame((told.records ?? noRecords).buffer)
        this.#take(item, told, frame)
      } else this.#refused(item, told)
    }
    if (answers.known.length < items.length) this.#unmentioned(items, answers, isFull)
    this.#pump()
    this.#deliver()
  }

  /** In a session, silence about a partition means nothing new. Where all were named it means nothing at all. */
  #unmentioned(items: readonly FetchItem[], answers: Answers, isFull: boolean): void {
    const known = new Set(answers.known.map(({ item }) => item))
    const now = performance.now()
    for (const item of items) {
      if (known.has(item)) continue
      if (isFull) this.#planner.delay(item, now)
      else this.#planner.quiet(item)
    }
  }

  #request(
    asked: SessionRequest,
    { maxWaitMs, version }: { readonly maxWaitMs: number; readonly version: number },
  ): Draft<Requests[typeof Api.Fetch]> {
    const byId = version >= firstWithIds
    const topics = new Map<string, { topic: string; topicId: string; partitions: object[] }>()
    for (const { held, position, leaderEpoch, lastEpoch } of asked.items) {
      const key = byId ? held.topicId : held.topic
      let topic = topics.get(key)
      if (topic === undefined) {
        topic = { topic: byId ? '' : held.topic, topicId: byId ? held.topicId : zeroId, partitions: [] }
        topics.set(key, topic)
      }
      topic.partitions.push({
        partition: held.partition,
        currentLeaderEpoch: leaderEpoch,
        fetchOffset: position,
        // Before version 12 there is no such field, and the check on a new leader has to do alone.
        lastFetchedEpoch: version >= firstWithLastEpoch ? lastEpoch : -1,
        partitionMaxBytes: this.#options.maxBytesPerPartition,
      })
    }
    const forgotten = new Map<string, { topic: string; topicId: string; partitions: number[] }>()
    for (const { topic, topicId, partition } of asked.forgotten) {
      const key = byId ? topicId : topic
      const entry = forgotten.get(key)
      if (entry !== undefined) entry.partitions.push(partition)
      else {
        const names = { topic: byId ? '' : topic, topicId: byId ? topicId : zeroId }
        forgotten.set(key, { ...names, partitions: [partition] })
      }
    }
    return {
      maxWaitMs,
      minBytes: this.#options.minBytes,
      maxBytes: this.#options.maxBytes,
      isolationLevel: this.#options.isolation === 'read_committed' ? 1 : 0,
      sessionId: asked.sessionId,
      sessionEpoch: asked.sessionEpoch,
      topics: [...topics.values()],
      forgottenTopicsData: [...forgotten.values()],
    }
  }

  /** Compares positions with the log of a leader that is new to them. */
  async #check(plan: CheckPlan): Promise<void> {
    const topics = new Map<string, { topic: string; partitions: object[] }>()
    const asked = new Map<string, CheckItem>()
    for (const item of plan.items) {
      const { topic, partition } = item.held
      asked.set(keyOf(item.held), item)
      const entry = topics.get(topic) ?? { topic, partitions: [] }
      entry.partitions.push({ partition, currentLeaderEpoch: item.leaderEpoch, leaderEpoch: item.epoch })
      topics.set(topic, entry)
    }
    try {
      const { body } = await this.#cluster.request(
        plan.node,
        Api.OffsetForLeaderEpoch,
        { replicaId: -1, topics: [...topics.values()] },
        { minVersion: firstEpochVersion, maxVersion: 4, signal: this.#abort.signal },
      )
      if (this.#closed) return
      for (const { topic, partitions } of body.topics) {
        for (const told of partitions) {
          const key = `${topic}\0${told.partition}`
          const item = asked.get(key)
          if (item === undefined || !asked.delete(key)) continue
          // Moved on meanwhile: then this says nothing of the new position, which is asked for in its turn.
          if (!this.#planner.isWanted(item)) this.#planner.checked(item)
          else if (told.errorCode !== ErrorCode.NONE) this.#failed(item, told.errorCode, 'OffsetForLeaderEpoch')
          else if (isOfThisLog(item, told)) this.#planner.checked(item)
          else this.#truncated(item, { epoch: told.leaderEpoch, endOffset: told.endOffset })
        }
      }
    } catch (error) {
      if (this.#closed) return
      if (error instanceof OttlaError && error.code === 'OTTLA_KAFKA_UNSUPPORTED_VERSION') {
        // A broker that cannot be asked has nothing to compare with.
        for (const item of asked.values()) this.#planner.checked(item)
        asked.clear()
      }
    }
    const now = performance.now()
    for (const item of asked.values()) this.#planner.delay(item, now)
    if (asked.size > 0) this.#refresh()
    this.#pump()
  }

  /** Records that were read are not in the leader's log: it was elected without having them, and has others now. */
  #truncated(item: FetchItem, end: { readonly epoch: number; readonly endOffset: number }): void {
    const { held, position } = item
    const { topic, partition } = held
    const policy = this.#options.outOfRange ?? 'fail'
    const isKnown = end.epoch >= 0 && end.endOffset >= 0
    const load = this.#cargo.get(keyOf(held))
    const goesOnAt =
      policy === 'fail' || !isKnown ? null : Math.min(end.endOffset, load?.held === held ? load.delivered : position)
    if (goesOnAt === null) this.stop(held)
    else this.seek(held, goesOnAt)
    const where = isKnown ? `from offset ${end.endOffset} on` : 'at an offset it cannot tell'
    this.#on.fault(
      held,
      new OttlaError(
        'OTTLA_KAFKA_LOG_TRUNCATED',
        `the log of ${topic}-${partition} is another ${where}: records up to ${position} were read that its new leader does not have`,
        { details: { topic, partition, position, divergesAt: isKnown ? end.endOffset : null, goesOnAt } },
      ),
    )
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

  #take(item: FetchItem, told: FetchResponsePartitionData, frame: Frame): void {
    if (told.divergingEpoch.epoch >= 0) {
      this.#truncated(item, told.divergingEpoch)
      return
    }
    const records = told.records ?? noRecords
    const end = scan(records)
    this.#planner.advance(item, {
      position: Math.max(end.position, item.position),
      epoch: end.epoch,
      highWatermark: this.#options.isolation === 'read_committed' ? told.lastStableOffset : told.highWatermark,
    })
    if (end.position <= item.position && !end.isOdd) {
      // Nothing but what lies before the position: no broker should, and one that does must not be asked in a circle.
      if (records.length > 0) this.#planner.delay(item, performance.now())
      return
    }
    const key = keyOf(item.held)
    const entry = this.#cargo.get(key)
    const filter = new AbortedFilter(told.abortedTransactions)
    const cargo = { records, from: item.position, filter, frame, at: 0 }
    frame.enter()
    if (entry === undefined || entry.held !== item.held) {
      this.#cargo.set(key, { held: item.held, list: [cargo], delivered: item.position })
    } else entry.list.push(cargo)
    this.#planner.setLoaded(item.held, true)
  }

  #refused(item: FetchItem, told: FetchResponsePartitionData): void {
    const { held } = item
    const code = told.errorCode
    const now = performance.now()
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
        this.#failed(item, code, 'Fetch')
    }
  }

  /** A partition's own error: passing ones wait and ask for metadata, others are told once and asked again seldom. */
  #failed(item: FetchItem, code: number, api: string): void {
    const now = performance.now()
    if (isRetriable(code) || code === ErrorCode.UNKNOWN_TOPIC_ID || code === ErrorCode.INCONSISTENT_TOPIC_ID) {
      this.#planner.delay(item, now)
      this.#refresh()
      return
    }
    const { held } = item
    const isFirst = this.#planner.failures(held) === 0
    this.#planner.delay(item, now, this.#options.retryBackoffMaxMs)
    if (isFirst) this.#on.fault(held, brokerError(code, `${api} of ${held.topic}-${held.partition}`))
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
      if (position >= start.offset && position <= end.offset) {
        // The leader does not know the epoch of the last record read: its log may be another by now.
        this.#planner.doubt(item)
        return
      }
      const policy = this.#options.outOfRange ?? 'fail'
      const goesOnAt = policy === 'fail' ? null : policy === 'earliest' ? start.offset : end.offset
      if (goesOnAt === null) this.stop(held)
      else this.#skipTo(held, goesOnAt)
      this.#on.fault(
        held,
        new OttlaError(
          'OTTLA_KAFKA_OFFSET_OUT_OF_RANGE',
          `${topic}-${partition} holds offsets ${start.offset} to ${end.offset}, and ${position} was asked for`,
          { details: { topic, partition, position, logStart: start.offset, logEnd: end.offset, goesOnAt } },
        ),
      )
    })().finally(() => {
      this.#checking.delete(held)
      this.#open.delete(run)
    })
    this.#open.add(run)
  }

  /** Fetches elsewhere, but what was fetched before is still handed on. */
  #skipTo(held: HeldPartition, position: number): void {
    const isLoaded = this.#cargo.get(keyOf(held))?.held === held
    this.#planner.seek(held, position)
    this.#planner.setLoaded(held, isLoaded)
    this.#pump()
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

  #deliverPartition(entry: Load): void {
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
      if (batch === null) {
        list.shift()
        cargo.frame.leave()
      } else {
        entry.delivered = batch.nextPosition
        this.#on.batch(held, batch)
      }
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
      // What was inflated has memory of its own.
      if (batch.compression === null && !isLeftOut && batch.count > 0) {
        cargo.frame.enter()
        batch.onRelease = () => cargo.frame.leave()
      }
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

interface Answers {
  readonly known: readonly { readonly item: FetchItem; readonly told: FetchResponsePartitionData }[]
  /** Partitions told that were not asked for, or told twice. */
  readonly strangers: number
}

/** Pairs what was told with what was asked; anything not asked for is dropped. */
function matchAnswers(
  items: readonly FetchItem[],
  responses: readonly {
    readonly topic: string
    readonly topicId: string
    readonly partitions: readonly FetchResponsePartitionData[]
  }[],
): Answers {
  const asked = new Map<string, FetchItem>()
  if (responses.length > 0) {
    for (const item of items) {
      asked.set(`${item.held.topic}\0${item.held.partition}`, item)
      if (item.held.topicId !== zeroId) asked.set(`${item.held.topicId}\0${item.held.partition}`, item)
    }
  }
  const known: { item: FetchItem; told: FetchResponsePartitionData }[] = []
  let strangers = 0
  for (const { topic, topicId, partitions } of responses) {
    const name = topic === '' ? topicId : topic
    for (const told of partitions) {
      const key = `${name}\0${told.partitionIndex}`
      const item = asked.get(key)
      if (item === undefined) strangers++
      else {
        known.push({ item, told })
        asked.delete(key)
      }
    }
  }
  return { known, strangers }
}

/** Does the leader's log hold what lies before the position? `epoch` and `endOffset`: where that epoch ends in it. */
function isOfThisLog(item: CheckItem, end: { readonly leaderEpoch: number; readonly endOffset: number }): boolean {
  if (end.leaderEpoch < 0 || end.endOffset < item.position) return false
  // An epoch that came with a commit may be newer than the record before it, so an older answer proves nothing.
  return item.lastEpoch < 0 || end.leaderEpoch >= item.lastEpoch
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
