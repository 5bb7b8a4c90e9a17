/** DeleteGroups (42), versions 0 to 2: forgets empty groups and their offsets. */
import { ErrorCode } from '../../wire/error-codes.ts'
import { Api } from '../../wire/protocol.ts'
import type { ApiHandler, Call } from '../api.ts'
import { answer } from '../reply.ts'

export const deleteGroups: ApiHandler<typeof Api.DeleteGroups> = {
  key: Api.DeleteGroups,
  min: 0,
  max: 2,

  handle(call, request) {
    return answer({
      results: request.groupsNames.map((groupId) => ({ groupId, errorCode: remove(call, groupId) })),
    })
  },

  refuse(_call, request, errorCode) {
    return { results: request.groupsNames.map((groupId) => ({ groupId, errorCode })) }
  },

  subject(_call, request) {
    return { group: request.groupsNames[0] ?? '' }
  },
}

function remove(call: Call, groupId: string): number {
  const elsewhere = call.cluster.checkCoordinator(groupId, call.node)
  if (elsewhere !== ErrorCode.NONE) return elsewhere
  const group = call.cluster.groups.get(groupId)
  if (group === undefined) return ErrorCode.GROUP_ID_NOT_FOUND
  if (group.state !== 'Empty') return ErrorCode.NON_EMPTY_GROUP
  group.die()
  call.cluster.groups.delete(groupId)
  return ErrorCode.NONE
}
