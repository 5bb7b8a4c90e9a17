/**
 * The few questions the engine asks the world. Adapters answer them; users hand the adapters in.
 *
 * Two ports carry everything: `Transport`, a partitioned, replayable log with one reader per partition (bytes in, bytes
 * out), and `Store`, a database that can put a handler's writes, its inbox row and its emitted events into one
 * transaction. `Clock` and `Log` are the small change.
 */
import type { OttlaError } from '../contract/errors.ts'

// ── records ──

/** One header. Keys repeat; the last one wins where ottla reads. */
export interface Header {
  readonly key: string
  readonly value: Uint8Array | null
}

/** A record on its way out. `partition: null` lets the writer choose: murmur2 of the key, sticky without one. */
export interface OutgoingRecord {
  readonly topic: string
  readonly partition: number | null
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: readonly Header[]
  /** Milliseconds since the epoch; now when left out. */
  readonly timestampMs?: number
}

/** Where a record was stored. */
export interface Sent {
  readonly partition: number
  readonly position: number
  readonly timestampMs: number
}

/**
 * Some consecutive records of one partition, read in place. Accessors by index over the frame: no object per record,
 * no copy. Views stay valid as long as somebody holds them, or until `release`.
 */
export interface BatchView {
  readonly count: number
  /** The position after the last one looked at, even when control records or gaps end the batch. */
  readonly nextPosition: number
  /** Bytes held by the batch, for budgets. */
  readonly byteLength: number
  position(index: number): number
  timestampMs(index: number): number
  key(index: number): Uint8Array | null
  value(index: number): Uint8Array | null
  headers(index: number): readonly Header[]
  /** The same in place, where the log can: no object for each. A null value's `valueFrom` is -1. */
  eachHeader?(
    index: number,
    visit: (bytes: Uint8Array, nameFrom: number, nameTo: number, valueFrom: number, valueTo: number) => void,
  ): void
  /** Key and value bytes of one record. */
  size(index: number): number
  /**
   * Where the log can use memory again: says that nothing will be asked of the batch any more, and that nobody looks at a
   * view that it gave. Never owed.
   */
  release?(): void
}

// ── transport ──

/** A partition in one's hands. `ownership` grows by one each time it is gained after not being held. */
export interface Held {
  readonly topic: string
  /** Kafka's topic id; changes when a topic is deleted and made again. */
  readonly topicId: string
  readonly partition: number
  readonly ownership: number
}

/**
 * How far a service has come. `low` is the lowest position not yet finished; `finished` are ranges beyond it,
 * [from, to) flattened as from, to, from, to …, ascending; `strikes` counts owners lost at this very position.
 */
export interface Checkpoint {
  readonly low: number
  readonly finished: readonly number[]
  readonly strikes: number
  /** From where on the record is to be found under which owners died. Absent: `low`. */
  readonly suspect?: number
  /**
   * Failed attempts of records that are still open, as position, count, position, count … ascending, counts from 1 to 255.
   * A transport may leave out some of them; those records are tried afresh.
   */
  readonly attempts?: readonly number[]
}

/** A partition just gained, with what its last owner left behind and what the log held at that moment. */
export interface Gained {
  readonly held: Held
  readonly checkpoint: Checkpoint
  /** Was there one? False: `checkpoint` is only where the reader starts. */
  readonly stored: boolean
  readonly logStart: number
  readonly logEnd: number
}

export type Position = 'earliest' | 'latest' | { readonly offset: number } | { readonly timestampMs: number }

/** How far behind, from the broker's side. `seconds` is the age of the oldest unfinished record, 0 when none. */
export interface Lag {
  readonly topic: string
  readonly partition: number
  readonly records: number
  readonly seconds: number
}

export interface TopicFacts {
  readonly topic: string
  readonly exists: boolean
  readonly id: string
  readonly partitions: number
  readonly replicas: number
  readonly minInSync: number
  readonly retentionMs: number
  readonly maxRecordBytes: number
  /** Keeps it the newest record of each key for ever? Left out where that is not told. */
  readonly compacted?: boolean
  /** Are records stamped by the broker? Left out where that is not told. */
  readonly appendTime?: boolean
  readonly mayRead: boolean
  readonly mayWrite: boolean
  /** Brokers in the cluster, for judging `replicas`; left out where that means nothing. */
  readonly brokers?: number
}

export interface TopicSpec {
  readonly topic: string
  readonly partitions: number
  /** The broker's default when left out. */
  readonly replicas?: number
  readonly configs?: Readonly<Record<string, string>>
}

export interface EnsureResult {
  readonly topic: string
  readonly created: boolean
  readonly error?: OttlaError
}

export interface WriterOptions {
  readonly clientId?: string
  readonly deliveryTimeoutMs?: number
  /** Records of so many bytes must get through, whatever the writer allows otherwise. */
  readonly maxRecordBytes?: number
}

/** Publishes records in call order per partition. `send` resolves when the record is stored as durably as asked. */
export interface Writer extends AsyncDisposable {
  send(record: OutgoingRecord, options?: { readonly signal?: AbortSignal }): Promise<Sent>
  /** Waits until everything handed in before has been answered. */
  flush(): Promise<void>
}

export interface ReaderOptions {
  /** The service: Kafka's group id. */
  readonly group: string
  readonly topics: readonly string[]
  readonly clientId?: string
  /** Where a partition without any checkpoint starts. Default `earliest`. */
  readonly start?: Position
  /** Records and bytes that may be delivered and not yet finished, per partition; then the reader pauses it by itself. */
  readonly maxBytesPerPartition?: number
}

/** What a reader tells. Calls are serialised per partition; a returned promise is awaited before the next one. */
export interface ReaderEvents {
  gained(parts: readonly Gained[]): Promise<void>
  /** Push; flow is by `pause`, `resume` and budgets. */
  batch(held: Held, records: BatchView): void
  /** Finish and checkpoint what you can within `deadlineMs` (a duration); the partitions are gone after that. */
  releasing(parts: readonly Held[], deadlineMs: number): Promise<void>
  /** Gone already. No checkpoint will be accepted. */
  lost(parts: readonly Held[]): void
  fault(where: Held | 'group', error: OttlaError): void
}

export type CheckpointResult = 'stored' | 'stored-without-map' | 'lost'

/** One member of a group, from `transport.reader` until disposed. Disposal releases what is held and leaves the group. */
export interface Reader extends AsyncDisposable {
  pause(held: Held): void
  resume(held: Held): void
  checkpoint(held: Held, checkpoint: Checkpoint): Promise<CheckpointResult>
  /** A round trip now: is this partition still ours? For the store's fence. */
  confirm(held: Held): Promise<'held' | 'lost'>
  /** Without a round trip: has the session certainly not expired yet? Asked before each handler starts. */
  owns(held: Held): boolean
  seek(held: Held, to: Position): Promise<void>
  lag(): readonly Lag[]
}

/** What to read of a topic without being a member of anything. */
export interface TailOptions {
  readonly topic: string
  /** Left out: all of them. */
  readonly partition?: number
  /** The first position wanted; the beginning when left out. */
  readonly from?: number
}

export interface TailEvents {
  batch(partition: number, records: BatchView): void
  fault(error: OttlaError): void
}

/** Reads a topic from a position on and follows it, as no group's member and without any checkpoint. */
export interface Tail extends AsyncDisposable {
  /** Resolves once everything that was stored when it was called has been told. Rejects when that cannot be known. */
  caughtUp(): Promise<void>
  pause(): void
  resume(): void
}

export interface TransportFeatures {
  readonly exclusive: 'fenced' | 'lease'
  readonly transactions: boolean
  readonly seekByTime: boolean
  readonly partitionsCanGrow: boolean
  readonly nativeDeliveryCount: boolean
}

/** A partitioned, replayable log. */
export interface Transport extends AsyncDisposable {
  readonly name: string
  /** Is this an embedded one, where topics may be created by default? */
  readonly embedded: boolean
  readonly features: TransportFeatures
  describe(topics: readonly string[]): Promise<readonly TopicFacts[]>
  ensure(topics: readonly TopicSpec[]): Promise<readonly EnsureResult[]>
  writer(options?: WriterOptions): Promise<Writer>
  reader(options: ReaderOptions, on: ReaderEvents): Reader
  tail(options: TailOptions, on: TailEvents): Tail
  /** Groups that read this topic, as far as may be seen: with members at it, or a checkpoint in it. Sorted. */
  groupsOf(topic: string): Promise<readonly string[]>
}

// ── store ──

/** A record the outbox keeps until the relay has published it: encoded bytes, nothing left to decide but the partition. */
export interface OutboxRecord extends OutgoingRecord {
  /** CloudEvents id and type, for logs and questions; they are in the headers too. */
  readonly id: string
  readonly type: string
  /** The service it comes from: `ce_source`. */
  readonly source: string
}

/** What makes a delivery recognisable: the inbox key. */
export interface Delivery {
  readonly service: string
  readonly source: string
  readonly id: string
  /** Milliseconds since the epoch from which the inbox bucket is taken when the id holds no time; 0 when unknown. */
  readonly timeMs: number
}

/** The right to write for a partition: checked in the same statement as the inbox. */
export interface Fence {
  readonly service: string
  readonly topicId: string
  readonly partition: number
  readonly epoch: number
}

export interface HandleOptions {
  readonly delivery: Delivery
  readonly fence: Fence
  /** Aborted: the transaction is rolled back and its connection cancelled. */
  readonly signal: AbortSignal
}

/**
 * `committed`: writes, inbox row and outbox rows are durable together.
 * `duplicate`: this delivery was handled before; `work` was not called.
 * `fenced`: another process owns the partition; nothing was written.
 */
export type HandleResult = 'committed' | 'duplicate' | 'fenced'

/** A kind of store, named by a service. The app supplies the instance of that kind. */
export interface StoreKind<Tx> {
  readonly kind: string
  /** Type only: what handlers get as `tx`. */
  readonly '~tx'?: Tx
}

/** A database that can commit a handler's writes, its inbox row and what it emits together. */
export interface Store<Tx = unknown> extends AsyncDisposable {
  readonly kind: string
  readonly '~tx'?: Tx
  /** Handlers that may run at once: pool size - 2. */
  readonly concurrencyMax: number
  /** Creates or checks schema `ottla`. Throws OTTLA_STORE_SCHEMA. */
  prepare(mode: 'apply' | 'verify'): Promise<void>
  /** For how long handled deliveries are remembered, in ms. Left out: for ever. */
  readonly inboxRetentionMs?: number
  /** Has this service ever held that partition with this store? */
  knows(service: string, topicId: string, partition: number): Promise<boolean>
  /** Bumps the fence of a partition just gained and returns the new epoch. */
  acquire(service: string, topicId: string, partition: number): Promise<number>
  /** Runs `work` in a transaction unless fenced or duplicate. What `work` returns is written last, with the commit. */
  handle(options: HandleOptions, work: (tx: Tx) => Promise<readonly OutboxRecord[]>): Promise<HandleResult>
  /** A transaction that starts with us (HTTP handlers): records are written last, with the commit. */
  transact<R>(work: (tx: Tx) => Promise<{ readonly result: R; readonly records: readonly OutboxRecord[] }>): Promise<R>
  /** Told after each commit that wrote outbox rows; the relay wakes up at once instead of polling. */
  onOutbox(listener: () => void): Disposable
  /** A session of the relay on a connection of its own. Throws OTTLA_STORE_POOLER, OTTLA_STORE_UNAVAILABLE. */
  relay(): Promise<RelaySession>
  /** Rows waiting and the age of the oldest, by the database's clock. */
  backlog(): Promise<{ readonly rows: number; readonly oldestSeconds: number }>
}

/** A stored event claimed for publishing. */
export interface ClaimedEvent {
  /** The outbox row: ascending in the order in which the events must go out, per key. */
  readonly row: number
  readonly shard: number
  readonly record: OutboxRecord
}

/**
 * What one relay process holds: some shards, by advisory lock (liveness) and lease (safety). A shard has one owner.
 * Calls come one at a time.
 */
export interface RelaySession extends AsyncDisposable {
  /** Takes free shards up to a fair share, renews the leases of those held, and returns them. */
  shards(): Promise<readonly number[]>
  /**
   * The next unpublished rows of the shards held, in order, at most `maxRows` and `maxBytes`; rows of `skipKeys` left
   * out, and `heldRows` too: those the relay has in hand already.
   */
  claim(
    maxRows: number,
    maxBytes: number,
    skipKeys: readonly OutboxKey[],
    heldRows?: readonly number[],
  ): Promise<readonly ClaimedEvent[]>
  /** Is the lease of this shard good for at least `marginMs` more? No round trip; asked just before bytes go out. */
  mayPublish(shard: number, marginMs: number): boolean
  /** Marks rows published. */
  published(rows: readonly number[]): Promise<void>
}

export interface OutboxKey {
  readonly topic: string
  readonly key: Uint8Array | null
}

// ── small change ──

/** Time. `monotonicMs` for waits and deadlines, `wallMs` for stamps on records and nothing else. */
export interface Clock {
  monotonicMs(): number
  wallMs(): number
  /** Calls back once; disposing cancels. */
  after(delayMs: number, callback: () => void): Disposable
}

/** Where ottla says things. pino's and console's shape. */
export interface Log {
  debug(text: string, fields?: object): void
  info(text: string, fields?: object): void
  warn(text: string, fields?: object): void
  error(text: string, fields?: object): void
}
