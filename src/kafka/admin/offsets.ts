/** Offsets: of logs, at both ends and by time; and of groups, read and deleted. */
import type { OttlaError } from '../../contract/errors.ts'
import { Api } from '../../wire/protocol.ts'
import { brokerError } from '../broker-error.ts'
import { type AdminCallOptions, type AdminCalls, byTopic, type PartitionName } from './calls.ts'

export interface OffsetQuery extends PartitionName {
  /** `newest`: the record with the latest timestamp. `timestampMs`: the first record stamped then or later. */
  readonly at: 'earliest' | 'latest' | 'newest' | { readonly timestampMs: number }
}

export interface OffsetResult extends PartitionName {
  /** -1 when no record is that young. */
  readonly offset: number
  /** The record's timestamp when asked by time or for the newest, else -1. */
  readonly timestampMs: number
  readonly leaderEpoch: number
  readonly error?: OttlaError
}

export interface CommittedOffset extends PartitionName {
  /** -1: nothing committed. */
  readonly offset: number
  readonly leaderEpoch: number
  readonly metadata: string | null
  readonly error?: OttlaError
}

export interface PartitionResult extends PartitionName {
  readonly error?: OttlaError
}

export async function listOffsets(
  calls: AdminCalls,
  queries: readonly OffsetQuery[],
  options: AdminCallOptions & { readonly isolation?: 'uncommitted' | 'committed' },
): Promise<readonly OffsetResult[]> {
  return calls.leaders<OffsetQuery, OffsetResult>(
    queries,
    {
      ask: async (leader, asked, call) => {
        const { body } = await calls.cluster.request(
          leader,
          Api.ListOffsets,
          (version) => ({
            replicaId: -1,
            ...(version >= 2 ? { isolationLevel: options.isolation === 'committed' ? 1 : 0 } : {}),
            topics: byTopic(asked, (q) => ({ partitionIndex: q.partition, timestamp: timestampOf(q.at) })),
          }),
          asked.some((q) => q.at === 'newest') ? { ...call, minVersion: newestSince } : call,
        )
        return ({ topic, partition }) => {
          const told = body.topics.find((t) => t.name === topic)?.partitions.find((p) => p.partitionIndex === partition)
          if (told === undefined) return -1
          if (told.errorCode !== 0) return told.errorCode
          return {
            topic,
            partition,
            offset: told.offset,
            timestampMs: told.timestamp,
            leaderEpoch: told.leaderEpoch,
          }
        }
      },
      failed: ({ topic, partition }, error) => ({
        topic,
        partition,
        offset: -1,
        timestampMs: -1,
        leaderEpoch: -1,
        error,
      }),
      what: ({ topic, partition }) => `ListOffsets of ${topic}-${partition}`,
    },
    options,
  )
}

export async function fetchOffsets(
  calls: AdminCalls,
  group: string,
  how: AdminCallOptions & { readonly partitions: readonly PartitionName[] | undefined },
): Promise<readonly CommittedOffset[]> {
  const topics =
    how.partitions === undefined
      ? null
      : byTopic(how.partitions, (p) => p.partition).map(({ name, partitions }) => ({
          name,
          partitionIndexes: partitions,
        }))
  const what = `OffsetFetch of group ${group}`
  const body = await calls.coordinator(
    group,
    {
      api: Api.OffsetFetch,
      body: () => (version) =>
        version >= 8
          ? { groups: [{ groupId: group, topics }], requireStable: true }
          : { groupId: group, topics, ...(version >= 7 ? { requireStable: true } : {}) },
      code: (answer) => answer.groups[0]?.errorCode ?? answer.errorCode,
      // From version 10 on topics are named by id only.
      minVersion: 2,
      maxVersion: 9,
    },
    how,
  )
  const told = body.groups[0] ?? body
  if (told.errorCode !== 0) throw brokerError(told.errorCode, what)
  return told.topics
    .flatMap((t) =>
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
    .sort((a, b) => (a.topic === b.topic ? a.partition - b.partition : a.topic < b.topic ? -1 : 1))
}

export async function deleteOffsets(
  calls: AdminCalls,
  group: string,
  how: AdminCallOptions & { readonly partitions: readonly PartitionName[] },
): Promise<readonly PartitionResult[]> {
  if (how.partitions.length === 0) return []
  const what = `Deleting offsets of group ${group}`
  const body = await calls.coordinator(
    group,
    {
      api: Api.OffsetDelete,
      body: () => ({
        groupId: group,
        topics: byTopic(how.partitions, (p) => ({ partitionIndex: p.partition })),
      }),
      code: (answer) => answer.errorCode,
    },
    how,
  )
  if (body.errorCode !== 0) throw brokerError(body.errorCode, what)
  return how.partitions.map(({ topic, partition }): PartitionResult => {
    const told = body.topics.find((t) => t.name === topic)?.partitions.find((p) => p.partitionIndex === partition)
    if (told?.errorCode === 0) return { topic, partition }
    return { topic, partition, error: brokerError(told?.errorCode ?? -1, `${what} for ${topic}-${partition}`) }
  })
}

/** Brokers before this version of the request do not know `newest`. */
const newestSince = 7

function timestampOf(at: OffsetQuery['at']): number {
  return typeof at === 'object' ? at.timestampMs : { latest: -1, earliest: -2, newest: -3 }[at]
}
