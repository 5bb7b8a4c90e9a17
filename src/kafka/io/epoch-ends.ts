/** Asks partition leaders where a leader epoch ended in their log: what lies beyond was written under later leaders. */
import { OttlaError } from '../../contract/errors.ts'
import { ErrorCode } from '../../wire/error-codes.ts'
import { Api } from '../../wire/protocol.ts'
import type { Cluster } from './cluster.ts'

export interface EpochQuestion {
  readonly topic: string
  readonly partition: number
  readonly epoch: number
}

/** `endOffset` is infinite where brokers are too old to be asked; `error` is Kafka's code, 0 when all is well. */
export interface EpochAnswer {
  readonly endOffset: number
  readonly error: number
}

const firstEpochVersion = 3

/** Answers in the order of the questions. A partition that cannot be asked gets an error of its own; nothing throws. */
export async function epochEnds(
  cluster: Cluster,
  questions: readonly EpochQuestion[],
  signal: AbortSignal,
): Promise<readonly EpochAnswer[]> {
  const answers: EpochAnswer[] = questions.map(() => ({ endOffset: -1, error: ErrorCode.LEADER_NOT_AVAILABLE }))
  const byLeader = new Map<number, number[]>()
  for (const [index, { topic, partition }] of questions.entries()) {
    const leader = cluster.metadata.partition(topic, partition)?.leader ?? -1
    if (leader < 0) continue
    const indexes = byLeader.get(leader)
    if (indexes === undefined) byLeader.set(leader, [index])
    else indexes.push(index)
  }
  const ask = async (node: number, indexes: readonly number[]): Promise<void> => {
    const topics = new Map<string, { topic: string; partitions: object[] }>()
    const where = new Map<string, number>()
    for (const index of indexes) {
      const { topic, partition, epoch } = questions[index]!
      where.set(`${topic}\0${partition}`, index)
      const currentLeaderEpoch = cluster.metadata.partition(topic, partition)?.leaderEpoch ?? -1
      const entry = topics.get(topic) ?? { topic, partitions: [] }
      entry.partitions.push({ partition, currentLeaderEpoch, leaderEpoch: epoch })
      topics.set(topic, entry)
    }
    const body = { replicaId: -1, topics: [...topics.values()] }
    try {
      const versions = { minVersion: firstEpochVersion, maxVersion: 4 }
      const answer = await cluster.request(node, Api.OffsetForLeaderEpoch, body, { ...versions, signal })
      for (const { topic, partitions } of answer.body.topics) {
        for (const { partition, errorCode, endOffset } of partitions) {
          const index = where.get(`${topic}\0${partition}`)
          if (index !== undefined) answers[index] = { endOffset, error: errorCode }
        }
      }
    } catch (error) {
      const answer = withoutAnswer(error)
      for (const index of indexes) answers[index] = answer
    }
  }
  await Promise.all([...byLeader].map(([node, indexes]) => ask(node, indexes)))
  return answers
}

function withoutAnswer(error: unknown): EpochAnswer {
  if (error instanceof OttlaError && error.code === 'OTTLA_KAFKA_UNSUPPORTED_VERSION') {
    return { endOffset: Number.POSITIVE_INFINITY, error: ErrorCode.NONE }
  }
  const isLasting = error instanceof OttlaError && !error.retriable
  return { endOffset: -1, error: isLasting ? ErrorCode.UNKNOWN_SERVER_ERROR : ErrorCode.NETWORK_EXCEPTION }
}
