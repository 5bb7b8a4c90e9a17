/** ListGroups (16), versions 0 to 5: the groups this broker coordinates, by state and type when asked so. */
import { ErrorCode } from '../../wire/error-codes.ts'
import { Api } from '../../wire/protocol.ts'
import type { ApiHandler } from '../api.ts'
import { answer } from '../reply.ts'

/** The one kind of group there is. */
const groupType = 'classic'

const has = (list: readonly string[], word: string): boolean =>
  list.length === 0 || list.some((other) => other.toLowerCase() === word.toLowerCase())

export const listGroups: ApiHandler<typeof Api.ListGroups> = {
  key: Api.ListGroups,
  min: 0,
  max: 5,

  handle(call, request) {
    const groups = [...call.cluster.groups.values()].filter(
      (group) =>
        call.cluster.coordinatorOf(group.id) === call.node &&
        has(request.statesFilter, group.state) &&
        has(request.typesFilter, groupType),
    )
    return answer({
      errorCode: ErrorCode.NONE,
      groups: groups.map((group) => ({
        groupId: group.id,
        protocolType: group.protocolType,
        groupState: group.state,
        groupType,
      })),
    })
  },

  refuse(_call, _request, errorCode) {
    return { errorCode }
  },
}
