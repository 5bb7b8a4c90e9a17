/** What is kept of compressed records stays what it is, however much is fetched after them. */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { startBroker } from '../broker/embedded.ts'
import { KafkaClient } from './client.ts'
import type { ProducerOptions } from './producer.ts'

const count = 60
/** Nothing makes these smaller, so an LZ4 block stores them as they are. */
const valueBytes = 20_000

for (const compression of ['gzip', 'snappy', 'lz4', 'zstd'] satisfies ProducerOptions['compression'][]) {
  test(`values of ${compression} batches that are kept are not overwritten by later fetches`, async () => {
    await using broker = await startBroker({ topics: [{ topic: 't', partitions: 1 }] })
    await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
    const sent: string[] = []
    await using producer = client.producer({ compression })
    for (let n = 0; n < count; n++) {
      const value = randomBytes(valueBytes)
      sent.push(digest(value))
      await producer.send({ topic: 't', partition: 0, value })
    }
    const kept: Uint8Array[] = []
    const faults: unknown[] = []
    await using _consumer = client.consumer(
      { groupId: 'g', topics: ['t'], start: 'earliest', maxBytesPerPartition: 100_000 },
      {
        batch: (_, records) => {
          for (let i = 0; i < records.count; i++) kept.push(records.value(i) ?? new Uint8Array())
        },
        fault: (_, error) => faults.push(error),
      },
    )
    for (const endMs = performance.now() + 10_000; kept.length < count && performance.now() < endMs; ) await sleep(5)
    assert.deepEqual(faults, [])
    assert.deepEqual(kept.map(digest), sent)
  })
}

function digest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('base64')
}
