/**
 * OffsetCommit (8), versions 2 to 10.
 *
 * Members commit in their generation; generation -1 is accepted while the group is empty (simple consumers, tools).
 * Null metadata is stored as empty text, as Kafka does; more than 4,096 bytes of it are refused.
 * Not done: expiry of offsets (and `retentionTimeMs` with it), static members.
 */
import { ErrorCode } from '../../wire/error-codes.ts'
import type { OffsetCommitRequest, OffsetCommitRequestOffsetCommitRequestPartition } from '../../wire/messages.gen.ts'
import { Api } from '../../wire/protocol.ts'
import type { ApiHandler, Call } from '../api.ts'
import { answer } from '../reply.ts'
import type { Topic } from '../topic.ts'

const firstWithIds = 10
const metadataBytesMax = 4096

export const offsetCommit: ApiHandler<typeof Api.OffsetCommit> = {
  key: Api.OffsetCommit,
  min: 2,
  max: 10,

  handle(call, request) {
    const refused = check(call, request)
    if (refused !== ErrorCode.NONE) return answer(this.refuse(call, request, refused))
    const group = call.cluster.group(request.groupId)!
    return answer({
      topics: request.topics.map((asked) => {
        const topic = topicOf(call, asked)
        const { name, topicId } = asked
        return {
          name,
          topicId,
          partitions: asked.partitions.map((want) => {
            const { partitionIndex } = want
            const errorCode = checkPartition(call, topic, want)
            if (errorCode === ErrorCode.NONE) {
              group.commit(topic!.name, partitionIndex, {
                offset: want.committedOffset,
                leaderEpoch: want.committedLeaderEpoch,
                metadata: want.committedMetadata ?? '',
              })
            }
            return { partitionIndex, errorCode }
          }),
        }
      }),
    })
  },

  refuse(_call, request, errorCode) {
    return {
      topics: request.topics.map(({ name, topicId, partitions }) => ({
        name,
        topicId,
        partitions: partitions.map(({ partitionIndex }) => ({ partitionIndex, errorCode })),
      })),
    }
  },

  subject(call, request) {
    return {
      group: request.groupId,
      partitions: request.topics.flatMap((asked) =>
        asked.partitions.map(({ partitionIndex }) => ({
          topic: topicOf(call, asked)?.name ?? asked.name,
          partition: partitionIndex,
        })),
      ),
    }
  },
}

function check(call: Call, request: OffsetCommitRequest): number {
  const { cluster } = call
  const { groupId, memberId, groupInstanceId, generationIdOrMemberEpoch: generation } = request
  const elsewhere = cluster.checkCoordinator(groupId, call.node)
  if (elsewhere !== ErrorCode.NONE) return elsewhere
  if (groupInstanceId !== null) return ErrorCode.UNSUPPORTED_VERSION
  const known = cluster.groups.get(groupId)
  if (known === undefined) {
    if (generation >= 0) return ErrorCode.ILLEGAL_GENERATION
    return cluster.group(groupId) === null ? ErrorCode.COORDINATOR_NOT_AVAILABLE : ErrorCode.NONE
  }
  return known.checkCommit(memberId, generation, call.nowMs)
}

function topicOf(call: Call, asked: { readonly name: string; readonly topicId: string }): Topic | undefined {
  return call.version >= firstWithIds ? call.cluster.topicsById.get(asked.topicId) : call.cluster.topics.get(asked.name)
}

function checkPartition(
  call: Call,
  topic: Topic | undefined,
  want: OffsetCommitRequestOffsetCommitRequestPartition,
): number {
  if (topic === undefined) {
    return call.version >= firstWithIds ? ErrorCode.UNKNOWN_TOPIC_ID : ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
  }
  const injected = call.fault(topic.name, want.partitionIndex)
  if (injected !== ErrorCode.NONE) return injected
  if (topic.partitions[want.partitionIndex] === undefined) return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
  const bytes = want.committedMetadata === null ? 0 : Buffer.byteLength(want.committedMetadata)
  return bytes > metadataBytesMax ? ErrorCode.OFFSET_METADATA_TOO_LARGE : ErrorCode.NONE
}
