/**
 * Reads topics, as a member of a group or alone.
 *
 * A group member is told which partitions are its own: `gained` before the first record of a partition, `releasing` when
 * it must finish and commit because the group shares out again (heartbeats go on meanwhile), `lost` when the partition
 * is gone already. Every call carries the partition's ownership number; whatever is said about an earlier ownership
 * (a pause, a commit, a seek) does nothing.
 *
 * Records are pushed, batch by batch as they lie in the log, while the partition is not paused. The reader keeps at most
 * two answers' worth of a paused partition in memory. Offsets are committed when the caller says so, and only then.
 */
import { OttlaError } from '../contract/errors.ts'
import type { Compression } from '../wire/compression.ts'
import type { Crc32c } from '../wire/crc32c.ts'
import { ErrorCode, isRetriable } from '../wire/error-codes.ts'
import { brokerError } from './broker-error.ts'
import type { FetchedBatch } from './io/batch-view.ts'
import type { Cluster } from './io/cluster.ts'
import { epochEnds } from './io/epoch-ends.ts'
import { FetchLoop } from './io/fetch-loop.ts'
import { type CommitResult, type CommittedOffset, GroupLoop, type OffsetValue } from './io/group-loop.ts'
import { listOffsets, type OffsetAnswer, type OffsetQuestion, offsetSpec } from './io/offsets.ts'
import type { Assignor, TopicPartitions } from './machine/assignors/assignor.ts'
import { cooperativeStickyAssignor } from './machine/assignors/cooperative-sticky.ts'
import { rangeAssignor } from './machine/assignors/range.ts'
import { type HeldPartition, Ownership } from './machine/ownership.ts'
import { OptionCheck } from './option-check.ts'

export type { CommitResult, CommittedOffset, FetchedBatch, HeldPartition, OffsetValue }

/**
 * Where to start reading. `timestampMs`: the first record that is not older; the end when there is none. `agoMs`: the same
 * for so long before now, by this host's clock.
 */
export type StartPosition =
  | 'earliest'
  | 'latest'
  | { readonly offset: number }
  | { readonly timestampMs: number }
  | { readonly agoMs: number }

/** A partition to be read by hand. */
export interface AssignedPartition {
  readonly topic: string
  readonly partition: number
  /** Default the start position of the options. */
  readonly start?: StartPosition
}

/** What a group committed last for a partition. */
export interface CommittedPosition {
  readonly offset: number
  readonly leaderEpoch: number
  readonly metadata: string
  /**
   * Up to here the log is the one that was committed about: the end of that leader epoch, as the leader of now has it.
   * Beyond it the log was cut and written anew, or just grew. The end of the log when there is no metadata to judge.
   */
  readonly knownTo: number
}

/** A partition just gained. */
export interface GainedPartition {
  readonly held: HeldPartition
  /** Where reading starts unless `seek` is called: the committed offset, else the start position of the options. */
  readonly position: number
  /** What the group committed last; null when it never did, or when there is no group. */
  readonly committed: CommittedPosition | null
  readonly logStart: number
  readonly logEnd: number
}

/** What a consumer tells. Calls are serialised per partition; a returned promise is awaited before the next one. */
export interface ConsumerEvents {
  gained?(parts: readonly GainedPartition[]): Promise<void> | void
  /** May be empty: then `nextPosition` alone has moved, over control records, aborted ones or a gap. */
  batch(held: HeldPartition, records: FetchedBatch): void
  /** Finish and commit what you can within `deadlineMs` (a duration); the partitions are gone after that. */
  releasing?(parts: readonly HeldPartition[], deadlineMs: number): Promise<void> | void
  /** Gone already; no commit will be accepted. */
  lost?(parts: readonly HeldPartition[]): void
  /** Something a person should hear of: about one partition, which may be stopped, or about all. */
  fault(where: HeldPartition | 'group', error: OttlaError): void
}

/** A way to share the partitions of a group out, by the name Kafka's clients know it by. */
export type AssignorName = 'cooperative-sticky' | 'range'

export interface ConsumerOptions {
  /** The group to be a member of. Without one, all partitions of the topics are read, alone, and nothing is committed. */
  readonly groupId?: string
  /** Without a group it may be empty: nothing is read then but what `assign` names. */
  readonly topics: readonly string[]
  /** Where a partition starts for which nothing is committed. Default `earliest`. */
  readonly start?: StartPosition
  /**
   * What to do when the log does not hold the position: retention removed it, or a leader was elected that does not have
   * the records read last. It is told as a fault in any case. `fail`, the default, stops the partition until `seek`;
   * `earliest` and `latest` go on there, and after a truncated log from where it differs on.
   */
  readonly outOfRange?: 'fail' | 'earliest' | 'latest'
  /** `read_committed` leaves out records of open and aborted transactions. The default. */
  readonly isolation?: 'read_committed' | 'read_uncommitted'
  /**
   * How the group shares partitions out, in the order of preference; all members must have one in common. Default
   * `['cooperative-sticky']`: in a rebalance only what moves is given up. With `range` in the list everything is given up
   * in every rebalance, because the group might choose it. To bring a group of `['range']` to the default without a
   * pause: deploy `['cooperative-sticky', 'range']` everywhere, then the default.
   */
  readonly assignors?: readonly AssignorName[]
  /** Silence after which the coordinator gives our partitions away. Default 45 000. */
  readonly sessionTimeoutMs?: number
  /** Default 3 000; at most a third of the session timeout. */
  readonly heartbeatIntervalMs?: number
  /** How long the coordinator waits for members in a rebalance. Default 300 000. */
  readonly rebalanceTimeoutMs?: number
  /** How long `releasing` may take. Default 60 000, and at most what the rebalance timeout leaves. */
  readonly drainTimeoutMs?: number
  /** How long a broker may hold a fetch that has nothing to give. Default 500. */
  readonly fetchMaxWaitMs?: number
  /** Default 1: answer as soon as there is anything. */
  readonly fetchMinBytes?: number
  /** Of one answer. Default 50 MiB. */
  readonly fetchMaxBytes?: number
  /** Of one partition in one answer. Default 1 MiB. A larger batch still comes through, alone. */
  readonly maxBytesPerPartition?: number
  /** What a compressed batch may inflate to. Default 128 MiB. */
  readonly maxInflatedBytes?: number
}

/** What a consumer is made with beside its options. */
export interface ConsumerParts {
  readonly cluster: Cluster
  readonly compression: Compression
  readonly requestTimeoutMs: number
  readonly crc32c?: Crc32c
  /** Called once when it has ended. */
  readonly onClose?: () => void
}

/**
 * How far behind, from the broker's side: to the end of the log, or with `read_committed` to the first open transaction.
 * `seconds`: age of the oldest record handed on and not committed, 0 when none is known.
 */
export interface PartitionLag {
  readonly topic: string
  readonly partition: number
  readonly records: number
  readonly seconds: number
}

interface Resolved {
  readonly groupId: string | null
  readonly topics: readonly string[]
  readonly start: StartPosition
  readonly outOfRange: 'fail' | 'earliest' | 'latest'
  readonly isolation: 'read_committed' | 'read_uncommitted'
  readonly assignors: readonly Assignor[]
  readonly sessionTimeoutMs: number
  readonly heartbeatIntervalMs: number
  readonly rebalanceTimeoutMs: number
  readonly drainTimeoutMs: number
  readonly fetchMaxWaitMs: number
  readonly fetchMinBytes: number
  readonly fetchMaxBytes: number
  readonly maxBytesPerPartition: number
  readonly maxInflatedBytes: number
}

interface Age {
  readonly next: number
  readonly timestampMs: number
}

interface Progress {
  readonly held: HeldPartition
  /** Everything below is committed, as far as we know. */
  low: number
  logEnd: number
  /** Where delivered batches end and when they begin, oldest first: for the age of what is unfinished. */
  readonly batches: Age[]
  /** Leader epoch of the last batch taken; what a commit is stamped with. */
  epoch: number
}

interface Part {
  readonly topic: string
  readonly partition: number
}

const retryBackoffMs = 100
const retryBackoffMaxMs = 1_000
/** Batches remembered per partition for the age of what is unfinished; beyond it neighbours are merged. */
const agesMax = 1_024
/** The end of the log of a paused partition is asked for at most this often, when somebody looks at the lag. */
const lagRefreshMs = 5_000

const assignors: Readonly<Record<AssignorName, Assignor>> = {
  'cooperative-sticky': cooperativeStickyAssignor,
  range: rangeAssignor,
}

/** Stands for no topic id, where brokers know none. */
const zeroId = 'AAAAAAAAAAAAAAAAAAAAAA'

let consumers = 0

const keyOf = (part: Part): string => `${part.topic}\0${part.partition}`

const optionNames = [
  'groupId',
  'topics',
  'start',
  'outOfRange',
  'isolation',
  'assignors',
  'sessionTimeoutMs',
  'heartbeatIntervalMs',
  'rebalanceTimeoutMs',
  'drainTimeoutMs',
  'fetchMaxWaitMs',
  'fetchMinBytes',
  'fetchMaxBytes',
  'maxBytesPerPartition',
  'maxInflatedBytes',
] as const satisfies readonly (keyof ConsumerOptions)[]

export class Consumer implements AsyncDisposable {
  readonly #cluster: Cluster
  readonly #options: Resolved
  readonly #on: ConsumerEvents
  readonly #onClose: (() => void) | undefined
  readonly #ownership = new Ownership()
  readonly #fetch: FetchLoop
  readonly #group: GroupLoop | null
  readonly #progress = new Map<string, Progress>()
  /** The last call about each partition: the next one waits for it. */
  readonly #turns = new Map<string, Promise<void>>()
  readonly #abort = new AbortController()
  #assignment: AbortController = new AbortController()
  #metadata: Disposable | null = null
  #closing: Promise<void> | null = null
  #lagAskedMs = 0

  /** Starts at once. Throws OTTLA_CONFIG_INVALID. */
  constructor(parts: ConsumerParts, options: ConsumerOptions, on: ConsumerEvents) {
    this.#cluster = parts.cluster
    this.#options = resolve(options)
    this.#on = on
    this.#onClose = parts.onClose
    const o = this.#options
    const lane = `${++consumers}`
    const { requestTimeoutMs } = parts
    this.#fetch = new FetchLoop(
      parts.cluster,
      {
        isolation: o.isolation,
        outOfRange: o.outOfRange,
        maxWaitMs: o.fetchMaxWaitMs,
        minBytes: o.fetchMinBytes,
        maxBytes: o.fetchMaxBytes,
        maxBytesPerPartition: o.maxBytesPerPartition,
        maxInflatedBytes: o.maxInflatedBytes,
        requestTimeoutMs,
        retryBackoffMs,
        retryBackoffMaxMs,
        compression: parts.compression,
        ...(parts.crc32c === undefined ? {} : { crc32c: parts.crc32c }),
        lane: `fetch-${lane}`,
      },
      {
        batch: (held, records) => this.#batch(held, records),
        fault: (held, error) => this.#on.fault(held, error),
      },
    )
    this.#group =
      o.groupId === null
        ? null
        : new GroupLoop(
            parts.cluster,
            {
              ...o,
              groupId: o.groupId,
              requestTimeoutMs,
              retryBackoffMs,
              retryBackoffMaxMs,
              lane,
            },
            {
              assign: (assigned) => this.#assign(assigned),
              release: (what, deadlineMs) => this.#release(what === 'all' ? null : this.#surplus, deadlineMs),
              lose: () => this.#lose(),
              owned: () => this.#owned(),
              holds: (held) => this.#ownership.holds(held),
              fault: (error) => this.#on.fault('group', error),
            },
          )
    void this.#start()
  }

  /** No more batches of this partition until `resume`, beginning now. */
  pause(held: HeldPartition): void {
    if (this.#ownership.holds(held)) this.#fetch.pause(held)
  }

  resume(held: HeldPartition): void {
    if (this.#ownership.holds(held)) this.#fetch.resume(held)
  }

  /**
   * Commits an offset: the next one to be read by whoever comes after us. One request is in flight; a later value for
   * the same partition replaces an earlier one that has not been sent. `lost` means that the partition is not ours any
   * more. Rejects with OTTLA_KAFKA_RETRIABLE, OTTLA_KAFKA_TIMEOUT, OTTLA_KAFKA_AUTHORIZATION or OTTLA_KAFKA_BROKER.
   */
  async commit(held: HeldPartition, value: Omit<OffsetValue, 'leaderEpoch'>): Promise<CommitResult> {
    if (this.#group === null) throw new OttlaError('OTTLA_CONFIG_INVALID', 'a consumer without groupId cannot commit')
    // An offset of a topic that was deleted means nothing in the one made again under its name.
    if (!this.#ownership.holds(held) || this.#isOfOldTopic(held)) return 'lost'
    const result = await this.#group.commit(held, { ...value, leaderEpoch: this.commitEpoch(held) })
    const progress = this.#progress.get(keyOf(held))
    if (result === 'stored' && progress?.held === held) {
      progress.low = value.offset
      while (progress.batches[0] !== undefined && progress.batches[0].next <= value.offset) progress.batches.shift()
    }
    return result
  }

  /** The leader epoch a commit sent now is stamped with; -1 when none is known. */
  commitEpoch(held: HeldPartition): number {
    const progress = this.#progress.get(keyOf(held))
    if (progress?.held !== held) return -1
    const fetched = this.#fetch.epoch(held)
    if (fetched >= 0) progress.epoch = fetched
    return progress.epoch
  }

  /** A round trip now: is this partition still ours? Rejects when the coordinator cannot be asked. */
  async confirm(held: HeldPartition): Promise<'held' | 'lost'> {
    if (!this.#ownership.holds(held)) return 'lost'
    if (this.#group === null) return 'held'
    const answer = await this.#group.confirm()
    return answer === 'held' && this.#ownership.holds(held) ? 'held' : 'lost'
  }

  /** Without a round trip: is the partition ours, and has the session certainly not expired? */
  owns(held: HeldPartition): boolean {
    return this.#ownership.holds(held) && (this.#group === null || this.#group.inSession())
  }

  /**
   * Reads exactly these partitions from now on, alone. Those that are read already go on as they are, those not named are
   * released first. Throws OTTLA_CONFIG_INVALID in a group, whose business that is, and for a start that is none.
   */
  async assign(parts: readonly AssignedPartition[]): Promise<void> {
    if (this.#group !== null) {
      throw new OttlaError('OTTLA_CONFIG_INVALID', 'in a group partitions are assigned by the group')
    }
    const wrong = parts.find(({ partition, start = 'earliest' }) => !(partition >= 0) || !isStart(start))
    if (wrong !== undefined) {
      throw new OttlaError('OTTLA_CONFIG_INVALID', `cannot read ${wrong.topic}-${wrong.partition} from such a start`)
    }
    this.#starts = new Map(parts.map((part) => [keyOf(part), part.start ?? this.#options.start]))
    if (this.#assign(parts.map(({ topic, partition }) => ({ topic, partitions: [partition] })))) {
      await this.#release(this.#surplus, this.#options.drainTimeoutMs)
    }
  }

  /** Goes on reading elsewhere; also starts a partition again that a fault had stopped. Rejects when brokers cannot say where. */
  async seek(held: HeldPartition, to: StartPosition): Promise<void> {
    const { topic, partition } = held
    let offset: number
    if (typeof to === 'object' && 'offset' in to) offset = to.offset
    else {
      const timestamp =
        typeof to === 'object' ? timeOf(to, Date.now()) : to === 'earliest' ? offsetSpec.earliest : offsetSpec.latest
      const [asked, end] = await this.#listOffsets([
        { topic, partition, timestamp },
        { topic, partition, timestamp: offsetSpec.latest },
      ])
      const error = asked?.error || end?.error
      if (error !== 0)
        throw brokerError(error ?? ErrorCode.UNKNOWN_SERVER_ERROR, `ListOffsets of ${topic}-${partition}`)
      offset = asked !== undefined && asked.offset >= 0 ? asked.offset : (end?.offset ?? 0)
    }
    if (!this.#ownership.holds(held)) return
    const progress = this.#progress.get(keyOf(held))
    if (progress !== undefined) progress.batches.length = 0
    this.#fetch.seek(held, offset)
  }

  /** What is held now. */
  held(): readonly HeldPartition[] {
    return this.#ownership.all()
  }

  /** Where the next fetch of a partition starts; undefined when it is not ours. */
  position(held: HeldPartition): number | undefined {
    return this.#fetch.position(held)
  }

  /** How far behind each partition is, by the log's end as brokers told it last and by what is committed. */
  lag(): readonly PartitionLag[] {
    this.#askEnds()
    const nowMs = Date.now()
    return [...this.#progress.values()].map(({ held, low, logEnd, batches }) => {
      const end = Math.max(this.#fetch.highWatermark(held), logEnd)
      const records = Math.max(0, end - low)
      const oldest = batches.find(({ next }) => next > low)
      const seconds = records === 0 || oldest === undefined ? 0 : Math.max(0, (nowMs - oldest.timestampMs) / 1000)
      return { topic: held.topic, partition: held.partition, records, seconds }
    })
  }

  /** Releases what is held, leaves the group and ends. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    if (this.#group === null) await this.#release(null, this.#options.drainTimeoutMs)
    else await this.#group.close()
    this.#abort.abort()
    this.#assignment.abort()
    this.#metadata?.[Symbol.dispose]()
    await this.#fetch[Symbol.asyncDispose]()
    await Promise.allSettled(this.#turns.values())
    this.#onClose?.()
  }

  async #start(): Promise<void> {
    const { topics } = this.#options
    const { signal } = this.#abort
    for (let failures = 0; !signal.aborted; failures++) {
      try {
        await this.#cluster.ensureTopics(topics, { signal })
        break
      } catch (error) {
        if (signal.aborted || this.#closing !== null) return
        if (error instanceof OttlaError && (failures === 0 || error.fatal)) this.#on.fault('group', error)
        if (error instanceof OttlaError && error.fatal) return
        await delay(backoff(failures), signal)
      }
    }
    if (signal.aborted || this.#closing !== null) return
    for (const topic of topics) {
      const code = this.#cluster.metadata.topic(topic)?.error ?? 0
      if (code !== 0 && !isRetriable(code)) this.#on.fault('group', brokerError(code, `Metadata of topic ${topic}`))
    }
    if (this.#group !== null) {
      this.#metadata = this.#cluster.onMetadata(({ recreated }) => {
        for (const { topic } of recreated) this.#renew(topic)
      })
      this.#group.start()
    } else {
      this.#metadata = this.#cluster.onMetadata(() => this.#assignAll())
      this.#assignAll()
    }
  }

  /** A topic was deleted and made again: what we hold of the old one is lost, and what is still ours begins anew. */
  #renew(topic: string): void {
    const gone = this.#ownership.all().filter((held) => held.topic === topic && this.#isOfOldTopic(held))
    if (gone.length === 0) return
    for (const held of gone) this.#drop(held)
    void this.#turn(gone, () => this.#on.lost?.(gone))
    const again = gone.map(({ partition }) => ({ topic, partition })).filter((part) => this.#assigned.has(keyOf(part)))
    for (const part of again) this.#assigned.set(keyOf(part), part)
    void this.#gain(again, this.#assignment.signal)
  }

  #isOfOldTopic({ topic, topicId }: HeldPartition): boolean {
    const id = this.#cluster.metadata.topic(topic)?.id ?? zeroId
    return id !== zeroId && topicId !== zeroId && topicId !== '' && id !== topicId
  }

  /** Without a group: everything there is, and what is added later. */
  #assignAll(): void {
    if (this.#starts !== null) return
    const missing: Part[] = []
    for (const topic of this.#options.topics) {
      for (const { partition } of this.#cluster.metadata.topic(topic)?.partitions ?? []) {
        if (!this.#assigned.has(keyOf({ topic, partition }))) missing.push({ topic, partition })
      }
    }
    for (const part of missing) this.#assigned.set(keyOf(part), part)
    if (missing.length > 0) void this.#gain(missing, this.#assignment.signal)
  }

  /** What is ours, also while it is still being found out where to start. Another gain is another object. */
  readonly #assigned = new Map<string, Part>()
  /** Where partitions assigned by hand start; null while nobody called `assign`. */
  #starts: ReadonlyMap<string, StartPosition> | null = null
  /** Held, but not ours by the latest assignment. */
  #surplus: readonly HeldPartition[] = []

  // ── partitions come and go ──

  /** Takes what is new; what stays is not touched. True when something held is not among it. */
  #assign(assigned: readonly TopicPartitions[]): boolean {
    if (this.#assignment.signal.aborted) this.#assignment = new AbortController()
    const parts = assigned.flatMap(({ topic, partitions }) => partitions.map((partition) => ({ topic, partition })))
    const wanted = new Set(parts.map(keyOf))
    for (const key of this.#assigned.keys()) if (!wanted.has(key)) this.#assigned.delete(key)
    this.#surplus = this.#ownership.all().filter((held) => !wanted.has(keyOf(held)))
    const missing = parts.filter((part) => !this.#assigned.has(keyOf(part)))
    for (const part of missing) this.#assigned.set(keyOf(part), part)
    if (missing.length > 0) void this.#gain(missing, this.#assignment.signal)
    return this.#surplus.length > 0
  }

  /** What we keep while the group shares out again. */
  #owned(): readonly TopicPartitions[] {
    const topics = new Map<string, number[]>()
    for (const { topic, partition } of this.#assigned.values()) {
      const partitions = topics.get(topic)
      if (partitions === undefined) topics.set(topic, [partition])
      else partitions.push(partition)
    }
    return [...topics].map(([topic, partitions]) => ({ topic, partitions }))
  }

  /** Finds out where each partition starts, tells of those that are known, and goes on asking for the others. */
  async #gain(parts: readonly Part[], signal: AbortSignal): Promise<void> {
    let missing = parts
    let told = -1
    const stillOurs = (part: Part): boolean => this.#assigned.get(keyOf(part)) === part
    for (let failures = 0; missing.length > 0 && !signal.aborted; failures++) {
      if (failures > 0) await delay(backoff(failures), signal)
      missing = missing.filter(stillOurs)
      if (signal.aborted || missing.length === 0) return
      try {
        await this.#cluster.ensureTopics([...new Set(missing.map(({ topic }) => topic))], { signal })
        const { ready: located, error } = await this.#locate(missing, signal)
        if (signal.aborted) return
        missing = missing.filter(stillOurs)
        const ours = new Set(missing.map(keyOf))
        const ready = located.filter((part) => ours.has(keyOf(part)))
        const known = new Set(ready.map(keyOf))
        missing = missing.filter((part) => !known.has(keyOf(part)))
        if (ready.length > 0) {
          failures = 0
          this.#welcome(ready)
        }
        if (error !== 0 && !isRetriable(error) && told !== error) {
          told = error
          this.#on.fault(
            'group',
            brokerError(error, `Where to start ${missing.map((p) => `${p.topic}-${p.partition}`)}`),
          )
        }
        if (missing.length > 0) await this.#cluster.refresh().catch(() => undefined)
      } catch (error) {
        if (signal.aborted) return
        if (error instanceof OttlaError && !error.retriable && told !== -2) {
          told = -2
          this.#on.fault('group', error)
          if (error.fatal) return
        }
      }
    }
  }

  /** Committed offset and both ends of the log, for those of the partitions where all of it could be learned. */
  async #locate(
    parts: readonly Part[],
    signal: AbortSignal,
  ): Promise<{ readonly ready: readonly (Part & Omit<GainedPartition, 'held'>)[]; readonly error: number }> {
    const nowMs = Date.now()
    const starts = parts.map((part) => this.#starts?.get(keyOf(part)) ?? this.#options.start)
    const questions: OffsetQuestion[] = parts.flatMap((part) => [
      { ...part, timestamp: offsetSpec.earliest },
      { ...part, timestamp: offsetSpec.latest },
    ])
    const times = parts.flatMap((part, index) => {
      const start = starts[index] ?? 'earliest'
      return typeof start === 'string' || 'offset' in start ? [] : [{ ...part, timestamp: timeOf(start, nowMs) }]
    })
    const [offsets, answers, atTimes] = await Promise.all([
      this.#group === null ? null : this.#group.fetchOffsets(parts, signal),
      this.#listOffsets(questions, signal),
      this.#listOffsets(times, signal),
    ])
    const judged = parts.flatMap((part, index) => {
      const offset = offsets?.[index]
      return offset === undefined || offset.leaderEpoch < 0 || (offset.metadata ?? '') === ''
        ? []
        : [{ ...part, epoch: offset.leaderEpoch }]
    })
    const ends = await epochEnds(this.#cluster, judged, signal)
    const epochEnd = new Map(judged.map((part, index) => [keyOf(part), ends[index]]))
    const timed = new Map(times.map((part, index) => [keyOf(part), atTimes[index]]))
    const ready: (Part & Omit<GainedPartition, 'held'>)[] = []
    let error = 0
    for (const [index, part] of parts.entries()) {
      const logStart = answers[2 * index]
      const logEnd = answers[2 * index + 1]
      const atTime = timed.get(keyOf(part))
      const start = starts[index] ?? 'earliest'
      const offset = offsets?.[index]
      const end = epochEnd.get(keyOf(part))
      const failed = logStart?.error || logEnd?.error || atTime?.error || end?.error || 0
      const code = failed || (offset?.error ?? 0)
      if (code !== 0 || logStart === undefined || logEnd === undefined) {
        // A refusal that lasts is worth more words than a passing state of a neighbour.
        if (error === 0 || isRetriable(error)) error = code
        continue
      }
      const committed =
        offset === undefined || offset.offset < 0
          ? null
          : {
              offset: offset.offset,
              leaderEpoch: offset.leaderEpoch,
              metadata: offset.metadata ?? '',
              knownTo: Math.min(logEnd.offset, end?.endOffset ?? logEnd.offset),
            }
      const first =
        typeof start === 'string'
          ? start === 'earliest'
            ? logStart.offset
            : logEnd.offset
          : 'offset' in start
            ? start.offset
            : atTime === undefined || atTime.offset < 0
              ? logEnd.offset
              : atTime.offset
      ready.push({
        ...part,
        position: committed?.offset ?? first,
        committed,
        logStart: logStart.offset,
        logEnd: logEnd.offset,
      })
    }
    return { ready, error }
  }

  /** Takes partitions into our hands, tells of them, and starts fetching once that has been taken in. */
  #welcome(ready: readonly (Part & Omit<GainedPartition, 'held'>)[]): void {
    const gained: GainedPartition[] = []
    for (const { topic, partition, ...rest } of ready) {
      const topicId = this.#cluster.metadata.topic(topic)?.id ?? ''
      const held = this.#ownership.gain(topic, topicId, partition)
      this.#progress.set(keyOf(held), {
        held,
        low: rest.position,
        logEnd: rest.logEnd,
        batches: [],
        epoch: rest.committed?.leaderEpoch ?? -1,
      })
      this.#fetch.add(held, rest.position, rest.committed?.leaderEpoch ?? -1)
      gained.push({ held, ...rest })
    }
    const held = gained.map((each) => each.held)
    void this.#turn(held, async () => {
      await this.#on.gained?.(gained)
      for (const each of held) if (this.#ownership.holds(each)) this.#fetch.open(each)
    })
  }

  /** Has partitions finished and committed, then gives them back. `null`: all of them. */
  async #release(parts: readonly HeldPartition[] | null, deadlineMs: number): Promise<void> {
    if (parts === null) this.#unassign()
    const endsAtMs = performance.now() + deadlineMs
    const left = (): number => Math.max(0, endsAtMs - performance.now())
    const held = (parts ?? this.#ownership.all()).filter((each) => this.#ownership.holds(each))
    for (const each of held) {
      this.commitEpoch(each)
      this.#fetch.remove(each)
    }
    if (held.length > 0) {
      await within(
        this.#turn(held, () => this.#on.releasing?.(held, Math.floor(left()))),
        left(),
      )
      if (this.#group !== null) await within(this.#group.committed(), left())
    }
    for (const each of held) this.#drop(each)
  }

  #lose(): void {
    this.#unassign()
    const held = this.#ownership.all()
    for (const each of held) this.#drop(each)
    if (held.length > 0) void this.#turn(held, () => this.#on.lost?.(held))
  }

  #unassign(): void {
    this.#assignment.abort()
    this.#assigned.clear()
  }

  #drop(held: HeldPartition): void {
    if (!this.#ownership.drop(held)) return
    this.#fetch.remove(held)
    if (this.#progress.get(keyOf(held))?.held === held) this.#progress.delete(keyOf(held))
  }

  /** Calls back after every earlier call about these partitions is over. What the callback throws is a fault. */
  #turn(parts: readonly HeldPartition[], callback: () => Promise<void> | void | undefined): Promise<void> {
    const before = [...new Set(parts.map((part) => this.#turns.get(keyOf(part))))]
    const turn = Promise.all(before)
      .then(callback)
      .catch((error: unknown) => {
        const fault = listenerError(error)
        for (const part of parts) {
          if (this.#ownership.holds(part)) this.#fetch.stop(part)
          this.#on.fault(part, fault)
        }
      })
      .then(() => {
        for (const part of parts) if (this.#turns.get(keyOf(part)) === turn) this.#turns.delete(keyOf(part))
      })
    for (const part of parts) this.#turns.set(keyOf(part), turn)
    return turn
  }

  #batch(held: HeldPartition, records: FetchedBatch): void {
    // Records may arrive before the timer that would have noticed that the session is over.
    if (this.#group !== null && !this.#group.inSession()) this.#group.checkSession()
    if (!this.#ownership.holds(held)) return
    const progress = this.#progress.get(keyOf(held))
    if (progress !== undefined && records.count > 0) {
      progress.batches.push({ next: records.nextPosition, timestampMs: records.timestampMs(0) })
      if (progress.batches.length > agesMax) thinOut(progress.batches)
      if (this.#group === null) {
        // Nobody commits: what was handed on counts as finished.
        progress.low = records.nextPosition
        progress.batches.length = 0
      }
    }
    try {
      this.#on.batch(held, records)
    } catch (error) {
      this.#fetch.stop(held)
      this.#on.fault(held, listenerError(error))
    }
  }

  /** The log ends where we would read to: with `read_committed` before the first open transaction. */
  #listOffsets(questions: readonly OffsetQuestion[], signal?: AbortSignal): Promise<readonly OffsetAnswer[]> {
    const isolationLevel = this.#options.isolation === 'read_committed' ? 1 : 0
    return listOffsets(this.#cluster, questions, { isolationLevel, ...(signal === undefined ? {} : { signal }) })
  }

  /** Fetches tell where the log ends; a paused partition is not fetched, so it is asked for. */
  #askEnds(): void {
    const now = performance.now()
    if (now - this.#lagAskedMs < lagRefreshMs || this.#abort.signal.aborted) return
    this.#lagAskedMs = now
    const held = this.#ownership.all().filter((each) => this.#fetch.isIdle(each))
    if (held.length === 0) return
    const questions = held.map(({ topic, partition }) => ({ topic, partition, timestamp: offsetSpec.latest }))
    void this.#listOffsets(questions, this.#abort.signal).then((answers) => {
      for (const [index, each] of held.entries()) {
        const answer = answers[index]
        if (answer !== undefined && answer.error === 0) this.#fetch.knowHighWatermark(each, answer.offset)
      }
    })
  }
}

function resolve(options: ConsumerOptions): Resolved {
  const check = new OptionCheck()
  const o = check.names('options', options, optionNames)
  const sessionTimeoutMs = check.integer('sessionTimeoutMs', o.sessionTimeoutMs, {
    default: 45_000,
    min: 10,
    max: 1_800_000,
  })
  const third = Math.max(1, Math.floor(sessionTimeoutMs / 3))
  const heartbeatIntervalMs = check.integer('heartbeatIntervalMs', o.heartbeatIntervalMs, {
    default: Math.min(3_000, third),
    min: 1,
    max: third,
  })
  const rebalanceTimeoutMs = check.integer('rebalanceTimeoutMs', o.rebalanceTimeoutMs, {
    default: 300_000,
    min: 100,
    max: 3_600_000,
  })
  // We hear of a rebalance a heartbeat late, and the JoinGroup that follows the drain must still be in time.
  const drainMaxMs = Math.max(1, rebalanceTimeoutMs - Math.min(2 * heartbeatIntervalMs, rebalanceTimeoutMs / 2))
  const drainTimeoutMs = check.integer('drainTimeoutMs', o.drainTimeoutMs, {
    default: Math.floor(Math.min(60_000, drainMaxMs)),
    min: 0,
    max: Math.floor(drainMaxMs),
  })
  const mebibyte = 1024 * 1024
  const topics = Array.isArray(o.topics) ? (o.topics as unknown[]) : []
  const mayBeEmpty = o.groupId === undefined && Array.isArray(o.topics)
  if ((topics.length === 0 && !mayBeEmpty) || topics.some((topic) => typeof topic !== 'string' || topic === '')) {
    check.problem('topics', 'a list of topic names', o.topics)
  }
  const start = (o.start ?? 'earliest') as StartPosition
  if (!isStart(start)) {
    check.problem('start', "'earliest', 'latest', { offset }, { timestampMs } or { agoMs }", o.start)
  }
  const resolved: Resolved = {
    groupId: o.groupId === undefined ? null : check.text('groupId', o.groupId, ''),
    topics: [...new Set(topics as string[])],
    start,
    outOfRange: check.oneOf('outOfRange', o.outOfRange, ['fail', 'earliest', 'latest'], 'fail'),
    isolation: check.oneOf('isolation', o.isolation, ['read_committed', 'read_uncommitted'], 'read_committed'),
    assignors: assignorsOf(o.assignors, check),
    sessionTimeoutMs,
    heartbeatIntervalMs,
    rebalanceTimeoutMs,
    drainTimeoutMs,
    fetchMaxWaitMs: check.integer('fetchMaxWaitMs', o.fetchMaxWaitMs, { default: 500, min: 1, max: 300_000 }),
    fetchMinBytes: check.integer('fetchMinBytes', o.fetchMinBytes, { default: 1, min: 1, max: 100 * mebibyte }),
    fetchMaxBytes: check.integer('fetchMaxBytes', o.fetchMaxBytes, {
      default: 50 * mebibyte,
      min: 1_024,
      max: 1_024 * mebibyte,
    }),
    maxBytesPerPartition: check.integer('maxBytesPerPartition', o.maxBytesPerPartition, {
      default: mebibyte,
      min: 1_024,
      max: 1_024 * mebibyte,
    }),
    maxInflatedBytes: check.integer('maxInflatedBytes', o.maxInflatedBytes, {
      default: 128 * mebibyte,
      min: 1_024,
      max: 1_024 * mebibyte,
    }),
  }
  check.done('Kafka consumer')
  return resolved
}

function assignorsOf(given: unknown, check: OptionCheck): readonly Assignor[] {
  const names = Array.isArray(given)
    ? [...new Set(given as unknown[])]
    : given === undefined
      ? ['cooperative-sticky']
      : []
  const known = names.filter((name): name is AssignorName => typeof name === 'string' && Object.hasOwn(assignors, name))
  if (known.length === 0 || known.length < names.length) {
    check.problem('assignors', "a list of 'cooperative-sticky' and 'range'", given)
  }
  return known.map((name) => assignors[name])
}

function isStart(value: StartPosition): boolean {
  if (value === 'earliest' || value === 'latest') return true
  if (typeof value !== 'object' || value === null) return false
  const number = 'offset' in value ? value.offset : 'agoMs' in value ? value.agoMs : value.timestampMs
  return Number.isSafeInteger(number) && number >= 0
}

/** Never negative: negative times are Kafka's names for the ends of the log. */
function timeOf(start: { readonly timestampMs: number } | { readonly agoMs: number }, nowMs: number): number {
  return 'timestampMs' in start ? start.timestampMs : Math.max(0, nowMs - start.agoMs)
}

/** Halves a list by merging neighbours: the age of what is unfinished gets coarser, and never too young. */
function thinOut(ages: Age[]): void {
  let kept = 0
  for (let i = 0; i < ages.length; i += 2) {
    const first = ages[i] as Age
    ages[kept++] = { next: (ages[i + 1] ?? first).next, timestampMs: first.timestampMs }
  }
  ages.length = kept
}

function listenerError(cause: unknown): OttlaError {
  const text = cause instanceof Error ? cause.message : String(cause)
  return new OttlaError('OTTLA_KAFKA_LISTENER', `A callback of the consumer threw: ${text}`, { cause })
}

function backoff(failures: number): number {
  return Math.min(retryBackoffMaxMs, retryBackoffMs * 2 ** Math.min(10, Math.max(0, failures - 1)))
}

/** Waits for work, but no longer than this; the work itself goes on. */
async function within(work: Promise<unknown>, limitMs: number): Promise<void> {
  const limit = new AbortController()
  await Promise.race([work, delay(limitMs, limit.signal)])
  limit.abort()
}

function delay(delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve()
    const done = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, Math.ceil(delayMs))
    signal.addEventListener('abort', done)
  })
}
