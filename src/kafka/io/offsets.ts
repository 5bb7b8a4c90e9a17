/** Asks partition leaders for offsets: where a log starts, where it ends, what stands at a time. */
import { OttlaError } from '../../contract/errors.ts'
import { ErrorCode } from '../../wire/error-codes.ts'
import { Api } from '../../wire/protocol.ts'
import type { Cluster } from './cluster.ts'

/** Kafka's numbers for the two ends of a log. */
export const offsetSpec = { latest: -1, earliest: -2 } as const

/** One question: `timestamp` is a time in ms since the epoch or one of `offsetSpec`. */
export interface OffsetQuestion {
  readonly topic: string
  readonly partition: number
  readonly timestamp: number
}

/** `offset` is -1 when nothing is that young; `error` is Kafka's code, 0 when all is well. */
export interface OffsetAnswer {
  readonly offset: number
  readonly error: number
}

/** Answers in the order of the questions. A partition that cannot be asked gets an error of its own; nothing throws. */
export async function listOffsets(
  cluster: Cluster,
  questions: readonly OffsetQuestion[],
  options: { readonly signal?: AbortSignal; readonly isolationLevel?: 0 | 1 } = {},
): Promise<readonly OffsetAnswer[]> {
  const answers: OffsetAnswer[] = questions.map(() => ({ offset: -1, error: ErrorCode.LEADER_NOT_AVAILABLE }))
  // A broker refuses a partition named twice in one request, so each kind of question has its own.
  const requests = new Map<string, { node: number; indexes: number[] }>()
  for (const [index, question] of questions.entries()) {
    const node = cluster.metadata.partition(question.topic, question.partition)?.leader ?? -1
    if (node < 0) continue
    const key = `${node}/${question.timestamp}`
    const request = requests.get(key)
    if (request === undefined) requests.set(key, { node, indexes: [index] })
    else request.indexes.push(index)
  }
  const ask = async ({ node, indexes }: { node: number; indexes: readonly number[] }): Promise<void> => {
    const topics = new Map<string, { name: string; partitions: object[] }>()
    const where = new Map<string, number[]>()
    for (const index of indexes) {
      const { topic, partition, timestamp } = questions[index]!
      const asked = where.get(`${topic}\0${partition}`)
      if (asked !== undefined) {
        // The same question twice: one answer for both.
        asked.push(index)
        continue
      }
      where.set(`${topic}\0${partition}`, [index])
      const currentLeaderEpoch = cluster.metadata.partition(topic, partition)?.leaderEpoch ?? -1
      const entry = topics.get(topic) ?? { name: topic, partitions: [] }
      entry.partitions.push({ partitionIndex: partition, currentLeaderEpoch, timestamp })
      topics.set(topic, entry)
    }
    const body = { replicaId: -1, isolationLevel: options.isolationLevel ?? 0, topics: [...topics.values()] }
    try {
      const answer = await cluster.request(
        node,
        Api.ListOffsets,
        (version) => (version >= 4 ? body : withoutEpochs(body)),
        { maxVersion: 7, ...(options.signal === undefined ? {} : { signal: options.signal }) },
      )
      for (const topic of answer.body.topics) {
        for (const told of topic.partitions) {
          for (const index of where.get(`${topic.name}\0${told.partitionIndex}`) ?? []) {
            answers[index] = { offset: told.offset, error: told.errorCode }
          }
        }
      }
    } catch (error) {
      const code = codeOf(error)
      for (const index of indexes) answers[index] = { offset: -1, error: code }
    }
  }
  await Promise.all([...requests.values()].map(ask))
  return answers
}

/** A request that got no answer says as much about every partition in it. */
function codeOf(error: unknown): number {
  if (error instanceof OttlaError && !error.retriable) return ErrorCode.UNKNOWN_SERVER_ERROR
  return ErrorCode.NETWORK_EXCEPTION
}

function withoutEpochs<T extends { topics: { partitions: object[] }[] }>(body: T): T {
  for (const topic of body.topics) {
    topic.partitions = topic.partitions.map((partition) => ({ ...partition, currentLeaderEpoch: -1 }))
  }
  return body
}
