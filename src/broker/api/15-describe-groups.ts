/**
 * DescribeGroups (15), versions 0 to 6: state, strategy and members of classic groups. A group that does not exist is
 * Dead without an error, from version 6 on GROUP_ID_NOT_FOUND. Permissions are not computed: there are none.
 */
import { ErrorCode } from '../../wire/error-codes.ts'
import { Api } from '../../wire/protocol.ts'
import type { ApiHandler, Call } from '../api.ts'
import { answer } from '../reply.ts'

const firstWithNotFound = 6

export const describeGroups: ApiHandler<typeof Api.DescribeGroups> = {
  key: Api.DescribeGroups,
  min: 0,
  max: 6,

  handle(call, request) {
    return answer({ groups: request.groups.map((groupId) => describe(call, groupId)) })
  },

  refuse(_call, request, errorCode) {
    return { groups: request.groups.map((groupId) => ({ groupId, errorCode, groupState: '' })) }
  },

  subject(_call, request) {
    return { group: request.groups[0] ?? '' }
  },
}

function describe(call: Call, groupId: string) {
  const elsewhere = call.cluster.checkCoordinator(groupId, call.node)
  if (elsewhere !== ErrorCode.NONE) return { groupId, errorCode: elsewhere, groupState: '' }
  const group = call.cluster.groups.get(groupId)
  if (group === undefined) {
    return call.version >= firstWithNotFound
      ? {
          groupId,
          errorCode: ErrorCode.GROUP_ID_NOT_FOUND,
          errorMessage: `Group ${groupId} not found.`,
          groupState: 'Dead',
        }
      : { groupId, errorCode: ErrorCode.NONE, groupState: 'Dead' }
  }
  return {
    groupId,
    errorCode: ErrorCode.NONE,
    groupState: group.state,
    protocolType: group.protocolType,
    protocolData: group.protocolName,
    members: group.members().map((member) => ({
      memberId: member.memberId,
      clientId: member.clientId,
      clientHost: member.clientHost,
      memberMetadata: member.metadata,
      memberAssignment: member.assignment,
    })),
  }
}
