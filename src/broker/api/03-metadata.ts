/**
 * Metadata (3), versions 0 to 13.
 *
 * The brokers that are up, the controller, the topics asked for by name or id (all for null; in version 0 for an empty
 * list). A partition without a leader says LEADER_NOT_AVAILABLE, the others are normal. Unknown topics are created only
 * if the broker was started so and the client allows it. Permissions are not computed: there are none.
 */
import { ErrorCode } from '../../wire/error-codes.ts'
import type { MetadataResponseMetadataResponseTopic } from '../../wire/messages.gen.ts'
import { Api, type Draft } from '../../wire/protocol.ts'
import { zeroUuid } from '../../wire/uuid.ts'
import type { ApiHandler, Call } from '../api.ts'
import type { Cluster } from '../cluster.ts'
import { answer } from '../reply.ts'
import { Topic } from '../topic.ts'

type TopicAnswer = Draft<MetadataResponseMetadataResponseTopic>

const firstWithNullForAll = 1

export const metadata: ApiHandler<typeof Api.Metadata> = {
  key: Api.Metadata,
  min: 0,
  max: 13,

  handle(call, request) {
    const { cluster } = call
    const asked = request.topics
    const all = asked === null || (call.version < firstWithNullForAll && asked.length === 0)
    const topics: TopicAnswer[] = all
      ? [...cluster.topics.values()].map((topic) => describe(call, topic))
      : asked.map(({ name, topicId }) =>
          name !== null ? byName(call, name, request.allowAutoTopicCreation) : byId(call, topicId),
        )
    return answer({ ...brokers(cluster), topics })
  },

  refuse(call, request, errorCode) {
    const asked = request.topics ?? [...call.cluster.topics.values()].map(({ name, id }) => ({ name, topicId: id }))
    return {
      ...brokers(call.cluster),
      topics: asked.map(({ name, topicId }) => ({ errorCode, name: name ?? '', topicId })),
    }
  },

  subject(call, request) {
    const names = request.topics?.map(({ name, topicId }) => name ?? call.cluster.topicsById.get(topicId)?.name ?? '')
    return { partitions: (names ?? [...call.cluster.topics.keys()]).map((topic) => ({ topic, partition: 0 })) }
  },
}

function brokers(cluster: Cluster) {
  return {
    brokers: cluster.liveNodes().map((id) => {
      const { host, port } = cluster.nodes.get(id)!
      return { nodeId: id, host, port }
    }),
    clusterId: cluster.options.clusterId,
    controllerId: cluster.controller(),
  }
}

function byName(call: Call, name: string, mayCreate: boolean): TopicAnswer {
  const { cluster } = call
  const topic = cluster.topics.get(name)
  if (topic !== undefined) return describe(call, topic)
  if (!mayCreate || !cluster.options.autoCreateTopics) {
    return { errorCode: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, name, topicId: zeroUuid }
  }
  const made = cluster.createTopic({ name, partitions: -1, replicationFactor: -1, configs: new Map() })
  return made instanceof Topic ? describe(call, made) : { errorCode: made.errorCode, name, topicId: zeroUuid }
}

function byId(call: Call, topicId: string): TopicAnswer {
  const topic = call.cluster.topicsById.get(topicId)
  if (topic !== undefined) return describe(call, topic)
  // The name may be null from version 12 on; before that no client asks by id.
  return { errorCode: ErrorCode.UNKNOWN_TOPIC_ID, name: call.version >= 12 ? null : '', topicId }
}

function describe(call: Call, topic: Topic): TopicAnswer {
  const injected = call.fault(topic.name, 0)
  if (injected !== ErrorCode.NONE) return { errorCode: injected, name: topic.name, topicId: topic.id }
  const { nodes } = call.cluster
  return {
    errorCode: ErrorCode.NONE,
    name: topic.name,
    topicId: topic.id,
    partitions: topic.partitions.map((partition) => ({
      errorCode: partition.leader === -1 ? ErrorCode.LEADER_NOT_AVAILABLE : ErrorCode.NONE,
      partitionIndex: partition.index,
      leaderId: partition.leader,
      leaderEpoch: partition.leaderEpoch,
      replicaNodes: partition.replicas,
      isrNodes: partition.inSync,
      offlineReplicas: partition.replicas.filter((id) => !nodes.get(id)!.up),
    })),
  }
}
