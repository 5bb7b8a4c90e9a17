/** The admin on a three-broker Apache Kafka. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, test } from 'node:test'
import { KafkaClient } from './client.ts'

const servers = process.env['OTTLA_LIVE_KAFKA']

describe('the admin on Apache Kafka', { skip: servers === undefined ? 'OTTLA_LIVE_KAFKA is not set' : false }, () => {
  const topic = `admin-${randomUUID()}`
  let client: KafkaClient
  before(async () => {
    client = new KafkaClient({ bootstrapServers: servers as string })
    const [made] = await client
      .admin()
      .createTopics([
        { topic, partitions: 2, replicas: 3, configs: { 'min.insync.replicas': '2', 'retention.ms': '-1' } },
      ])
    assert.equal(made?.created, true, made?.error?.message)
  })
  after(async () => {
    await client.admin().deleteTopics([topic])
    await client.close()
  })

  test('creates what it can and says of the rest why not', async () => {
    const other = `admin-${randomUUID()}`
    const results = await client.admin().createTopics([
      { topic: other, partitions: 1 },
      { topic, partitions: 1 },
      { topic: 'bad name!', partitions: 1 },
      { topic: `${other}-rf`, partitions: 1, replicas: 9 },
    ])
    assert.deepEqual(
      results.map((r) => [r.created, r.error?.kafka?.name]),
      [
        [true, undefined],
        [false, 'TOPIC_ALREADY_EXISTS'],
        [false, 'INVALID_TOPIC_EXCEPTION'],
        [false, 'INVALID_REPLICATION_FACTOR'],
      ],
    )
    const deleted = await client.admin().deleteTopics([other, 'never-made'])
    assert.deepEqual(
      deleted.map((d) => d.error?.kafka?.name),
      [undefined, 'UNKNOWN_TOPIC_OR_PARTITION'],
    )
  })

  test('describes leaders, replicas and configuration, and says what does not exist', async () => {
    const [known, missing] = await client.admin().describeTopics([topic, 'never-made'])
    assert.equal(known?.exists, true)
    assert.match(known?.id ?? '', /^[\w-]{22}$/)
    assert.equal(known?.partitions.length, 2)
    assert.equal(known?.replicas, 3)
    assert.ok(known?.partitions.every((p) => p.leader > 0 && p.isr.length === 3))
    assert.equal(known?.configs['min.insync.replicas'], '2')
    assert.equal(known?.configs['retention.ms'], '-1')
    assert.ok(Number(known?.configs['max.message.bytes']) > 1_000_000)
    assert.equal(known?.mayRead, true)
    assert.equal(missing?.exists, false)
    assert.equal(missing?.error?.kafka?.name, 'UNKNOWN_TOPIC_OR_PARTITION')
    assert.ok((await client.admin().listTopics()).some((t) => t.topic === topic && t.partitions === 2))
    const cluster = await client.admin().describeCluster()
    assert.equal(cluster.brokers.length, 3)
  })

  test('finds offsets at both ends and by time, and deletes records', async () => {
    const producer = client.producer()
    for (const timestampMs of [1_000, 2_000, 3_000]) {
      await producer.send({ topic, partition: 0, value: 'x', timestampMs: Date.UTC(2026, 0, 1) + timestampMs })
    }
    const query = { topic, partition: 0 }
    const offsets = async () =>
      (
        await client.admin().listOffsets([
          { ...query, at: 'earliest' },
          { ...query, at: 'latest' },
          { ...query, at: { timestampMs: Date.UTC(2026, 0, 1) + 1_500 } },
          { ...query, at: { timestampMs: Date.UTC(2030, 0, 1) } },
        ])
      ).map((o) => o.offset)
    assert.deepEqual(await offsets(), [0, 3, 1, -1])
    const [cut] = await client.admin().deleteRecords([{ ...query, beforeOffset: 2 }])
    assert.equal(cut?.lowWatermark, 2)
    assert.equal((await offsets())[0], 2)
    const [unknown] = await client.admin().listOffsets([{ topic, partition: 9, at: 'latest' }], { timeoutMs: 500 })
    assert.equal(unknown?.error?.kafka?.name, 'UNKNOWN_TOPIC_OR_PARTITION')
  })

  test('a group of one member is listed, described, has offsets, and can be deleted when empty', async () => {
    const group = `admin-${randomUUID()}`
    const gained = Promise.withResolvers<void>()
    {
      await using _ = client.consumer(
        { groupId: group, topics: [topic] },
        {
          gained: async () => gained.resolve(),
          batch: () => undefined,
          releasing: async () => undefined,
          fault: (_where, error) => gained.reject(error),
        },
      )
      await gained.promise
      const [described] = await client.admin().describeGroups([group])
      assert.equal(described?.state, 'Stable')
      assert.equal(described?.members[0]?.assignment.length, 2)
      assert.ok((await client.admin().listGroups()).some((g) => g.group === group && g.protocolType === 'consumer'))
      const [busy] = await client.admin().deleteGroups([group])
      assert.equal(busy?.error?.kafka?.name, 'NON_EMPTY_GROUP')
    }
    const offsets = await client.admin().fetchOffsets(group, [{ topic, partition: 1 }])
    assert.deepEqual(
      offsets.map((o) => [o.partition, o.offset]),
      [[1, -1]],
    )
    const [deleted] = await client.admin().deleteGroups([group])
    assert.equal(deleted?.error, undefined)
    const [gone] = await client.admin().describeGroups([group])
    assert.equal(gone?.state, 'Dead')
  })

  test('new partitions are seen by a producer that knew the topic before', async () => {
    const producer = client.producer()
    await producer.send({ topic, partition: 1, value: 'x' })
    const [raised] = await client.admin().createPartitions([{ topic, partitions: 4 }])
    assert.equal(raised?.error, undefined)
    const until = performance.now() + 5_000
    while ((client.cluster.metadata.topic(topic)?.partitions.length ?? 0) < 4 && performance.now() < until) {
      await client.cluster.refresh()
    }
    assert.equal((await producer.send({ topic, partition: 3, value: 'x' })).partition, 3)
  })
})
