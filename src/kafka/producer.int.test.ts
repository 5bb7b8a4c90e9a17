/** The producer against a broker that keeps Kafka's rules about the numbers of batches. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startBroker } from '../broker/embedded.ts'
import { ErrorCode } from '../wire/error-codes.ts'
import { KafkaClient } from './client.ts'

test('a topic whose broker does not lead it yet when the first records come takes them in their order (KAFKA-14359)', async () => {
  await using broker = await startBroker({ topics: [{ topic: 't', partitions: 1 }] })
  await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
  // Every record fills a batch, so that several may be in flight.
  await using producer = client.producer({ batchBytes: 1_000 })
  broker.control({ api: 'Produce', topic: 't', respond: ErrorCode.NOT_LEADER_OR_FOLLOWER })
  const padding = 'x'.repeat(1_000)
  const sent = await Promise.all(
    Array.from({ length: 20 }, (_, n) => producer.send({ topic: 't', partition: 0, value: `${n} ${padding}` })),
  )
  assert.deepEqual(
    sent.map((s) => s.offset),
    Array.from({ length: 20 }, (_, n) => n),
  )
})
