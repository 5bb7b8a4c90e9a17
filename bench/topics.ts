/** Topics for arms: filled with batches of exactly 100 before they are consumed, read back after they were published to. */
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { zstdCompressSync } from 'node:zlib'
import type { KafkaClient } from '../src/kafka.ts'
import type * as Protocol from '../src/wire/protocol.ts'
import type * as Batches from '../src/wire/record-batch.ts'
import { arraySize } from './drive.ts'
import { kafkaOf } from './library.ts'
import type { Compression } from './task.ts'
import { contentType, expectedSums, makeWorkload, sameSums, UnorderedTally } from './workload.ts'

/** Unanswered while filling. */
const window = 20

/** A record by its index. */
export type RecordOf = (index: number) => {
  readonly key: string
  readonly value: string
  readonly headers: readonly { readonly key: string; readonly value: Uint8Array }[]
}

function plainRecords(): RecordOf {
  const workload = makeWorkload()
  return (index) => ({
    key: workload.key(index),
    value: workload.value(index),
    headers: [
      { key: 'traceparent', value: Buffer.from(workload.traceparent(index)) },
      { key: 'content-type', value: Buffer.from(contentType) },
    ],
  })
}

export class Topics implements AsyncDisposable {
  readonly #library: string
  readonly #client: KafkaClient
  #made = 0

  private constructor(library: string, client: KafkaClient) {
    this.#library = library
    this.#client = client
  }

  static async open(library: string, servers: string): Promise<Topics> {
    const { KafkaClient } = await kafkaOf(library)
    return new Topics(library, new KafkaClient({ bootstrapServers: servers, clientId: 'bench' }))
  }

  /** An empty topic of one partition, kept on one broker. Retention must not clear it away while it is measured. */
  async create(): Promise<string> {
    const topic = `bench-${process.pid}-${++this.#made}`
    const [result] = await this.#client
      .admin()
      .createTopics([{ topic, partitions: 1, replicas: 1, configs: { 'retention.ms': '-1' } }])
    if (result?.created !== true) throw result?.error ?? new Error(`${topic} was not created`)
    return topic
  }

  async remove(topic: string): Promise<void> {
    await this.#client.admin().deleteTopics([topic])
  }

  /** Publishes records 0 to `count` in their order, as batches of exactly 100. Default: those of `workload.ts`. */
  async fill(
    topic: string,
    count: number,
    { compression, recordOf = plainRecords() }: { readonly compression: Compression; readonly recordOf?: RecordOf },
  ): Promise<void> {
    const load = (file: string) => import(pathToFileURL(path.join(this.#library, 'wire', file)).href)
    const { RecordBatchBuilder }: typeof Batches = await load('record-batch.js')
    const { Api }: typeof Protocol = await load('protocol.js')
    const startMs = Date.now()
    const { cluster } = this.#client
    await cluster.ensureTopics([topic])
    const leader = cluster.metadata.partition(topic, 0)?.leader ?? -1
    const send = async (batch: number): Promise<void> => {
      const builder = new RecordBatchBuilder(64 * 1024)
      for (let i = batch * arraySize; i < (batch + 1) * arraySize; i++) {
        const { key, value, headers } = recordOf(i)
        builder.append(Buffer.from(key), Buffer.from(value), headers, startMs + i)
      }
      const records = builder.build({
        compression:
          compression === 'zstd'
            ? { name: 'zstd', codec: { compress: zstdCompressSync, decompress: (bytes) => bytes } }
            : null,
      })
      const { body } = await cluster.request(
        leader,
        Api.Produce,
        {
          acks: 1,
          timeoutMs: 30_000,
          topicData: [{ name: topic, partitionData: [{ index: 0, records }] }],
        },
        { maxVersion: 12 },
      )
      const code = body.responses[0]?.partitionResponses[0]?.errorCode
      if (code !== 0) throw new Error(`filling ${topic}: error ${code}`)
    }
    const open: Promise<void>[] = []
    for (let batch = 0; batch < count / arraySize; batch++) {
      open.push(send(batch))
      if (open.length >= window) await open.shift()
    }
    await Promise.all(open)
  }

  /** Throws unless the topic holds exactly records 0 to `count`, in whatever order. */
  async verify(topic: string, count: number): Promise<void> {
    const tally = new UnorderedTally()
    await new Promise<void>((resolve, reject) => {
      const consumer = this.#client.consumer(
        { topics: [topic], start: 'earliest' },
        {
          batch(_held, records) {
            for (let i = 0; i < records.count; i++) {
              tally.take((records.key(i) as Buffer).toString(), records.value(i) as Buffer)
            }
            if (tally.count >= count) consumer[Symbol.asyncDispose]().then(resolve, reject)
          },
          fault: (_where, error) => reject(error),
        },
      )
    })
    const [end] = await this.#client.admin().listOffsets([{ topic, partition: 0, at: 'latest' }])
    if (end?.offset !== count || !sameSums(tally.sums(), expectedSums(count, new UnorderedTally()))) {
      throw new Error(`${topic} holds something else than the ${count} records that were to be published`)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client.close()
  }
}
