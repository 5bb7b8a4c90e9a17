/**
 * DeleteRecords (21), versions 0 to 2: moves the log's start. -1 means the end; below the start is a success that does
 * nothing; above the end is OFFSET_OUT_OF_RANGE; a topic that is only compacted is POLICY_VIOLATION.
 */
import { ErrorCode } from '../../wire/error-codes.ts'
import { Api } from '../../wire/protocol.ts'
import type { ApiHandler, Call } from '../api.ts'
import { answer } from '../reply.ts'

export const deleteRecords: ApiHandler<typeof Api.DeleteRecords> = {
  key: Api.DeleteRecords,
  min: 0,
  max: 2,

  handle(call, request) {
    return answer({
      topics: request.topics.map(({ name, partitions }) => ({
        name,
        partitions: partitions.map(({ partitionIndex, offset }) => ({
          partitionIndex,
          ...remove(call, { name, partitionIndex, offset }),
        })),
      })),
    })
  },

  refuse(_call, request, errorCode) {
    return {
      topics: request.topics.map(({ name, partitions }) => ({
        name,
        partitions: partitions.map(({ partitionIndex }) => ({ partitionIndex, lowWatermark: -1, errorCode })),
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

function remove(
  call: Call,
  want: { readonly name: string; readonly partitionIndex: number; readonly offset: number },
): { readonly lowWatermark: number; readonly errorCode: number } {
  const refuse = (errorCode: number) => ({ lowWatermark: -1, errorCode })
  const injected = call.fault(want.name, want.partitionIndex)
  if (injected !== ErrorCode.NONE) return refuse(injected)
  const topic = call.cluster.topics.get(want.name)
  const partition = topic?.partitions[want.partitionIndex]
  if (topic === undefined || partition === undefined) return refuse(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
  if (partition.leader !== call.node) return refuse(ErrorCode.NOT_LEADER_OR_FOLLOWER)
  if (!topic.config('cleanup.policy').includes('delete')) return refuse(ErrorCode.POLICY_VIOLATION)
  const { log } = partition
  const offset = want.offset === -1 ? log.endOffset : want.offset
  if (offset < 0 || offset > log.endOffset) return refuse(ErrorCode.OFFSET_OUT_OF_RANGE)
  if (offset > log.startOffset) {
    const before = log.sizeBytes
    log.deleteBefore(offset)
    call.cluster.stored(log.sizeBytes - before)
  }
  return { lowWatermark: log.startOffset, errorCode: ErrorCode.NONE }
}
