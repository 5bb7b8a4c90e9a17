/**
 * The embedded broker: the cluster state machine with sockets, a clock and randomness around it.
 *
 * For development and tests. It speaks Kafka's protocol, keeps everything in memory and forgets it when it stops;
 * production is Apache Kafka.
 */
import { randomBytes } from 'node:crypto'
import { OttlaError } from '../contract/errors.ts'
import { apiVersions } from './api/18-api-versions.ts'
import { Cluster, type ClusterOptions } from './cluster.ts'
import { compression } from './compression.ts'
import type { Fault, FaultRule } from './faults.ts'
import type { GroupState } from './group.ts'
import { type Listener, listen } from './listener.ts'
import { allRecords, type StoredRecord } from './records.ts'
import { Topic } from './topic.ts'

/** Time for the broker. `monotonicMs` drives timeouts; `wallMs` is asked once, at the start. */
export interface BrokerClock {
  monotonicMs(): number
  wallMs(): number
  /** Calls back once; disposing cancels. */
  after(delayMs: number, callback: () => void): Disposable
}

/** Where the broker says things. */
export interface BrokerLog {
  debug(text: string, fields?: object): void
  warn(text: string, fields?: object): void
}

/** A topic to start with. */
export interface BrokerTopic {
  readonly topic: string
  /** Default `partitionsDefault`. */
  readonly partitions?: number
  /** Default 3, or the number of nodes when that is less. */
  readonly replicas?: number
  readonly configs?: Readonly<Record<string, string>>
}

export interface BrokerOptions {
  /** Port of the first node; the others take free ones. Default 0: any free port. */
  readonly port?: number
  /** Virtual brokers, each with a port of its own. Default 1. */
  readonly nodes?: number
  readonly host?: '127.0.0.1'
  readonly topics?: readonly (string | BrokerTopic)[]
  /** Partitions of a topic made without a number. Default 1. */
  readonly partitionsDefault?: number
  /** May clients make topics by asking for them? Default false. */
  readonly autoCreateTopics?: boolean
  /** How long an empty group waits for more members; Apache Kafka's default is 3,000. Default 0. */
  readonly initialRebalanceDelayMs?: number
  /** Shortest session timeout a member may ask for; Apache Kafka's default is 6,000. Default 100. */
  readonly sessionTimeoutMinMs?: number
  /** Record bytes kept in all. Default 512 MiB. */
  readonly maxStoredBytes?: number
  readonly clock?: BrokerClock
  readonly log?: BrokerLog
}

/** What a group looks like from inside. */
export interface GroupFacts {
  readonly state: GroupState
  readonly generation: number
  readonly members: readonly string[]
}

/** What a group committed for one partition. */
export interface CommittedFacts {
  readonly topic: string
  readonly partition: number
  readonly offset: number
  readonly leaderEpoch: number
  readonly metadata: string
}

/** A running embedded broker. Disposing stops it; what it held is gone. */
export interface EmbeddedBroker extends AsyncDisposable {
  /** All nodes, also stopped ones: `127.0.0.1:9092,127.0.0.1:9093`. */
  readonly bootstrapServers: string
  /** The first node's port. */
  readonly port: number
  readonly clusterId: string
  /** Ports by node id. */
  readonly ports: ReadonlyMap<number, number>
  /** Makes the broker misbehave; see `FaultRule`. */
  control(rule: FaultRule): Fault
  /** Closes a node's connections and its listener; its leaderships and groups move. */
  stopNode(id: number): Promise<void>
  /** Listens again, on the same port. */
  startNode(id: number): Promise<void>
  /** Makes an in-sync replica the leader of a partition. Throws OTTLA_CONFIG_INVALID when it cannot be. */
  moveLeader(topic: string, partition: number, node: number): void
  /** The node that leads a partition; -1 when none does. */
  leaderOf(topic: string, partition: number): number
  /** The node that coordinates a group. */
  coordinatorOf(group: string): number
  /** Makes a topic. Throws OTTLA_CONFIG_INVALID with Kafka's sentence. */
  createTopic(topic: string | BrokerTopic): void
  /** Names of all topics. */
  topics(): readonly string[]
  /**
   * Every record of a topic, by partition and offset; empty when there is no such topic. Throws OTTLA_KAFKA_COMPRESSION
   * for batches in snappy or lz4: they are stored and served, but not opened here.
   */
  records(topic: string): readonly StoredRecord[]
  /** Where the log of each partition ends; empty when there is no such topic. */
  ends(topic: string): readonly number[]
  /** What a group committed; empty when there is no such group. */
  committed(group: string): readonly CommittedFacts[]
  /** State of a group; undefined when there is none. */
  group(group: string): GroupFacts | undefined
}

/** Starts an embedded broker. Throws OTTLA_CONFIG_INVALID when the port is taken or a topic cannot be made. */
export async function startBroker(options: BrokerOptions = {}): Promise<EmbeddedBroker> {
  const nodes = options.nodes ?? 1
  if (!Number.isInteger(nodes) || nodes < 1 || nodes > 20) {
    throw new OttlaError('OTTLA_CONFIG_INVALID', `nodes: expected 1 to 20, got ${nodes}`)
  }
  const broker = new Embedded(options, nodes)
  try {
    await broker.start()
    for (const topic of options.topics ?? []) broker.createTopic(topic)
  } catch (error) {
    await broker[Symbol.asyncDispose]()
    throw error
  }
  return broker
}

const systemClock: BrokerClock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, Math.min(delayMs, 0x7fff_ffff))
    return { [Symbol.dispose]: () => clearTimeout(timer) }
  },
}

const silentLog: BrokerLog = { debug: () => {}, warn: () => {} }

class Embedded implements EmbeddedBroker {
  readonly #cluster: Cluster
  readonly #clock: BrokerClock
  readonly #log: BrokerLog
  readonly #listeners = new Map<number, Listener>()
  readonly #firstPort: number
  readonly #wallOffsetMs: number
  #alarm: { readonly atMs: number; readonly timer: Disposable } | null = null
  #disposed = false

  constructor(options: BrokerOptions, nodes: number) {
    this.#clock = options.clock ?? systemClock
    this.#log = options.log ?? silentLog
    this.#firstPort = options.port ?? 0
    this.#wallOffsetMs = this.#clock.wallMs() - this.#clock.monotonicMs()
    const settings: ClusterOptions = {
      nodes,
      clusterId: newUuid(),
      newUuid,
      partitionsDefault: options.partitionsDefault ?? 1,
      autoCreateTopics: options.autoCreateTopics ?? false,
      initialRebalanceDelayMs: options.initialRebalanceDelayMs ?? 0,
      sessionTimeoutMinMs: options.sessionTimeoutMinMs ?? 100,
      sessionTimeoutMaxMs: 1_800_000,
      maxStoredBytes: options.maxStoredBytes ?? 512 * 1024 * 1024,
      compression,
    }
    this.#cluster = new Cluster(settings)
  }

  async start(): Promise<void> {
    for (const node of this.#cluster.nodes.values()) await this.#listen(node.id, node.id === 1 ? this.#firstPort : 0)
  }

  get port(): number {
    return this.#cluster.nodes.get(1)!.port
  }

  get ports(): ReadonlyMap<number, number> {
    return new Map([...this.#cluster.nodes.values()].map(({ id, port }) => [id, port]))
  }

  get bootstrapServers(): string {
    return [...this.#cluster.nodes.values()].map(({ host, port }) => `${host}:${port}`).join(',')
  }

  get clusterId(): string {
    return this.#cluster.options.clusterId
  }

  control(rule: FaultRule): Fault {
    return this.#cluster.control(rule)
  }

  async stopNode(id: number): Promise<void> {
    this.#node(id)
    const listener = this.#listeners.get(id)
    if (listener === undefined) return
    this.#listeners.delete(id)
    const closed = listener[Symbol.asyncDispose]()
    this.#cluster.stopNode(id, this.#nowMs())
    this.#arm()
    await closed
  }

  async startNode(id: number): Promise<void> {
    const node = this.#node(id)
    if (this.#listeners.has(id)) return
    await this.#listen(id, node.port)
    this.#cluster.startNode(id, this.#nowMs())
    this.#arm()
  }

  moveLeader(topic: string, partition: number, node: number): void {
    const moved = this.#cluster.moveLeader(topic, partition, node, this.#nowMs())
    this.#arm()
    if (moved) return
    throw new OttlaError('OTTLA_CONFIG_INVALID', `broker ${node} is no in-sync replica of ${topic}-${partition}`)
  }

  leaderOf(topic: string, partition: number): number {
    return this.#cluster.topics.get(topic)?.partitions[partition]?.leader ?? -1
  }

  coordinatorOf(group: string): number {
    return this.#cluster.coordinatorOf(group)
  }

  createTopic(asked: string | BrokerTopic): void {
    const spec: BrokerTopic = typeof asked === 'string' ? { topic: asked } : asked
    const made = this.#cluster.createTopic({
      name: spec.topic,
      partitions: spec.partitions ?? -1,
      replicationFactor: spec.replicas ?? -1,
      configs: new Map(Object.entries(spec.configs ?? {})),
    })
    if (made instanceof Topic) return
    throw new OttlaError('OTTLA_CONFIG_INVALID', `topic ${spec.topic}: ${made.message}`)
  }

  topics(): readonly string[] {
    return [...this.#cluster.topics.keys()]
  }

  records(topic: string): readonly StoredRecord[] {
    return (this.#cluster.topics.get(topic)?.partitions ?? []).flatMap(({ index, log }) =>
      [...allRecords(index, log.batches, compression)].filter(({ offset }) => offset >= log.startOffset),
    )
  }

  ends(topic: string): readonly number[] {
    return (this.#cluster.topics.get(topic)?.partitions ?? []).map(({ log }) => log.endOffset)
  }

  committed(groupId: string): readonly CommittedFacts[] {
    const offsets = this.#cluster.groups.get(groupId)?.offsets ?? []
    return [...offsets].flatMap(([topic, partitions]) =>
      [...partitions].map(([partition, position]) => ({ topic, partition, ...position })),
    )
  }

  group(groupId: string): GroupFacts | undefined {
    const group = this.#cluster.groups.get(groupId)
    if (group === undefined) return undefined
    const { state, generation } = group
    return { state, generation, members: group.members().map(({ memberId }) => memberId) }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true
    this.#alarm?.timer[Symbol.dispose]()
    this.#alarm = null
    const listeners = [...this.#listeners.values()]
    this.#listeners.clear()
    await Promise.all(listeners.map((listener) => listener[Symbol.asyncDispose]()))
  }

  #node(id: number) {
    const node = this.#cluster.nodes.get(id)
    if (node === undefined) throw new OttlaError('OTTLA_CONFIG_INVALID', `there is no broker ${id}`)
    return node
  }

  async #listen(id: number, port: number): Promise<void> {
    const listener = await listen(id, port, {
      apiVersions,
      handle: (request) => {
        const reply = this.#cluster.handle(request, this.#nowMs())
        this.#arm()
        return reply
      },
      note: (text, fields) => this.#log.debug(text, fields),
    })
    this.#listeners.set(id, listener)
    this.#cluster.nodes.get(id)!.port = listener.port
  }

  /** Time as the cluster wants it: near the wall's, but never going back. */
  #nowMs(): number {
    return this.#clock.monotonicMs() + this.#wallOffsetMs
  }

  /** Sees to it that the cluster gets its next tick in time. */
  #arm(): void {
    const atMs = this.#cluster.nextWakeMs()
    if (this.#disposed || atMs === this.#alarm?.atMs) return
    this.#alarm?.timer[Symbol.dispose]()
    this.#alarm = null
    if (atMs === undefined) return
    const timer = this.#clock.after(Math.max(0, Math.ceil(atMs - this.#nowMs())), () => {
      this.#alarm = null
      this.#cluster.tick(this.#nowMs())
      this.#arm()
    })
    this.#alarm = { atMs, timer }
  }
}

/** A random uuid in Kafka's text form; never one that begins with a dash, which command lines would take for an option. */
function newUuid(): string {
  for (;;) {
    const text = randomBytes(16).toString('base64url')
    if (!text.startsWith('-')) return text
  }
}
