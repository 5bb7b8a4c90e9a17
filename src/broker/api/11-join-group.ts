/**
 * JoinGroup (11), versions 0 to 9: the classic protocol; see `group.ts`.
 *
 * From version 4 on a newcomer gets a member id first and comes back with it. Version 0 has no rebalance timeout and
 * uses the session timeout. Waits until the generation is complete.
 * Not done: static members; a group instance id is UNSUPPORTED_VERSION.
 */
import { ErrorCode } from '../../wire/error-codes.ts'
import type { JoinGroupRequest, JoinGroupResponse } from '../../wire/messages.gen.ts'
import { Api, type Draft } from '../../wire/protocol.ts'
import type { ApiHandler, Call } from '../api.ts'
import type { JoinOutcome } from '../group.ts'
import { answer, whenAnswered } from '../reply.ts'

const firstWithMemberIdRequired = 4
const firstWithNullProtocol = 7

export const joinGroup: ApiHandler<typeof Api.JoinGroup> = {
  key: Api.JoinGroup,
  min: 0,
  max: 9,

  handle(call, request) {
    const refused = check(call, request)
    if (refused !== ErrorCode.NONE) return answer(this.refuse(call, request, refused))
    const known = call.cluster.groups.get(request.groupId)
    if (known === undefined && request.memberId !== '') {
      return answer(this.refuse(call, request, ErrorCode.UNKNOWN_MEMBER_ID))
    }
    const group = known ?? call.cluster.group(request.groupId)
    if (group === null) return answer(this.refuse(call, request, ErrorCode.COORDINATOR_NOT_AVAILABLE))
    return whenAnswered((tell) =>
      group.join(
        {
          memberId: request.memberId,
          clientId: call.clientId ?? '',
          clientHost: call.clientHost,
          sessionTimeoutMs: request.sessionTimeoutMs,
          rebalanceTimeoutMs: request.rebalanceTimeoutMs < 0 ? request.sessionTimeoutMs : request.rebalanceTimeoutMs,
          protocolType: request.protocolType,
          protocols: request.protocols,
          memberIdRequired: call.version >= firstWithMemberIdRequired,
        },
        call.nowMs,
        (outcome) => tell(body(call, outcome)),
      ),
    )
  },

  refuse(call, request, errorCode) {
    return { errorCode, memberId: request.memberId, ...noProtocol(call) }
  },

  subject(_call, request) {
    return { group: request.groupId }
  },
}

function check(call: Call, request: JoinGroupRequest): number {
  if (request.groupId === '') return ErrorCode.INVALID_GROUP_ID
  const elsewhere = call.cluster.checkCoordinator(request.groupId, call.node)
  if (elsewhere !== ErrorCode.NONE) return elsewhere
  if (request.groupInstanceId !== null) return ErrorCode.UNSUPPORTED_VERSION
  const { sessionTimeoutMinMs, sessionTimeoutMaxMs } = call.cluster.options
  const good = request.sessionTimeoutMs >= sessionTimeoutMinMs && request.sessionTimeoutMs <= sessionTimeoutMaxMs
  return good ? ErrorCode.NONE : ErrorCode.INVALID_SESSION_TIMEOUT
}

/** The strategy of an answer without one: null where the version knows null. */
function noProtocol(call: Call): { readonly protocolName: string | null } {
  return { protocolName: call.version >= firstWithNullProtocol ? null : '' }
}

function body(call: Call, outcome: JoinOutcome): Draft<JoinGroupResponse> {
  return {
    errorCode: outcome.errorCode,
    generationId: outcome.generation,
    protocolType: outcome.protocolType,
    ...(outcome.protocolName === null ? noProtocol(call) : { protocolName: outcome.protocolName }),
    leader: outcome.leader,
    memberId: outcome.memberId,
    members: outcome.members,
  }
}
