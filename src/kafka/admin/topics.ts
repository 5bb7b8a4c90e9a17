/** Topics: create, delete, widen, list, describe. */
import type { OttlaError } from '../../contract/errors.ts'
import { ErrorCode } from '../../wire/error-codes.ts'
import { Api } from '../../wire/protocol.ts'
import { brokerError } from '../broker-error.ts'
import type { PartitionState } from '../machine/metadata.ts'
import { type AdminCallOptions, type AdminCalls, type ItemResult, item, notMentioned, pause } from './calls.ts'
import { configsByName, describeConfigs } from './configs.ts'
import { rights } from './rights.ts'

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

const untilLedMs = 5_000

export async function createTopics(
  calls: AdminCalls,
  topics: readonly TopicCreation[],
  options: AdminCallOptions & { readonly validateOnly?: boolean },
): Promise<readonly TopicCreationResult[]> {
  if (topics.length === 0) return []
  const { body } = await calls.controller(
    Api.CreateTopics,
    {
      topics: topics.map((t) => ({
        name: t.topic,
        numPartitions: t.partitions ?? -1,
        replicationFactor: t.replicas ?? -1,
        configs: Object.entries(t.configs ?? {}).map(([name, value]) => ({ name, value })),
      })),
      timeoutMs: calls.timeoutMs(options),
      validateOnly: options.validateOnly ?? false,
    },
    (answer) => answer.topics.map((t) => t.errorCode),
    options,
  )
  const results = topics.map(({ topic }): TopicCreationResult => {
    const told = body.topics.find((t) => t.name === topic)
    if (told === undefined) return { topic, created: false, id: null, error: notMentioned(`Creating topic ${topic}`) }
    if (told.errorCode !== 0) {
      const error = brokerError(told.errorCode, `Creating topic ${topic}`, told.errorMessage)
      return { topic, created: false, id: null, error }
    }
    return { topic, created: true, id: told.topicId }
  })
  if (options.validateOnly !== true) {
    const made = results.filter((r) => r.created).map((r) => r.topic)
    await untilLed(calls, made, options)
  }
  return results
}

export async function deleteTopics(
  calls: AdminCalls,
  topics: readonly string[],
  options: AdminCallOptions,
): Promise<readonly ItemResult[]> {
  if (topics.length === 0) return []
  const { body } = await calls.controller(
    Api.DeleteTopics,
    (version) => ({
      ...(version >= 6 ? { topics: topics.map((name) => ({ name })) } : { topicNames: topics }),
      timeoutMs: calls.timeoutMs(options),
    }),
    (answer) => answer.responses.map((r) => r.errorCode),
    options,
  )
  return topics.map((name) => {
    const told = body.responses.find((r) => r.name === name)
    return item(name, told?.errorCode, `Deleting topic ${name}`, told?.errorMessage)
  })
}

export async function createPartitions(
  calls: AdminCalls,
  topics: readonly { readonly topic: string; readonly partitions: number }[],
  options: AdminCallOptions & { readonly validateOnly?: boolean },
): Promise<readonly ItemResult[]> {
  if (topics.length === 0) return []
  const { body } = await calls.controller(
    Api.CreatePartitions,
    {
      topics: topics.map((t) => ({ name: t.topic, count: t.partitions, assignments: null })),
      timeoutMs: calls.timeoutMs(options),
      validateOnly: options.validateOnly ?? false,
    },
    (answer) => answer.results.map((r) => r.errorCode),
    options,
  )
  return topics.map(({ topic }) => {
    const told = body.results.find((r) => r.name === topic)
    return item(topic, told?.errorCode, `Adding partitions to ${topic}`, told?.errorMessage)
  })
}

export async function listTopics(
  calls: AdminCalls,
  options: AdminCallOptions & { readonly internal?: boolean },
): Promise<readonly TopicListing[]> {
  const { body } = await calls.any(Api.Metadata, { topics: null, allowAutoTopicCreation: false }, options)
  return body.topics
    .filter((t) => t.errorCode === 0 && (options.internal === true || !t.isInternal))
    .map((t) => ({ topic: t.name ?? '', id: t.topicId, partitions: t.partitions.length, internal: t.isInternal }))
    .sort((a, b) => (a.topic < b.topic ? -1 : 1))
}

export async function describeTopics(
  calls: AdminCalls,
  topics: readonly string[],
  options: AdminCallOptions,
): Promise<readonly TopicDescription[]> {
  if (topics.length === 0) return []
  const { body } = await calls.any(
    Api.Metadata,
    (version) => ({
      topics: topics.map((name) => ({ name })),
      allowAutoTopicCreation: false,
      ...(version >= 8 ? { includeTopicAuthorizedOperations: true } : {}),
    }),
    options,
  )
  const present = body.topics.filter((t) => t.errorCode === 0).map((t) => t.name ?? '')
  const configs = await describeConfigs(
    calls,
    present.map((topic) => ({ topic })),
    options,
  )
  const configsOf = new Map(present.map((topic, index) => [topic, configsByName(configs[index])]))
  return topics.map((topic): TopicDescription => {
    const told = body.topics.find((t) => t.name === topic)
    const code = told?.errorCode ?? ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    const may = rights(told?.topicAuthorizedOperations)
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
      exists: code === 0 || (code !== ErrorCode.UNKNOWN_TOPIC_OR_PARTITION && partitions.length > 0),
      id: told?.topicId ?? '',
      internal: told?.isInternal ?? false,
      partitions,
      replicas: partitions.length === 0 ? 0 : Math.min(...partitions.map((p) => p.replicas.length)),
      configs: configsOf.get(topic) ?? {},
      mayRead: may('read'),
      mayWrite: may('write'),
      ...(code === 0 ? {} : { error: brokerError(code, `Describing topic ${topic}`) }),
    }
  })
}

/** Every broker learns of a new topic in its own time; waiting here saves each user from waiting everywhere. */
async function untilLed(calls: AdminCalls, topics: readonly string[], options: AdminCallOptions): Promise<void> {
  if (topics.length === 0) return
  const deadlineMs = performance.now() + untilLedMs
  for (;;) {
    const { body } = await calls.any(
      Api.Metadata,
      { topics: topics.map((name) => ({ name })), allowAutoTopicCreation: false },
      options.signal === undefined ? {} : { signal: options.signal },
    )
    const ready = body.topics.every((t) => t.errorCode === 0 && t.partitions.every((p) => p.leaderId >= 0))
    if (ready || performance.now() >= deadlineMs) return
    await pause(20)
  }
}
