/**
 * FindCoordinator (10), versions 0 to 6.
 *
 * Groups are spread over the brokers by the hash of their id; those of a broker that is down belong to the next one.
 * Not done: transactions and share groups; asking for their coordinator is INVALID_REQUEST.
 */
import { ErrorCode } from '../../wire/error-codes.ts'
import { Api } from '../../wire/protocol.ts'
import type { ApiHandler, Call } from '../api.ts'
import { answer } from '../reply.ts'

const firstWithKeys = 4
const groupKeys = 0

export const findCoordinator: ApiHandler<typeof Api.FindCoordinator> = {
  key: Api.FindCoordinator,
  min: 0,
  max: 6,

  handle(call, request) {
    const keys = call.version >= firstWithKeys ? request.coordinatorKeys : [request.key]
    const found = keys.map((key) => coordinator(call, key, request.keyType))
    if (call.version >= firstWithKeys) return answer({ coordinators: found })
    const { key: _key, ...only } = found[0]!
    return answer(only)
  },

  refuse(call, request, errorCode) {
    const nobody = { errorCode, errorMessage: null, nodeId: -1, host: '', port: -1 }
    if (call.version < firstWithKeys) return nobody
    return { coordinators: request.coordinatorKeys.map((key) => ({ key, ...nobody })) }
  },

  subject(call, request) {
    return { group: call.version >= firstWithKeys ? (request.coordinatorKeys[0] ?? '') : request.key }
  },
}

function coordinator(call: Call, key: string, keyType: number) {
  const refuse = (errorCode: number, errorMessage: string | null) => ({
    key,
    errorCode,
    errorMessage,
    nodeId: -1,
    host: '',
    port: -1,
  })
  if (keyType !== groupKeys) {
    return refuse(ErrorCode.INVALID_REQUEST, 'The embedded broker coordinates classic consumer groups only.')
  }
  const nodeId = call.cluster.coordinatorOf(key)
  const node = call.cluster.nodes.get(nodeId)
  if (node === undefined) return refuse(ErrorCode.COORDINATOR_NOT_AVAILABLE, null)
  return { key, errorCode: ErrorCode.NONE, errorMessage: null, nodeId, host: node.host, port: node.port }
}
