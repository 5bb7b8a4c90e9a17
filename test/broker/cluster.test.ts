/** Topics, configurations, nodes, faults, and what is advertised: asked of the cluster state machine. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { Api, type ApiKey, apiName, versionRange } from '../../src/wire/protocol.ts'
import { zeroUuid } from '../../src/wire/uuid.ts'
import { batch, errorName, Harness } from './harness.ts'

test('every advertised version is one that Apache Kafka 4.3.1 advertises too', () => {
  const golden = new Map(
    readFileSync(new URL('./apiversions-4.3.1.txt', import.meta.url), 'utf8')
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => line.split(' ').map(Number) as [number, number, number])
      .map(([key, min, max]) => [key, { min, max }]),
  )
  const harness = new Harness()
  const { apiKeys } = harness.ask(Api.ApiVersions, {})
  assert.ok(apiKeys.length > 20)
  for (const { apiKey, minVersion, maxVersion } of apiKeys) {
    const real = golden.get(apiKey)
    assert.ok(real !== undefined && minVersion >= real.min && maxVersion <= real.max, apiName(apiKey))
  }
})

test('every advertised version of every API can be refused in its own form', () => {
  const harness = new Harness()
  harness.topic('t')
  for (const handler of harness.cluster.apis()) {
    const known = versionRange(handler.key)
    for (let version = Math.max(handler.min, known.min); version <= handler.max; version++) {
      const rule = harness.cluster.control({ api: apiName(handler.key) as keyof typeof Api, respond: 29 })
      harness.ask(handler.key, samples[handler.key] ?? {}, { version })
      assert.equal(rule.struck, 1)
    }
  }
})

test('every advertised version of every API is answered, asked about nothing that exists', () => {
  for (const handler of new Harness().cluster.apis()) {
    const known = versionRange(handler.key)
    for (let version = Math.max(handler.min, known.min); version <= handler.max; version++) {
      const harness = new Harness({ nodes: 2 })
      harness.later(handler.key, samples[handler.key] ?? {}, { version, node: 1 })
      harness.later(handler.key, samples[handler.key] ?? {}, { version, node: 2 })
    }
  }
})

/** Requests that name something, where the empty request names nothing. */
const samples: Partial<Record<ApiKey, object>> = {
  [Api.Produce]: { acks: -1, topicData: [{ name: 't', partitionData: [{ index: 0, records: batch(['a']) }] }] },
  [Api.Fetch]: { topics: [{ topic: 't', topicId: zeroUuid, partitions: [{ partition: 0, fetchOffset: 0 }] }] },
  [Api.ListOffsets]: { topics: [{ name: 't', partitions: [{ partitionIndex: 0, timestamp: -1 }] }] },
  [Api.Metadata]: { topics: [{ name: 't' }] },
  [Api.FindCoordinator]: {},
  [Api.DeleteGroups]: { groupsNames: ['g'] },
  [Api.DescribeGroups]: { groups: ['g'] },
  [Api.DescribeConfigs]: { resources: [{ resourceType: 2, resourceName: 't', configurationKeys: null }] },
}

test('an API or version that is not advertised closes the connection', () => {
  const harness = new Harness()
  assert.equal(harness.send(Api.EndTxn, {}, { version: 1 }).kind, 'close')
  assert.equal(harness.send(Api.Produce, {}, { version: 13 }).kind, 'close')
})

function create(harness: Harness, topic: object, validateOnly = false) {
  return harness.ask(Api.CreateTopics, { topics: [topic], validateOnly }).topics[0]!
}

test('topics are created with defaults, configurations and an id of their own', () => {
  const harness = new Harness({ nodes: 3, partitionsDefault: 4 })
  const made = create(harness, {
    name: 't',
    numPartitions: -1,
    replicationFactor: -1,
    configs: [{ name: 'retention.ms', value: '5' }],
  })
  assert.deepEqual([made.numPartitions, made.replicationFactor, errorName(made.errorCode)], [4, 3, 'NONE'])
  assert.equal(made.configs!.find(({ name }) => name === 'retention.ms')!.value, '5')
  const body = harness.ask(Api.Metadata, { topics: [{ name: 't' }] })
  assert.equal(body.topics[0]!.topicId, made.topicId)
  assert.deepEqual(new Set(body.topics[0]!.partitions.map(({ leaderId }) => leaderId)), new Set([1, 2, 3]))
  for (const partition of body.topics[0]!.partitions) assert.equal(partition.isrNodes.length, 3)
})

test('what Kafka refuses to create is refused by the same names', () => {
  const harness = new Harness({ nodes: 2 })
  const refused = (topic: object) => {
    const { errorCode, errorMessage } = create(harness, { name: 't', numPartitions: 1, replicationFactor: 1, ...topic })
    assert.ok(errorMessage !== null && errorMessage !== '')
    return errorName(errorCode)
  }
  assert.equal(refused({ name: 'bad topic!' }), 'INVALID_TOPIC_EXCEPTION')
  assert.equal(refused({ name: '..' }), 'INVALID_TOPIC_EXCEPTION')
  assert.equal(refused({ name: 'x'.repeat(250) }), 'INVALID_TOPIC_EXCEPTION')
  assert.equal(refused({ numPartitions: 0 }), 'INVALID_PARTITIONS')
  assert.equal(refused({ numPartitions: 1_000_000 }), 'INVALID_PARTITIONS')
  assert.equal(refused({ replicationFactor: 3 }), 'INVALID_REPLICATION_FACTOR')
  assert.equal(refused({ configs: [{ name: 'no.such', value: '1' }] }), 'INVALID_CONFIG')
  assert.equal(refused({ configs: [{ name: 'retention.ms', value: 'soon' }] }), 'INVALID_CONFIG')
  harness.topic('there')
  assert.equal(refused({ name: 'there' }), 'TOPIC_ALREADY_EXISTS')
  harness.topic('a.b')
  assert.equal(refused({ name: 'a_b' }), 'INVALID_TOPIC_EXCEPTION')
  assert.deepEqual([...harness.cluster.topics.keys()], ['there', 'a.b'])
})

test('validation alone creates nothing, and partitions may be placed by hand', () => {
  const harness = new Harness({ nodes: 3 })
  assert.equal(create(harness, { name: 't', numPartitions: 2, replicationFactor: 1 }, true).numPartitions, 2)
  assert.equal(harness.cluster.topics.size, 0)
  create(harness, {
    name: 't',
    numPartitions: -1,
    replicationFactor: -1,
    assignments: [
      { partitionIndex: 0, brokerIds: [3, 1] },
      { partitionIndex: 1, brokerIds: [2, 3] },
    ],
  })
  assert.deepEqual(
    harness.cluster.topics.get('t')!.partitions.map(({ replicas, leader }) => [replicas, leader]),
    [
      [[3, 1], 3],
      [[2, 3], 2],
    ],
  )
})

test('topics are deleted by name and by id, and partitions are added', () => {
  const harness = new Harness()
  harness.topic('t')
  harness.topic('u')
  const grow = (count: number) =>
    errorName(
      harness.ask(Api.CreatePartitions, { topics: [{ name: 't', count, assignments: null }] }).results[0]!.errorCode,
    )
  assert.equal(grow(3), 'NONE')
  assert.equal(harness.cluster.topics.get('t')!.partitions.length, 3)
  assert.equal(grow(3), 'INVALID_PARTITIONS')
  const { id } = harness.cluster.topics.get('u')!
  const gone = harness.ask(Api.DeleteTopics, { topics: [{ name: 't' }, { name: null, topicId: id }, { name: 'v' }] })
  assert.deepEqual(
    gone.responses.map(({ name, errorCode }) => [name, errorName(errorCode)]),
    [
      ['t', 'NONE'],
      ['u', 'NONE'],
      ['v', 'UNKNOWN_TOPIC_OR_PARTITION'],
    ],
  )
  assert.equal(harness.cluster.topics.size, 0)
})

test('unknown topics are created on request only where the broker was told to', () => {
  const ask = (autoCreateTopics: boolean, allowAutoTopicCreation: boolean) => {
    const harness = new Harness({ autoCreateTopics })
    return errorName(
      harness.ask(Api.Metadata, { topics: [{ name: 't' }], allowAutoTopicCreation }).topics[0]!.errorCode,
    )
  }
  assert.equal(ask(false, true), 'UNKNOWN_TOPIC_OR_PARTITION')
  assert.equal(ask(true, false), 'UNKNOWN_TOPIC_OR_PARTITION')
  assert.equal(ask(true, true), 'NONE')
})

test('configurations are described with their source, set, appended to and put back', () => {
  const harness = new Harness()
  harness.topic('t')
  const value = (name: string) => {
    const { configs } = harness.ask(Api.DescribeConfigs, {
      resources: [{ resourceType: 2, resourceName: 't', configurationKeys: [name] }],
    }).results[0]!
    return [configs[0]!.value, configs[0]!.configSource]
  }
  const change = (name: string, configOperation: number, to: string | null) =>
    errorName(
      harness.ask(Api.IncrementalAlterConfigs, {
        resources: [{ resourceType: 2, resourceName: 't', configs: [{ name, configOperation, value: to }] }],
      }).responses[0]!.errorCode,
    )
  assert.deepEqual(value('min.insync.replicas'), ['1', 5])
  assert.equal(change('min.insync.replicas', 0, '2'), 'NONE')
  assert.deepEqual(value('min.insync.replicas'), ['2', 1])
  assert.equal(change('min.insync.replicas', 1, null), 'NONE')
  assert.deepEqual(value('min.insync.replicas'), ['1', 5])
  assert.equal(change('cleanup.policy', 2, 'compact'), 'NONE')
  assert.deepEqual(value('cleanup.policy'), ['delete,compact', 1])
  assert.equal(change('cleanup.policy', 3, 'delete'), 'NONE')
  assert.deepEqual(value('cleanup.policy'), ['compact', 1])
  assert.equal(change('retention.ms', 2, '1'), 'INVALID_CONFIG')
  assert.equal(change('no.such', 0, '1'), 'INVALID_CONFIG')
  const broker = harness.ask(Api.DescribeConfigs, {
    resources: [{ resourceType: 4, resourceName: '1', configurationKeys: null }],
  }).results[0]!
  assert.equal(broker.configs.find(({ name }) => name === 'default.replication.factor')!.value, '1')
})

test('a broker that stops hands its leaderships to in-sync replicas and takes none back by itself', () => {
  const harness = new Harness({ nodes: 3 })
  harness.topic('t', 3)
  const leaders = () => harness.cluster.topics.get('t')!.partitions.map(({ leader }) => leader)
  const inSync = () => harness.cluster.topics.get('t')!.partitions.map((partition) => [...partition.inSync].sort())
  assert.deepEqual(leaders(), [1, 2, 3])
  harness.cluster.stopNode(2, harness.nowMs)
  assert.deepEqual(leaders(), [1, 3, 3])
  assert.deepEqual(inSync(), [
    [1, 3],
    [1, 3],
    [1, 3],
  ])
  assert.equal(harness.cluster.topics.get('t')!.partitions[1]!.leaderEpoch, 1)
  assert.deepEqual(
    harness.ask(Api.Metadata, { topics: null }).brokers.map(({ nodeId }) => nodeId),
    [1, 3],
  )
  assert.deepEqual(harness.ask(Api.Metadata, { topics: null }).topics[0]!.partitions[0]!.offlineReplicas, [2])
  harness.cluster.startNode(2, harness.nowMs)
  assert.deepEqual(leaders(), [1, 3, 3])
  assert.deepEqual(inSync(), [
    [1, 2, 3],
    [1, 2, 3],
    [1, 2, 3],
  ])
})

test('a partition whose only replica is down has no leader, the others are normal', () => {
  const harness = new Harness({ nodes: 2 })
  harness.cluster.createTopic({ name: 't', partitions: 2, replicationFactor: 1, configs: new Map() })
  harness.cluster.stopNode(2, harness.nowMs)
  const partitions = () =>
    harness
      .ask(Api.Metadata, { topics: [{ name: 't' }] })
      .topics[0]!.partitions.map(({ errorCode, leaderId }) => [errorName(errorCode), leaderId])
  assert.deepEqual(partitions(), [
    ['NONE', 1],
    ['LEADER_NOT_AVAILABLE', -1],
  ])
  harness.cluster.startNode(2, harness.nowMs)
  assert.deepEqual(partitions(), [
    ['NONE', 1],
    ['NONE', 2],
  ])
})

test('only a replica that was in sync to the end brings a partition back', () => {
  const harness = new Harness({ nodes: 2 })
  harness.topic('t')
  const partition = harness.cluster.topics.get('t')!.partitions[0]!
  const first = partition.leader
  harness.cluster.stopNode(3 - first, harness.nowMs)
  harness.cluster.stopNode(first, harness.nowMs)
  harness.cluster.startNode(3 - first, harness.nowMs)
  assert.equal(partition.leader, -1)
  harness.cluster.startNode(first, harness.nowMs)
  assert.equal(partition.leader, first)
  assert.deepEqual([...partition.inSync].sort(), [1, 2])
})

// ── faults ──

test('a fault rule strikes the partition it names and leaves the others alone', () => {
  const harness = new Harness()
  harness.topic('t', 2)
  const rule = harness.cluster.control({ api: 'Produce', topic: 't', partition: 1, respond: 6 })
  assert.equal(errorName(harness.produce('t', batch(['a'])).errorCode), 'NONE')
  assert.equal(errorName(harness.produce('t', batch(['a']), { partition: 1 }).errorCode), 'NOT_LEADER_OR_FOLLOWER')
  assert.equal(errorName(harness.produce('t', batch(['a']), { partition: 1 }).errorCode), 'NONE')
  assert.equal(rule.struck, 1)
})

test('a fault rule counts, skips, matches groups, and ends when disposed', () => {
  const harness = new Harness()
  const beat = (groupId: string) =>
    errorName(harness.ask(Api.Heartbeat, { groupId, memberId: 'm', generationId: 1 }).errorCode)
  const rule = harness.cluster.control({ api: 'Heartbeat', group: 'g', respond: 15, times: 2, skip: 1 })
  const seen = [beat('g'), beat('other'), beat('g'), beat('g'), beat('g')]
  const own = 'UNKNOWN_MEMBER_ID'
  assert.deepEqual(seen, [own, own, 'COORDINATOR_NOT_AVAILABLE', 'COORDINATOR_NOT_AVAILABLE', own])
  assert.equal(rule.struck, 2)
  const always = harness.cluster.control({ api: 'Heartbeat', respond: 15, times: Number.POSITIVE_INFINITY })
  assert.equal(beat('g'), 'COORDINATOR_NOT_AVAILABLE')
  always[Symbol.dispose]()
  assert.equal(beat('g'), own)
})

test('a request is dropped, applied and dropped, held back or never answered', () => {
  const harness = new Harness()
  harness.topic('t')
  const end = () => harness.cluster.topics.get('t')!.partitions[0]!.log.endOffset
  const produce = () =>
    harness.send(
      Api.Produce,
      { acks: -1, topicData: [{ name: 't', partitionData: [{ index: 0, records: batch(['a']) }] }] },
      { version: 9 },
    )
  harness.cluster.control({ api: 'Produce', respond: 'drop' })
  assert.equal(produce().kind, 'close')
  assert.equal(end(), 0)
  harness.cluster.control({ api: 'Produce', respond: 'apply-then-drop' })
  const dropped = produce()
  assert.equal(dropped.kind === 'wait' ? dropped.wait.settled?.kind : dropped.kind, 'close')
  assert.equal(end(), 1)
  harness.cluster.control({ api: 'Produce', respond: 'delay', delayMs: 300 })
  const delayed = produce()
  assert.ok(delayed.kind === 'wait')
  assert.equal(end(), 2)
  harness.advance(299)
  assert.equal(delayed.wait.settled, null)
  harness.advance(1)
  assert.equal(delayed.wait.settled!.kind, 'answer')
  harness.cluster.control({ api: 'Produce', respond: 'silence' })
  const silent = produce()
  harness.advance(1_000_000)
  assert.ok(silent.kind === 'wait' && silent.wait.settled === null)
  assert.equal(end(), 2)
})
