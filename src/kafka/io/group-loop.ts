/**
 * Runs the group machine: sends what it decides, feeds it what comes back, keeps its clock.
 *
 * JoinGroup and SyncGroup have a connection of their own, because a broker answers one request per connection at a time
 * and may hold a JoinGroup for as long as a whole rebalance lasts. Heartbeats, commits and OffsetFetch share another, so
 * that they flow meanwhile.
 *
 * Commits: one request in flight, later ones for the same partition coalesced. Member and generation are stamped at the
 * moment of sending, and only partitions whose ownership is unchanged are in it. What a broker refused is never sent
 * again; what got no answer is, as long as nothing newer took its place. A commit that meets a cooperative rebalance under
 * way counts as not answered: its partition may stay through it, and then the newest value goes out in the generation
 * that follows.
 */
import { OttlaError } from '../../contract/errors.ts'
import { ErrorCode, isRetriable } from '../../wire/error-codes.ts'
import { Api } from '../../wire/protocol.ts'
import { brokerError } from '../broker-error.ts'
import type { Assignor, GroupMember, TopicPartitions } from '../machine/assignors/assignor.ts'
import {
  consumerProtocolType,
  decodeAssignment,
  decodeSubscription,
  encodeAssignment,
  encodeSubscription,
} from '../machine/consumer-protocol.ts'
import {
  type EncodedAssignments,
  type GroupEffect,
  type GroupEvent,
  GroupMachine,
  type JoinedMember,
  type Moment,
} from '../machine/group.ts'
import type { HeldPartition } from '../machine/ownership.ts'
import type { Cluster } from './cluster.ts'

export interface GroupLoopOptions {
  readonly groupId: string
  readonly topics: readonly string[]
  /** In the order of preference. Cooperative when all of them are. */
  readonly assignors: readonly Assignor[]
  readonly sessionTimeoutMs: number
  readonly heartbeatIntervalMs: number
  readonly rebalanceTimeoutMs: number
  readonly drainTimeoutMs: number
  readonly requestTimeoutMs: number
  readonly retryBackoffMs: number
  readonly retryBackoffMaxMs: number
  /** Makes the names of this member's connections its own. */
  readonly lane: string
}

export interface GroupLoopEvents {
  /**
   * These partitions, and no others, are ours until `release` or `lose`. True when something that is held is not among
   * them: a release of the `surplus` follows.
   */
  assign(parts: readonly TopicPartitions[]): boolean
  /** Finish and commit; the partitions are given back when the promise settles. */
  release(what: 'all' | 'surplus', deadlineMs: number): Promise<void>
  /** What is ours and stays so while we join. */
  owned(): readonly TopicPartitions[]
  /** Everything is gone already. */
  lose(): void
  /** Is exactly this ownership still current? */
  holds(held: HeldPartition): boolean
  fault(error: OttlaError): void
}

/** What is committed for a partition. */
export interface OffsetValue {
  readonly offset: number
  /** -1 when unknown. */
  readonly leaderEpoch: number
  readonly metadata: string
}

/** `too-large`: the broker refused the metadata; nothing was stored. */
export type CommitResult = 'stored' | 'too-large' | 'lost'

/** What a group committed for a partition; offset -1 when nothing. */
export interface CommittedOffset {
  readonly topic: string
  readonly partition: number
  readonly offset: number
  readonly leaderEpoch: number
  readonly metadata: string | null
  /** Kafka's code; anything but 0 means that nothing is known, not that nothing was committed. */
  readonly error: number
}

interface PendingCommit {
  readonly held: HeldPartition
  value: OffsetValue
  readonly waiters: { resolve(result: CommitResult): void; reject(error: OttlaError): void }[]
  readonly expiresAtMs: number
}

/** How much longer than the rebalance a JoinGroup may take. */
const joinSlackMs = 5_000
/** How long the leader waits for the metadata of topics it shares out. */
const planTimeoutMs = 5_000

const keyOf = (held: HeldPartition): string => `${held.topic}\0${held.partition}`
const moment = (): Moment => ({ monotonicMs: performance.now(), wallMs: Date.now() })

export class GroupLoop {
  readonly #cluster: Cluster
  readonly #options: GroupLoopOptions
  readonly #on: GroupLoopEvents
  readonly #machine: GroupMachine
  readonly #cooperative: boolean
  readonly #abort = new AbortController()
  readonly #closed = Promise.withResolvers<void>()
  readonly #metadata: Disposable
  #timer: NodeJS.Timeout | undefined
  #protocol = ''
  /** Ids and partition counts from which we, leading, made the current assignment. */
  #shared: ReadonlyMap<string, string> | null = null
  #pending = new Map<string, PendingCommit>()
  #committing: Promise<void> | null = null

  constructor(cluster: Cluster, options: GroupLoopOptions, on: GroupLoopEvents) {
    this.#cluster = cluster
    this.#options = options
    this.#on = on
    this.#cooperative = options.assignors.every(({ cooperative }) => cooperative)
    this.#machine = new GroupMachine({ ...options, cooperative: this.#cooperative })
    this.#metadata = cluster.onMetadata(() => this.#compareTopics())
  }

  start(): void {
    this.#send({ type: 'start' })
  }

  /** May handlers start and commits go out, by what the coordinator last said and by both clocks? */
  inSession(): boolean {
    return this.#machine.inSession(moment())
  }

  /** Makes a session that ran out unnoticed (a blocked loop, a suspended machine) end now, before anything else. */
  checkSession(): void {
    this.#send({ type: 'tick' })
  }

  get memberId(): string {
    return this.#machine.memberId
  }

  get generation(): number {
    return this.#machine.generation
  }

  /** Releases, leaves and ends. */
  async close(): Promise<void> {
    this.#send({ type: 'close' })
    await this.#closed.promise
  }

  /** Resolves when no commit is on its way or waiting. */
  async committed(): Promise<void> {
    while (this.#committing !== null) await this.#committing
  }

  /** Stores how far a partition has come. Rejects with OttlaError when the broker cannot or will not say. */
  commit(held: HeldPartition, value: OffsetValue): Promise<CommitResult> {
    const { promise, resolve, reject } = Promise.withResolvers<CommitResult>()
    const waiter = { resolve, reject }
    const key = keyOf(held)
    const before = this.#pending.get(key)
    if (before !== undefined && before.held === held) {
      before.value = value
      before.waiters.push(waiter)
    } else {
      for (const old of before?.waiters ?? []) old.resolve('lost')
      const expiresAtMs = performance.now() + this.#options.requestTimeoutMs
      this.#pending.set(key, { held, value, waiters: [waiter], expiresAtMs })
    }
    this.#committing ??= this.#runCommits()
    return promise
  }

  /** A heartbeat now: does the coordinator still know this member in this generation? Rejects when it cannot be asked. */
  async confirm(): Promise<'held' | 'lost'> {
    const expiresAtMs = performance.now() + Math.min(this.#options.requestTimeoutMs, this.#options.sessionTimeoutMs)
    for (;;) {
      if (!this.inSession()) return 'lost'
      const { memberId, generation } = this.#machine
      const sent = moment()
      try {
        const code = await this.#heartbeat(memberId, generation)
        this.#send({ type: 'beaten', generation, sent, code })
        if (!this.inSession()) return 'lost'
        if (code === ErrorCode.NONE || code === ErrorCode.REBALANCE_IN_PROGRESS) {
          if (generation === this.#machine.generation) return 'held'
          if (!this.#cooperative) return 'lost'
        } else if (isFencing(code) && !this.#isOver(generation, code)) return 'lost'
        if (performance.now() >= expiresAtMs) throw brokerError(code, `Heartbeat of group ${this.#options.groupId}`)
      } catch (error) {
        this.#forgetCoordinator()
        if (performance.now() >= expiresAtMs || this.#abort.signal.aborted) throw asError(error)
      }
      await this.#pause()
    }
  }

  /** Refused for a generation that has passed while everything in it stayed ours: says nothing about what is held. */
  #isOver(generation: number, code: number): boolean {
    if (!this.#cooperative || code !== ErrorCode.ILLEGAL_GENERATION || !this.inSession()) return false
    return generation !== this.#machine.generation || this.#machine.rebalancing
  }

  /** What the group committed, by partition, from the coordinator and stable. Never throws for the broker's answers. */
  async fetchOffsets(
    parts: readonly { readonly topic: string; readonly partition: number }[],
    signal: AbortSignal,
  ): Promise<readonly CommittedOffset[]> {
    const { groupId } = this.#options
    const topics = new Map<string, number[]>()
    for (const { topic, partition } of parts) {
      const list = topics.get(topic)
      if (list === undefined) topics.set(topic, [partition])
      else list.push(partition)
    }
    const list = [...topics].map(([name, partitionIndexes]) => ({ name, partitionIndexes }))
    const node = await this.#cluster.coordinator(groupId, { signal })
    const { body, version } = await this.#cluster.request(
      node,
      Api.OffsetFetch,
      (v) =>
        v >= 8
          ? { groups: [{ groupId, topics: list }], requireStable: true }
          : { groupId, topics: list, ...(v >= 7 ? { requireStable: true } : {}) },
      { lane: `group-${this.#options.lane}`, maxVersion: 9, signal },
    )
    const group = version >= 8 ? body.groups.find((each) => each.groupId === groupId) : body
    const whole = group === undefined ? ErrorCode.UNKNOWN_SERVER_ERROR : group.errorCode
    if (isElsewhere(whole)) this.#cluster.forgetCoordinator(groupId, node)
    const told = new Map<string, CommittedOffset>()
    for (const topic of group?.topics ?? []) {
      for (const p of topic.partitions) {
        told.set(`${topic.name}\0${p.partitionIndex}`, {
          topic: topic.name,
          partition: p.partitionIndex,
          offset: p.committedOffset,
          leaderEpoch: p.committedLeaderEpoch,
          metadata: p.metadata,
          error: whole === ErrorCode.NONE ? p.errorCode : whole,
        })
      }
    }
    return parts.map(
      ({ topic, partition }) =>
        told.get(`${topic}\0${partition}`) ?? {
          topic,
          partition,
          offset: -1,
          leaderEpoch: -1,
          metadata: null,
          error: whole === ErrorCode.NONE ? ErrorCode.UNKNOWN_TOPIC_OR_PARTITION : whole,
        },
    )
  }

  // ── the machine ──

  #send(event: GroupEvent): void {
    for (const effect of this.#machine.handle(event, moment())) this.#run(effect)
    clearTimeout(this.#timer)
    const wake = this.#machine.wakeAtMs()
    if (wake === null || this.#abort.signal.aborted) return
    this.#timer = setTimeout(() => this.#send({ type: 'tick' }), Math.max(0, Math.ceil(wake - performance.now())))
  }

  #run(effect: GroupEffect): void {
    switch (effect.do) {
      case 'join':
        void this.#join(effect.attempt, effect.memberId)
        return
      case 'plan':
        void this.#plan(effect.attempt, effect.members)
        return
      case 'sync':
        void this.#sync(effect)
        return
      case 'heartbeat':
        void this.#beat(effect.memberId, effect.generation)
        return
      case 'assign':
        this.#assign(effect.assignment)
        return
      case 'release':
        void this.#on
          .release(effect.what, effect.deadlineMs)
          .then(() => this.#send({ type: 'released', attempt: effect.attempt }))
        return
      case 'lose':
        this.#shared = null
        this.#on.lose()
        return
      case 'leave':
        void this.#leave(effect.attempt, effect.memberId)
        return
      case 'forget-coordinator':
        this.#forgetCoordinator()
        return
      case 'fault':
        this.#on.fault(brokerError(effect.code, `Membership of group ${this.#options.groupId}`))
        return
      case 'closed':
        this.#end()
        return
      default:
        effect satisfies never
    }
  }

  #end(): void {
    this.#abort.abort()
    clearTimeout(this.#timer)
    this.#metadata[Symbol.dispose]()
    this.#closed.resolve()
  }

  async #join(attempt: number, memberId: string): Promise<void> {
    const { groupId, topics, assignors, sessionTimeoutMs, rebalanceTimeoutMs, lane } = this.#options
    try {
      const node = await this.#coordinator()
      const { generation } = this.#machine
      const owned = this.#cooperative ? this.#on.owned() : []
      const { body } = await this.#cluster.request(
        node,
        Api.JoinGroup,
        {
          groupId,
          sessionTimeoutMs,
          rebalanceTimeoutMs,
          memberId,
          protocolType: consumerProtocolType,
          protocols: assignors.map((assignor) => ({
            name: assignor.name,
            metadata: encodeSubscription({
              topics,
              owned,
              generation,
              userData: assignor.userData?.(generation) ?? null,
            }),
          })),
        },
        { lane: `join-${lane}`, timeoutMs: rebalanceTimeoutMs + joinSlackMs, signal: this.#abort.signal },
      )
      this.#protocol = body.protocolName ?? ''
      this.#send({
        type: 'joined',
        attempt,
        code: body.errorCode,
        memberId: body.memberId,
        generation: body.generationId,
        leaderId: body.leader,
        members: body.members,
      })
    } catch (error) {
      this.#failed('join', attempt, error)
    }
  }

  /** Shares the topics of all members out, also those that we ourselves do not read. */
  async #plan(attempt: number, members: readonly JoinedMember[]): Promise<void> {
    try {
      const known: GroupMember[] = members.map(({ memberId, groupInstanceId, metadata }) => ({
        memberId,
        instanceId: groupInstanceId,
        ...this.#subscription(memberId, metadata),
      }))
      const topics = [...new Set(known.flatMap((member) => member.topics))]
      await this.#cluster.ensureTopics(topics, { timeoutMs: planTimeoutMs, signal: this.#abort.signal })
      const assignor = this.#options.assignors.find(({ name }) => name === this.#protocol)
      if (assignor === undefined) throw brokerError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL, 'JoinGroup')
      this.#shared = this.#snapshot(topics)
      const counts = new Map(topics.map((name) => [name, this.#cluster.metadata.topic(name)?.partitions.length ?? 0]))
      const assignments: EncodedAssignments = [...assignor.assign(known, counts)].map(([memberId, assignment]) => ({
        memberId,
        assignment: encodeAssignment(assignment),
      }))
      this.#send({ type: 'planned', attempt, assignments })
    } catch (error) {
      this.#failed('plan', attempt, error)
    }
  }

  /** A member whose subscription makes no sense gets nothing; the others must not suffer for it. */
  #subscription(memberId: string, metadata: Uint8Array): Pick<GroupMember, 'topics'> {
    try {
      return decodeSubscription(metadata)
    } catch (cause) {
      this.#on.fault(
        new OttlaError('OTTLA_WIRE_MALFORMED', `member ${memberId} sent a subscription that makes no sense`, { cause }),
      )
      return { topics: [] }
    }
  }

  async #sync(effect: GroupEffect & { do: 'sync' }): Promise<void> {
    const { attempt, memberId, generation, assignments } = effect
    const { groupId, rebalanceTimeoutMs, lane } = this.#options
    try {
      const node = await this.#coordinator()
      const sent = moment()
      const { body } = await this.#cluster.request(
        node,
        Api.SyncGroup,
        (version) => ({
          groupId,
          generationId: generation,
          memberId,
          assignments,
          ...(version >= 5 ? { protocolType: consumerProtocolType, protocolName: this.#protocol } : {}),
        }),
        { lane: `join-${lane}`, timeoutMs: rebalanceTimeoutMs + joinSlackMs, signal: this.#abort.signal },
      )
      this.#send({ type: 'synced', attempt, sent, code: body.errorCode, assignment: body.assignment })
    } catch (error) {
      this.#failed('sync', attempt, error)
    }
  }

  #assign(bytes: Uint8Array): void {
    let parts: readonly TopicPartitions[]
    try {
      parts = decodeAssignment(bytes)
    } catch (cause) {
      this.#on.fault(
        new OttlaError('OTTLA_WIRE_MALFORMED', 'the group leader sent an assignment without sense', { cause }),
      )
      parts = []
    }
    this.#send({ type: 'taken', surplus: this.#on.assign(parts) })
    queueMicrotask(() => this.#compareTopics())
  }

  async #beat(memberId: string, generation: number): Promise<void> {
    const sent = moment()
    try {
      const code = await this.#heartbeat(memberId, generation)
      this.#send({ type: 'beaten', generation, sent, code })
    } catch {
      // What matters of a heartbeat without an answer is the time that passed: the machine counts it.
      this.#send({ type: 'heartbeat-failed', generation })
    }
  }

  async #heartbeat(memberId: string, generation: number): Promise<number> {
    const { groupId, lane, sessionTimeoutMs, requestTimeoutMs } = this.#options
    // Short enough for another attempt, perhaps at another coordinator, within the session.
    const timeoutMs = Math.min(requestTimeoutMs, Math.max(500, Math.floor(sessionTimeoutMs / 3)))
    const node = await this.#coordinator(timeoutMs)
    const { body } = await this.#cluster.request(
      node,
      Api.Heartbeat,
      { groupId, generationId: generation, memberId },
      { lane: `group-${lane}`, timeoutMs, signal: this.#abort.signal },
    )
    return body.errorCode
  }

  async #leave(attempt: number, memberId: string): Promise<void> {
    const { groupId, lane } = this.#options
    const timeoutMs = Math.min(5_000, this.#options.requestTimeoutMs)
    try {
      const node = await this.#coordinator(timeoutMs)
      await this.#cluster.request(
        node,
        Api.LeaveGroup,
        (version) => (version >= 3 ? { groupId, members: [{ memberId }] } : { groupId, memberId }),
        { lane: `group-${lane}`, timeoutMs, signal: this.#abort.signal },
      )
      this.#send({ type: 'left', attempt })
    } catch {
      // The coordinator notices by itself, a session later.
      this.#send({ type: 'failed', what: 'leave', attempt })
    }
  }

  #failed(what: 'join' | 'plan' | 'sync', attempt: number, error: unknown): void {
    if (this.#abort.signal.aborted) return
    if (error instanceof OttlaError && !error.retriable) this.#on.fault(error)
    this.#send({ type: 'failed', what, attempt })
  }

  #coordinator(timeoutMs = this.#options.requestTimeoutMs): Promise<number> {
    return this.#cluster.coordinator(this.#options.groupId, { timeoutMs, signal: this.#abort.signal }).then((node) => {
      this.#node = node
      return node
    })
  }

  #node = -1

  #forgetCoordinator(): void {
    this.#cluster.forgetCoordinator(this.#options.groupId, this.#node)
  }

  /** Leading, and the topics are no longer what we shared out: say so. */
  #compareTopics(): void {
    if (this.#shared === null || !this.#machine.leads) return
    const now = this.#snapshot([...this.#shared.keys()])
    for (const [topic, state] of this.#shared) {
      if (now.get(topic) === state) continue
      this.#send({ type: 'outdated' })
      return
    }
  }

  #snapshot(topics: readonly string[]): ReadonlyMap<string, string> {
    return new Map(
      topics.map((name) => {
        const state = this.#cluster.metadata.topic(name)
        return [name, state === undefined ? '' : `${state.id}/${state.partitions.length}`]
      }),
    )
  }

  // ── commits ──

  async #runCommits(): Promise<void> {
    // To the end of this turn: what is finished together is committed together.
    await Promise.resolve()
    while (this.#pending.size > 0) {
      const batch = this.#pending
      this.#pending = new Map()
      const unanswered = await this.#sendCommits(batch)
      if (unanswered.length === 0) continue
      for (const commit of unanswered) this.#putBack(commit)
      if (this.#pending.size > 0) await this.#pause()
    }
    // In the same breath as the last look at what waits: a commit made a moment later starts a new run.
    this.#committing = null
  }

  /** Something newer for the same ownership wins; it answers for both. */
  #putBack(commit: PendingCommit): void {
    if (performance.now() >= commit.expiresAtMs) {
      const { topic, partition } = commit.held
      const text = `The commit for ${topic}-${partition} got no answer; the coordinator of the group cannot be reached`
      for (const waiter of commit.waiters) waiter.reject(new OttlaError('OTTLA_KAFKA_TIMEOUT', text))
      return
    }
    const newer = this.#pending.get(keyOf(commit.held))
    if (newer === undefined) this.#pending.set(keyOf(commit.held), commit)
    else if (newer.held === commit.held) newer.waiters.push(...commit.waiters)
    else for (const waiter of commit.waiters) waiter.resolve('lost')
  }

  async #sendCommits(batch: Map<string, PendingCommit>): Promise<readonly PendingCommit[]> {
    const { groupId, lane, requestTimeoutMs } = this.#options
    let node: number
    try {
      node = await this.#coordinator(Math.min(5_000, requestTimeoutMs))
    } catch {
      if (this.#abort.signal.aborted) settle(batch.values(), 'lost')
      // Told as a timeout when the commit's own time is over.
      return this.#abort.signal.aborted ? [] : [...batch.values()]
    }
    // Between JoinGroup and the end of SyncGroup no generation takes commits.
    const { state } = this.#machine
    if (this.#machine.rebalancing && state !== 'joining') return [...batch.values()]
    const owned: PendingCommit[] = []
    for (const commit of batch.values()) {
      if (this.inSession() && this.#on.holds(commit.held)) owned.push(commit)
      else settle([commit], 'lost')
    }
    if (owned.length === 0) return []
    const { memberId, generation } = this.#machine
    const sentValues = new Map<string, PendingCommit>()
    const topics = new Map<string, { name: string; partitions: object[] }>()
    for (const commit of owned) {
      const { topic, partition } = commit.held
      sentValues.set(keyOf(commit.held), commit)
      const entry = topics.get(topic) ?? { name: topic, partitions: [] }
      const { offset, leaderEpoch, metadata } = commit.value
      entry.partitions.push({
        partitionIndex: partition,
        committedOffset: offset,
        committedLeaderEpoch: leaderEpoch,
        committedMetadata: metadata,
      })
      topics.set(topic, entry)
    }
    const unanswered: PendingCommit[] = []
    try {
      const { body } = await this.#cluster.request(
        node,
        Api.OffsetCommit,
        { groupId, memberId, generationIdOrMemberEpoch: generation, topics: [...topics.values()] },
        {
          lane: `group-${lane}`,
          maxVersion: 9,
          timeoutMs: Math.min(10_000, requestTimeoutMs),
          signal: this.#abort.signal,
        },
      )
      for (const topic of body.topics) {
        for (const { partitionIndex, errorCode } of topic.partitions) {
          const key = `${topic.name}\0${partitionIndex}`
          const commit = sentValues.get(key)
          if (commit === undefined) continue
          sentValues.delete(key)
          if (this.#judge(commit, errorCode, generation) === 'again') {
            unanswered.push(commit)
            if (isElsewhere(errorCode)) this.#cluster.forgetCoordinator(groupId, node)
          }
        }
      }
      unanswered.push(...sentValues.values())
    } catch (error) {
      this.#cluster.forgetCoordinator(groupId, node)
      if (error instanceof OttlaError && !error.retriable) {
        for (const commit of sentValues.values()) for (const waiter of commit.waiters) waiter.reject(error)
      } else unanswered.push(...sentValues.values())
    }
    return unanswered
  }

  #judge(commit: PendingCommit, code: number, generation: number): 'settled' | 'again' {
    if (code === ErrorCode.NONE) {
      settle([commit], 'stored')
      return 'settled'
    }
    if (code === ErrorCode.OFFSET_METADATA_TOO_LARGE) {
      settle([commit], 'too-large')
      return 'settled'
    }
    if (this.#isOver(generation, code)) return 'again'
    if (isFencing(code)) {
      settle([commit], 'lost')
      this.#send({ type: 'refused', generation, code })
      return 'settled'
    }
    if (code === ErrorCode.REBALANCE_IN_PROGRESS && this.#cooperative) {
      this.#send({ type: 'refused', generation, code })
      return 'again'
    }
    if (code === ErrorCode.REBALANCE_IN_PROGRESS) {
      // Refused, so not sent again: whoever still owns the partition computes a fresh one.
      const { topic, partition } = commit.held
      const error = brokerError(code, `OffsetCommit for ${topic}-${partition}`)
      for (const waiter of commit.waiters) waiter.reject(error)
      this.#send({ type: 'refused', generation, code })
      return 'settled'
    }
    if (isElsewhere(code) || isRetriable(code)) return 'again'
    const { topic, partition } = commit.held
    for (const waiter of commit.waiters) waiter.reject(brokerError(code, `OffsetCommit for ${topic}-${partition}`))
    return 'settled'
  }

  #pause(): Promise<void> {
    const delayMs = this.#options.retryBackoffMs
    return new Promise((resolve) => setTimeout(resolve, this.#abort.signal.aborted ? 0 : delayMs))
  }

  toString(): string {
    return `GroupLoop(${this.#options.groupId}, ${this.#machine.state})`
  }
}

function settle(commits: Iterable<PendingCommit>, result: CommitResult): void {
  for (const commit of commits) for (const waiter of commit.waiters) waiter.resolve(result)
}

function isElsewhere(code: number): boolean {
  return code === ErrorCode.NOT_COORDINATOR || code === ErrorCode.COORDINATOR_NOT_AVAILABLE
}

function isFencing(code: number): boolean {
  return (
    code === ErrorCode.UNKNOWN_MEMBER_ID ||
    code === ErrorCode.ILLEGAL_GENERATION ||
    code === ErrorCode.FENCED_INSTANCE_ID
  )
}

function asError(error: unknown): OttlaError {
  if (error instanceof OttlaError) return error
  return new OttlaError('OTTLA_KAFKA_CONNECTION', `The coordinator cannot be asked: ${String(error)}`, { cause: error })
}
