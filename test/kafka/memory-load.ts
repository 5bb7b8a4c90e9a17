/**
 * A process that only publishes and reads, and says how much memory it has after a forced garbage collection:
 * `node --expose-gc memory-load.ts <servers> <topic> <seconds> <bytes>`. It ends when both are reached.
 *
 * Prints a line of JSON per sample; the last one has `done`. Every record read is compared with what was sent.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { KafkaClient } from '../../src/kafka/client.ts'
import type { HeldPartition } from '../../src/kafka/consumer.ts'

/** One look at the process. */
export interface MemorySample {
  readonly seconds: number
  readonly rssMiB: number
  readonly heapMiB: number
  readonly externalMiB: number
  readonly sentBytes: number
  readonly readBytes: number
  readonly done: boolean
}

const valueBytes = 16_384
const arraySize = 64
/** Published and not read yet, at most. */
const backlogBytes = 32 * 1024 * 1024
const sampleEveryMs = 10_000
const commitEveryMs = 1_000

const [servers = '', topic = '', seconds = '0', bytes = '0'] = process.argv.slice(2)
const gc = (globalThis as { gc?: () => void }).gc
if (gc === undefined) throw new Error('run it with --expose-gc')

const startMs = performance.now()
const pattern = Buffer.alloc(valueBytes + 256, 'ottla')
let sentBytes = 0
let readBytes = 0
let sent = 0

const client = new KafkaClient({ bootstrapServers: servers })
const producer = client.producer()
/** The next number expected of each partition: those of one array follow one another. */
const next = new Map<number, number>()
const positions = new Map<HeldPartition, number>()
let wrong: Error | null = null
const consumer = client.consumer(
  { groupId: topic, topics: [topic] },
  {
    batch(held, records) {
      for (let i = 0; i < records.count; i++) {
        const value = Buffer.from(records.value(i) ?? [])
        const number = value.readUInt32BE(0)
        const expected = next.get(held.partition) ?? held.partition
        if (number !== expected || value.length !== valueBytes || value[4] !== pattern[4]) {
          wrong ??= new Error(`${held.partition}: number ${number} came where ${expected} was awaited`)
        }
        next.set(held.partition, expected + partitions)
        readBytes += value.length
      }
      positions.set(held, records.nextPosition)
    },
    fault: (_, error) => {
      wrong ??= error
    },
  },
)
await client.cluster.ensureTopics([topic])
const partitions = client.cluster.metadata.topic(topic)?.partitions.length ?? 0

const isOver = (): boolean =>
  wrong !== null || (performance.now() - startMs > Number(seconds) * 1_000 && readBytes >= Number(bytes))

async function publish(): Promise<void> {
  while (!isOver()) {
    if (sentBytes - readBytes > backlogBytes) {
      await sleep(5)
      continue
    }
    await producer.sendMany(
      Array.from({ length: arraySize }, () => {
        const value = Buffer.from(pattern.subarray(0, valueBytes))
        value.writeUInt32BE(sent, 0)
        return { topic, partition: sent++ % partitions, key: `key-${sent % 1_000}`, value }
      }),
    )
    sentBytes += arraySize * valueBytes
  }
}

async function commit(): Promise<void> {
  while (!isOver()) {
    await sleep(commitEveryMs)
    await Promise.all(
      [...positions].map(([held, offset]) => consumer.commit(held, { offset, metadata: '' }).catch(() => 'lost')),
    )
  }
}

function sample(done: boolean): void {
  // Twice: what the first one finalises is freed by the second.
  gc?.()
  gc?.()
  const { rss, heapUsed, external } = process.memoryUsage()
  const mebibyte = 1024 * 1024
  const told: MemorySample = {
    seconds: (performance.now() - startMs) / 1_000,
    rssMiB: rss / mebibyte,
    heapMiB: heapUsed / mebibyte,
    externalMiB: external / mebibyte,
    sentBytes,
    readBytes,
    done,
  }
  console.log(JSON.stringify(told))
}

const sampling = setInterval(() => sample(false), sampleEveryMs)
await Promise.all([publish(), publish(), publish(), commit()])
clearInterval(sampling)
sample(true)
await consumer[Symbol.asyncDispose]()
await producer.close()
await client[Symbol.asyncDispose]()
if (wrong !== null) throw wrong
