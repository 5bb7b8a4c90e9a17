/**
 * What `ottla doctor` looks at: asked from the brokers (and the database, when there is one), judged in `judge.ts`.
 *
 * Nothing is written. What may not be asked is a fact too.
 */
import { OttlaError } from '../../contract/errors.ts'
import { serviceNames } from '../../contract/names.ts'
import { configsByName } from '../../kafka/admin/configs.ts'
import type { GroupDescription } from '../../kafka/admin/groups.ts'
import type { TopicDescription } from '../../kafka/admin/topics.ts'
import type { Admin } from '../../kafka/admin.ts'
import type { KafkaClient } from '../../kafka/client.ts'
import { brokerErrorName } from '../../wire/error-codes.ts'
import { Api } from '../../wire/protocol.ts'

/** What to look at. With neither services, groups nor topics named: everything that may be seen. */
export interface DoctorScope {
  readonly services: readonly string[]
  readonly groups: readonly string[]
  readonly topics: readonly string[]
  readonly namespace?: string
}

export interface BrokerFacts {
  readonly id: number
  readonly address: string
  /** Why it cannot be asked; null when it answers. */
  readonly unreachable: string | null
  /** Kafka's `metadata.version`, the same on all brokers; null when not told. */
  readonly metadataVersion: number | null
  /** The highest version of every request, as one text: brokers of one release say the same. */
  readonly protocol: string
  /** Its settings; null when they may not be read. */
  readonly settings: Readonly<Record<string, string>> | null
}

export interface TopicFacts extends TopicDescription {
  /** Where the newest record's time lies, ahead of this machine's clock; negative: behind it. Null without records. */
  readonly newestAheadMs: number | null
}

export interface PartitionProgress {
  readonly topic: string
  readonly partition: number
  readonly committed: number
  readonly logStart: number
  readonly logEnd: number
  /** Everything before is older than the retention, so it goes with its segment; null without a limit by time. */
  readonly expiredBefore: number | null
  /** Everything before will be so soon: older than `soonShare` of the retention. */
  readonly expiringBefore: number | null
}

export interface GroupFacts {
  readonly description: GroupDescription
  readonly progress: readonly PartitionProgress[]
  /** Why offsets could not be read; null when they were. */
  readonly unread: string | null
}

export interface ServiceFacts {
  readonly service: string
  readonly group: string
  readonly deadLetters: string
  readonly control: string
}

/** How far a clock is ahead of this machine's, give or take; or why that is not known. */
export type ClockFacts = { readonly aheadMs: number; readonly uncertainMs: number } | { readonly unknown: string }

export interface StoreFacts {
  /** Of schema `ottla`; null: there is none. */
  readonly version: number | null
  /** The version this library needs. */
  readonly wanted: number
  readonly clock: ClockFacts
  /** How long the inbox remembers, as the app is configured. */
  readonly inboxRetentionDays: number
}

export interface DoctorFacts {
  readonly clusterId: string | null
  readonly brokers: readonly BrokerFacts[]
  readonly topics: readonly TopicFacts[]
  /** `__consumer_offsets`; null before the first group made it, or when it may not be seen. */
  readonly offsetsTopic: TopicDescription | null
  readonly groups: readonly GroupFacts[]
  readonly services: readonly ServiceFacts[]
  readonly clock: ClockFacts
  /** Null without a database. */
  readonly store: StoreFacts | null
}

/** Records older than this part of the retention are about to be deleted. */
export const soonShare = 0.8

const topicsAtOnce = 100
const offsetsTopicName = '__consumer_offsets'

export async function examine(client: KafkaClient, scope: DoctorScope, store: StoreFacts | null): Promise<DoctorFacts> {
  const admin = client.admin()
  const services = scope.services.map((service): ServiceFacts => {
    const { group, deadLetters, control } = serviceNames(service, scope.namespace)
    return { service, group, deadLetters, control }
  })
  const isEverything = services.length + scope.groups.length + scope.topics.length === 0
  const groupNames = isEverything
    ? (await admin.listGroups()).filter((g) => g.protocolType === 'consumer').map((g) => g.group)
    : [...new Set([...services.map((s) => s.group), ...scope.groups])]
  const offsets = await committedOf(admin, groupNames)
  const topicNames = new Set(isEverything ? (await admin.listTopics()).map((t) => t.topic) : scope.topics)
  for (const { deadLetters, control } of services) topicNames.add(deadLetters).add(control)
  for (const { description, committed } of offsets) {
    for (const { topic } of committed) topicNames.add(topic)
    for (const { assignment } of description.members) for (const { topic } of assignment) topicNames.add(topic)
  }
  const described: TopicDescription[] = []
  const names = [...topicNames].sort()
  for (let at = 0; at < names.length; at += topicsAtOnce) {
    described.push(...(await admin.describeTopics(names.slice(at, at + topicsAtOnce))))
  }
  const { clusterId, brokers } = await admin.describeCluster()
  const [offsetsTopic] = await admin.describeTopics([offsetsTopicName])
  const nowMs = Date.now()
  return {
    clusterId,
    brokers: await Promise.all(brokers.map((broker) => brokerFacts(client, broker))),
    topics: await withNewest(admin, described, nowMs),
    offsetsTopic: offsetsTopic?.exists === true ? offsetsTopic : null,
    groups: await Promise.all(
      offsets.map(async ({ description, committed, unread }) => ({
        description,
        progress: await progressOf(admin, { committed, described, nowMs }),
        unread,
      })),
    ),
    services,
    clock: await controllerClock(client),
    store,
  }
}

async function brokerFacts(
  client: KafkaClient,
  broker: { readonly id: number; readonly host: string; readonly port: number },
): Promise<BrokerFacts> {
  const { id } = broker
  const address = `${broker.host}:${broker.port}`
  try {
    const { body } = await client.cluster.request(id, Api.ApiVersions, {
      clientSoftwareName: 'ottla-cli',
      clientSoftwareVersion: '0',
    })
    const [described] = await client.admin().describeConfigs([{ broker: id }])
    return {
      id,
      address,
      unreachable: null,
      metadataVersion: body.finalizedFeatures.find((f) => f.name === 'metadata.version')?.maxVersionLevel ?? null,
      protocol: body.apiKeys
        .map((api) => `${api.apiKey}:${api.maxVersion}`)
        .sort()
        .join(' '),
      settings: described?.error === undefined ? configsByName(described) : null,
    }
  } catch (error) {
    return { id, address, unreachable: textOf(error), metadataVersion: null, protocol: '', settings: null }
  }
}

interface Committed {
  readonly description: GroupDescription
  readonly committed: readonly { readonly topic: string; readonly partition: number; readonly offset: number }[]
  readonly unread: string | null
}

async function committedOf(admin: Admin, groups: readonly string[]): Promise<readonly Committed[]> {
  const found: Committed[] = []
  // One after the other: a cluster can have thousands, and nobody waits for a doctor's milliseconds.
  for (const description of await admin.describeGroups(groups)) {
    try {
      if (description.error !== undefined) throw description.error
      const offsets = description.state === 'Dead' ? [] : await admin.fetchOffsets(description.group)
      const committed = offsets.filter(({ offset, error }) => offset >= 0 && error === undefined)
      found.push({ description, committed, unread: null })
    } catch (error) {
      found.push({ description, committed: [], unread: textOf(error) })
    }
  }
  return found
}

async function progressOf(
  admin: Admin,
  given: {
    readonly committed: Committed['committed']
    readonly described: readonly TopicDescription[]
    readonly nowMs: number
  },
): Promise<readonly PartitionProgress[]> {
  const places = given.committed.filter(({ topic }) => given.described.some((t) => t.topic === topic && t.exists))
  const retentionOf = (topic: string): number | null =>
    timeLimitMs(given.described.find((t) => t.topic === topic)?.configs ?? {})
  const since = (topic: string, share: number) => {
    const retentionMs = retentionOf(topic)
    return retentionMs === null ? 'latest' : { timestampMs: Math.max(0, Math.floor(given.nowMs - retentionMs * share)) }
  }
  const found = await admin.listOffsets([
    ...places.map(({ topic, partition }) => ({ topic, partition, at: 'earliest' as const })),
    ...places.map(({ topic, partition }) => ({ topic, partition, at: 'latest' as const })),
    ...places.map(({ topic, partition }) => ({ topic, partition, at: since(topic, 1) as 'latest' })),
    ...places.map(({ topic, partition }) => ({ topic, partition, at: since(topic, soonShare) as 'latest' })),
  ])
  return places.flatMap(({ topic, partition, offset }, index): PartitionProgress[] => {
    const [start, end, expired, soon] = [0, 1, 2, 3].map((which) => found[which * places.length + index]!)
    if ([start, end, expired, soon].some((each) => each?.error !== undefined)) return []
    const [logStart, logEnd] = [start!.offset, end!.offset]
    const isLimited = retentionOf(topic) !== null
    // No record so young: all there is, is older.
    const before = (answer: number): number | null => (isLimited ? (answer < 0 ? logEnd : answer) : null)
    return [
      {
        topic,
        partition,
        committed: offset,
        logStart,
        logEnd,
        expiredBefore: before(expired!.offset),
        expiringBefore: before(soon!.offset),
      },
    ]
  })
}

/** How long a topic keeps records; null when it is not by time, or not known. */
export function timeLimitMs(configs: Readonly<Record<string, string>>): number | null {
  const retentionMs = Number(configs['retention.ms'] ?? Number.NaN)
  const isDeleting = (configs['cleanup.policy'] ?? '').split(',').includes('delete')
  return isDeleting && retentionMs >= 0 ? retentionMs : null
}

async function withNewest(
  admin: Admin,
  topics: readonly TopicDescription[],
  nowMs: number,
): Promise<readonly TopicFacts[]> {
  const places = topics.flatMap(({ topic, exists, partitions }) =>
    exists ? partitions.filter((p) => p.leader >= 0).map(({ partition }) => ({ topic, partition })) : [],
  )
  const newest = new Map<string, number>()
  const found = await admin.listOffsets(places.map((place) => ({ ...place, at: 'newest' as const })))
  for (const { topic, timestampMs, error } of found) {
    if (error === undefined && timestampMs >= 0) newest.set(topic, Math.max(newest.get(topic) ?? 0, timestampMs))
  }
  return topics.map((topic) => {
    const at = newest.get(topic.topic)
    return { ...topic, newestAheadMs: at === undefined ? null : at - nowMs }
  })
}

/** The controller tells when it caught up with itself last, which is always now: the one clock a broker shows. */
async function controllerClock(client: KafkaClient): Promise<ClockFacts> {
  const topics = [{ topicName: '__cluster_metadata', partitions: [{ partitionIndex: 0 }] }]
  try {
    const beforeMs = Date.now()
    const { body } = await client.cluster.request('any', Api.DescribeQuorum, { topics }, { minVersion: 1 })
    const afterMs = Date.now()
    const partition = body.topics[0]?.partitions[0]
    const code = body.errorCode || (partition?.errorCode ?? -1)
    if (code !== 0) return { unknown: `the controller answered ${brokerErrorName(code)}` }
    const leader = partition?.currentVoters.find((voter) => voter.replicaId === partition.leaderId)
    if (leader === undefined || leader.lastCaughtUpTimestamp < 0) return { unknown: 'the controller does not tell' }
    const uncertainMs = (afterMs - beforeMs) / 2
    return { aheadMs: Math.round(leader.lastCaughtUpTimestamp - (beforeMs + uncertainMs)), uncertainMs }
  } catch (error) {
    return { unknown: textOf(error) }
  }
}

function textOf(error: unknown): string {
  if (error instanceof OttlaError) return error.message
  throw error
}
