/**
 * Every codec on Apache Kafka, whose brokers open what they are sent: what we write is read by kcat and by Java, and we
 * read what they write.
 */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { readdirSync } from 'node:fs'
import path from 'node:path'
import { after, before, describe, test } from 'node:test'
import { ForeignTool, installed } from '../../test/broker/foreign-tool.ts'
import type { CompressionName } from '../wire/compression.ts'
import { Api } from '../wire/protocol.ts'
import { readBatches } from '../wire/record-batch.ts'
import { KafkaClient } from './client.ts'
import { builtInCompression } from './io/compression.ts'

const servers = process.env['OTTLA_LIVE_KAFKA']
const jars = process.env['OTTLA_LIVE_JARS'] ?? process.env['OTTLA_KAFKA_LIBS']
const skip = servers === undefined ? 'OTTLA_LIVE_KAFKA is not set' : false
const skipJava = jars === undefined ? 'neither OTTLA_LIVE_JARS nor OTTLA_KAFKA_LIBS is set' : skip
const skipKcat = installed('kcat', ['-V']) ? skip : 'kcat is not installed'
const names: readonly CompressionName[] = ['gzip', 'snappy', 'lz4', 'zstd']
/** Several blocks of every format, in a few batches. */
const count = 3_000

/** Lines of differing length that can be packed, and that differ from codec to codec. */
const lines = (name: string): string[] =>
  Array.from({ length: count }, (_, i) => `${name} ${i} ${'lorem ipsum '.repeat(i % 17)}${(i * 7919) % 104_729}`)

function java(mainClass: string, args: readonly string[]): ForeignTool {
  const folder = jars as string
  const classPath = readdirSync(folder)
    .filter((name) => name.endsWith('.jar'))
    .map((name) => path.join(folder, name))
    .join(path.delimiter)
  const options = ['-Xmx256m', '-XX:TieredStopAtLevel=1', '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn']
  return new ForeignTool('java', [...options, '-cp', classPath, `org.apache.kafka.tools.${mainClass}`, ...args])
}

describe('compression on Apache Kafka', { skip, timeout: 180_000 }, () => {
  let client: KafkaClient
  const topics: string[] = []

  before(() => {
    client = new KafkaClient({ bootstrapServers: servers as string, clientId: 'ottla-live' })
  })
  after(async () => {
    await client.admin().deleteTopics(topics)
    await client.close()
  })

  async function makeTopic(): Promise<string> {
    const topic = `live-${randomUUID()}`
    const [result] = await client.admin().createTopics([{ topic, partitions: 1 }])
    assert.equal(result?.error, undefined)
    topics.push(topic)
    return topic
  }

  async function publish(topic: string, compression: CompressionName): Promise<void> {
    await using producer = client.producer({ compression, batchBytes: 150_000 })
    const records = lines(compression).map((value, i) => ({
      topic,
      key: `k${i}`,
      value,
      headers: [{ key: 'h', value }],
    }))
    await producer.sendMany(records)
  }

  /** Values in the log, and the compressions of their batches, read with nothing but Fetch. */
  async function stored(topic: string): Promise<{ values: string[]; compressions: Set<string | null> }> {
    const [end] = await client.admin().listOffsets([{ topic, partition: 0, at: 'latest' }])
    const values: string[] = []
    const compressions = new Set<string | null>()
    while (values.length < (end?.offset ?? 0)) {
      const leader = client.cluster.metadata.partition(topic, 0)?.leader ?? -1
      const partition = { partition: 0, fetchOffset: values.length, partitionMaxBytes: 1024 * 1024 }
      const { body } = await client.cluster.request(
        leader,
        Api.Fetch,
        {
          replicaId: -1,
          maxWaitMs: 500,
          minBytes: 1,
          maxBytes: 8 * 1024 * 1024,
          topics: [{ topic, partitions: [partition] }],
        },
        { maxVersion: 12 },
      )
      const part = body.responses[0]?.partitions[0]
      assert.equal(part?.errorCode, 0)
      for (const batch of readBatches(part.records ?? new Uint8Array(0), { compression: builtInCompression })) {
        compressions.add(batch.compression)
        for (let i = 0; i < batch.count; i++) {
          if (batch.offset(i) >= values.length) values.push(Buffer.from(batch.value(i) ?? []).toString())
        }
      }
    }
    return { values, compressions }
  }

  test('what we write in each codec is stored in it and read by kcat', { skip: skipKcat }, async () => {
    for (const name of names) {
      const topic = await makeTopic()
      await publish(topic, name)
      const { values, compressions } = await stored(topic)
      assert.deepEqual(values, lines(name))
      assert.deepEqual([...compressions], [name])
      await using kcat = new ForeignTool('kcat', [
        '-C',
        '-b',
        servers as string,
        '-t',
        topic,
        '-e',
        '-q',
        '-X',
        'check.crcs=true',
      ])
      assert.deepEqual(await kcat.end().output(), lines(name))
    }
  })

  test('what kcat writes in each codec is read by us', { skip: skipKcat }, async () => {
    for (const name of names) {
      const topic = await makeTopic()
      await using kcat = new ForeignTool('kcat', ['-P', '-b', servers as string, '-t', topic, '-z', name, '-p', '0'])
      await kcat.end(`${lines(name).join('\n')}\n`).output()
      const { values, compressions } = await stored(topic)
      assert.deepEqual(values, lines(name))
      assert.ok(compressions.has(name))
    }
  })

  test('what we write in each codec is read by Java', { skip: skipJava }, async () => {
    const topic = await makeTopic()
    for (const name of names) await publish(topic, name)
    const options = ['--bootstrap-server', servers as string, '--topic', topic, '--from-beginning']
    await using consumer = java('consumer.ConsoleConsumer', [
      ...options,
      ...['--max-messages', String(names.length * count)],
      ...['--formatter-property', 'print.headers=true'],
    ])
    const expected = names.flatMap((name) => lines(name).map((line) => `h:${line}\t${line}`))
    assert.deepEqual(await consumer.end().output(), expected)
  })

  test('what Java writes in snappy and LZ4 is read by us', { skip: skipJava }, async () => {
    for (const name of ['snappy', 'lz4']) {
      const topic = await makeTopic()
      const options = ['--bootstrap-server', servers as string, '--topic', topic, '--compression-codec', name]
      await using producer = java('ConsoleProducer', options)
      await producer.end(`${lines(name).join('\n')}\n`).output()
      const { values, compressions } = await stored(topic)
      assert.deepEqual(values, lines(name))
      assert.deepEqual([...compressions], [name])
    }
  })
})
