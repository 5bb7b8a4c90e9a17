/**
 * DescribeConfigs (32), versions 1 to 4: topics, and the few settings of a broker that mean something here.
 * Not done: loggers, groups, client metrics (empty answers would lie: INVALID_REQUEST), documentation texts.
 */
import { ErrorCode } from '../../wire/error-codes.ts'
import type { DescribeConfigsRequest, DescribeConfigsResponseDescribeConfigsResult } from '../../wire/messages.gen.ts'
import { Api, type Draft } from '../../wire/protocol.ts'
import type { ApiHandler, Call } from '../api.ts'
import { answer } from '../reply.ts'
import type { Topic } from '../topic.ts'
import { configSources, configTypes, topicConfigKeys } from '../topic-configs.ts'

/** How requests number what they ask about. */
export const resourceTypes = { topic: 2, broker: 4 } as const

type Resource = DescribeConfigsRequest['resources'][number]
type Result = Draft<DescribeConfigsResponseDescribeConfigsResult>

interface Described {
  readonly name: string
  readonly value: string
  readonly configSource: number
  readonly configType: number
  readonly readOnly: boolean
}

export const describeConfigs: ApiHandler<typeof Api.DescribeConfigs> = {
  key: Api.DescribeConfigs,
  min: 1,
  max: 4,

  handle(call, request) {
    return answer({ results: request.resources.map((resource) => describe(call, resource, request.includeSynonyms)) })
  },

  refuse(_call, request, errorCode) {
    return {
      results: request.resources.map(({ resourceType, resourceName }) => ({
        errorCode,
        errorMessage: null,
        resourceType,
        resourceName,
        configs: [],
      })),
    }
  },

  subject(_call, request) {
    return {
      partitions: request.resources
        .filter(({ resourceType }) => resourceType === resourceTypes.topic)
        .map(({ resourceName }) => ({ topic: resourceName, partition: 0 })),
    }
  },
}

/** Everything configured of a topic, defaults included. */
export function describedConfigs(topic: Topic): readonly Described[] {
  return [...topicConfigKeys.values()].map((known) => ({
    name: known.name,
    value: topic.config(known.name),
    configSource: topic.configs.has(known.name) ? configSources.topic : configSources.default,
    configType: known.type,
    readOnly: false,
  }))
}

function describe(call: Call, resource: Resource, includeSynonyms: boolean): Result {
  const { resourceType, resourceName, configurationKeys } = resource
  const refuse = (errorCode: number, errorMessage: string): Result => ({
    errorCode,
    errorMessage,
    resourceType,
    resourceName,
    configs: [],
  })
  let all: readonly Described[]
  if (resourceType === resourceTypes.topic) {
    const injected = call.fault(resourceName, 0)
    if (injected !== ErrorCode.NONE) return refuse(injected, 'fault rule')
    const topic = call.cluster.topics.get(resourceName)
    if (topic === undefined) return refuse(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, `There is no topic '${resourceName}'.`)
    all = describedConfigs(topic)
  } else if (resourceType === resourceTypes.broker) {
    if (resourceName !== '' && resourceName !== String(call.node)) {
      return refuse(ErrorCode.INVALID_REQUEST, `This is broker ${call.node}, not '${resourceName}'.`)
    }
    // The empty name asks for what was set for all brokers while they run: nothing.
    all = resourceName === '' ? [] : brokerConfigs(call)
  } else {
    return refuse(ErrorCode.INVALID_REQUEST, 'The embedded broker describes topics and brokers only.')
  }
  const wanted = configurationKeys === null ? all : all.filter(({ name }) => configurationKeys.includes(name))
  return {
    errorCode: ErrorCode.NONE,
    errorMessage: null,
    resourceType,
    resourceName,
    configs: wanted.map((config) => ({
      ...config,
      isSensitive: false,
      synonyms: includeSynonyms ? [{ name: config.name, value: config.value, source: config.configSource }] : [],
    })),
  }
}

function brokerConfigs(call: Call): readonly Described[] {
  const { options } = call.cluster
  const fixed = (name: string, value: string | number, type: keyof typeof configTypes): Described => ({
    name,
    value: String(value),
    configSource: configSources.staticBroker,
    configType: configTypes[type],
    readOnly: true,
  })
  return [
    fixed('auto.create.topics.enable', String(options.autoCreateTopics), 'boolean'),
    fixed('broker.id', call.node, 'int'),
    fixed('default.replication.factor', call.cluster.defaultReplicationFactor, 'int'),
    fixed('group.initial.rebalance.delay.ms', options.initialRebalanceDelayMs, 'int'),
    fixed('group.max.session.timeout.ms', options.sessionTimeoutMaxMs, 'int'),
    fixed('group.min.session.timeout.ms', options.sessionTimeoutMinMs, 'int'),
    fixed('log.cleanup.policy', topicConfigKeys.get('cleanup.policy')!.default, 'list'),
    fixed('log.retention.ms', topicConfigKeys.get('retention.ms')!.default, 'long'),
    fixed('message.max.bytes', topicConfigKeys.get('max.message.bytes')!.default, 'int'),
    fixed('min.insync.replicas', topicConfigKeys.get('min.insync.replicas')!.default, 'int'),
    fixed('node.id', call.node, 'int'),
    fixed('num.partitions', options.partitionsDefault, 'int'),
    fixed('offset.metadata.max.bytes', 4096, 'int'),
  ]
}
