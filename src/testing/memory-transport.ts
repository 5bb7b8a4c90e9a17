/**
 * A log in memory that answers the transport port honestly: several readers of one group, rebalances with awaited
 * releases, stored checkpoints, sparse positions, members that die or are thought dead. For tests of the engine and as
 * the smallest example of an adapter. Nothing here survives the process.
 *
 * A group rebalances in turns. One turn: compute who shall hold what (each partition to one member, round robin in the
 * order of joining), let those who must give up release, wait for them at most `releaseMs`, then hand out.
 */
import type { HeaderVisitor } from '../contract/envelope.ts'
import { OttlaError } from '../contract/errors.ts'
import { declaredPartition } from '../core/partition.ts'
import type {
  BatchView,
  Checkpoint,
  CheckpointResult,
  EnsureResult,
  Gained,
  Header,
  Held,
  Lag,
  OutgoingRecord,
  Position,
  Reader,
  ReaderEvents,
  ReaderOptions,
  Sent,
  Tail,
  TailEvents,
  TailOptions,
  TopicFacts,
  TopicSpec,
  Transport,
  Writer,
} from '../runtime/ports.ts'

/** A record as stored. */
export interface MemoryRecord {
  readonly position: number
  readonly timestampMs: number
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: readonly Header[]
}

interface MemoryPartition {
  readonly records: MemoryRecord[]
  logStart: number
  next: number
}

interface MemoryTopic {
  readonly name: string
  readonly id: string
  readonly partitions: MemoryPartition[]
  readonly configs: Map<string, string>
}

export interface MemoryLogOptions {
  /** What the log says about its replicas. Default 1 and 1, as one broker would. */
  readonly replicas?: number
  readonly minInSync?: number
  /** Default 1. */
  readonly brokers?: number
  /** How long a release may take. Default 2,000 ms. */
  readonly releaseMs?: number
  /** Records per delivered batch, at most. Default 100. */
  readonly batchRecordsMax?: number
  readonly embedded?: boolean
  /** The log's own clock, for records that are stamped by it. Default `Date.now`. */
  readonly nowMs?: () => number
}

/** The shared state behind any number of memory transports. */
export class MemoryLog {
  readonly options: Required<MemoryLogOptions>
  readonly #topics = new Map<string, MemoryTopic>()
  readonly #groups = new Map<string, MemoryGroup>()
  readonly #tails = new Set<MemoryTail>()
  #ids = 0
  /** Set by tests: asked before each record is stored; what it returns or throws is the send's failure. */
  refuse: (record: OutgoingRecord) => OttlaError | null = () => null
  /** Set by tests: awaited before a send is answered, after the record is stored. */
  delayAck: (record: OutgoingRecord) => Promise<void> | null = () => null

  constructor(options: MemoryLogOptions = {}) {
    this.options = {
      replicas: options.replicas ?? 1,
      minInSync: options.minInSync ?? 1,
      brokers: options.brokers ?? 1,
      releaseMs: options.releaseMs ?? 2_000,
      batchRecordsMax: options.batchRecordsMax ?? 100,
      embedded: options.embedded ?? true,
      nowMs: options.nowMs ?? Date.now,
    }
  }

  create(name: string, partitions: number, configs: Readonly<Record<string, string>> = {}): void {
    if (this.#topics.has(name)) throw new Error(`topic ${name} exists`)
    this.#topics.set(name, {
      name,
      id: `memory-${++this.#ids}`,
      partitions: Array.from({ length: partitions }, () => ({ records: [], logStart: 0, next: 0 })),
      configs: new Map(Object.entries(configs)),
    })
  }

  topic(name: string): MemoryTopic | undefined {
    return this.#topics.get(name)
  }

  /** Everything stored in a topic, partition after partition. */
  records(name: string): readonly (MemoryRecord & { readonly partition: number })[] {
    return (this.#topics.get(name)?.partitions ?? []).flatMap((each, partition) =>
      each.records.map((record) => ({ ...record, partition })),
    )
  }

  append(record: OutgoingRecord): Sent {
    const topic = this.#topics.get(record.topic)
    if (topic === undefined) throw new OttlaError('OTTLA_RUNTIME_TOPIC', `There is no topic ${record.topic}`)
    const chosen =
      record.partition ?? (record.key === null ? 0 : declaredPartition(record.key, topic.partitions.length))
    const partition = topic.partitions[chosen]
    if (partition === undefined) {
      throw new OttlaError('OTTLA_RUNTIME_TOPIC', `Topic ${record.topic} has no partition ${chosen}`)
    }
    const stored: MemoryRecord = {
      position: partition.next++,
      timestampMs:
        topic.configs.get('message.timestamp.type') === 'LogAppendTime'
          ? this.options.nowMs()
          : (record.timestampMs ?? this.options.nowMs()),
      key: record.key,
      value: record.value,
      headers: record.headers,
    }
    partition.records.push(stored)
    this.#wake()
    return { partition: chosen, position: stored.position, timestampMs: stored.timestampMs }
  }

  /** Leaves a hole of `count` positions, as compaction and control records do. */
  gap(name: string, partition: number, count: number): void {
    this.#topics.get(name)!.partitions[partition]!.next += count
    this.#wake()
  }

  /** @internal */
  follow(tail: MemoryTail): Disposable {
    this.#tails.add(tail)
    return { [Symbol.dispose]: () => void this.#tails.delete(tail) }
  }

  #wake(): void {
    for (const group of this.#groups.values()) group.wake()
    for (const tail of this.#tails) tail.wake()
  }

  /** Retention: everything below `position` is gone. */
  expire(name: string, partition: number, position: number): void {
    const held = this.#topics.get(name)!.partitions[partition]!
    held.logStart = position
    held.records.splice(0, held.records.findIndex((record) => record.position >= position) >>> 0)
  }

  /** Groups with a member at this topic, or a checkpoint in it. */
  groupsOf(topic: string): readonly string[] {
    const reading = [...this.#groups].filter(([, group]) => group.reads(topic))
    return reading.map(([name]) => name).sort()
  }

  group(name: string): MemoryGroup {
    let group = this.#groups.get(name)
    if (group === undefined) {
      group = new MemoryGroup(this)
      this.#groups.set(name, group)
    }
    return group
  }
}

interface Assigned {
  held: Held
  position: number
  paused: boolean
  /** Delivered batches are not pushed before `gained` has returned. */
  ready: boolean
}

class MemoryGroup {
  readonly #log: MemoryLog
  readonly #members: MemoryReader[] = []
  readonly checkpoints = new Map<string, Checkpoint>()
  #turn: Promise<void> = Promise.resolve()

  constructor(log: MemoryLog) {
    this.#log = log
  }

  join(member: MemoryReader): void {
    this.#members.push(member)
    this.#rebalance()
  }

  /** Resolves when the leaver has released and the others have what it held. */
  leave(member: MemoryReader): Promise<void> {
    const index = this.#members.indexOf(member)
    if (index >= 0) this.#members.splice(index, 1)
    return this.#rebalance(member)
  }

  /** Gone without a word: whatever it held goes to the others at once. */
  remove(member: MemoryReader): void {
    const index = this.#members.indexOf(member)
    if (index >= 0) this.#members.splice(index, 1)
    member.loseAll()
    void this.#rebalance()
  }

  reads(topic: string): boolean {
    if (this.#members.some((member) => member.topics.includes(topic))) return true
    return [...this.checkpoints.keys()].some((key) => key.startsWith(`${topic}/`))
  }

  wake(): void {
    for (const member of this.#members) member.wake()
  }

  /** Resolves when no rebalance is under way. */
  settled(): Promise<void> {
    return this.#turn
  }

  #rebalance(leaver?: MemoryReader): Promise<void> {
    this.#turn = this.#turn.then(() => this.#runTurn(leaver))
    return this.#turn
  }

  async #runTurn(leaver: MemoryReader | undefined): Promise<void> {
    const wanted = new Map<MemoryReader, Set<string>>(this.#members.map((member) => [member, new Set()]))
    const names = [...new Set(this.#members.flatMap((member) => [...member.topics]))].sort()
    for (const name of names) {
      const candidates = this.#members.filter((member) => member.topics.includes(name))
      const partitions = this.#log.topic(name)?.partitions.length ?? 0
      for (let partition = 0; partition < partitions; partition++) {
        wanted.get(candidates[partition % candidates.length]!)!.add(`${name}/${partition}`)
      }
    }
    const giving = leaver === undefined ? [...this.#members] : [...this.#members, leaver]
    await Promise.all(
      giving.map((member) => member.release(wanted.get(member) ?? new Set(), this.#log.options.releaseMs)),
    )
    await Promise.all(this.#members.map((member) => member.gain(wanted.get(member)!)))
  }
}

/**
 * A batch of the memory log, with bytes of its own. Once they are given back they are overwritten, as a client that uses
 * memory again would do: whoever looks at them later is found out.
 */
class MemoryBatch implements BatchView {
  readonly #records: MemoryRecord[]
  readonly count: number
  readonly nextPosition: number
  readonly byteLength: number
  readonly #headersInPlace: readonly HeadersInPlace[]

  constructor(records: readonly MemoryRecord[], nextPosition: number) {
    this.#records = records.map(copyOf)
    this.#headersInPlace = records.map(({ headers }) => inPlace(headers))
    this.count = records.length
    this.nextPosition = nextPosition
    this.byteLength = records.reduce((sum, record) => sum + sizeOf(record), 0)
  }

  position(index: number): number {
    return this.#records[index]!.position
  }

  timestampMs(index: number): number {
    return this.#records[index]!.timestampMs
  }

  key(index: number): Uint8Array | null {
    return this.#records[index]!.key
  }

  value(index: number): Uint8Array | null {
    return this.#records[index]!.value
  }

  headers(index: number): readonly Header[] {
    return this.#records[index]!.headers
  }

  eachHeader(index: number, visit: HeaderVisitor): void {
    const { bytes, places } = this.#headersInPlace[index]!
    for (const { nameFrom, nameTo, valueFrom, valueTo } of places) visit(bytes, nameFrom, nameTo, valueFrom, valueTo)
  }

  size(index: number): number {
    return sizeOf(this.#records[index]!)
  }

  release(): void {
    for (const { key, value, headers } of this.#records) {
      key?.fill(releasedByte)
      value?.fill(releasedByte)
      for (const header of headers) header.value?.fill(releasedByte)
    }
    for (const { bytes } of this.#headersInPlace) bytes.fill(releasedByte)
    this.#records.length = 0
  }
}

const releasedByte = 0xee

/** The headers of one record in one piece of memory, as a log has them on the wire. */
interface HeadersInPlace {
  readonly bytes: Uint8Array
  readonly places: readonly {
    readonly nameFrom: number
    readonly nameTo: number
    readonly valueFrom: number
    readonly valueTo: number
  }[]
}

function inPlace(headers: readonly Header[]): HeadersInPlace {
  const pieces: Uint8Array[] = []
  let end = 0
  const add = (piece: Uint8Array): number => {
    pieces.push(piece)
    end += piece.length
    return end
  }
  const places = headers.map(({ key, value }) => {
    const nameFrom = end
    const nameTo = add(Buffer.from(key))
    return { nameFrom, nameTo, valueFrom: value === null ? -1 : nameTo, valueTo: value === null ? -1 : add(value) }
  })
  return { bytes: Buffer.concat(pieces), places }
}

function copyOf(record: MemoryRecord): MemoryRecord {
  const { key, value, headers } = record
  return {
    ...record,
    key: key && new Uint8Array(key),
    value: value && new Uint8Array(value),
    headers: headers.map((header) => ({ key: header.key, value: header.value && new Uint8Array(header.value) })),
  }
}

function sizeOf(record: MemoryRecord): number {
  return (record.key?.length ?? 0) + (record.value?.length ?? 0)
}

/** One member of a group of the memory log. Beyond the port, tests may `kill` it or let its session `expire`. */
export class MemoryReader implements Reader {
  readonly #log: MemoryLog
  readonly #group: MemoryGroup
  readonly #events: ReaderEvents
  readonly topics: readonly string[]
  readonly #start: Position
  readonly #assigned = new Map<string, Assigned>()
  readonly #ownerships = new Map<string, number>()
  readonly #gaining = new Set<Assigned>()
  #waking = false
  #closed = false

  constructor(log: MemoryLog, options: ReaderOptions, events: ReaderEvents) {
    this.#log = log
    this.#group = log.group(options.group)
    this.#events = events
    this.topics = options.topics
    this.#start = options.start ?? 'earliest'
    this.#group.join(this)
  }

  pause(held: Held): void {
    const assigned = this.#of(held)
    if (assigned !== undefined) assigned.paused = true
  }

  resume(held: Held): void {
    const assigned = this.#of(held)
    if (assigned === undefined) return
    assigned.paused = false
    this.wake()
  }

  async checkpoint(held: Held, checkpoint: Checkpoint): Promise<CheckpointResult> {
    await Promise.resolve()
    if (this.#of(held) === undefined) return 'lost'
    this.#group.checkpoints.set(keyOf(held), structuredClone(checkpoint))
    return 'stored'
  }

  async confirm(held: Held): Promise<'held' | 'lost'> {
    await Promise.resolve()
    return this.owns(held) ? 'held' : 'lost'
  }

  owns(held: Held): boolean {
    return this.#of(held) !== undefined
  }

  async seek(held: Held, to: Position): Promise<void> {
    const assigned = this.#of(held)
    if (assigned === undefined) return
    assigned.position = resolve(this.#partition(held), to)
    if (!this.#gaining.has(assigned)) assigned.ready = true
    this.wake()
  }

  lag(): readonly Lag[] {
    return [...this.#assigned.values()].map(({ held }) => {
      const partition = this.#partition(held)
      const low = this.#group.checkpoints.get(keyOf(held))?.low ?? partition.logStart
      const oldest = partition.records.find((record) => record.position >= low)
      return {
        topic: held.topic,
        partition: held.partition,
        records: partition.records.filter((record) => record.position >= low).length,
        seconds: oldest === undefined ? 0 : Math.max(0, (Date.now() - oldest.timestampMs) / 1000),
      }
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return this.#group.settled()
    this.#closed = true
    await this.#group.leave(this)
  }

  /** The process dies: no release, no further event. */
  kill(): void {
    this.#closed = true
    this.#assigned.clear()
    this.#group.remove(this)
  }

  /** The group takes the member for dead although it lives: `lost` is told, and it joins again. */
  expire(): void {
    this.#group.remove(this)
    this.#group.join(this)
  }

  /** @internal */
  loseAll(): void {
    const lost = [...this.#assigned.values()].map(({ held }) => held)
    this.#assigned.clear()
    if (lost.length > 0 && !this.#closed) this.#events.lost(lost)
  }

  /** @internal */
  async release(keep: ReadonlySet<string>, releaseMs: number): Promise<void> {
    const going = [...this.#assigned.entries()].filter(([key]) => !keep.has(key))
    if (going.length === 0) return
    for (const [, assigned] of going) assigned.ready = false
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((done) => {
      timer = setTimeout(done, releaseMs)
    })
    await Promise.race([
      this.#events.releasing(
        going.map(([, { held }]) => held),
        releaseMs,
      ),
      late,
    ])
    clearTimeout(timer)
    for (const [key] of going) this.#assigned.delete(key)
  }

  /** @internal */
  async gain(wanted: ReadonlySet<string>): Promise<void> {
    const gained: Gained[] = []
    for (const key of wanted) {
      if (this.#assigned.has(key) || this.#closed) continue
      const ownership = (this.#ownerships.get(key) ?? 0) + 1
      this.#ownerships.set(key, ownership)
      const slash = key.lastIndexOf('/')
      const topic = this.#log.topic(key.slice(0, slash))!
      const held: Held = { topic: topic.name, topicId: topic.id, partition: Number(key.slice(slash + 1)), ownership }
      const partition = this.#partition(held)
      const stored = this.#group.checkpoints.get(key)
      const checkpoint = stored ?? { low: resolve(partition, this.#start), finished: [], strikes: 0 }
      this.#assigned.set(key, { held, position: checkpoint.low, paused: false, ready: false })
      gained.push({
        held,
        checkpoint,
        stored: stored !== undefined,
        logStart: partition.logStart,
        logEnd: partition.next,
      })
    }
    if (gained.length === 0) return
    const welcomed = gained.map(({ held }) => this.#assigned.get(keyOf(held))!)
    for (const assigned of welcomed) this.#gaining.add(assigned)
    await this.#events.gained(gained)
    for (const assigned of welcomed) {
      this.#gaining.delete(assigned)
      assigned.ready = this.#of(assigned.held) === assigned
    }
    this.wake()
  }

  /** @internal Delivers in a turn of its own, as the network would. */
  wake(): void {
    if (this.#waking || this.#closed) return
    this.#waking = true
    setImmediate(() => {
      this.#waking = false
      let more = false
      for (const [key, assigned] of this.#assigned) {
        if (assigned.paused || !assigned.ready) continue
        more = this.#deliver(key, assigned) || more
      }
      if (more) this.wake()
    })
  }

  #deliver(key: string, assigned: Assigned): boolean {
    const partition = this.#partition(assigned.held)
    if (assigned.position < partition.logStart || assigned.position > partition.next) {
      this.#outOfRange(assigned, partition)
      return false
    }
    if (assigned.position >= partition.next) return false
    const first = lowerBound(partition.records, assigned.position)
    const records = partition.records.slice(first, first + this.#log.options.batchRecordsMax)
    const last = first + records.length === partition.records.length
    const next = last ? partition.next : records.at(-1)!.position + 1
    assigned.position = next
    this.#events.batch(assigned.held, new MemoryBatch(records, next))
    return this.#assigned.get(key) === assigned && assigned.position < partition.next
  }

  /** Nothing more comes until somebody seeks. */
  #outOfRange(assigned: Assigned, { logStart, next }: MemoryPartition): void {
    const { position, held } = assigned
    assigned.ready = false
    this.#events.fault(
      held,
      new OttlaError(
        'OTTLA_KAFKA_OFFSET_OUT_OF_RANGE',
        `${held.topic}-${held.partition} holds positions ${logStart} to ${next}, and ${position} was asked for`,
        { details: { topic: held.topic, partition: held.partition, position, logStart, logEnd: next } },
      ),
    )
  }

  #of(held: Held): Assigned | undefined {
    const assigned = this.#assigned.get(keyOf(held))
    return assigned?.held.ownership === held.ownership ? assigned : undefined
  }

  #partition(held: Held): MemoryPartition {
    return this.#log.topic(held.topic)!.partitions[held.partition]!
  }
}

/** Follows a topic of the memory log from a position on. */
class MemoryTail implements Tail {
  readonly #log: MemoryLog
  readonly #options: TailOptions
  readonly #events: TailEvents
  readonly #positions = new Map<number, number>()
  readonly #following: Disposable
  #waiters: (() => void)[] = []
  #waking = false
  #paused = false
  #closed = false

  constructor(log: MemoryLog, options: TailOptions, events: TailEvents) {
    this.#log = log
    this.#options = options
    this.#events = events
    this.#following = log.follow(this)
    this.wake()
  }

  async caughtUp(): Promise<void> {
    const ends = this.#partitions().map(([partition, { next }]) => [partition, next] as const)
    while (!ends.every(([partition, end]) => (this.#positions.get(partition) ?? 0) >= end)) {
      if (this.#closed) throw new OttlaError('OTTLA_RUNTIME_STOPPING', `Reading ${this.#options.topic} was ended`)
      await new Promise<void>((done) => this.#waiters.push(done))
    }
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
    this.wake()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true
    this.#following[Symbol.dispose]()
    this.#tell()
  }

  /** @internal */
  wake(): void {
    if (this.#waking || this.#closed) return
    this.#waking = true
    setImmediate(() => {
      this.#waking = false
      if (this.#paused || this.#closed) return
      let more = false
      for (const [number, partition] of this.#partitions()) {
        const at = Math.max(this.#positions.get(number) ?? this.#options.from ?? 0, partition.logStart)
        const first = lowerBound(partition.records, at)
        const records = partition.records.slice(first, first + this.#log.options.batchRecordsMax)
        const last = first + records.length === partition.records.length
        const next = last ? Math.max(at, partition.next) : records.at(-1)!.position + 1
        if (records.length > 0) this.#events.batch(number, new MemoryBatch(records, next))
        this.#positions.set(number, next)
        more ||= !last
      }
      this.#tell()
      if (more) this.wake()
    })
  }

  #partitions(): (readonly [number, MemoryPartition])[] {
    const all = [...(this.#log.topic(this.#options.topic)?.partitions.entries() ?? [])]
    return all.filter(([number]) => this.#options.partition === undefined || number === this.#options.partition)
  }

  #tell(): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const waiter of waiters) waiter()
  }
}

function lowerBound(records: readonly MemoryRecord[], position: number): number {
  let low = 0
  let high = records.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (records[middle]!.position < position) low = middle + 1
    else high = middle
  }
  return low
}

function resolve(partition: MemoryPartition, to: Position): number {
  if (to === 'earliest') return partition.logStart
  if (to === 'latest') return partition.next
  if ('offset' in to) return to.offset
  return partition.records.find((record) => record.timestampMs >= to.timestampMs)?.position ?? partition.next
}

function keyOf(held: Held): string {
  return `${held.topic}/${held.partition}`
}

/** A transport over a memory log, with its readers in reach of the test. */
export interface MemoryTransport extends Transport {
  readonly log: MemoryLog
  readonly readers: readonly MemoryReader[]
}

/** A transport over a log in memory. Give the same log to several, as several processes share one cluster. */
export function memoryTransport(log: MemoryLog = new MemoryLog()): MemoryTransport {
  const readers: MemoryReader[] = []
  const facts = (name: string): TopicFacts => {
    const topic = log.topic(name)
    return {
      topic: name,
      exists: topic !== undefined,
      id: topic?.id ?? '',
      partitions: topic?.partitions.length ?? 0,
      replicas: log.options.replicas,
      minInSync: log.options.minInSync,
      retentionMs: Number(topic?.configs.get('retention.ms') ?? 604_800_000),
      maxRecordBytes: Number(topic?.configs.get('max.message.bytes') ?? 1_048_588),
      appendTime: topic?.configs.get('message.timestamp.type') === 'LogAppendTime',
      compacted: topic?.configs.get('cleanup.policy') === 'compact',
      brokers: log.options.brokers,
      mayRead: true,
      mayWrite: true,
    }
  }
  return {
    name: 'memory',
    embedded: log.options.embedded,
    features: {
      exclusive: 'fenced',
      transactions: false,
      seekByTime: true,
      partitionsCanGrow: false,
      nativeDeliveryCount: false,
    },
    log,
    readers,
    describe: async (topics) => topics.map(facts),
    async ensure(topics: readonly TopicSpec[]): Promise<readonly EnsureResult[]> {
      return topics.map((spec) => {
        if (log.topic(spec.topic) !== undefined) return { topic: spec.topic, created: false }
        log.create(spec.topic, spec.partitions, spec.configs)
        return { topic: spec.topic, created: true }
      })
    },
    async writer(): Promise<Writer> {
      let last: Promise<unknown> = Promise.resolve()
      return {
        async send(record, options) {
          options?.signal?.throwIfAborted()
          const refusal = log.refuse(record)
          if (refusal !== null) throw refusal
          const sent = log.append(record)
          const waiting = log.delayAck(record)
          if (waiting !== null) {
            last = waiting
            await waiting
          }
          return sent
        },
        async flush() {
          await last
        },
        async [Symbol.asyncDispose]() {
          await last
        },
      }
    },
    reader(options, on) {
      const reader = new MemoryReader(log, options, on)
      readers.push(reader)
      return reader
    },
    tail: (options, on) => new MemoryTail(log, options, on),
    groupsOf: async (topic) => log.groupsOf(topic),
    async [Symbol.asyncDispose]() {
      await Promise.all(readers.map((reader) => reader[Symbol.asyncDispose]()))
    },
  }
}
