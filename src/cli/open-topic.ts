/** Opens a client and makes sure that the topic a command works on is there and may be used. */
import type { Command } from 'commander'
import { brokerError } from '../kafka/broker-error.ts'
import { KafkaClient } from '../kafka/client.ts'
import type { TopicState } from '../kafka/machine/metadata.ts'
import { ErrorCode } from '../wire/error-codes.ts'
import { connectionOptions } from './connection.ts'
import { NotFoundError } from './output.ts'

/** A person waits: ten seconds are long. */
const requestTimeoutMs = 10_000

/** Runs a command with a client of its options, and closes it whatever happens. */
export async function withClient<R>(command: Command, work: (client: KafkaClient) => Promise<R>): Promise<R> {
  const client = new KafkaClient({ requestTimeoutMs, ...connectionOptions(command) })
  try {
    return await work(client)
  } finally {
    await client.close()
  }
}

/** What the cluster says of a topic. Throws NotFoundError when there is none, and what the broker complains of. */
export async function existingTopic(client: KafkaClient, topic: string): Promise<TopicState> {
  await client.cluster.ensureTopics([topic])
  const state = client.cluster.metadata.topic(topic)
  if (state === undefined || state.error === ErrorCode.UNKNOWN_TOPIC_OR_PARTITION) {
    throw new NotFoundError(`there is no topic '${topic}'; make it with: ottla topics create ${topic}`)
  }
  if (state.error !== 0) throw brokerError(state.error, `topic '${topic}'`)
  return state
}
