/** The admin while brokers misbehave: one request per broker, one item's trouble its own, passing states asked again. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { type EmbeddedBroker, type FaultRule, startBroker } from 'ottla/broker'
import { KafkaClient } from '../../src/kafka/client.ts'

const partitions = [0, 1, 2, 3, 4, 5]
const unauthorized = 29
const notLeader = 6
const notCoordinator = 16
const unknownMember = 25

describe('the admin on brokers that misbehave', () => {
  let broker: EmbeddedBroker
  let client: KafkaClient
  let topics = 0
  before(async () => {
    broker = await startBroker({ nodes: 3 })
    client = new KafkaClient({ bootstrapServers: broker.bootstrapServers, requestTimeoutMs: 10_000 })
  })
  after(async () => {
    await client.close()
    await broker[Symbol.asyncDispose]()
  })

  /** A topic with three records in each of six partitions, led by all three nodes. */
  const withTopic = async (): Promise<string> => {
    const topic = `faulty-${++topics}`
    broker.createTopic({ topic, partitions: partitions.length })
    const producer = client.producer()
    await Promise.all(
      partitions.flatMap((partition) => [1, 2, 3].map(() => producer.send({ topic, partition, value: 'x' }))),
    )
    assert.deepEqual(new Set(partitions.map((partition) => broker.leaderOf(topic, partition))), new Set([1, 2, 3]))
    return topic
  }
  const counted = (api: FaultRule['api']) =>
    broker.control({ api, respond: 'delay', delayMs: 0, times: Number.POSITIVE_INFINITY })
  const deleted = async (topic: string, timeoutMs = 10_000) =>
    (
      await client.admin().deleteRecords(
        partitions.map((partition) => ({ topic, partition, beforeOffset: 2 })),
        { timeoutMs },
      )
    ).map(({ lowWatermark, error }) => error?.kafka?.name ?? error?.code ?? lowWatermark)

  test('partitions are asked about in one request per leader', async () => {
    const topic = await withTopic()
    using requests = counted('DeleteRecords')
    assert.deepEqual(await deleted(topic), [2, 2, 2, 2, 2, 2])
    assert.equal(requests.struck, 3)
    using offsets = counted('ListOffsets')
    await client.admin().listOffsets(partitions.map((partition) => ({ topic, partition, at: 'earliest' })))
    assert.equal(offsets.struck, 3)
  })

  test('a refusal is one partition’s own, a passing one is asked again', async () => {
    const topic = await withTopic()
    using _ = broker.control({ api: 'DeleteRecords', topic, partition: 4, respond: unauthorized, times: 9 })
    using moved = broker.control({ api: 'DeleteRecords', topic, partition: 2, respond: notLeader, times: 2 })
    assert.deepEqual(await deleted(topic), [2, 2, 2, 2, 'TOPIC_AUTHORIZATION_FAILED', 2])
    assert.equal(moved.struck, 2)
  })

  test('a broker that hangs up once is asked again; one that always does fails its own partitions', async () => {
    const topic = await withTopic()
    {
      using once = broker.control({ api: 'DeleteRecords', node: 2, respond: 'drop' })
      assert.deepEqual(await deleted(topic), [2, 2, 2, 2, 2, 2])
      assert.equal(once.struck, 1)
    }
    using _ = broker.control({ api: 'DeleteRecords', node: 2, respond: 'drop', times: Number.POSITIVE_INFINITY })
    const expected = partitions.map((partition) =>
      broker.leaderOf(topic, partition) === 2 ? 'OTTLA_KAFKA_CONNECTION' : 2,
    )
    assert.ok(expected.includes('OTTLA_KAFKA_CONNECTION'))
    assert.deepEqual(await deleted(topic, 2_000), expected)
  })

  test('a broker that never answers takes the time there is, once, and fails its own partitions', async () => {
    const topic = await withTopic()
    using silent = broker.control({
      api: 'DeleteRecords',
      node: 3,
      respond: 'silence',
      times: Number.POSITIVE_INFINITY,
    })
    const startMs = performance.now()
    const results = await deleted(topic, 1_000)
    assert.equal(silent.struck, 1)
    assert.ok(performance.now() - startMs >= 900)
    assert.deepEqual(
      results,
      partitions.map((partition) => (broker.leaderOf(topic, partition) === 3 ? 'OTTLA_KAFKA_TIMEOUT' : 2)),
    )
  })

  test('groups are asked about in one request per coordinator, and again where it has moved', async () => {
    const topic = await withTopic()
    const groups = Array.from({ length: 12 }, (_, index) => `group-${index}`)
    const admin = client.admin()
    for (const group of groups) {
      await admin.alterOffsets(await admin.planOffsets(group, [{ topic, partition: 0, to: 'latest' }]))
    }
    const coordinators = new Set(groups.map((group) => broker.coordinatorOf(group))).size
    assert.ok(coordinators > 1)
    const states = async () => (await admin.describeGroups(groups)).map(({ state, error }) => error?.code ?? state)
    {
      using requests = counted('DescribeGroups')
      assert.deepEqual(
        await states(),
        groups.map(() => 'Empty'),
      )
      assert.equal(requests.struck, coordinators)
    }
    using moved = broker.control({
      api: 'DescribeGroups',
      node: broker.coordinatorOf('group-0'),
      respond: notCoordinator,
    })
    assert.deepEqual(
      await states(),
      groups.map(() => 'Empty'),
    )
    assert.equal(moved.struck, 1)
    using requests = counted('DeleteGroups')
    assert.ok((await admin.deleteGroups(groups)).every(({ error }) => error === undefined))
    assert.equal(requests.struck, coordinators)
  })

  test('a partition whose commit is refused leaves the others of the plan changed', async () => {
    const topic = await withTopic()
    const admin = client.admin()
    const plan = await admin.planOffsets('partly', [{ topic, to: 'latest' }])
    using _ = broker.control({ api: 'OffsetCommit', topic, partition: 3, respond: unauthorized })
    const results = await admin.alterOffsets(plan)
    assert.deepEqual(
      results.map(({ error }) => error?.code),
      [undefined, undefined, undefined, 'OTTLA_KAFKA_AUTHORIZATION', undefined, undefined],
    )
    assert.deepEqual(
      (await admin.fetchOffsets('partly')).map(({ partition }) => partition),
      [0, 1, 2, 4, 5],
    )
  })

  test('a member that joins between the look and the change keeps its offsets', async () => {
    const topic = await withTopic()
    const admin = client.admin()
    const plan = await admin.planOffsets('joined', [{ topic, to: 'latest' }])
    using _ = broker.control({ api: 'OffsetCommit', group: 'joined', respond: unknownMember })
    await assert.rejects(admin.alterOffsets(plan), { code: 'OTTLA_KAFKA_GROUP_ACTIVE' })
    assert.deepEqual(await admin.fetchOffsets('joined'), [])
  })

  test('a plan is applied at whoever coordinates the group by then', async () => {
    const topic = await withTopic()
    const admin = client.admin()
    const plan = await admin.planOffsets('moving', [{ topic, to: 'latest' }])
    const coordinator = broker.coordinatorOf('moving')
    await broker.stopNode(coordinator)
    try {
      assert.notEqual(broker.coordinatorOf('moving'), coordinator)
      assert.ok((await admin.alterOffsets(plan)).every(({ error }) => error === undefined))
    } finally {
      await broker.startNode(coordinator)
    }
  })
})
