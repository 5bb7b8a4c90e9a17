/**
 * Asks and changes a cluster: topics, configurations, groups, offsets.
 *
 * Calls take lists and answer per item: what failed carries an `error` beside its name and leaves the others alone. Only
 * what concerns the whole call (no broker, refused login) is thrown.
 */
import type { OttlaError } from '../contract/errors.ts'
import { Api, type ApiKey, apiName, type Responses } from '../wire/protocol.ts'
import { brokerError } from './broker-error.ts'
import type { Answer, Cluster, RequestBody } from './io/cluster.ts'
import { decodeAssignment } from './machine/consumer-protocol.ts'
import type { PartitionState } from './machine/metadata.ts'

export interface TopicCreation {
  readonly topic: string
  /** Default: the broker's `num.partitions`. */
  readonly partitions?: number
  /** Default: the broker's `default.replication.factor`. */
  readonly replicas?: number
  readonly configs?: Readonly<Record<string, string>>
}

export interface TopicCreationResult {
  readonly topic: string
  readonly created: boolean
  /** Kafka's topic id, when created and told. */
  readonly id: string | null
  readonly error?: OttlaError
}

export interface ItemResult {
  readonly name: string
  readonly error?: OttlaError
}

export interface TopicListing {
  readonly topic: string
  readonly id: string
  readonly partitions: number
  readonly internal: boolean
}

export interface TopicDescription {
  readonly topic: string
  readonly exists: boolean
  readonly id: string
  readonly internal: boolean
  /** Leaders, replicas and in-sync replicas, by partition. */
  readonly partitions: readonly PartitionState[]
  /** The smallest number of replicas a partition has. */
  readonly replicas: number
  /** Effective configuration, as the broker tells it; empty when it may not be read. Secrets are left out. */
  readonly configs: Readonly<Record<string, string>>
  /** What this principal may do; null when the broker does not say. */
  readonly mayRead: boolean | null
  readonly mayWrite: boolean | null
  readonly error?: OttlaError
}

export interface ClusterDescription {
  readonly clusterId: string | null
  readonly controller: number
  readonly brokers: readonly {
    readonly id: number
    readonly host: string
    readonly port: number
    readonly rack: string | null
  }[]
}

export interface PartitionName {
  readonly topic: string
  readonly partition: number
}

export interface OffsetQuery extends PartitionName {
  /** `timestampMs`: the first record stamped then or later. */
  readonly at: 'earliest' | 'latest' | { readonly timestampMs: number }
}

export interface OffsetResult extends PartitionName {
  /** -1 when no record is that young. */
  readonly offset: number
  /** The record's timestamp when asked by time, else -1. */
  readonly timestampMs: number
  readonly leaderEpoch: number
  readonly error?: OttlaError
}

export interface GroupListing {
  readonly group: string
  /** `Stable`, `Empty` … */
  readonly state: string
  readonly type: string
  readonly protocolType: string
}

export interface GroupMember {
  readonly memberId: string
  readonly instanceId: string | null
  readonly clientId: string
  readonly clientHost: string
  readonly assignment: readonly PartitionName[]
}

export interface GroupDescription {
  readonly group: string
  readonly state: string
  /** The assignor in use. */
  readonly protocol: string
  readonly members: readonly GroupMember[]
  readonly error?: OttlaError
}

export interface CommittedOffset extends PartitionName {
  /** -1: nothing committed. */
  readonly offset: number
  readonly leaderEpoch: number
  readonly metadata: string | null
  readonly error?: OttlaError
}

export interface AdminCallOptions {
  readonly signal?: AbortSignal
  /** Default: the client's `requestTimeoutMs`. */
  readonly timeoutMs?: number
}

const operation = { read: 3, write: 4 } as const
const notTold = -2147483648
const resourceTopic = 2

export class Admin {
  readonly #cluster: Cluster
  readonly #timeoutMs: number

  /** Made by `KafkaClient.admin`. */
  constructor(cluster: Cluster, defaults: { readonly requestTimeoutMs: number }) {
    this.#cluster = cluster
    this.#timeoutMs = defaults.requestTimeoutMs
  }

  // ── topics ──

  /**
   * Creates topics and waits, at most 5 s, until they have leaders. One that exists already is answered with
   * TOPIC_ALREADY_EXISTS. `validateOnly` changes nothing.
   */
  async createTopics(
    topics: readonly TopicCreation[],
    options: AdminCallOptions & { readonly validateOnly?: boolean } = {},
  ): Promise<readonly TopicCreationResult[]> {
    if (topics.length === 0) return []
    const { body } = await this.#atController(
      Api.CreateTopics,
      {
        topics: topics.map((t) => ({
          name: t.topic,
          numPartitions: t.partitions ?? -1,
          replicationFactor: t.replicas ?? -1,
          configs: Object.entries(t.configs ?? {}).map(([name, value]) => ({ name, value })),
        })),
        timeoutMs: options.timeoutMs ?? this.#timeoutMs,
        validateOnly: options.validateOnly ?? false,
      },
      (answer) => answer.topics.map((t) => t.errorCode),
      options,
    )
    const results = topics.map(({ topic }): TopicCreationResult => {
      const told = body.topics.find((t) => t.name === topic)
      if (told === undefined) return { topic, created: false, id: null, error: missing('CreateTopics', topic) }
      if (told.errorCode !== 0) {
        const error = brokerError(told.errorCode, `Creating topic ${topic}`, told.errorMessage)
        return { topic, created: false, id: null, error }
      }
      return { topic, created: true, id: told.topicId }
    })
    if (options.validateOnly !== true) {
      const made = results.filter((r) => r.created).map((r) => r.topic)
      await this.#untilLed(made, options.signal)
    }
    return results
  }

  async deleteTopics(topics: readonly string[], options: AdminCallOptions = {}): Promise<readonly ItemResult[]> {
    if (topics.length === 0) return []
    const { body } = await this.#atController(
      Api.DeleteTopics,
      (version) => ({
        ...(version >= 6 ? { topics: topics.map((name) => ({ name })) } : { topicNames: topics }),
        timeoutMs: options.timeoutMs ?? this.#timeoutMs,
      }),
      (answer) => answer.responses.map((r) => r.errorCode),
      options,
    )
    return topics.map((name) => {
      const told = body.responses.find((r) => r.name === name)
      return item(name, told?.errorCode, `Deleting topic ${name}`, told?.errorMessage)
    })
  }

  /** Raises the number of partitions. Keys move, unless producers declare the old number. */
  async createPartitions(
    topics: readonly { readonly topic: string; readonly partitions: number }[],
    options: AdminCallOptions = {},
  ): Promise<readonly ItemResult[]> {
    if (topics.length === 0) return []
    const { body } = await this.#atController(
      Api.CreatePartitions,
      {
        topics: topics.map((t) => ({ name: t.topic, count: t.partitions, assignments: null })),
        timeoutMs: options.timeoutMs ?? this.#timeoutMs,
      },
      (answer) => answer.results.map((r) => r.errorCode),
      options,
    )
    return topics.map(({ topic }) => {
      const told = body.results.find((r) => r.name === topic)
      return item(topic, told?.errorCode, `Adding partitions to ${topic}`, told?.errorMessage)
    })
  }

  /** Every topic this principal may see. */
  async listTopics(options: AdminCallOptions & { readonly internal?: boolean } = {}): Promise<readonly TopicListing[]> {
    const { body } = await this.#any(Api.Metadata, { topics: null, allowAutoTopicCreation: false }, options)
    return body.topics
      .filter((t) => t.errorCode === 0 && (options.internal === true || !t.isInternal))
      .map((t) => ({
        topic: t.name ?? '',
        id: t.topicId,
        partitions: t.partitions.length,
        internal: t.isInternal,
      }))
      .sort((a, b) => (a.topic < b.topic ? -1 : 1))
  }

  /** Partitions, configuration and rights of topics. One that does not exist is answered with `exists: false`. */
  async describeTopics(
    topics: readonly string[],
    options: AdminCallOptions = {},
  ): Promise<readonly TopicDescription[]> {
    if (topics.length === 0) return []
    const { body } = await this.#any(
      Api.Metadata,
      (version) => ({
        topics: topics.map((name) => ({ name })),
        allowAutoTopicCreation: false,
        ...(version >= 8 ? { includeTopicAuthorizedOperations: true } : {}),
      }),
      options,
    )
    const present = body.topics.filter((t) => t.errorCode === 0).map((t) => t.name ?? '')
    const configs = await this.topicConfigs(present, options)
    return topics.map((topic): TopicDescription => {
      const told = body.topics.find((t) => t.name === topic)
      const code = told?.errorCode ?? 3
      const rights = told?.topicAuthorizedOperations ?? notTold
      const may = (bit: number): boolean | null => (rights === notTold ? null : (rights & (1 << bit)) !== 0)
      const partitions = [...(told?.partitions ?? [])]
        .sort((a, b) => a.partitionIndex - b.partitionIndex)
        .map((p) => ({
          partition: p.partitionIndex,
          leader: p.leaderId,
          leaderEpoch: p.leaderEpoch,
          replicas: p.replicaNodes,
          isr: p.isrNodes,
          offline: p.offlineReplicas,
          error: p.errorCode,
        }))
      return {
        topic,
        exists: code === 0 || (code !== 3 && partitions.length > 0),
        id: told?.topicId ?? '',
        internal: told?.isInternal ?? false,
        partitions,
        replicas: partitions.length === 0 ? 0 : Math.min(...partitions.map((p) => p.replicas.length)),
        configs: configs.find((c) => c.topic === topic)?.configs ?? {},
        mayRead: may(operation.read),
        mayWrite: may(operation.write),
        ...(code === 0 ? {} : { error: brokerError(code, `Describing topic ${topic}`) }),
      }
    })
  }

  /** The effective configuration of topics, defaults included. */
  async topicConfigs(
    topics: readonly string[],
    options: AdminCallOptions = {},
  ): Promise<
    readonly {
      readonly topic: string
      readonly configs: Readonly<Record<string, string>>
      readonly error?: OttlaError
    }[]
  > {
    if (topics.length === 0) return []
    const { body } = await this.#any(
      Api.DescribeConfigs,
      {
        resources: topics.map((name) => ({ resourceType: resourceTopic, resourceName: name, configurationKeys: null })),
      },
      options,
    )
    return topics.map((topic) => {
      const told = body.results.find((r) => r.resourceType === resourceTopic && r.resourceName === topic)
      if (told === undefined) return { topic, configs: {}, error: missing('DescribeConfigs', topic) }
      const configs: Record<string, string> = {}
      for (const c of told.configs) if (c.value !== null && !c.isSensitive) configs[c.name] = c.value
      if (told.errorCode === 0) return { topic, configs }
      return {
        topic,
        configs,
        error: brokerError(told.errorCode, `Reading the configuration of ${topic}`, told.errorMessage),
      }
    })
  }

  async describeCluster(options: AdminCallOptions = {}): Promise<ClusterDescription> {
    const { body } = await this.#any(Api.Metadata, { topics: [], allowAutoTopicCreation: false }, options)
    return {
      clusterId: body.clusterId,
      controller: body.controllerId,
      brokers: body.brokers.map((b) => ({ id: b.nodeId, host: b.host, port: b.port, rack: b.rack })),
    }
  }

  // ── offsets ──

  /** Earliest and latest offsets, and offsets by time. `isolation: 'committed'` ends at the last stable offset. */
  async listOffsets(
    queries: readonly OffsetQuery[],
    options: AdminCallOptions & { readonly isolation?: 'uncommitted' | 'committed' } = {},
  ): Promise<readonly OffsetResult[]> {
    const results = new Map<OffsetQuery, OffsetResult>()
    const deadlineMs = performance.now() + (options.timeoutMs ?? this.#timeoutMs)
    await this.#cluster.ensureTopics([...new Set(queries.map((q) => q.topic))], options)
    for (let round = 0; results.size < queries.length; round += 1) {
      const open = queries.filter((q) => !results.has(q))
      // A request may name a partition once only, so a second question about it goes in a second request.
      const requests: { leader: number; queries: OffsetQuery[] }[] = []
      for (const query of open) {
        const leader = this.#cluster.metadata.partition(query.topic, query.partition)?.leader ?? -1
        const isSame = (q: OffsetQuery): boolean => q.topic === query.topic && q.partition === query.partition
        const request = requests.find((r) => r.leader === leader && !r.queries.some(isSame))
        if (request === undefined) requests.push({ leader, queries: [query] })
        else request.queries.push(query)
      }
      const isLast = performance.now() >= deadlineMs || round >= 10
      await Promise.all(
        requests.map(({ leader, queries: asked }) =>
          this.#listOffsetsAt(leader, asked, { ...options, isLast, results }),
        ),
      )
      if (results.size < queries.length) await this.#cluster.refresh()
    }
    return queries.map((query) => results.get(query) as OffsetResult)
  }

  async #listOffsetsAt(
    leader: number,
    queries: readonly OffsetQuery[],
    how: {
      readonly isolation?: 'uncommitted' | 'committed'
      readonly signal?: AbortSignal
      readonly timeoutMs?: number
      readonly isLast: boolean
      readonly results: Map<OffsetQuery, OffsetResult>
    },
  ): Promise<void> {
    const give = (query: OffsetQuery, code: number): void => {
      const error = brokerError(code, `ListOffsets of ${query.topic}-${query.partition}`)
      // A passing state gets another round with fresh metadata.
      if (error.retriable && !how.isLast) return
      const { topic, partition } = query
      how.results.set(query, { topic, partition, offset: -1, timestampMs: -1, leaderEpoch: -1, error })
    }
    if (leader < 0) {
      for (const query of queries) {
        give(query, this.#cluster.metadata.topic(query.topic)?.partitions[query.partition] === undefined ? 3 : 5)
      }
      return
    }
    const topics = [...new Set(queries.map((q) => q.topic))]
    let body: Responses[typeof Api.ListOffsets]
    try {
      const answer = await this.#cluster.request(
        leader,
        Api.ListOffsets,
        (version) => ({
          replicaId: -1,
          ...(version >= 2 ? { isolationLevel: how.isolation === 'committed' ? 1 : 0 } : {}),
          topics: topics.map((name) => ({
            name,
            partitions: queries
              .filter((q) => q.topic === name)
              .map((q) => ({ partitionIndex: q.partition, timestamp: timestampOf(q.at) })),
          })),
        }),
        this.#call(how),
      )
      body = answer.body
    } catch (error) {
      if (how.isLast || !(error as OttlaError).retriable) throw error
      return
    }
    for (const query of queries) {
      const told = body.topics
        .find((t) => t.name === query.topic)
        ?.partitions.find((p) => p.partitionIndex === query.partition)
      if (told === undefined) give(query, -1)
      else if (told.errorCode !== 0) give(query, told.errorCode)
      else {
        const { topic, partition } = query
        const { offset, timestamp, leaderEpoch } = told
        how.results.set(query, { topic, partition, offset, timestampMs: timestamp, leaderEpoch })
      }
    }
  }

  /** Deletes all records before an offset (-1: all there are). Answers with the new first offset. */
  async deleteRecords(
    records: readonly (PartitionName & { readonly beforeOffset: number })[],
    options: AdminCallOptions = {},
  ): Promise<readonly (PartitionName & { readonly lowWatermark: number; readonly error?: OttlaError })[]> {
    await this.#cluster.ensureTopics([...new Set(records.map((r) => r.topic))], options)
    return Promise.all(
      records.map(async ({ topic, partition, beforeOffset }) => {
        const what = `Deleting records of ${topic}-${partition}`
        const leader = this.#cluster.metadata.partition(topic, partition)?.leader ?? -1
        if (leader < 0) return { topic, partition, lowWatermark: -1, error: brokerError(5, what) }
        const { body } = await this.#cluster.request(
          leader,
          Api.DeleteRecords,
          {
            topics: [{ name: topic, partitions: [{ partitionIndex: partition, offset: beforeOffset }] }],
            timeoutMs: options.timeoutMs ?? this.#timeoutMs,
          },
          this.#call(options),
        )
        const told = body.topics[0]?.partitions[0]
        const code = told?.errorCode ?? -1
        const lowWatermark = told?.lowWatermark ?? -1
        return code === 0
          ? { topic, partition, lowWatermark }
          : { topic, partition, lowWatermark, error: brokerError(code, what) }
      }),
    )
  }

  // ── groups ──

  /** Groups of all brokers. Throws when a broker cannot be asked: half a list would look like a whole one. */
  async listGroups(options: AdminCallOptions = {}): Promise<readonly GroupListing[]> {
    await this.#cluster.refresh()
    const answers = await Promise.all(
      this.#cluster.nodes().map((node) => this.#cluster.request(node, Api.ListGroups, {}, this.#call(options))),
    )
    const groups = new Map<string, GroupListing>()
    for (const { body, node } of answers) {
      if (body.errorCode !== 0) throw brokerError(body.errorCode, `ListGroups at broker ${node}`)
      for (const g of body.groups) {
        groups.set(g.groupId, {
          group: g.groupId,
          state: g.groupState,
          type: g.groupType,
          protocolType: g.protocolType,
        })
      }
    }
    return [...groups.values()].sort((a, b) => (a.group < b.group ? -1 : 1))
  }

  /** State and members of classic groups. A group nobody knows is answered with state `Dead`. */
  async describeGroups(
    groups: readonly string[],
    options: AdminCallOptions = {},
  ): Promise<readonly GroupDescription[]> {
    return Promise.all(
      groups.map(async (group): Promise<GroupDescription> => {
        const what = `Describing group ${group}`
        const body = await this.#atCoordinator(
          group,
          Api.DescribeGroups,
          { groups: [group] },
          (b) => b.groups[0]?.errorCode ?? -1,
          options,
        )
        const told = body.groups[0]
        // Since version 6 an unknown group is an error instead of a dead one.
        if (told === undefined || (told.errorCode !== 0 && told.errorCode !== 69)) {
          const error = brokerError(told?.errorCode ?? -1, what, told?.errorMessage)
          return { group, state: 'Unknown', protocol: '', members: [], error }
        }
        return {
          group,
          state: told.errorCode === 69 ? 'Dead' : told.groupState,
          protocol: told.protocolData,
          members: told.members.map((m) => ({
            memberId: m.memberId,
            instanceId: m.groupInstanceId,
            clientId: m.clientId,
            clientHost: m.clientHost,
            assignment: m.memberAssignment.length === 0 ? [] : assigned(m.memberAssignment),
          })),
        }
      }),
    )
  }

  /** Deletes groups that have no members, with their offsets. */
  async deleteGroups(groups: readonly string[], options: AdminCallOptions = {}): Promise<readonly ItemResult[]> {
    return Promise.all(
      groups.map(async (group) => {
        const code = (b: Responses[typeof Api.DeleteGroups]): number => b.results[0]?.errorCode ?? -1
        const body = await this.#atCoordinator(group, Api.DeleteGroups, { groupsNames: [group] }, code, options)
        return item(group, code(body), `Deleting group ${group}`)
      }),
    )
  }

  /** What a group has committed: everything, or the partitions asked for. */
  async fetchOffsets(
    group: string,
    partitions?: readonly PartitionName[],
    options: AdminCallOptions = {},
  ): Promise<readonly CommittedOffset[]> {
    const topics =
      partitions === undefined
        ? null
        : [...new Set(partitions.map((p) => p.topic))].map((name) => ({
            name,
            partitionIndexes: partitions.filter((p) => p.topic === name).map((p) => p.partition),
          }))
    const body = await this.#atCoordinator(
      group,
      Api.OffsetFetch,
      (version) =>
        version >= 8
          ? { groups: [{ groupId: group, topics }], requireStable: true }
          : { groupId: group, topics, ...(version >= 7 ? { requireStable: true } : {}) },
      (b) => b.groups[0]?.errorCode ?? b.errorCode,
      // From version 10 on topics are named by id only.
      { ...options, maxVersion: 9, minVersion: 2 },
    )
    const told = body.groups[0] ?? body
    if (told.errorCode !== 0) throw brokerError(told.errorCode, `OffsetFetch of group ${group}`)
    return told.topics.flatMap((t) =>
      t.partitions.map((p) => ({
        topic: t.name,
        partition: p.partitionIndex,
        offset: p.committedOffset,
        leaderEpoch: p.committedLeaderEpoch,
        metadata: p.metadata,
        ...(p.errorCode === 0
          ? {}
          : { error: brokerError(p.errorCode, `OffsetFetch of ${t.name}-${p.partitionIndex}`) }),
      })),
    )
  }

  // ── asking ──

  #call(options: {
    readonly signal?: AbortSignal
    readonly timeoutMs?: number
    maxVersion?: number
    minVersion?: number
  }) {
    return {
      timeoutMs: options.timeoutMs ?? this.#timeoutMs,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
      ...(options.maxVersion === undefined ? {} : { maxVersion: options.maxVersion }),
      ...(options.minVersion === undefined ? {} : { minVersion: options.minVersion }),
    }
  }

  /** Asks whoever answers; a broker lost before it answered a question that changes nothing is no reason to fail. */
  async #any<A extends ApiKey>(
    api: A,
    body: RequestBody<A> | ((version: number) => RequestBody<A>),
    options: AdminCallOptions,
  ): Promise<Answer<A>> {
    for (let left = 2; ; left -= 1) {
      try {
        return await this.#cluster.request('any', api, body, this.#call(options))
      } catch (error) {
        if (left === 0 || (error as OttlaError).code !== 'OTTLA_KAFKA_CONNECTION') throw error
      }
    }
  }

  /** Any broker passes it on to the controller, except old ones, which say NOT_CONTROLLER. */
  async #atController<A extends ApiKey>(
    api: A,
    body: RequestBody<A> | ((version: number) => RequestBody<A>),
    codes: (answer: Responses[A]) => number[],
    options: AdminCallOptions,
  ): Promise<Answer<A>> {
    const answer = await this.#cluster.request('any', api, body, this.#call(options))
    if (!codes(answer.body).includes(41)) return answer
    await this.#cluster.refresh()
    return this.#cluster.request(this.#cluster.metadata.controller, api, body, this.#call(options))
  }

  async #atCoordinator<A extends ApiKey>(
    group: string,
    api: A,
    body: RequestBody<A> | ((version: number) => RequestBody<A>),
    code: (answer: Responses[A]) => number,
    options: AdminCallOptions & { maxVersion?: number; minVersion?: number },
  ): Promise<Responses[A]> {
    const deadlineMs = performance.now() + (options.timeoutMs ?? this.#timeoutMs)
    for (;;) {
      const node = await this.#cluster.coordinator(group, this.#call(options))
      const { body: answer } = await this.#cluster.request(node, api, body, this.#call(options))
      const error = code(answer)
      // Loading, unavailable, moved, or offsets of a transaction that is just ending: a moment later it is otherwise.
      if (![14, 15, 16, 88].includes(error) || performance.now() + 100 >= deadlineMs) return answer
      if (error === 15 || error === 16) this.#cluster.forgetCoordinator(group, node)
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }

  /** Every broker learns of a new topic in its own time; waiting here saves each user from waiting everywhere. */
  async #untilLed(topics: readonly string[], signal: AbortSignal | undefined): Promise<void> {
    if (topics.length === 0) return
    const deadlineMs = performance.now() + 5_000
    for (;;) {
      const { body } = await this.#any(
        Api.Metadata,
        { topics: topics.map((name) => ({ name })), allowAutoTopicCreation: false },
        signal === undefined ? {} : { signal },
      )
      const ready = body.topics.every((t) => t.errorCode === 0 && t.partitions.every((p) => p.leaderId >= 0))
      if (ready || performance.now() >= deadlineMs) return
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
}

function timestampOf(at: OffsetQuery['at']): number {
  return at === 'earliest' ? -2 : at === 'latest' ? -1 : at.timestampMs
}

function assigned(bytes: Uint8Array): PartitionName[] {
  return decodeAssignment(bytes).flatMap((t) => t.partitions.map((partition) => ({ topic: t.topic, partition })))
}

function item(name: string, code: number | undefined, what: string, text?: string | null): ItemResult {
  return code === 0 ? { name } : { name, error: brokerError(code ?? -1, what, text) }
}

function missing(api: keyof typeof Api, name: string): OttlaError {
  return brokerError(-1, `${apiName(Api[api])} about ${name}`, 'the answer does not mention it')
}
