/**
 * CreateTopics (19), versions 2 to 7: defaults (-1), replicas placed by hand, configurations, validation only. Any
 * broker takes it, as a KRaft broker does.
 */
import { ErrorCode } from '../../wire/error-codes.ts'
import type { CreateTopicsRequestCreatableTopic } from '../../wire/messages.gen.ts'
import { Api } from '../../wire/protocol.ts'
import type { ApiHandler, Call } from '../api.ts'
import type { NewTopic, Refusal } from '../cluster.ts'
import { answer } from '../reply.ts'
import { Topic } from '../topic.ts'
import { describedConfigs } from './32-describe-configs.ts'

export const createTopics: ApiHandler<typeof Api.CreateTopics> = {
  key: Api.CreateTopics,
  min: 2,
  max: 7,

  handle(call, request) {
    const times = new Map<string, number>()
    for (const { name } of request.topics) times.set(name, (times.get(name) ?? 0) + 1)
    return answer({
      topics: [...new Map(request.topics.map((asked) => [asked.name, asked])).values()].map((asked) => {
        const { name } = asked
        if (times.get(name)! > 1) {
          return { name, errorCode: ErrorCode.INVALID_REQUEST, errorMessage: `Duplicate topic name: ${name}` }
        }
        const made = create(call, asked, request.validateOnly)
        if (!(made instanceof Topic)) return { name, errorCode: made.errorCode, errorMessage: made.message }
        return {
          name,
          topicId: made.id,
          errorCode: ErrorCode.NONE,
          errorMessage: null,
          numPartitions: made.partitions.length,
          replicationFactor: made.replicationFactor,
          configs: describedConfigs(made).map(({ name, value, configSource }) => ({
            name,
            value,
            configSource,
            readOnly: false,
            isSensitive: false,
          })),
        }
      }),
    })
  },

  refuse(_call, request, errorCode) {
    return { topics: request.topics.map(({ name }) => ({ name, errorCode, errorMessage: null })) }
  },

  subject(_call, request) {
    return { partitions: request.topics.map(({ name }) => ({ topic: name, partition: 0 })) }
  },
}

function create(call: Call, asked: CreateTopicsRequestCreatableTopic, validateOnly: boolean): Topic | Refusal {
  const injected = call.fault(asked.name, 0)
  if (injected !== ErrorCode.NONE) return { errorCode: injected, message: 'fault rule' }
  const placed = [...asked.assignments].sort((a, b) => a.partitionIndex - b.partitionIndex)
  if (placed.length > 0 && (asked.numPartitions !== -1 || asked.replicationFactor !== -1)) {
    return {
      errorCode: ErrorCode.INVALID_REQUEST,
      message: 'Both partition count or replication factor and replica assignments were given.',
    }
  }
  if (placed.some(({ partitionIndex }, at) => partitionIndex !== at)) {
    return { errorCode: ErrorCode.INVALID_REPLICA_ASSIGNMENT, message: 'Partitions must be 0, 1, 2 and so on.' }
  }
  const spec: NewTopic = {
    name: asked.name,
    partitions: asked.numPartitions,
    replicationFactor: asked.replicationFactor,
    configs: new Map(asked.configs.map(({ name, value }) => [name, value])),
    ...(placed.length === 0 ? {} : { assignments: placed.map(({ brokerIds }) => brokerIds) }),
  }
  return call.cluster.createTopic(spec, validateOnly)
}
