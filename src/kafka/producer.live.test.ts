/** The producer on a three-broker Apache Kafka: acknowledged means stored, once and in order, whatever happens to brokers. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { controlledCluster, type KafkaNodes } from '../../test/live/kafka-cluster.ts'
import type { OttlaError } from '../contract/errors.ts'
import { Api } from '../wire/protocol.ts'
import { readBatches } from '../wire/record-batch.ts'
import { KafkaClient } from './client.ts'
import { builtInCompression } from './io/compression.ts'
import type { RecordMetadata } from './producer.ts'

const servers = process.env['OTTLA_LIVE_KAFKA']
const controlFile = process.env['OTTLA_LIVE_CONTROL']
const skip = servers === undefined ? 'OTTLA_LIVE_KAFKA is not set' : false
const skipControl = controlFile === undefined ? 'OTTLA_LIVE_CONTROL is not set' : skip

interface Stored {
  readonly offset: number
  readonly key: string | null
  readonly value: string | null
  readonly headers: readonly (readonly [string, string | null])[]
}

const text = (bytes: Uint8Array | null): string | null => (bytes === null ? null : Buffer.from(bytes).toString('utf8'))

/** Everything in a partition, read with nothing but Fetch. */
async function readAll(client: KafkaClient, topic: string, partition: number): Promise<Stored[]> {
  const [end] = await client.admin().listOffsets([{ topic, partition, at: 'latest' }])
  const [start] = await client.admin().listOffsets([{ topic, partition, at: 'earliest' }])
  const stored: Stored[] = []
  let position = start?.offset ?? 0
  while (position < (end?.offset ?? 0)) {
    const leader = client.cluster.metadata.partition(topic, partition)?.leader ?? -1
    const { body } = await client.cluster.request(
      leader,
      Api.Fetch,
      {
        replicaId: -1,
        maxWaitMs: 500,
        minBytes: 1,
        maxBytes: 8 * 1024 * 1024,
        topics: [{ topic, partitions: [{ partition, fetchOffset: position, partitionMaxBytes: 4 * 1024 * 1024 }] }],
      },
      { maxVersion: 12 },
    )
    const part = body.responses[0]?.partitions[0]
    if (part?.errorCode !== 0) {
      await client.cluster.refresh()
      continue
    }
    for (const batch of readBatches(part.records ?? new Uint8Array(0), { compression: builtInCompression })) {
      for (let i = 0; i < batch.count; i += 1) {
        if (batch.offset(i) < position) continue
        stored.push({
          offset: batch.offset(i),
          key: text(batch.key(i)),
          value: text(batch.value(i)),
          headers: batch.headers(i).map((h) => [h.key, text(h.value)] as const),
        })
      }
      position = batch.nextPosition
    }
  }
  return stored
}

/** No record twice, per partition in the order of sending, and every acknowledged one at the offset it was told. */
function judge(stored: readonly Stored[], acknowledged: ReadonlyMap<number, RecordMetadata>, partition: number): void {
  const numbers = stored.map((s) => Number(s.value))
  for (let i = 1; i < numbers.length; i += 1) {
    assert.ok(
      (numbers[i] as number) > (numbers[i - 1] as number),
      `record ${numbers[i]} at offset ${stored[i]?.offset} comes after ${numbers[i - 1]}: reordered or repeated`,
    )
  }
  const offsets = new Map(stored.map((s) => [Number(s.value), s.offset]))
  for (const [n, told] of acknowledged) {
    if (told.partition !== partition) continue
    assert.equal(offsets.get(n), told.offset, `acknowledged record ${n} is not at the offset that was told`)
  }
}

describe('the producer on Apache Kafka', { skip }, () => {
  let client: KafkaClient
  const topics: string[] = []

  before(() => {
    client = new KafkaClient({ bootstrapServers: servers as string, clientId: 'ottla-live' })
  })
  after(async () => {
    await client.admin().deleteTopics(topics)
    await client.close()
  })

  async function makeTopic(partitions: number, options: { replicas?: number; configs?: Record<string, string> } = {}) {
    const topic = `live-${randomUUID()}`
    const [result] = await client.admin().createTopics([{ topic, partitions, ...options }])
    assert.equal(result?.error, undefined)
    topics.push(topic)
    return topic
  }

  test('100,000 records arrive once each, in order, at the offsets that were told', async () => {
    const topic = await makeTopic(3)
    await using producer = client.producer()
    const acknowledged = new Map<number, RecordMetadata>()
    let next = 0
    const lane = async (): Promise<void> => {
      while (next < 100_000) {
        const n = next++
        acknowledged.set(n, await producer.send({ topic, partition: n % 3, value: String(n) }))
      }
    }
    await Promise.all(Array.from({ length: 1_000 }, lane))
    assert.equal(acknowledged.size, 100_000)
    let total = 0
    for (const partition of [0, 1, 2]) {
      const stored = await readAll(client, topic, partition)
      judge(stored, acknowledged, partition)
      total += stored.length
    }
    assert.equal(total, 100_000)
  })

  for (const compression of ['none', 'gzip', 'zstd'] as const) {
    test(`keys, tombstones and repeated headers survive with compression ${compression}`, async () => {
      const topic = await makeTopic(1)
      await using producer = client.producer({ compression })
      await producer.sendMany([
        {
          topic,
          key: 'schlüssel',
          value: 'x'.repeat(1_000),
          headers: [
            { key: 'h', value: '1' },
            { key: 'h', value: '2' },
            { key: 'ü', value: null },
          ],
        },
        { topic, key: 'schlüssel', value: null },
        { topic, value: '' },
      ])
      const stored = await readAll(client, topic, 0)
      assert.deepEqual(stored, [
        {
          offset: 0,
          key: 'schlüssel',
          value: 'x'.repeat(1_000),
          headers: [
            ['h', '1'],
            ['h', '2'],
            ['ü', null],
          ],
        },
        { offset: 1, key: 'schlüssel', value: null, headers: [] },
        { offset: 2, key: null, value: '', headers: [] },
      ])
    })
  }

  test('a record beyond the topic limit is refused alone, its neighbours of the same batch are stored', async () => {
    const topic = await makeTopic(1, { configs: { 'max.message.bytes': '2000' } })
    await using producer = client.producer()
    const sizes = [100, 100, 5_000, 100, 100, 100, 3_000, 100]
    const results = await Promise.allSettled(
      sizes.map((size, i) => producer.send({ topic, key: String(i), value: 'x'.repeat(size) })),
    )
    assert.deepEqual(
      results.map((r) => (r.status === 'fulfilled' ? 'stored' : (r.reason as OttlaError).code)),
      sizes.map((size) => (size > 2_000 ? 'OTTLA_PUBLISH_TOO_LARGE' : 'stored')),
    )
    assert.deepEqual(
      (await readAll(client, topic, 0)).map((s) => s.key),
      ['0', '1', '3', '4', '5', '7'],
    )
  })

  test('a topic that does not exist is a typed error within seconds, and other topics go on meanwhile', async () => {
    const topic = await makeTopic(1)
    await using producer = client.producer()
    const missing = producer.send({ topic: `missing-${randomUUID()}`, value: 'x' })
    const stored = await producer.send({ topic, value: 'x' })
    assert.equal(stored.offset, 0)
    await assert.rejects(missing, (e: OttlaError) => e.kafka?.name === 'UNKNOWN_TOPIC_OR_PARTITION')
  })

  test('a topic deleted and made again while the producer knows it is published to under its new id', async () => {
    const topic = await makeTopic(1)
    await using producer = client.producer()
    for (let i = 0; i < 3; i += 1) await producer.send({ topic, value: `old ${i}` })
    const before = client.cluster.metadata.topic(topic)?.id
    await client.admin().deleteTopics([topic])
    await client.admin().createTopics([{ topic, partitions: 1 }])
    const sent = await producer.send({ topic, value: 'new' })
    assert.equal(sent.offset, 0)
    assert.notEqual(client.cluster.metadata.topic(topic)?.id, before)
  })

  describe('with brokers failing', { skip: skipControl }, () => {
    let nodes: KafkaNodes
    before(() => {
      nodes = controlledCluster(controlFile as string)
    })
    after(async () => {
      for (const { id } of nodes.nodes) await nodes.start(id)
    })

    test('D6: kill -9 of the leader under a send every 4 ms loses, repeats and reorders nothing', async () => {
      const topic = await makeTopic(3, { replicas: 3, configs: { 'min.insync.replicas': '2' } })
      await using producer = client.producer({ deliveryTimeoutMs: 60_000 })
      const acknowledged = new Map<number, RecordMetadata>()
      const failures: OttlaError[] = []
      const sends: Promise<void>[] = []
      let n = 0
      const send = (): void => {
        const number = n++
        sends.push(
          producer.send({ topic, partition: number % 3, value: String(number) }).then(
            (told) => {
              acknowledged.set(number, told)
            },
            (error: OttlaError) => {
              failures.push(error)
            },
          ),
        )
      }
      await producer.send({ topic, partition: 0, value: '-1' })
      const timer = setInterval(send, 4)
      try {
        await sleep(1_000)
        const leader = client.cluster.metadata.partition(topic, 0)?.leader as number
        await nodes.kill(leader)
        await sleep(7_000)
        await nodes.start(leader)
        await sleep(1_500)
      } finally {
        clearInterval(timer)
      }
      await Promise.all(sends)
      assert.deepEqual(failures, [])
      assert.ok(acknowledged.size > 1_000, `only ${acknowledged.size} were sent`)
      for (const partition of [0, 1, 2]) judge(await readAll(client, topic, partition), acknowledged, partition)
    })

    test('D2: an offline partition fails alone, its healthy neighbours store at once', async () => {
      const topic = await makeTopic(3, { replicas: 1 })
      await client.cluster.ensureTopics([topic])
      const leaders = [0, 1, 2].map((p) => client.cluster.metadata.partition(topic, p)?.leader as number)
      const dead = leaders[0] as number
      const offline = [0, 1, 2].filter((p) => leaders[p] === dead)
      const healthy = [0, 1, 2].filter((p) => leaders[p] !== dead)
      assert.ok(healthy.length > 0)
      await using producer = client.producer({ deliveryTimeoutMs: 5_000 })
      await nodes.kill(dead)
      try {
        const lost = offline.map((partition) => producer.send({ topic, partition, value: 'x' }))
        const outcomes = Promise.allSettled(lost)
        for (const partition of healthy) {
          const told = await producer.send({ topic, partition, value: 'x' })
          assert.equal(told.partition, partition)
        }
        for (const outcome of await outcomes) {
          assert.equal(outcome.status, 'rejected')
          assert.equal((outcome.reason as OttlaError).code, 'OTTLA_PUBLISH_OUTCOME_UNKNOWN')
        }
        // A client that has never seen the topic healthy gets on with it as well.
        await using fresh = new KafkaClient({ bootstrapServers: servers as string })
        const told = await fresh.producer().send({ topic, partition: healthy[0] as number, value: 'y' })
        assert.equal(told.partition, healthy[0])
      } finally {
        await nodes.start(dead)
      }
    })
  })
})
