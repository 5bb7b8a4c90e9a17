/**
 * ListOffsets (2), versions 1 to 10.
 *
 * -2 and -4 the log's start, -1 its end (also for read-committed readers: there are no transactions), -3 the first
 * record with the highest timestamp, -5 unknown (nothing is tiered); a time gives the first record at or after it,
 * whatever the order of timestamps, or -1. Only the leader answers.
 */
import { ErrorCode } from '../../wire/error-codes.ts'
import type {
  ListOffsetsRequestListOffsetsPartition,
  ListOffsetsResponseListOffsetsPartitionResponse,
} from '../../wire/messages.gen.ts'
import { Api, type Draft } from '../../wire/protocol.ts'
import type { ApiHandler, Call } from '../api.ts'
import { firstSince, withHighestTime } from '../records.ts'
import { answer } from '../reply.ts'
import type { Partition } from '../topic.ts'
import { checkLeaderEpoch } from './01-fetch.ts'

const latest = -1
const earliest = -2
const maxTimestamp = -3
const earliestLocal = -4
const latestTiered = -5

/** The first version whose answers carry a leader epoch. */
const firstWithEpoch = 4
const firstWithMaxTimestamp = 7
const firstWithEarliestLocal = 8
const firstWithLatestTiered = 9

type PartitionAnswer = Draft<ListOffsetsResponseListOffsetsPartitionResponse>

export const listOffsets: ApiHandler<typeof Api.ListOffsets> = {
  key: Api.ListOffsets,
  min: 1,
  max: 10,

  handle(call, request) {
    return answer({
      topics: request.topics.map(({ name, partitions }) => ({
        name,
        partitions: partitions.map((want) => find(call, name, want)),
      })),
    })
  },

  refuse(_call, request, errorCode) {
    return {
      topics: request.topics.map(({ name, partitions }) => ({
        name,
        partitions: partitions.map(({ partitionIndex }) => ({ partitionIndex, errorCode })),
      })),
    }
  },

  subject(_call, request) {
    return {
      partitions: request.topics.flatMap(({ name, partitions }) =>
        partitions.map(({ partitionIndex }) => ({ topic: name, partition: partitionIndex })),
      ),
    }
  },
}

function find(call: Call, name: string, want: ListOffsetsRequestListOffsetsPartition): PartitionAnswer {
  const { partitionIndex } = want
  const injected = call.fault(name, partitionIndex)
  if (injected !== ErrorCode.NONE) return { partitionIndex, errorCode: injected }
  const partition = call.cluster.topics.get(name)?.partitions[partitionIndex]
  if (partition === undefined) return { partitionIndex, errorCode: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION }
  if (partition.leader !== call.node) return { partitionIndex, errorCode: ErrorCode.NOT_LEADER_OR_FOLLOWER }
  const stale = checkLeaderEpoch(want.currentLeaderEpoch, partition)
  if (stale !== ErrorCode.NONE) return { partitionIndex, errorCode: stale }
  const found = locate(call, partition, want.timestamp)
  if (found === null) return { partitionIndex, errorCode: ErrorCode.UNSUPPORTED_VERSION }
  return {
    partitionIndex,
    errorCode: ErrorCode.NONE,
    timestamp: found.timestampMs,
    offset: found.offset,
    ...(call.version >= firstWithEpoch ? { leaderEpoch: found.leaderEpoch } : {}),
  }
}

interface Found {
  readonly offset: number
  readonly timestampMs: number
  readonly leaderEpoch: number
}

const nowhere: Found = { offset: -1, timestampMs: -1, leaderEpoch: -1 }

function locate(call: Call, partition: Partition, timestamp: number): Found | null {
  const { log } = partition
  const { compression } = call.cluster.options
  switch (timestamp) {
    case latest:
      return { offset: log.endOffset, timestampMs: -1, leaderEpoch: partition.leaderEpoch }
    case earliest:
      return { offset: log.startOffset, timestampMs: -1, leaderEpoch: log.epochAt(log.startOffset) }
    case earliestLocal:
      if (call.version < firstWithEarliestLocal) return null
      return { offset: log.startOffset, timestampMs: -1, leaderEpoch: log.epochAt(log.startOffset) }
    case latestTiered:
      return call.version < firstWithLatestTiered ? null : nowhere
    case maxTimestamp: {
      if (call.version < firstWithMaxTimestamp) return null
      const batch = log.withHighestTimestamp()
      if (batch === undefined) return nowhere
      return { ...withHighestTime(batch, compression), leaderEpoch: batch.leaderEpoch }
    }
    default: {
      if (timestamp < 0) return null
      const found = firstSince(log.fromTimestamp(timestamp), timestamp, { compression, fromOffset: log.startOffset })
      return found === undefined ? nowhere : { ...found, leaderEpoch: log.epochAt(found.offset) }
    }
  }
}
