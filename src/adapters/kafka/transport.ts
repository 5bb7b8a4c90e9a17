/**
 * Apache Kafka, and whatever speaks its protocol, as the runtime's log.
 *
 * Thin: topics, producer and group membership are the client's; what is decided here is how a checkpoint becomes a
 * committed offset with metadata, and back (`checkpoint.ts`).
 *
 * Each client id has a client of its own, because brokers show, limit and bill by it; services that share an id share
 * connections.
 */
import { OttlaError } from '../../contract/errors.ts'
import { KafkaClient } from '../../kafka/client.ts'
import type { Consumer, ConsumerOptions, HeldPartition } from '../../kafka/consumer.ts'
import { optionsFromEnvironment } from '../../kafka/io/environment.ts'
import type { ClientOptions } from '../../kafka/options.ts'
import { defaultMaxRequestBytes, type Producer, type ProducerOptions } from '../../kafka/producer.ts'
import type {
  Checkpoint,
  CheckpointResult,
  EnsureResult,
  Gained,
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
  TransportFeatures,
  Writer,
  WriterOptions,
} from '../../runtime/ports.ts'
import { decodeCheckpoint, encodeCheckpoint } from './checkpoint.ts'

/** How to reach Kafka and how to behave there. */
export interface KafkaOptions extends Partial<ClientOptions> {
  /** An embedded broker for development and tests: topics may be created by default. Default false. */
  readonly embedded?: boolean
  /** How records are published. */
  readonly producer?: Omit<ProducerOptions, 'partitioner'>
  /** How records are read. The group, its topics and where to go on come from the services and their app. */
  readonly consumer?: Omit<ConsumerOptions, 'groupId' | 'topics' | 'start' | 'outOfRange' | 'maxBytesPerPartition'>
}

/** A fetch never needs more of one partition than this, whatever budget the runtime has for it. */
const maxFetchBytesPerPartition = 1024 * 1024
/** What a writer makes room for at most: half of what a producer buffers. */
const largestRecordBytes = 16 * 1024 * 1024
/** Around a record, in a request: names of headers are counted three times there. */
const requestRoomBytes = 16 * 1024
const defaultMaxRecordBytes = 1_048_588
const alreadyExists = 36
const never = -1

/**
 * The transport for `app({ transport: kafka({ bootstrapServers }) })`.
 *
 * Without `bootstrapServers` the connection is read from the environment: `KAFKA_BOOTSTRAP_SERVERS`,
 * `KAFKA_SECURITY_PROTOCOL`, `KAFKA_SASL_*`, `KAFKA_SSL_*`. Connects when first needed. Throws OTTLA_CONFIG_INVALID.
 */
export function kafka(options: KafkaOptions = {}): Transport {
  const { embedded = false, producer = {}, consumer = {}, ...given } = options
  const fromEnvironment = given.bootstrapServers === undefined ? optionsFromEnvironment(process.env) : undefined
  const client = { ...fromEnvironment, ...given }
  if (client.bootstrapServers === undefined) {
    throw new OttlaError(
      'OTTLA_CONFIG_INVALID',
      'kafka({ bootstrapServers }) is missing, and KAFKA_BOOTSTRAP_SERVERS is not set',
    )
  }
  return new KafkaTransport(client as ClientOptions, { embedded, producer, consumer })
}

interface Behaviour {
  readonly embedded: boolean
  readonly producer: NonNullable<KafkaOptions['producer']>
  readonly consumer: NonNullable<KafkaOptions['consumer']>
}

class KafkaTransport implements Transport {
  readonly name = 'kafka'
  readonly embedded: boolean
  readonly features: TransportFeatures = {
    exclusive: 'fenced',
    transactions: false,
    seekByTime: true,
    partitionsCanGrow: true,
    nativeDeliveryCount: false,
  }
  readonly #options: ClientOptions
  readonly #behaviour: Behaviour
  readonly #clients = new Map<string, KafkaClient>()
  #closing: Promise<void> | null = null

  constructor(options: ClientOptions, behaviour: Behaviour) {
    this.#options = options
    this.#behaviour = behaviour
    this.embedded = behaviour.embedded
    // Says at once what is wrong with the options.
    this.#client(undefined)
  }

  async describe(topics: readonly string[]): Promise<readonly TopicFacts[]> {
    const admin = this.#client(undefined).admin()
    const [described, cluster] = await Promise.all([admin.describeTopics(topics), admin.describeCluster()])
    const brokers = cluster.brokers.length
    return described.map(({ topic, exists, id, partitions, replicas, configs, mayRead, mayWrite, error }) => {
      // Only what says nothing about the topic itself fails the call.
      if (error !== undefined && exists === false && error.code === 'OTTLA_KAFKA_AUTHORIZATION') {
        return { ...unreadable, topic, brokers }
      }
      const config = (name: string, unknown: number): number => {
        const value = Number(configs[name])
        return configs[name] === undefined || Number.isNaN(value) ? unknown : value
      }
      return {
        topic,
        exists,
        id,
        partitions: partitions.length,
        replicas,
        // Where configurations may not be read, nothing is claimed that would be a reason to refuse.
        minInSync: config('min.insync.replicas', Math.min(2, replicas)),
        retentionMs: config('retention.ms', never),
        maxRecordBytes: config('max.message.bytes', defaultMaxRecordBytes),
        ...(configs['message.timestamp.type'] === undefined
          ? {}
          : { appendTime: configs['message.timestamp.type'] === 'LogAppendTime' }),
        ...(configs['cleanup.policy'] === undefined ? {} : { compacted: configs['cleanup.policy'] === 'compact' }),
        mayRead: mayRead ?? true,
        mayWrite: mayWrite ?? true,
        brokers,
      }
    })
  }

  async ensure(topics: readonly TopicSpec[]): Promise<readonly EnsureResult[]> {
    const results = await this.#client(undefined).admin().createTopics(topics)
    return results.map(({ topic, created, error }) =>
      error === undefined || error.kafka?.code === alreadyExists ? { topic, created } : { topic, created, error },
    )
  }

  async writer(options: WriterOptions = {}): Promise<Writer> {
    const { deliveryTimeoutMs, maxRecordBytes = 0 } = options
    const { maxRequestBytes = defaultMaxRequestBytes } = this.#behaviour.producer ?? {}
    const neededBytes = Math.min(maxRecordBytes, largestRecordBytes) + requestRoomBytes
    return new KafkaWriter(
      this.#client(options.clientId).producer({
        ...this.#behaviour.producer,
        ...(deliveryTimeoutMs === undefined ? {} : { deliveryTimeoutMs }),
        ...(maxRecordBytes > 0 && neededBytes > maxRequestBytes && { maxRequestBytes: neededBytes }),
      }),
    )
  }

  reader(options: ReaderOptions, on: ReaderEvents): Reader {
    return new KafkaReader(this.#client(options.clientId), options, on, this.#behaviour.consumer)
  }

  tail(options: TailOptions, on: TailEvents): Tail {
    return new KafkaTail(this.#client(undefined), options, on)
  }

  async groupsOf(topic: string): Promise<readonly string[]> {
    const admin = this.#client(undefined).admin()
    const names = (await admin.listGroups())
      .filter(({ protocolType }) => protocolType === 'consumer' || protocolType === '')
      .map(({ group }) => group)
    const described = names.length === 0 ? [] : await admin.describeGroups(names)
    const reading = new Set<string>()
    for (const { group, members, error } of described) {
      // Better one too many: what cannot be looked into may read it.
      if (error !== undefined) reading.add(group)
      if (members.some(({ assignment }) => assignment.some((each) => each.topic === topic))) reading.add(group)
    }
    for (const group of names) {
      if (reading.has(group)) continue
      const committed = await admin.fetchOffsets(group)
      if (committed.some((each) => each.topic === topic && each.offset >= 0)) reading.add(group)
    }
    return [...reading].sort()
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= Promise.all([...this.#clients.values()].map((client) => client.close())).then(() => undefined)
    return this.#closing
  }

  #client(clientId: string | undefined): KafkaClient {
    if (this.#closing !== null) throw new OttlaError('OTTLA_KAFKA_CLOSED', 'The transport was closed')
    const key = clientId ?? ''
    const known = this.#clients.get(key)
    if (known !== undefined) return known
    const client = new KafkaClient(clientId === undefined ? this.#options : { ...this.#options, clientId })
    this.#clients.set(key, client)
    return client
  }
}

const unreadable = {
  exists: true,
  id: '',
  partitions: 0,
  replicas: 0,
  minInSync: 0,
  retentionMs: never,
  maxRecordBytes: defaultMaxRecordBytes,
  mayRead: false,
  mayWrite: false,
} as const

class KafkaWriter implements Writer {
  readonly #producer: Producer

  constructor(producer: Producer) {
    this.#producer = producer
  }

  async send(record: OutgoingRecord, options?: { readonly signal?: AbortSignal }): Promise<Sent> {
    const { partition, offset, timestampMs } = await this.#producer.send(record, options)
    return { partition, position: offset, timestampMs }
  }

  flush(): Promise<void> {
    return this.#producer.flush()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#producer.close()
  }
}

/** A consumer whose commits are checkpoints. */
class KafkaReader implements Reader {
  readonly #consumer: Consumer

  constructor(client: KafkaClient, options: ReaderOptions, on: ReaderEvents, behaviour: Behaviour['consumer']) {
    const { group, topics, start, maxBytesPerPartition } = options
    this.#consumer = client.consumer(
      {
        ...behaviour,
        groupId: group,
        // Only the books of the runtime know what a jump means.
        outOfRange: 'fail',
        topics,
        ...(start === undefined ? {} : { start }),
        ...(maxBytesPerPartition === undefined
          ? {}
          : { maxBytesPerPartition: Math.max(1024, Math.min(maxFetchBytesPerPartition, maxBytesPerPartition)) }),
      },
      {
        gained: (parts) =>
          on.gained(
            parts.map(({ held, position, committed, logStart, logEnd }): Gained => {
              const map =
                committed === null
                  ? null
                  : decodeCheckpoint({
                      topicId: held.topicId,
                      offset: committed.offset,
                      leaderEpoch: committed.leaderEpoch,
                      logEnd: committed.knownTo,
                      metadata: committed.metadata,
                    })
              const { attempts, ...rest } = map ?? { finished: [], strikes: 0, attempts: [] }
              return {
                held,
                checkpoint: { low: position, ...rest, ...(attempts.length > 0 && { attempts }) },
                stored: committed !== null,
                logStart,
                logEnd,
              }
            }),
          ),
        batch: (held, records) => on.batch(held, records),
        releasing: (parts, deadlineMs) => on.releasing(parts, deadlineMs),
        lost: (parts) => on.lost(parts),
        fault: (where, error) => on.fault(where, error),
      },
    )
  }

  pause(held: Held): void {
    this.#consumer.pause(held)
  }

  resume(held: Held): void {
    this.#consumer.resume(held)
  }

  async checkpoint(held: Held, checkpoint: Checkpoint): Promise<CheckpointResult> {
    const offset = checkpoint.low
    const metadata = encodeCheckpoint({
      ...checkpoint,
      topicId: held.topicId,
      leaderEpoch: this.#consumer.commitEpoch(held),
    })
    const result = await this.#consumer.commit(held, { offset, metadata })
    if (result !== 'too-large') return result
    // A broker with a smaller limit than Kafka's: where we are counts more than what is finished beyond it.
    const plain = await this.#consumer.commit(held, { offset, metadata: '' })
    return plain === 'stored' ? 'stored-without-map' : 'lost'
  }

  confirm(held: Held): Promise<'held' | 'lost'> {
    return this.#consumer.confirm(held)
  }

  owns(held: Held): boolean {
    return this.#consumer.owns(held)
  }

  seek(held: Held, to: Position): Promise<void> {
    return this.#consumer.seek(held, to)
  }

  lag(): readonly Lag[] {
    return this.#consumer.lag()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#consumer[Symbol.asyncDispose]()
  }
}

/** A consumer without a group. */
class KafkaTail implements Tail {
  readonly #client: KafkaClient
  readonly #options: TailOptions
  readonly #consumer: Consumer
  readonly #held = new Map<number, HeldPartition>()
  /** Everything below has been told, by partition. */
  readonly #positions = new Map<number, number>()
  #paused = false
  #waiters: (() => void)[] = []
  #fault: OttlaError | null = null

  constructor(client: KafkaClient, options: TailOptions, on: TailEvents) {
    const { topic, partition, from } = options
    this.#client = client
    this.#options = options
    this.#consumer = client.consumer(
      {
        topics: [topic],
        start: from === undefined ? 'earliest' : { offset: from },
        maxBytesPerPartition: maxFetchBytesPerPartition,
      },
      {
        gained: (parts) => {
          for (const { held, position } of parts) {
            if (partition !== undefined && held.partition !== partition) {
              this.#consumer.pause(held)
              continue
            }
            this.#held.set(held.partition, held)
            this.#positions.set(held.partition, position)
            if (this.#paused) this.#consumer.pause(held)
          }
          this.#tell()
        },
        batch: (held, records) => {
          if (!this.#held.has(held.partition)) return
          on.batch(held.partition, records)
          this.#positions.set(held.partition, records.nextPosition)
          this.#tell()
        },
        fault: (where, error) => {
          // The position asked for need not exist in the partitions that nobody asked for.
          if (where !== 'group' && partition !== undefined && where.partition !== partition) return
          if (!error.retriable) this.#fault = error
          this.#tell()
          on.fault(error)
        },
      },
    )
  }

  async caughtUp(): Promise<void> {
    const { topic, partition } = this.#options
    const admin = this.#client.admin()
    let partitions = [partition ?? 0]
    if (partition === undefined) {
      const [described] = await admin.describeTopics([topic])
      if (described?.error !== undefined) throw described.error
      partitions = (described?.partitions ?? []).map((each) => each.partition)
    }
    const ends = await admin.listOffsets(
      partitions.map((each) => ({ topic, partition: each, at: 'latest' })),
      { isolation: 'committed' },
    )
    for (const { error } of ends) if (error !== undefined) throw error
    while (!ends.every((end) => (this.#positions.get(end.partition) ?? -1) >= end.offset)) {
      if (this.#fault !== null) throw this.#fault
      await new Promise<void>((done) => this.#waiters.push(done))
    }
  }

  pause(): void {
    this.#paused = true
    for (const held of this.#held.values()) this.#consumer.pause(held)
  }

  resume(): void {
    this.#paused = false
    for (const held of this.#held.values()) this.#consumer.resume(held)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#fault ??= new OttlaError('OTTLA_KAFKA_CLOSED', `Reading ${this.#options.topic} was ended`)
    this.#tell()
    await this.#consumer[Symbol.asyncDispose]()
  }

  #tell(): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const waiter of waiters) waiter()
  }
}
