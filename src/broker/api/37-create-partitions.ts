/** CreatePartitions (37), versions 0 to 3: adds partitions to a topic, placed round robin or by hand. */
import { ErrorCode } from '../../wire/error-codes.ts'
import { Api } from '../../wire/protocol.ts'
import type { ApiHandler } from '../api.ts'
import { answer } from '../reply.ts'

export const createPartitions: ApiHandler<typeof Api.CreatePartitions> = {
  key: Api.CreatePartitions,
  min: 0,
  max: 3,

  handle(call, request) {
    return answer({
      results: request.topics.map(({ name, count, assignments }) => {
        const topic = call.cluster.topics.get(name)
        if (topic === undefined) {
          return {
            name,
            errorCode: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            errorMessage: 'This server does not host this topic.',
          }
        }
        const refusal = call.cluster.growTopic(topic, count, {
          assignments: assignments?.map(({ brokerIds }) => brokerIds) ?? null,
          validateOnly: request.validateOnly,
        })
        return { name, errorCode: refusal?.errorCode ?? ErrorCode.NONE, errorMessage: refusal?.message ?? null }
      }),
    })
  },

  refuse(_call, request, errorCode) {
    return { results: request.topics.map(({ name }) => ({ name, errorCode, errorMessage: null })) }
  },

  subject(_call, request) {
    return { partitions: request.topics.map(({ name }) => ({ topic: name, partition: 0 })) }
  },
}
