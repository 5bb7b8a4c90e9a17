/**
 * OffsetForLeaderEpoch (23), versions 2 to 4: where a leader epoch ended, so that a reader sees whether the log it read
 * is still the log. Only the leader answers.
 */
import { ErrorCode } from '../../wire/error-codes.ts'
import type { OffsetForLeaderEpochRequestOffsetForLeaderPartition } from '../../wire/messages.gen.ts'
import { Api } from '../../wire/protocol.ts'
import type { ApiHandler, Call } from '../api.ts'
import { answer } from '../reply.ts'
import { checkLeaderEpoch } from './01-fetch.ts'

export const offsetForLeaderEpoch: ApiHandler<typeof Api.OffsetForLeaderEpoch> = {
  key: Api.OffsetForLeaderEpoch,
  min: 2,
  max: 4,

  handle(call, request) {
    return answer({
      topics: request.topics.map(({ topic, partitions }) => ({
        topic,
        partitions: partitions.map((want) => ({ partition: want.partition, ...end(call, topic, want) })),
      })),
    })
  },

  refuse(_call, request, errorCode) {
    return {
      topics: request.topics.map(({ topic, partitions }) => ({
        topic,
        partitions: partitions.map(({ partition }) => ({ partition, errorCode })),
      })),
    }
  },

  subject(_call, request) {
    return {
      partitions: request.topics.flatMap(({ topic, partitions }) =>
        partitions.map(({ partition }) => ({ topic, partition })),
      ),
    }
  },
}

function end(call: Call, name: string, want: OffsetForLeaderEpochRequestOffsetForLeaderPartition) {
  const injected = call.fault(name, want.partition)
  if (injected !== ErrorCode.NONE) return { errorCode: injected }
  const partition = call.cluster.topics.get(name)?.partitions[want.partition]
  if (partition === undefined) return { errorCode: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION }
  if (partition.leader !== call.node) return { errorCode: ErrorCode.NOT_LEADER_OR_FOLLOWER }
  const errorCode = checkLeaderEpoch(want.currentLeaderEpoch, partition)
  if (errorCode !== ErrorCode.NONE) return { errorCode }
  const { epoch, endOffset } = partition.log.endOfEpoch(want.leaderEpoch, partition.leaderEpoch)
  return { errorCode, leaderEpoch: epoch, endOffset }
}
