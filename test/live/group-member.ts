/**
 * A group member in a process of its own, for tests that kill or freeze it. Prints one JSON line per thing that happens.
 *
 * Run: node group-member.ts '{"bootstrapServers":…,"groupId":…,"topics":[…],"sessionTimeoutMs":…}'
 */
import { type ConsumerOptions, KafkaClient } from '../../src/kafka.ts'

const { bootstrapServers, ...options } = JSON.parse(process.argv[2] ?? '{}') as ConsumerOptions & {
  bootstrapServers: string
}
const say = (line: object): void => {
  process.stdout.write(`${JSON.stringify({ atMs: Date.now(), ...line })}\n`)
}
const client = new KafkaClient({ bootstrapServers })
const consumer = client.consumer(options, {
  gained: (parts) => say({ gained: parts.map(({ held }) => held.partition) }),
  batch: (held, records) => {
    // Handed over now, however long it takes to say it: who is frozen half way has begun before.
    const atMs = Date.now()
    for (let i = 0; i < records.count; i++) {
      say({ topic: held.topic, partition: held.partition, value: Buffer.from(records.value(i) ?? []).toString(), atMs })
    }
    void consumer.commit(held, { offset: records.nextPosition, metadata: '' })
  },
  releasing: (parts) => say({ releasing: parts.map(({ partition }) => partition) }),
  lost: (parts) => say({ lost: parts.map(({ partition }) => partition) }),
  fault: (where, error) => say({ fault: error.code, where }),
})
process.on('SIGTERM', () => void client.close().then(() => process.exit(0)))
