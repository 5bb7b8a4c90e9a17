/**
 * OffsetFetch (9), versions 1 to 10.
 *
 * What a group committed: for the partitions asked for, or for all it has (null topics). A group or partition without a
 * commit is offset -1 and no error. Nothing is ever pending, so stable offsets are the offsets.
 * Not done: the member epoch of the consumer protocol (KIP-848), which is left unread.
 */
import { ErrorCode } from '../../wire/error-codes.ts'
import { Api } from '../../wire/protocol.ts'
import { zeroUuid } from '../../wire/uuid.ts'
import type { ApiHandler, Call } from '../api.ts'
import { answer } from '../reply.ts'

const firstWithGroups = 8
const firstWithIds = 10

export const offsetFetch: ApiHandler<typeof Api.OffsetFetch> = {
  key: Api.OffsetFetch,
  min: 1,
  max: 10,

  handle(call, request) {
    if (call.version < firstWithGroups) {
      const errorCode = call.cluster.checkCoordinator(request.groupId, call.node)
      if (errorCode !== ErrorCode.NONE) return answer(this.refuse(call, request, errorCode))
      const asked = request.topics?.map((topic) => ({ ...topic, topicId: zeroUuid })) ?? null
      const topics = offsets(call, request.groupId, asked).map(({ name, partitions }) => ({ name, partitions }))
      return answer({ topics })
    }
    return answer({
      groups: request.groups.map(({ groupId, topics }) => {
        const errorCode = call.cluster.checkCoordinator(groupId, call.node)
        return { groupId, errorCode, topics: errorCode === ErrorCode.NONE ? offsets(call, groupId, topics) : [] }
      }),
    })
  },

  refuse(call, request, errorCode) {
    if (call.version >= firstWithGroups) {
      return { groups: request.groups.map(({ groupId }) => ({ groupId, errorCode, topics: [] })) }
    }
    return {
      errorCode,
      topics: (request.topics ?? []).map(({ name, partitionIndexes }) => ({
        name,
        partitions: partitionIndexes.map((partitionIndex) => ({
          partitionIndex,
          committedOffset: -1,
          metadata: '',
          errorCode,
        })),
      })),
    }
  },

  subject(call, request) {
    return { group: call.version >= firstWithGroups ? (request.groups[0]?.groupId ?? '') : request.groupId }
  },
}

interface Asked {
  readonly name: string
  readonly topicId: string
  readonly partitionIndexes: readonly number[]
}

function offsets(call: Call, groupId: string, asked: readonly Asked[] | null) {
  const { cluster } = call
  const committed = cluster.groups.get(groupId)?.offsets
  const byId = call.version >= firstWithIds
  const wanted: readonly Asked[] =
    asked ??
    [...(committed ?? [])].map(([name, partitions]) => ({
      name,
      topicId: cluster.topics.get(name)?.id ?? zeroUuid,
      partitionIndexes: [...partitions.keys()],
    }))
  return wanted.map(({ name: askedName, topicId, partitionIndexes }) => {
    const name = byId ? cluster.topicsById.get(topicId)?.name : askedName
    return {
      name: name ?? '',
      topicId,
      partitions: partitionIndexes.map((partitionIndex) => {
        const position = name === undefined ? undefined : committed?.get(name)?.get(partitionIndex)
        return {
          partitionIndex,
          committedOffset: position?.offset ?? -1,
          committedLeaderEpoch: position?.leaderEpoch ?? -1,
          metadata: position?.metadata ?? '',
          errorCode: name === undefined ? ErrorCode.UNKNOWN_TOPIC_ID : ErrorCode.NONE,
        }
      }),
    }
  })
}
