/**
 * LeaveGroup (13), versions 0 to 5: members go by their ids; from version 3 on several at once.
 * Not done: static members; leaving by group instance id alone is UNKNOWN_MEMBER_ID.
 */
import { ErrorCode } from '../../wire/error-codes.ts'
import { Api } from '../../wire/protocol.ts'
import type { ApiHandler } from '../api.ts'
import { answer } from '../reply.ts'

const firstWithMembers = 3

export const leaveGroup: ApiHandler<typeof Api.LeaveGroup> = {
  key: Api.LeaveGroup,
  min: 0,
  max: 5,

  handle(call, request) {
    const elsewhere = call.cluster.checkCoordinator(request.groupId, call.node)
    if (elsewhere !== ErrorCode.NONE) return answer({ errorCode: elsewhere })
    const group = call.cluster.groups.get(request.groupId)
    const leave = (memberId: string): number => group?.leave(memberId, call.nowMs) ?? ErrorCode.UNKNOWN_MEMBER_ID
    if (call.version < firstWithMembers) return answer({ errorCode: leave(request.memberId) })
    return answer({
      errorCode: ErrorCode.NONE,
      members: request.members.map(({ memberId, groupInstanceId }) => ({
        memberId,
        groupInstanceId,
        errorCode: leave(memberId),
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
