/**
 * What the admin changes, over the real protocol, on any Kafka with at least two brokers. Names are of this run alone, so
 * that a shared cluster can be used.
 */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import type { OffsetPlan, OffsetTarget } from '../../src/kafka/admin/offset-plan.ts'
import { KafkaClient } from '../../src/kafka/client.ts'

/** A client, and a topic of three partitions with ten records each, stamped a second apart. Disposing removes the topic. */
async function withTopic(bootstrapServers: string) {
  const topic = `admin-${randomUUID()}`
  const startMs = Date.now() - 60_000
  const client = new KafkaClient({ bootstrapServers })
  const [made] = await client.admin().createTopics([{ topic, partitions: 3 }])
  assert.equal(made?.created, true, made?.error?.message)
  const producer = client.producer()
  const sent = []
  for (const partition of [0, 1, 2]) {
    for (let n = 0; n < 10; n++) {
      sent.push(producer.send({ topic, partition, value: `${n}`, timestampMs: startMs + n * 1_000 }))
    }
  }
  await Promise.all(sent)
  return {
    client,
    admin: client.admin(),
    topic,
    startMs,
    async [Symbol.asyncDispose]() {
      await client.admin().deleteTopics([topic])
      await client.close()
    },
  }
}

const steps = (plan: OffsetPlan) => plan.offsets.map(({ partition, from, to, heldAt }) => [partition, from, to, heldAt])

/** Set, delete, append and subtract, tried first; one bad resource leaves its neighbours alone. */
export async function configsChangeOneByOne(bootstrapServers: string): Promise<void> {
  await using t = await withTopic(bootstrapServers)
  const { admin, topic } = t
  const resource = { topic }
  const names = ['retention.ms', 'cleanup.policy', 'max.message.bytes', 'segment.ms']
  const configs = async () => {
    const [described] = await admin.describeConfigs([resource], { names })
    return Object.fromEntries((described?.configs ?? []).map((c) => [c.name, `${c.value} ${c.source}`]))
  }
  /** Brokers learn of new settings in their own time. */
  const become = async (expected: Readonly<Record<string, string>>): Promise<void> => {
    const endMs = performance.now() + 20_000
    for (;;) {
      const now = await configs()
      if (isDeepStrictEqual(now, expected)) return
      if (performance.now() > endMs) assert.deepEqual(now, expected)
      await new Promise((done) => setTimeout(done, 50))
    }
  }
  const before = await configs()
  const change = {
    resource,
    set: { 'retention.ms': '1000', 'max.message.bytes': '2000' },
    append: { 'cleanup.policy': ['compact'] },
  }
  const tried = { resource, set: { 'segment.ms': '7200000' } }
  assert.deepEqual(await admin.alterConfigs([tried], { validateOnly: true }), [{ resource }])

  const missing = { topic: `${topic}-missing` }
  const [unknown, changed] = await admin.alterConfigs([{ resource: missing, set: { 'retention.ms': '1' } }, change])
  assert.equal(unknown?.error?.kafka?.name, 'UNKNOWN_TOPIC_OR_PARTITION')
  assert.equal(changed?.error, undefined, changed?.error?.message)
  const untouched = { 'segment.ms': before['segment.ms'] ?? '' }
  await become({
    ...untouched,
    'retention.ms': '1000 topic',
    'max.message.bytes': '2000 topic',
    'cleanup.policy': 'delete,compact topic',
  })
  const [refused] = await admin.alterConfigs([{ resource, set: { 'retention.ms': 'soon', 'max.message.bytes': '1' } }])
  assert.equal(refused?.error?.kafka?.name, 'INVALID_CONFIG')
  const [back] = await admin.alterConfigs([
    { resource, delete: ['retention.ms'], subtract: { 'cleanup.policy': ['delete'] } },
  ])
  assert.equal(back?.error, undefined, back?.error?.message)
  // Had the refused change been taken by half, or the tried one at all, one of these would be otherwise.
  await become({
    ...untouched,
    'retention.ms': before['retention.ms'] ?? '',
    'max.message.bytes': '2000 topic',
    'cleanup.policy': 'compact topic',
  })
}

/** Each broker tells of itself, and one that does not exist is an error of its own. */
export async function brokersAreDescribed(bootstrapServers: string): Promise<void> {
  await using client = new KafkaClient({ bootstrapServers })
  const { brokers } = await client.admin().describeCluster()
  const described = await client
    .admin()
    .describeConfigs([...brokers.map(({ id }) => ({ broker: id })), { broker: 99_999 }, { broker: 'all' }], {
      names: ['node.id'],
      timeoutMs: 5_000,
    })
  for (const [index, { id }] of brokers.entries()) {
    assert.deepEqual(described[index]?.configs, [
      { name: 'node.id', value: `${id}`, source: 'file', readOnly: true, secret: false },
    ])
  }
  assert.equal(described[brokers.length]?.error?.code, 'OTTLA_KAFKA_CONNECTION')
  assert.equal(described[brokers.length + 1]?.error, undefined)
}

/** Every target, computed without changing anything, then applied. */
export async function offsetsChangeAsPlanned(bootstrapServers: string): Promise<void> {
  await using t = await withTopic(bootstrapServers)
  const { admin, topic, startMs } = t
  const group = `admin-${randomUUID()}`
  const plan = (to: OffsetTarget, partition = 0) => admin.planOffsets(group, [{ topic, partition, to }])
  const committed = async () => (await admin.fetchOffsets(group)).map(({ partition, offset }) => [partition, offset])

  assert.deepEqual(steps(await plan('earliest')), [[0, null, 0, null]])
  assert.deepEqual(steps(await plan('latest')), [[0, null, 10, null]])
  assert.deepEqual(steps(await plan({ timestampMs: startMs + 3_500 })), [[0, null, 4, null]])
  assert.deepEqual(steps(await plan({ timestampMs: startMs + 60_000 })), [[0, null, 10, null]])
  assert.deepEqual(steps(await plan({ agoMs: 3_600_000 })), [[0, null, 0, null]])
  assert.deepEqual(steps(await plan({ agoMs: 1 })), [[0, null, 10, null]])
  assert.deepEqual(steps(await plan({ offset: 7 })), [[0, null, 7, null]])
  assert.deepEqual(steps(await plan({ offset: 99 })), [[0, null, 10, 'logEnd']])
  const unshifted = await plan({ shift: -1 })
  assert.equal(unshifted.offsets[0]?.error?.code, 'OTTLA_KAFKA_OFFSET_OUT_OF_RANGE')
  assert.deepEqual(await committed(), [], 'a plan changed something')

  const whole = await admin.planOffsets(group, [{ topic, to: { offset: 5 } }])
  assert.deepEqual(
    (await admin.alterOffsets(whole)).map(({ partition, from, to, error }) => [partition, from, to, error]),
    [0, 1, 2].map((partition) => [partition, null, 5, undefined]),
  )
  assert.deepEqual(await committed(), [
    [0, 5],
    [1, 5],
    [2, 5],
  ])
  // One unknown partition, one moved since: their neighbour changes all the same.
  const mixed = await admin.planOffsets(
    group,
    [
      { topic, partition: 0, to: { shift: -2 } },
      { topic, partition: 1, to: { shift: -9 } },
      { topic, partition: 7, to: 'earliest' },
    ],
    { timeoutMs: 5_000 },
  )
  assert.deepEqual(steps(mixed), [
    [0, 5, 3, null],
    [1, 5, 0, 'logStart'],
    [7, null, -1, null],
  ])
  await admin.alterOffsets(await plan({ offset: 6 }))
  const results = await admin.alterOffsets(mixed)
  assert.deepEqual(
    results.map((result) => result.error?.code ?? result.to),
    ['OTTLA_KAFKA_PLAN_OUTDATED', 0, results[2]?.error?.code],
  )
  assert.equal(results[2]?.error?.kafka?.name, 'UNKNOWN_TOPIC_OR_PARTITION')
  assert.deepEqual(await committed(), [
    [0, 6],
    [1, 0],
    [2, 5],
  ])

  const deleted = await admin.deleteOffsets(group, [
    { topic, partition: 1 },
    { topic, partition: 7 },
  ])
  assert.deepEqual(
    deleted.map((each) => each.error?.kafka?.name),
    [undefined, 'UNKNOWN_TOPIC_OR_PARTITION'],
  )
  assert.deepEqual(await committed(), [
    [0, 6],
    [2, 5],
  ])
  await assert.rejects(
    admin.planOffsets(group, [
      { topic, to: 'latest' },
      { topic, partition: 1, to: 'earliest' },
    ]),
    { code: 'OTTLA_CONFIG_INVALID' },
  )
  assert.deepEqual(await admin.deleteGroups([group]), [{ name: group }])
}

/** A group with a live member keeps its offsets; what others want to know of it is answered. */
export async function liveGroupsKeepTheirOffsets(bootstrapServers: string): Promise<void> {
  await using t = await withTopic(bootstrapServers)
  const { client, admin, topic } = t
  const group = `admin-${randomUUID()}`
  const gained = Promise.withResolvers<void>()
  {
    await using _ = client.consumer(
      { groupId: group, topics: [topic] },
      {
        gained: async () => gained.resolve(),
        batch: () => undefined,
        fault: (_where, error) => gained.reject(error),
      },
    )
    await gained.promise
    const plan = await admin.planOffsets(group, [{ topic, to: 'latest' }])
    assert.equal(plan.members, 1)
    await assert.rejects(admin.alterOffsets(plan), { code: 'OTTLA_KAFKA_GROUP_ACTIVE' })
    // The same, when the member joined after the plan was looked at: the coordinator itself refuses.
    const [subscribed] = await admin.deleteOffsets(group, [{ topic, partition: 0 }])
    assert.equal(subscribed?.error?.kafka?.name, 'GROUP_SUBSCRIBED_TO_TOPIC')
    const groups = await admin.describeGroups([`${group}-none`, group])
    assert.deepEqual(
      groups.map(({ state, members, error }) => [state, members.length, error]),
      [
        ['Dead', 0, undefined],
        ['Stable', 1, undefined],
      ],
    )
    const [none, busy] = await admin.deleteGroups([`${group}-none`, group])
    assert.equal(none?.error?.kafka?.name, 'GROUP_ID_NOT_FOUND')
    assert.equal(busy?.error?.kafka?.name, 'NON_EMPTY_GROUP')
  }
  const plan = await admin.planOffsets(group, [{ topic, to: 'latest' }])
  assert.ok((await admin.alterOffsets(plan)).every((each) => each.error === undefined))
  await admin.deleteGroups([group])
}

/** Records go partition by partition; one that does not exist or is asked too much fails alone. */
export async function recordsAreDeletedPerPartition(bootstrapServers: string): Promise<void> {
  await using t = await withTopic(bootstrapServers)
  const { admin, topic } = t
  const results = await admin.deleteRecords(
    [
      { topic, partition: 0, beforeOffset: 4 },
      { topic, partition: 1, beforeOffset: -1 },
      { topic, partition: 2, beforeOffset: 11 },
      { topic, partition: 9, beforeOffset: 1 },
    ],
    { timeoutMs: 10_000 },
  )
  assert.deepEqual(
    results.map(({ lowWatermark, error }) => error?.kafka?.name ?? lowWatermark),
    [4, 10, 'OFFSET_OUT_OF_RANGE', 'UNKNOWN_TOPIC_OR_PARTITION'],
  )
}
