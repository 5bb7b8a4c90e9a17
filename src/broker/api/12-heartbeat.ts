/**
 * Heartbeat (12), versions 0 to 4: a sign of life, answered with REBALANCE_IN_PROGRESS while members are to rejoin.
 * Not done: static members; a group instance id is UNSUPPORTED_VERSION.
 */
import { ErrorCode } from '../../wire/error-codes.ts'
import type { HeartbeatRequest } from '../../wire/messages.gen.ts'
import { Api } from '../../wire/protocol.ts'
import type { ApiHandler, Call } from '../api.ts'
import { answer } from '../reply.ts'

export const heartbeat: ApiHandler<typeof Api.Heartbeat> = {
  key: Api.Heartbeat,
  min: 0,
  max: 4,

  handle(call, request) {
    return answer({ errorCode: beat(call, request) })
  },

  refuse(_call, _request, errorCode) {
    return { errorCode }
  },

  subject(_call, request) {
    return { group: request.groupId }
  },
}

function beat(call: Call, request: HeartbeatRequest): number {
  const elsewhere = call.cluster.checkCoordinator(request.groupId, call.node)
  if (elsewhere !== ErrorCode.NONE) return elsewhere
  if (request.groupInstanceId !== null) return ErrorCode.UNSUPPORTED_VERSION
  const group = call.cluster.groups.get(request.groupId)
  if (group === undefined) return ErrorCode.UNKNOWN_MEMBER_ID
  return group.heartbeat(request.memberId, request.generationId, call.nowMs)
}
