/**
 * Asks and changes a cluster: topics, configurations, groups, offsets.
 *
 * Calls take lists and answer per item: what failed carries an `error` beside its name and leaves the others alone. Only
 * what concerns the whole call (no broker, refused login) is thrown. Each noun has a file in `admin/`.
 */
import type { OttlaError } from '../contract/errors.ts'
import { Api } from '../wire/protocol.ts'
import { type AdminCallOptions, AdminCalls, type ItemResult, type PartitionName } from './admin/calls.ts'
import {
  alterConfigs,
  type ConfigChange,
  type ConfigChangeResult,
  type ConfigDescription,
  type ConfigResource,
  configsByName,
  describeConfigs,
} from './admin/configs.ts'
import { deleteGroups, describeGroups, type GroupDescription, type GroupListing, listGroups } from './admin/groups.ts'
import {
  applyOffsets,
  type OffsetChange,
  type OffsetChangeResult,
  type OffsetPlan,
  planOffsets,
} from './admin/offset-plan.ts'
import {
  type CommittedOffset,
  deleteOffsets,
  fetchOffsets,
  listOffsets,
  type OffsetQuery,
  type OffsetResult,
  type PartitionResult,
} from './admin/offsets.ts'
import { deleteRecords, type RecordDeletion, type RecordDeletionResult } from './admin/records.ts'
import {
  createPartitions,
  createTopics,
  deleteTopics,
  describeTopics,
  listTopics,
  type TopicCreation,
  type TopicCreationResult,
  type TopicDescription,
  type TopicListing,
} from './admin/topics.ts'
import type { Cluster } from './io/cluster.ts'

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

export class Admin {
  readonly #calls: AdminCalls

  /** Made by `KafkaClient.admin`. */
  constructor(cluster: Cluster, defaults: { readonly requestTimeoutMs: number }) {
    this.#calls = new AdminCalls(cluster, defaults.requestTimeoutMs)
  }

  async describeCluster(options: AdminCallOptions = {}): Promise<ClusterDescription> {
    const { body } = await this.#calls.any(Api.Metadata, { topics: [], allowAutoTopicCreation: false }, options)
    return {
      clusterId: body.clusterId,
      controller: body.controllerId,
      brokers: body.brokers.map((b) => ({ id: b.nodeId, host: b.host, port: b.port, rack: b.rack })),
    }
  }

  // ── topics ──

  /**
   * Creates topics and waits, at most 5 s, until they have leaders. One that exists already is answered with
   * TOPIC_ALREADY_EXISTS. `validateOnly` changes nothing.
   */
  createTopics(
    topics: readonly TopicCreation[],
    options: AdminCallOptions & { readonly validateOnly?: boolean } = {},
  ): Promise<readonly TopicCreationResult[]> {
    return createTopics(this.#calls, topics, options)
  }

  deleteTopics(topics: readonly string[], options: AdminCallOptions = {}): Promise<readonly ItemResult[]> {
    return deleteTopics(this.#calls, topics, options)
  }

  /** Raises the number of partitions. Keys move, unless producers declare the old number. `validateOnly` changes nothing. */
  createPartitions(
    topics: readonly { readonly topic: string; readonly partitions: number }[],
    options: AdminCallOptions & { readonly validateOnly?: boolean } = {},
  ): Promise<readonly ItemResult[]> {
    return createPartitions(this.#calls, topics, options)
  }

  /** Every topic this principal may see. */
  listTopics(options: AdminCallOptions & { readonly internal?: boolean } = {}): Promise<readonly TopicListing[]> {
    return listTopics(this.#calls, options)
  }

  /** Partitions, configuration and rights of topics. One that does not exist is answered with `exists: false`. */
  describeTopics(topics: readonly string[], options: AdminCallOptions = {}): Promise<readonly TopicDescription[]> {
    return describeTopics(this.#calls, topics, options)
  }

  // ── configurations ──

  /** The effective configuration of topics by name, defaults included; see `describeConfigs` for where values come from. */
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
    const described = await this.describeConfigs(
      topics.map((topic) => ({ topic })),
      options,
    )
    return described.map((each, index) => ({
      topic: topics[index] as string,
      configs: configsByName(each),
      ...(each.error === undefined ? {} : { error: each.error }),
    }))
  }

  /** The effective configuration of topics and brokers, defaults included: all of it, or the settings in `names`. */
  describeConfigs(
    resources: readonly ConfigResource[],
    options: AdminCallOptions & { readonly names?: readonly string[] } = {},
  ): Promise<readonly ConfigDescription[]> {
    return describeConfigs(this.#calls, resources, options)
  }

  /**
   * Changes single settings and leaves the others alone. A resource changes as a whole or, refused with INVALID_CONFIG,
   * not at all. `validateOnly` changes nothing.
   */
  alterConfigs(
    changes: readonly ConfigChange[],
    options: AdminCallOptions & { readonly validateOnly?: boolean } = {},
  ): Promise<readonly ConfigChangeResult[]> {
    return alterConfigs(this.#calls, changes, options)
  }

  // ── offsets and records of partitions ──

  /** Earliest and latest offsets, that of the newest record, and offsets by time. `isolation: 'committed'` ends at the last stable offset. */
  listOffsets(
    queries: readonly OffsetQuery[],
    options: AdminCallOptions & { readonly isolation?: 'uncommitted' | 'committed' } = {},
  ): Promise<readonly OffsetResult[]> {
    return listOffsets(this.#calls, queries, options)
  }

  /** Deletes all records before an offset (-1: all there are). Answers with the new first offset. */
  deleteRecords(
    records: readonly RecordDeletion[],
    options: AdminCallOptions = {},
  ): Promise<readonly RecordDeletionResult[]> {
    return deleteRecords(this.#calls, records, options)
  }

  // ── groups ──

  /** Groups of all brokers. Throws when a broker cannot be asked: half a list would look like a whole one. */
  listGroups(options: AdminCallOptions = {}): Promise<readonly GroupListing[]> {
    return listGroups(this.#calls, options)
  }

  /** State and members of groups. A group nobody knows is answered with state `Dead`. */
  describeGroups(groups: readonly string[], options: AdminCallOptions = {}): Promise<readonly GroupDescription[]> {
    return describeGroups(this.#calls, groups, options)
  }

  /** Deletes groups that have no members, with their offsets. */
  deleteGroups(groups: readonly string[], options: AdminCallOptions = {}): Promise<readonly ItemResult[]> {
    return deleteGroups(this.#calls, groups, options)
  }

  /** What a group has committed: everything, or the partitions asked for. Throws when the group may not be described. */
  fetchOffsets(
    group: string,
    partitions?: readonly PartitionName[],
    options: AdminCallOptions = {},
  ): Promise<readonly CommittedOffset[]> {
    return fetchOffsets(this.#calls, group, { ...options, partitions })
  }

  /**
   * Computes a change of committed offsets and changes nothing; `alterOffsets` applies it. Throws OTTLA_KAFKA_BROKER for a
   * topic that is not there when all of its partitions are meant, OTTLA_CONFIG_INVALID for a partition named twice.
   */
  planOffsets(group: string, changes: readonly OffsetChange[], options: AdminCallOptions = {}): Promise<OffsetPlan> {
    return planOffsets(this.#calls, group, { ...options, changes, nowMs: Date.now() })
  }

  /**
   * Commits what a plan says, and drops the metadata beside it. Partitions whose committed offset has moved since stay
   * as they are, with OTTLA_KAFKA_PLAN_OUTDATED. Throws OTTLA_KAFKA_GROUP_ACTIVE while the group has members.
   */
  alterOffsets(plan: OffsetPlan, options: AdminCallOptions = {}): Promise<readonly OffsetChangeResult[]> {
    return applyOffsets(this.#calls, plan, options)
  }

  /** Forgets committed offsets. A topic that members are subscribed to is answered with GROUP_SUBSCRIBED_TO_TOPIC. */
  deleteOffsets(
    group: string,
    partitions: readonly PartitionName[],
    options: AdminCallOptions = {},
  ): Promise<readonly PartitionResult[]> {
    return deleteOffsets(this.#calls, group, { ...options, partitions })
  }
}
