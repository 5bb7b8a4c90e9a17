/**
 * AlterConfigs (33), versions 0 to 2: replaces all that was set on a topic.
 * Not done: settings of brokers; they are fixed (INVALID_REQUEST).
 */
import { ErrorCode } from '../../wire/error-codes.ts'
import { Api } from '../../wire/protocol.ts'
import type { ApiHandler, Call } from '../api.ts'
import type { Refusal } from '../cluster.ts'
import { answer } from '../reply.ts'
import type { Topic } from '../topic.ts'
import { topicConfigProblem } from '../topic-configs.ts'
import { resourceTypes } from './32-describe-configs.ts'

export const alterConfigs: ApiHandler<typeof Api.AlterConfigs> = {
  key: Api.AlterConfigs,
  min: 0,
  max: 2,

  handle(call, request) {
    return answer({
      responses: request.resources.map(({ resourceType, resourceName, configs }) => {
        const target = alterable(call, resourceType, resourceName)
        if ('errorCode' in target) {
          return { errorCode: target.errorCode, errorMessage: target.message, resourceType, resourceName }
        }
        for (const { name, value } of configs) {
          const problem = topicConfigProblem(name, value)
          if (problem !== null) {
            return { errorCode: ErrorCode.INVALID_CONFIG, errorMessage: problem, resourceType, resourceName }
          }
        }
        if (!request.validateOnly) {
          target.configs.clear()
          for (const { name, value } of configs) target.configs.set(name, value!)
        }
        return { errorCode: ErrorCode.NONE, errorMessage: null, resourceType, resourceName }
      }),
    })
  },

  refuse(_call, request, errorCode) {
    return {
      responses: request.resources.map(({ resourceType, resourceName }) => ({
        errorCode,
        errorMessage: null,
        resourceType,
        resourceName,
      })),
    }
  },
}

/** The topic whose configuration may be changed, or why not. */
export function alterable(call: Call, resourceType: number, resourceName: string): Topic | Refusal {
  if (resourceType !== resourceTypes.topic) {
    return {
      errorCode: ErrorCode.INVALID_REQUEST,
      message: 'The embedded broker changes the configuration of topics only.',
    }
  }
  const topic = call.cluster.topics.get(resourceName)
  if (topic !== undefined) return topic
  return { errorCode: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, message: `There is no topic '${resourceName}'.` }
}
