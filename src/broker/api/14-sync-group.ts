/**
 * SyncGroup (14), versions 0 to 5: the leader brings the assignments, everybody gets its own. Members wait for the
 * leader; see `group.ts`.
 * Not done: static members; a group instance id is UNSUPPORTED_VERSION.
 */
import { ErrorCode } from '../../wire/error-codes.ts'
import type { SyncGroupResponse } from '../../wire/messages.gen.ts'
import { Api, type Draft } from '../../wire/protocol.ts'
import type { ApiHandler } from '../api.ts'
import { answer, whenAnswered } from '../reply.ts'

export const syncGroup: ApiHandler<typeof Api.SyncGroup> = {
  key: Api.SyncGroup,
  min: 0,
  max: 5,

  handle(call, request) {
    const elsewhere = call.cluster.checkCoordinator(request.groupId, call.node)
    if (elsewhere !== ErrorCode.NONE) return answer({ errorCode: elsewhere })
    if (request.groupInstanceId !== null) return answer({ errorCode: ErrorCode.UNSUPPORTED_VERSION })
    const group = call.cluster.groups.get(request.groupId)
    if (group === undefined) return answer({ errorCode: ErrorCode.UNKNOWN_MEMBER_ID })
    return whenAnswered<Draft<SyncGroupResponse>>((tell) =>
      group.sync(
        {
          memberId: request.memberId,
          generation: request.generationId,
          protocolType: request.protocolType,
          protocolName: request.protocolName,
          assignments: request.assignments,
        },
        call.nowMs,
        tell,
      ),
    )
  },

  refuse(_call, _request, errorCode) {
    return { errorCode }
  },

  subject(_call, request) {
    return { group: request.groupId }
  },
}
