/**
 * IncrementalAlterConfigs (44), versions 0 to 1: set, delete (back to the default), append to and subtract from lists.
 * A resource changes as a whole or not at all.
 * Not done: settings of brokers; they are fixed (INVALID_REQUEST).
 */
import { ErrorCode } from '../../wire/error-codes.ts'
import type { IncrementalAlterConfigsRequestAlterableConfig } from '../../wire/messages.gen.ts'
import { Api } from '../../wire/protocol.ts'
import type { ApiHandler } from '../api.ts'
import type { Refusal } from '../cluster.ts'
import { answer } from '../reply.ts'
import type { Topic } from '../topic.ts'
import { configTypes, topicConfigKeys, topicConfigProblem } from '../topic-configs.ts'
import { alterable } from './33-alter-configs.ts'

const operations = { set: 0, remove: 1, append: 2, subtract: 3 } as const

export const incrementalAlterConfigs: ApiHandler<typeof Api.IncrementalAlterConfigs> = {
  key: Api.IncrementalAlterConfigs,
  min: 0,
  max: 1,

  handle(call, request) {
    return answer({
      responses: request.resources.map(({ resourceType, resourceName, configs }) => {
        const target = alterable(call, resourceType, resourceName)
        const result = 'errorCode' in target ? target : changed(target, configs)
        if ('errorCode' in result) {
          return { errorCode: result.errorCode, errorMessage: result.message, resourceType, resourceName }
        }
        if (!request.validateOnly) {
          const topic = target as Topic
          topic.configs.clear()
          for (const [name, value] of result) topic.configs.set(name, value)
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

function changed(
  topic: Topic,
  changes: readonly IncrementalAlterConfigsRequestAlterableConfig[],
): Map<string, string> | Refusal {
  const invalid = (message: string): Refusal => ({ errorCode: ErrorCode.INVALID_CONFIG, message })
  const next = new Map(topic.configs)
  for (const { name, value, configOperation } of changes) {
    const known = topicConfigKeys.get(name)
    if (known === undefined) return invalid(`Unknown topic config name: ${name}`)
    if (configOperation === operations.remove) {
      next.delete(name)
      continue
    }
    let wanted = value
    if (configOperation === operations.append || configOperation === operations.subtract) {
      if (known.type !== configTypes.list) return invalid(`Can't append to or subtract from ${name}: it is no list.`)
      const present = (next.get(name) ?? known.default).split(',').filter((part) => part !== '')
      const parts = (value ?? '').split(',')
      wanted =
        configOperation === operations.append
          ? [...new Set([...present, ...parts])].join(',')
          : present.filter((part) => !parts.includes(part)).join(',')
    } else if (configOperation !== operations.set) {
      return { errorCode: ErrorCode.INVALID_REQUEST, message: `Unknown operation ${configOperation}` }
    }
    const problem = topicConfigProblem(name, wanted)
    if (problem !== null) return invalid(problem)
    next.set(name, wanted!)
  }
  return next
}
