/**
 * InitProducerId (22), versions 0 to 5: a fresh producer id with epoch 0 for idempotent producers.
 * Not done: transactions; a transactional id is INVALID_REQUEST.
 */
import { ErrorCode } from '../../wire/error-codes.ts'
import { Api } from '../../wire/protocol.ts'
import type { ApiHandler } from '../api.ts'
import { answer } from '../reply.ts'

export const initProducerId: ApiHandler<typeof Api.InitProducerId> = {
  key: Api.InitProducerId,
  min: 0,
  max: 5,

  handle(call, request) {
    if (request.transactionalId !== null) return answer(this.refuse(call, request, ErrorCode.INVALID_REQUEST))
    return answer({ errorCode: ErrorCode.NONE, producerId: call.cluster.nextProducerId(), producerEpoch: 0 })
  },

  refuse(_call, _request, errorCode) {
    return { errorCode, producerId: -1, producerEpoch: -1 }
  },
}
