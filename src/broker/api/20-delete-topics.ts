/** DeleteTopics (20), versions 1 to 6: by name, from version 6 on also by id. Committed offsets of the topic go too. */
import { ErrorCode } from '../../wire/error-codes.ts'
import type { DeleteTopicsRequest } from '../../wire/messages.gen.ts'
import { Api } from '../../wire/protocol.ts'
import { zeroUuid } from '../../wire/uuid.ts'
import type { ApiHandler, Call } from '../api.ts'
import { answer } from '../reply.ts'

const firstWithIds = 6

export const deleteTopics: ApiHandler<typeof Api.DeleteTopics> = {
  key: Api.DeleteTopics,
  min: 1,
  max: 6,

  handle(call, request) {
    return answer({
      responses: asked(call, request).map(({ name, topicId }) => {
        const topic = name === null ? call.cluster.topicsById.get(topicId) : call.cluster.topics.get(name)
        if (topic === undefined) {
          const errorCode = name === null ? ErrorCode.UNKNOWN_TOPIC_ID : ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
          return { name, topicId, errorCode, errorMessage: 'This server does not host this topic.' }
        }
        const injected = call.fault(topic.name, 0)
        if (injected === ErrorCode.NONE) call.cluster.deleteTopic(topic, call.nowMs)
        return { name: topic.name, topicId: topic.id, errorCode: injected }
      }),
    })
  },

  refuse(call, request, errorCode) {
    return { responses: asked(call, request).map(({ name, topicId }) => ({ name, topicId, errorCode })) }
  },

  subject(call, request) {
    return {
      partitions: asked(call, request).map(({ name, topicId }) => ({
        topic: name ?? call.cluster.topicsById.get(topicId)?.name ?? '',
        partition: 0,
      })),
    }
  },
}

function asked(
  call: Call,
  request: DeleteTopicsRequest,
): readonly { readonly name: string | null; readonly topicId: string }[] {
  if (call.version >= firstWithIds) return request.topics
  return request.topicNames.map((name) => ({ name, topicId: zeroUuid }))
}
