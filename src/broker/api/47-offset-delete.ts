/**
 * OffsetDelete (47), version 0: forgets committed offsets, of topics that no member of the group is subscribed to.
 */

import { OttlaError } from '../../contract/errors.ts'
import { ErrorCode } from '../../wire/error-codes.ts'
import { Api, decodeMessage } from '../../wire/protocol.ts'
import type { ApiHandler } from '../api.ts'
import type { Group } from '../group.ts'
import { answer } from '../reply.ts'

export const offsetDelete: ApiHandler<typeof Api.OffsetDelete> = {
  key: Api.OffsetDelete,
  min: 0,
  max: 0,

  handle(call, request) {
    const elsewhere = call.cluster.checkCoordinator(request.groupId, call.node)
    if (elsewhere !== ErrorCode.NONE) return answer({ errorCode: elsewhere })
    const group = call.cluster.groups.get(request.groupId)
    if (group === undefined) return answer({ errorCode: ErrorCode.GROUP_ID_NOT_FOUND })
    if (group.state !== 'Empty' && group.protocolType !== 'consumer') {
      return answer({ errorCode: ErrorCode.NON_EMPTY_GROUP })
    }
    const subscribed = subscriptions(group)
    return answer({
      errorCode: ErrorCode.NONE,
      topics: request.topics.map(({ name, partitions }) => ({
        name,
        partitions: partitions.map(({ partitionIndex }) => {
          if (subscribed.has(name)) return { partitionIndex, errorCode: ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC }
          if (call.cluster.topics.get(name)?.partitions[partitionIndex] === undefined) {
            return { partitionIndex, errorCode: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION }
          }
          group.offsets.get(name)?.delete(partitionIndex)
          return { partitionIndex, errorCode: ErrorCode.NONE }
        }),
      })),
    })
  },

  refuse(_call, _request, errorCode) {
    return { errorCode }
  },

  subject(_call, request) {
    return { group: request.groupId }
  },
}

/** The topics of all members; a subscription that cannot be read counts for none. */
function subscriptions(group: Group): ReadonlySet<string> {
  const topics = new Set<string>()
  for (const bytes of group.subscriptions()) {
    if (bytes.byteLength < 2) continue
    // Version 0 is the beginning of every later version and already holds the topics.
    try {
      for (const topic of decodeMessage('ConsumerProtocolSubscription', 0, bytes.subarray(2)).topics) topics.add(topic)
    } catch (error) {
      if (!(error instanceof OttlaError)) throw error
    }
  }
  return topics
}
