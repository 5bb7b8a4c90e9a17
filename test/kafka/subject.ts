/**
 * A Kafka client as the scenarios of `defect-scenarios.ts` use it: as little as every client can do, so that the same
 * scenario is played with ours and with one that is known to fail it.
 */

/** A record as a member was given it. */
export interface GivenRecord {
  readonly topic: string
  readonly partition: number
  readonly offset: number
  readonly value: string
}

export interface SubjectRecord {
  readonly topic: string
  readonly partition?: number
  readonly key?: string
  readonly value: string
}

export interface ConnectOptions {
  readonly bootstrapServers: string
  /** Default: the client's own. */
  readonly requestTimeoutMs?: number
  /** Default: the client's own. */
  readonly metadataMaxAgeMs?: number
  /** Logs in with this OAUTHBEARER token, over TLS. */
  readonly token?: { readonly value: string; readonly caFile: string }
}

export interface MemberOptions {
  readonly group: string
  readonly topics: readonly string[]
  /** Called for one record at a time. Records of partitions that are known to be gone should not come. */
  handle(record: GivenRecord): Promise<void> | void
  readonly maxBytesPerPartition?: number
  readonly rebalanceTimeoutMs?: number
}

/** A member of a group that reads committed records from the earliest on, and commits when it is told to. */
export interface SubjectMember extends AsyncDisposable {
  /** `topic/partition` of what it believes to hold, sorted. */
  held(): readonly string[]
  /** Asks for an offset to be committed for a partition it holds or once held. Rejects when that was refused. */
  commit(topic: string, partition: number, offset: number): Promise<void>
  /** Errors told to the application that concern no single partition, and whatever ended the reading. */
  readonly failures: readonly string[]
}

/** An idempotent producer with the durability of `acks=all`. */
export interface SubjectProducer {
  /** Resolves when the record is acknowledged. */
  send(record: SubjectRecord): Promise<void>
  /** The client's own orderly end. */
  close(): Promise<void>
}

/** One connected client; disposing closes what it opened. */
export interface SubjectSession extends AsyncDisposable {
  /** `deliveryTimeoutMs`: when to give a record up, for clients that can be told. */
  producer(options?: { readonly deliveryTimeoutMs?: number }): SubjectProducer
  /** Resolves when joining has begun; may wait until it is done. Rejects when it failed. */
  member(options: MemberOptions): Promise<SubjectMember>
  /** Any request at all. Rejects when the client may not talk to the cluster. */
  ask(): Promise<void>
}

export interface Subject {
  readonly name: string
  /** The assignor's name in JoinGroup. */
  readonly protocol: string
  connect(options: ConnectOptions): SubjectSession
}

/** Everything an error says, its causes and nested errors included. */
export function wholeText(error: unknown, depth = 0): string {
  if (depth > 8) return '…'
  if (!(error instanceof Error)) return String(error)
  const inner = error instanceof AggregateError ? error.errors : []
  const { cause } = error as { cause?: unknown }
  const all = [...inner, ...(cause === undefined ? [] : [cause])].map((each) => wholeText(each, depth + 1))
  return [`${error.name}: ${error.message}`, ...all].join(' ← ')
}
