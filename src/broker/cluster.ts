/**
 * The embedded cluster: a synchronous state machine. Requests and time come in, answers go out; no socket, clock,
 * timer, promise or randomness in here.
 *
 * `handle(request, nowMs)` answers at once or hands out a `Wait`; `nextWakeMs()` says when `tick(nowMs)` is due. `nowMs`
 * never goes back and is close to wall time (it stamps records on topics with log append time). One state serves all
 * virtual brokers: a request carries the number of the broker it was sent to.
 *
 * A node: up ⇄ down. Down: leaves every in-sync set but the last place in it, its leaderships move to in-sync
 * replicas, its groups to another coordinator. Up again: in sync at once, leads what nobody led; other leaderships stay
 * where they are until `moveLeader`.
 */
import type { Compression } from '../wire/compression.ts'
import { ErrorCode } from '../wire/error-codes.ts'
import type { ApiKey, ApiName, Requests, Responses } from '../wire/protocol.ts'
import { apiName, type Draft } from '../wire/protocol.ts'
import { handlers } from './api/table.ts'
import type { ApiHandler, Call } from './api.ts'
import { type Fault, type FaultRule, Faults, type Strike } from './faults.ts'
import { FetchSessions } from './fetch-sessions.ts'
import { Group } from './group.ts'
import { type Reply, type Settled, Wait } from './reply.ts'
import { Slab } from './slab.ts'
import { Timers } from './timers.ts'
import { Partition, Topic, topicNameProblem } from './topic.ts'
import { topicConfigProblem } from './topic-configs.ts'

export interface ClusterOptions {
  /** How many virtual brokers: ids 1 to this. */
  readonly nodes: number
  readonly clusterId: string
  /** A fresh uuid in Kafka's text form at each call. */
  readonly newUuid: () => string
  readonly partitionsDefault: number
  readonly autoCreateTopics: boolean
  readonly initialRebalanceDelayMs: number
  readonly sessionTimeoutMinMs: number
  readonly sessionTimeoutMaxMs: number
  /** Record bytes kept in all; beyond it a produce is answered with KAFKA_STORAGE_ERROR. */
  readonly maxStoredBytes: number
  /** For questions by time about compressed batches, and for `records`. */
  readonly compression: Compression
}

/** A virtual broker. */
export interface Node {
  readonly id: number
  readonly host: string
  port: number
  up: boolean
}

export interface ClientRequest {
  readonly node: number
  readonly apiKey: number
  readonly version: number
  readonly clientId: string | null
  readonly clientHost: string
  readonly body: Requests[ApiKey]
}

export type AnyBody = Draft<Responses[ApiKey]>

/** What a new topic is made of. */
export interface NewTopic {
  readonly name: string
  /** -1: the default. */
  readonly partitions: number
  /** -1: the default, 3 or the number of nodes if that is less. */
  readonly replicationFactor: number
  readonly configs: ReadonlyMap<string, string | null>
  /** Replicas per partition, leader first, when placed by hand. */
  readonly assignments?: readonly (readonly number[])[]
}

/** A refusal with the protocol's code and a sentence. */
export interface Refusal {
  readonly errorCode: number
  readonly message: string
}

const partitionsMax = 20_000
const groupsMax = 20_000

export class Cluster {
  readonly options: ClusterOptions
  readonly nodes: ReadonlyMap<number, Node>
  readonly topics = new Map<string, Topic>()
  readonly topicsById = new Map<string, Topic>()
  readonly groups = new Map<string, Group>()
  readonly timers = new Timers()
  readonly fetchSessions = new FetchSessions()
  readonly #faults = new Faults()
  readonly #slab = new Slab()
  #storedBytes = 0
  #partitions = 0
  #placed = 0
  #nextProducerId = 1000
  #nowMs = 0

  constructor(options: ClusterOptions) {
    this.options = options
    const nodes = new Map<number, Node>()
    for (let id = 1; id <= options.nodes; id++) nodes.set(id, { id, host: '127.0.0.1', port: -1, up: true })
    this.nodes = nodes
  }

  // ── driving it ──

  handle(request: ClientRequest, nowMs: number): Reply<AnyBody> {
    this.#nowMs = Math.max(nowMs, this.#nowMs)
    const handler = handlers.get(request.apiKey)
    if (handler === undefined || request.version < handler.min || request.version > handler.max) {
      return { kind: 'close', reason: `${apiName(request.apiKey)} version ${request.version} is not supported` }
    }
    if (!this.#faults.any) return handler.handle(this.#call(request, undefined), request.body)
    return this.#handleWithFaults(handler, request)
  }

  /** When `tick` is due next; undefined while nothing waits for time. */
  nextWakeMs(): number | undefined {
    return this.timers.nextMs()
  }

  /** Lets time pass: ends long polls, sessions, rebalances. */
  tick(nowMs: number): void {
    this.#nowMs = Math.max(nowMs, this.#nowMs)
    this.timers.run(this.#nowMs)
  }

  control(rule: FaultRule): Fault {
    return this.#faults.add(rule)
  }

  /** What is implemented, and so what is advertised. */
  apis(): readonly ApiHandler<ApiKey>[] {
    return [...handlers.values()]
  }

  #call(request: ClientRequest, strike: Strike | undefined): Call {
    const action = strike?.action
    const only = strike?.only
    return {
      cluster: this,
      node: request.node,
      version: request.version,
      clientId: request.clientId,
      clientHost: request.clientHost,
      nowMs: this.#nowMs,
      fault:
        typeof action === 'number' && only !== undefined
          ? (topic, partition) => (only(topic, partition) ? action : ErrorCode.NONE)
          : noFault,
    }
  }

  #handleWithFaults(handler: ApiHandler<ApiKey>, request: ClientRequest): Reply<AnyBody> {
    const plain = this.#call(request, undefined)
    const strike = this.#faults.strike({
      api: apiName(request.apiKey) as ApiName,
      node: request.node,
      clientId: request.clientId,
      group: undefined,
      partitions: [],
      ...handler.subject?.(plain, request.body),
    })
    if (strike === undefined) return handler.handle(plain, request.body)
    const { action } = strike
    if (typeof action === 'number') {
      return strike.only === undefined
        ? { kind: 'answer', body: handler.refuse(plain, request.body, action) }
        : handler.handle(this.#call(request, strike), request.body)
    }
    switch (action) {
      case 'drop':
        return { kind: 'close', reason: 'fault rule: drop' }
      case 'silence':
        return { kind: 'wait', wait: new Wait() }
      case 'apply-then-drop': {
        const closed: Settled<AnyBody> = { kind: 'close', reason: 'fault rule: apply-then-drop' }
        return after(handler.handle(plain, request.body), (_reply, wait) => wait.settle(closed))
      }
      case 'delay':
        return after(handler.handle(plain, request.body), (reply, wait) => {
          this.timers.at(this.#nowMs + strike.delayMs, () => wait.settle(reply))
        })
      default:
        throw action satisfies never
    }
  }

  // ── nodes ──

  /** The ids of the brokers that are up, ascending. */
  liveNodes(): readonly number[] {
    return [...this.nodes.values()].filter((node) => node.up).map((node) => node.id)
  }

  /** The broker that answers as controller; any of them takes a controller's requests. */
  controller(): number {
    return this.liveNodes()[0] ?? -1
  }

  stopNode(id: number, nowMs: number): void {
    const node = this.nodes.get(id)
    if (node === undefined || !node.up) return
    this.#nowMs = Math.max(nowMs, this.#nowMs)
    node.up = false
    for (const partition of this.#allPartitions()) {
      if (!partition.replicas.includes(id)) continue
      const rest = partition.inSync.filter((other) => other !== id)
      if (rest.length > 0) partition.inSync = rest
      if (partition.leader === id) partition.lead(rest[0] ?? -1, this.#nowMs)
      else partition.wake(this.#nowMs)
    }
  }

  startNode(id: number, nowMs: number): void {
    const node = this.nodes.get(id)
    if (node === undefined || node.up) return
    this.#nowMs = Math.max(nowMs, this.#nowMs)
    node.up = true
    for (const partition of this.#allPartitions()) {
      if (!partition.replicas.includes(id)) continue
      // A replica that was out of sync while nobody led has missed records as far as Kafka could know.
      if (partition.leader === -1 && !partition.inSync.includes(id)) continue
      if (!partition.inSync.includes(id)) partition.inSync.push(id)
      if (partition.leader === -1) {
        partition.lead(id, this.#nowMs)
        const back = partition.replicas.filter((other) => this.nodes.get(other)!.up)
        partition.inSync = [id, ...back.filter((other) => other !== id)]
      }
    }
  }

  /** Makes an in-sync replica the leader. Says whether it could. */
  moveLeader(topic: string, partition: number, node: number, nowMs: number): boolean {
    const found = this.topics.get(topic)?.partitions[partition]
    if (found === undefined || !found.inSync.includes(node) || this.nodes.get(node)?.up !== true) return false
    this.#nowMs = Math.max(nowMs, this.#nowMs)
    if (found.leader !== node) found.lead(node, this.#nowMs)
    return true
  }

  *#allPartitions(): Iterable<Partition> {
    for (const topic of this.topics.values()) yield* topic.partitions
  }

  // ── topics ──

  get defaultReplicationFactor(): number {
    return Math.min(3, this.options.nodes)
  }

  /** Makes a topic, or says why not. With `validateOnly` nothing is kept. */
  createTopic(spec: NewTopic, validateOnly = false): Topic | Refusal {
    const nameProblem = topicNameProblem(spec.name)
    if (nameProblem !== null) {
      return { errorCode: ErrorCode.INVALID_TOPIC_EXCEPTION, message: `Topic name is invalid: ${nameProblem}` }
    }
    if (this.topics.has(spec.name)) {
      return { errorCode: ErrorCode.TOPIC_ALREADY_EXISTS, message: `Topic '${spec.name}' already exists.` }
    }
    const collision = this.#collision(spec.name)
    if (collision !== undefined) {
      return {
        errorCode: ErrorCode.INVALID_TOPIC_EXCEPTION,
        message: `Topic '${spec.name}' collides with existing topic: ${collision}`,
      }
    }
    for (const [name, value] of spec.configs) {
      const problem = topicConfigProblem(name, value)
      if (problem !== null) return { errorCode: ErrorCode.INVALID_CONFIG, message: problem }
    }
    const placement = this.#place(spec)
    if ('errorCode' in placement) return placement
    const topic = new Topic(spec.name, this.options.newUuid())
    for (const [name, value] of spec.configs) topic.configs.set(name, value!)
    const live = { nodes: this.liveNodes(), slab: this.#slab }
    for (const [index, replicas] of placement.entries()) topic.partitions.push(new Partition(index, replicas, live))
    if (!validateOnly) {
      this.topics.set(topic.name, topic)
      this.topicsById.set(topic.id, topic)
      this.#partitions += topic.partitions.length
    }
    return topic
  }

  /** A topic whose name differs only in `.` and `_`, which metric names cannot tell apart. */
  #collision(name: string): string | undefined {
    if (!/[._]/.test(name)) return undefined
    const plain = name.replaceAll('.', '_')
    return this.topics.keys().find((other) => other.replaceAll('.', '_') === plain)
  }

  deleteTopic(topic: Topic, nowMs: number): void {
    this.#nowMs = Math.max(nowMs, this.#nowMs)
    this.topics.delete(topic.name)
    this.topicsById.delete(topic.id)
    this.#partitions -= topic.partitions.length
    for (const group of this.groups.values()) group.offsets.delete(topic.name)
    for (const partition of topic.partitions) {
      this.#storedBytes -= partition.log.sizeBytes
      partition.wake(this.#nowMs)
    }
  }

  /** Adds partitions up to `count`, or says why not. */
  growTopic(
    topic: Topic,
    count: number,
    options: { readonly assignments: readonly (readonly number[])[] | null; readonly validateOnly: boolean },
  ): Refusal | null {
    const present = topic.partitions.length
    if (count <= present) {
      return {
        errorCode: ErrorCode.INVALID_PARTITIONS,
        message: `The topic ${topic.name} currently has ${present} partition(s); ${count} would not be an increase.`,
      }
    }
    const placement = this.#place({
      name: topic.name,
      partitions: count - present,
      replicationFactor: topic.replicationFactor,
      configs: new Map(),
      ...(options.assignments === null ? {} : { assignments: options.assignments }),
    })
    if ('errorCode' in placement) return placement
    if (placement.length !== count - present) {
      return { errorCode: ErrorCode.INVALID_REPLICA_ASSIGNMENT, message: 'One assignment per new partition is needed.' }
    }
    if (options.validateOnly) return null
    const live = { nodes: this.liveNodes(), slab: this.#slab }
    for (const [at, replicas] of placement.entries()) topic.partitions.push(new Partition(present + at, replicas, live))
    this.#partitions += placement.length
    return null
  }

  /** Replicas per partition: round robin, each topic starting one broker further. */
  #place(spec: NewTopic): readonly (readonly number[])[] | Refusal {
    const all = [...this.nodes.keys()]
    if (spec.assignments !== undefined && spec.assignments.length > 0) {
      const good = spec.assignments.every(
        (replicas) =>
          replicas.length > 0 &&
          replicas.length === spec.assignments![0]!.length &&
          new Set(replicas).size === replicas.length &&
          replicas.every((node) => this.nodes.has(node)),
      )
      if (good) return spec.assignments
      return {
        errorCode: ErrorCode.INVALID_REPLICA_ASSIGNMENT,
        message: 'The replica assignment is not possible here.',
      }
    }
    const partitions = spec.partitions === -1 ? this.options.partitionsDefault : spec.partitions
    if (partitions < 1) {
      return { errorCode: ErrorCode.INVALID_PARTITIONS, message: 'Number of partitions must be larger than 0.' }
    }
    if (this.#partitions + partitions > partitionsMax) {
      return {
        errorCode: ErrorCode.INVALID_PARTITIONS,
        message: `The embedded broker holds at most ${partitionsMax} partitions.`,
      }
    }
    const factor = spec.replicationFactor === -1 ? this.defaultReplicationFactor : spec.replicationFactor
    if (factor < 1 || factor > all.length) {
      return {
        errorCode: ErrorCode.INVALID_REPLICATION_FACTOR,
        message: `Replication factor ${factor} is not possible with ${all.length} broker(s).`,
      }
    }
    const first = this.#placed++
    return Array.from({ length: partitions }, (_, index) =>
      Array.from({ length: factor }, (_none, at) => all[(first + index + at) % all.length]!),
    )
  }

  // ── records ──

  /** Is there room for so many more bytes? */
  hasRoom(bytes: number): boolean {
    return this.#storedBytes + bytes <= this.options.maxStoredBytes
  }

  /** Tells the cluster how much a log grew or shrank. */
  stored(bytes: number): void {
    this.#storedBytes += bytes
  }

  nextProducerId(): number {
    return this.#nextProducerId++
  }

  // ── groups ──

  /** The broker that coordinates this group; -1 when all are down. */
  coordinatorOf(groupId: string): number {
    let hash = 0
    for (let at = 0; at < groupId.length; at++) hash = (Math.imul(hash, 31) + groupId.charCodeAt(at)) | 0
    const all = [...this.nodes.values()]
    const start = (hash & 0x7fff_ffff) % all.length
    for (let step = 0; step < all.length; step++) {
      const node = all[(start + step) % all.length]!
      if (node.up) return node.id
    }
    return -1
  }

  /** The error code for a group request sent to `node`. */
  checkCoordinator(groupId: string, node: number): number {
    return this.coordinatorOf(groupId) === node ? ErrorCode.NONE : ErrorCode.NOT_COORDINATOR
  }

  /** The group, made if it is not there; null when there are too many. */
  group(groupId: string): Group | null {
    let group = this.groups.get(groupId)
    if (group === undefined) {
      if (this.groups.size >= groupsMax) return null
      group = new Group(groupId, {
        initialRebalanceDelayMs: this.options.initialRebalanceDelayMs,
        newMemberId: (clientId) => `${clientId}-${this.options.newUuid()}`,
        timers: this.timers,
      })
      this.groups.set(groupId, group)
    }
    return group
  }
}

const noFault = (): number => ErrorCode.NONE

/** Does something with a reply, now or when it is there, before it is told. */
function after(reply: Reply<AnyBody>, act: (reply: Settled<AnyBody>, wait: Wait<AnyBody>) => void): Reply<AnyBody> {
  const outer = new Wait<AnyBody>(() => {
    if (reply.kind === 'wait') reply.wait.cancel()
  })
  if (reply.kind === 'wait') reply.wait.whenSettled((settled) => act(settled, outer))
  else act(reply, outer)
  return { kind: 'wait', wait: outer }
}
