import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { OttlaError } from '../../contract/errors.ts'
import type { DoctorFacts, GroupFacts, PartitionProgress, TopicFacts } from './facts.ts'
import { type CheckName, judge } from './judge.ts'

const sound: Readonly<Record<string, string>> = {
  'cleanup.policy': 'delete',
  'retention.ms': '604800000',
  'retention.bytes': '-1',
  'min.insync.replicas': '2',
  'max.message.bytes': '1048588',
  'unclean.leader.election.enable': 'false',
}
const forEver = { 'retention.ms': '-1', 'max.message.bytes': '2000000' }

function topicFacts(topic: string, given: Partial<TopicFacts> & { set?: Record<string, string> } = {}): TopicFacts {
  const { set, ...rest } = given
  const partition = (index: number) => ({
    partition: index,
    leader: 1,
    leaderEpoch: 0,
    replicas: [1, 2, 3],
    isr: [1, 2, 3],
    offline: [],
    error: 0,
  })
  return {
    topic,
    exists: true,
    id: 'AAAAAAAAAAAAAAAAAAAAAA',
    internal: false,
    partitions: [partition(0)],
    replicas: 3,
    configs: { ...sound, ...set },
    mayRead: true,
    mayWrite: true,
    newestAheadMs: -1_000,
    ...rest,
  }
}

function groupFacts(progress: Partial<PartitionProgress>, rest: Partial<GroupFacts['description']> = {}): GroupFacts {
  const all = { topic: 'orders', partition: 0, committed: 50, logStart: 0, logEnd: 100 }
  return {
    description: {
      group: 'billing',
      state: 'Stable',
      type: 'classic',
      protocol: 'range',
      members: [],
      mayRead: true,
      ...rest,
    },
    progress: [{ ...all, expiredBefore: 0, expiringBefore: 20, ...progress }],
    unread: null,
  }
}

const settings = {
  'default.replication.factor': '3',
  'auto.create.topics.enable': 'false',
  'offsets.retention.minutes': '10080',
}
const broker = (id: number, given: Partial<DoctorFacts['brokers'][number]> = {}) => ({
  id,
  address: `b${id}:9092`,
  unreachable: null,
  metadataVersion: 30,
  protocol: '0:13',
  settings,
  ...given,
})

function factsWith(given: Partial<DoctorFacts> = {}): DoctorFacts {
  return {
    clusterId: 'c',
    brokers: [broker(1), broker(2), broker(3)],
    topics: [
      topicFacts('orders'),
      topicFacts('dlq.billing', { set: forEver }),
      topicFacts('ottla.control.billing', { set: { 'cleanup.policy': 'compact' } }),
    ],
    offsetsTopic: topicFacts('__consumer_offsets', { internal: true }),
    groups: [groupFacts({})],
    services: [{ service: 'billing', group: 'billing', deadLetters: 'dlq.billing', control: 'ottla.control.billing' }],
    clock: { aheadMs: 10, uncertainMs: 1 },
    store: { version: 3, wanted: 3, clock: { aheadMs: 0, uncertainMs: 1 }, inboxRetentionDays: 30 },
    ...given,
  }
}

/** The facts of a good cluster, with one topic otherwise. */
function withTopic(topic: TopicFacts): DoctorFacts {
  const facts = factsWith()
  return { ...facts, topics: [...facts.topics.filter((each) => each.topic !== topic.topic), topic] }
}

/** What is said beside `ok`, as `status subject`. */
function trouble(facts: DoctorFacts, check: CheckName): string[] {
  return judge(facts)
    .filter((each) => each.check === check && each.status !== 'ok')
    .map(({ status, subject }) => `${status} ${subject}`)
}

test('a good cluster has nothing to complain of, and every check says so once', () => {
  const findings = judge(factsWith())
  assert.deepEqual(
    findings.filter(({ status }) => status !== 'ok'),
    [],
  )
  assert.equal(new Set(findings.map(({ check }) => check)).size, findings.length)
  assert.equal(findings.length, 12)
})

test('whatever is not ok says what to do, unless it could not be looked at', () => {
  const bad = factsWith({
    brokers: [broker(1, { unreachable: 'no answer' }), broker(2, { protocol: '0:12' }), broker(3, { settings: null })],
    topics: [topicFacts('orders', { replicas: 1, set: { 'min.insync.replicas': '3', 'retention.ms': '-1' } })],
    groups: [groupFacts({ committed: 10, logStart: 50 })],
    clock: { aheadMs: -90_000, uncertainMs: 1 },
    store: null,
  })
  const findings = judge(bad)
  assert.ok(findings.filter(({ status }) => status === 'fail').length >= 6)
  for (const { status, todo, what } of findings) {
    if (status === 'warn' || status === 'fail') assert.notEqual(todo, null, what)
  }
})

describe('brokers', () => {
  test('one that cannot be asked is a failure', () => {
    const facts = factsWith({ brokers: [broker(1), broker(2, { unreachable: 'no answer' }), broker(3)] })
    assert.deepEqual(trouble(facts, 'brokers'), ['fail broker 2'])
  })
  test('two releases at once are a warning', () => {
    const facts = factsWith({ brokers: [broker(1), broker(2, { protocol: '0:12' }), broker(3)] })
    assert.deepEqual(trouble(facts, 'brokers'), ['warn cluster'])
  })
  test('the release is named after the metadata version', () => {
    for (const [metadataVersion, release] of [
      [30, '(4.3)'],
      [29, '(4.2)'],
      [25, '(4.0)'],
      [31, '(after 4.3)'],
    ] as const) {
      const [found] = judge(factsWith({ brokers: [1, 2, 3].map((id) => broker(id, { metadataVersion })) }))
      assert.ok(found?.what.includes(release), found?.what)
    }
  })
})

describe('replication', () => {
  test('fewer than three replicas fail on three brokers', () => {
    assert.deepEqual(trouble(withTopic(topicFacts('orders', { replicas: 2 })), 'replication'), ['fail topic orders'])
  })
  test('one replica on one broker is only the warning that it is one broker', () => {
    const one = { ...settings, 'default.replication.factor': '1' }
    const facts = { ...withTopic(topicFacts('orders', { replicas: 1 })), brokers: [broker(1, { settings: one })] }
    assert.deepEqual(trouble(facts, 'replication'), ['warn cluster'])
  })
  test('a partition without a leader fails, a replica behind warns', () => {
    const [partition] = topicFacts('orders').partitions
    const leaderless = topicFacts('orders', { partitions: [{ ...partition!, leader: -1, isr: [] }] })
    assert.deepEqual(trouble(withTopic(leaderless), 'replication'), ['fail topic orders'])
    const behind = topicFacts('orders', { partitions: [{ ...partition!, isr: [1, 2] }] })
    assert.deepEqual(trouble(withTopic(behind), 'replication'), ['warn topic orders'])
  })
})

describe('min.insync.replicas', () => {
  const cases: [string, number, string | null][] = [
    ['4', 3, 'warn'],
    ['3', 3, 'warn'],
    ['2', 3, null],
    ['1', 3, 'fail'],
    ['1', 1, null],
  ]
  for (const [least, replicas, expected] of cases) {
    test(`${least} with ${replicas} replicas: ${expected ?? 'ok'}`, () => {
      const [partition] = topicFacts('orders').partitions
      const isr = [1, 2, 3].slice(0, replicas)
      const partitions = [{ ...partition!, replicas: isr, isr }]
      const topic = topicFacts('orders', { replicas, partitions, set: { 'min.insync.replicas': least } })
      assert.deepEqual(trouble(withTopic(topic), 'in-sync'), expected === null ? [] : [`${expected} topic orders`])
    })
  }
  test('too few in sync now cannot be written now', () => {
    const [partition] = topicFacts('orders').partitions
    const topic = topicFacts('orders', { partitions: [{ ...partition!, isr: [1] }] })
    assert.deepEqual(trouble(withTopic(topic), 'in-sync'), ['fail topic orders'])
  })
  test('a configuration that may not be read is said to be unread', () => {
    assert.deepEqual(trouble(withTopic(topicFacts('orders', { configs: {} })), 'in-sync'), ['skipped topic orders'])
  })
})

test('unclean elections fail, auto-creation warns', () => {
  const unclean = topicFacts('orders', { set: { 'unclean.leader.election.enable': 'true' } })
  assert.deepEqual(trouble(withTopic(unclean), 'elections'), ['fail topic orders'])
  const on = { ...settings, 'auto.create.topics.enable': 'true' }
  const facts = factsWith({ brokers: [broker(1, { settings: on }), broker(2), broker(3)] })
  assert.deepEqual(trouble(facts, 'auto-create'), ['warn cluster'])
})

test('committed offsets must be replicated and kept for a week', () => {
  const thin = factsWith({ offsetsTopic: topicFacts('__consumer_offsets', { replicas: 1 }) })
  assert.deepEqual(trouble(thin, 'offsets-topic'), ['fail topic __consumer_offsets'])
  const brief = { ...settings, 'offsets.retention.minutes': '1440' }
  const facts = factsWith({ brokers: [1, 2, 3].map((id) => broker(id, { settings: brief })) })
  assert.deepEqual(trouble(facts, 'offsets-topic'), ['warn cluster'])
})

describe('retention against lag', () => {
  const cases: [string, Partial<PartitionProgress>, string[]][] = [
    ['near the end', { committed: 50, expiredBefore: 10, expiringBefore: 20 }, []],
    ['at 80 % of the retention', { committed: 15, expiredBefore: 10, expiringBefore: 20 }, ['warn group billing']],
    ['past the retention', { committed: 5, expiredBefore: 10, expiringBefore: 20 }, ['fail group billing']],
    ['behind the start of the log', { committed: 5, logStart: 30, expiredBefore: 40 }, ['fail group billing']],
    ['without a limit by time', { committed: 0, expiredBefore: null, expiringBefore: null }, []],
  ]
  for (const [what, progress, expected] of cases) {
    test(what, () => assert.deepEqual(trouble(factsWith({ groups: [groupFacts(progress)] }), 'retention'), expected))
  }
  test('records already deleted are counted', () => {
    const facts = factsWith({ groups: [groupFacts({ committed: 5, logStart: 30, expiredBefore: 40 })] })
    const found = judge(facts).find(({ check }) => check === 'retention')
    assert.match(found?.what ?? '', /^orders: 25 records were deleted before they were handled/)
  })
})

describe('dead-letter and control topics', () => {
  test('a dead-letter topic that forgets fails, with the command that mends it', () => {
    const facts = withTopic(topicFacts('dlq.billing', { set: { 'max.message.bytes': '2000000' } }))
    assert.deepEqual(trouble(facts, 'dead-letters'), ['fail topic dlq.billing'])
    const found = judge(facts).find(({ check }) => check === 'dead-letters')
    assert.equal(found?.todo, 'ottla topics alter dlq.billing -c retention.ms=-1')
  })
  test('one that takes smaller records than its source fails, one without room for headers warns', () => {
    const small = topicFacts('dlq.billing', { set: { ...forEver, 'max.message.bytes': '1000' } })
    assert.deepEqual(trouble(withTopic(small), 'dead-letters'), ['fail topic dlq.billing'])
    const tight = topicFacts('dlq.billing', { set: { ...forEver, 'max.message.bytes': '1048588' } })
    assert.deepEqual(trouble(withTopic(tight), 'dead-letters'), ['warn topic dlq.billing'])
  })
  test('a control topic must be compacted and have one partition', () => {
    assert.deepEqual(trouble(withTopic(topicFacts('ottla.control.billing')), 'control'), [
      'fail topic ottla.control.billing',
    ])
    const [partition] = topicFacts('x').partitions
    const wide = { partitions: [partition!, { ...partition!, partition: 1 }], set: { 'cleanup.policy': 'compact' } }
    assert.deepEqual(trouble(withTopic(topicFacts('ottla.control.billing', wide)), 'control'), [
      'fail topic ottla.control.billing',
    ])
  })
  test('topics of other services are known by their names', () => {
    assert.deepEqual(trouble(withTopic(topicFacts('shop.dlq.mail')), 'dead-letters'), ['fail topic shop.dlq.mail'])
  })
  test('what a service needs and is not there fails', () => {
    const facts = factsWith({ topics: [topicFacts('orders')] })
    assert.deepEqual(trouble(facts, 'dead-letters'), ['fail topic dlq.billing'])
    assert.deepEqual(trouble(facts, 'control'), ['fail topic ottla.control.billing'])
  })
})

describe('rights', () => {
  test('lacking Read on a source, Write on the dead letters, Read on the group', () => {
    assert.deepEqual(trouble(withTopic(topicFacts('orders', { mayRead: false })), 'rights'), ['fail topic orders'])
    const dead = topicFacts('dlq.billing', { mayWrite: false, set: forEver })
    assert.deepEqual(trouble(withTopic(dead), 'rights'), ['fail topic dlq.billing'])
    const facts = factsWith({ groups: [groupFacts({}, { mayRead: false })] })
    assert.deepEqual(trouble(facts, 'rights'), ['fail group billing'])
  })
  test('retry topics are written by the service itself, and are no sources of dead letters', () => {
    const retry = 'retry.billing.30s'
    const members = [
      { assignment: [{ topic: retry, partition: 0 }] },
    ] as unknown as GroupFacts['description']['members']
    const groups = [groupFacts({}, { members })]
    const large = { set: { 'max.message.bytes': '1999999', 'retention.ms': '-1' } }
    const good = { ...withTopic(topicFacts(retry, large)), groups }
    assert.deepEqual([...trouble(good, 'dead-letters'), ...trouble(good, 'store'), ...trouble(good, 'rights')], [])
    const mute = { ...withTopic(topicFacts(retry, { ...large, mayWrite: false })), groups }
    assert.deepEqual(trouble(mute, 'rights'), [`fail topic ${retry}`])
  })
  test('a topic that may not be seen is a matter of rights, not of being there', () => {
    const error = new OttlaError('OTTLA_KAFKA_AUTHORIZATION', 'no')
    const facts = withTopic(topicFacts('dlq.billing', { exists: false, partitions: [], configs: {}, error }))
    assert.deepEqual(trouble(facts, 'rights'), ['fail topic dlq.billing'])
    assert.deepEqual(trouble(facts, 'dead-letters'), [])
  })
})

describe('clocks', () => {
  test('seconds warn, a minute fails, and what the way costs is taken off', () => {
    for (const [aheadMs, uncertainMs, expected] of [
      [4_000, 0, []],
      [-6_000, 0, ['warn controller']],
      [61_000, 0, ['fail controller']],
      [6_000, 2_000, []],
    ] as const) {
      assert.deepEqual(trouble(factsWith({ clock: { aheadMs, uncertainMs } }), 'clock'), expected)
    }
  })
  test('records from the future warn, a clock that is not told is skipped', () => {
    assert.deepEqual(trouble(withTopic(topicFacts('orders', { newestAheadMs: 3_600_000 })), 'clock'), [
      'warn topic orders',
    ])
    assert.deepEqual(trouble(factsWith({ clock: { unknown: 'no' } }), 'clock'), ['skipped controller'])
  })
})

describe('the store', () => {
  const store = factsWith().store!
  test('an inbox that forgets before the topic does warns', () => {
    assert.deepEqual(trouble(factsWith({ store: { ...store, inboxRetentionDays: 7 } }), 'store'), ['warn topic orders'])
    assert.deepEqual(trouble(factsWith({ store: { ...store, inboxRetentionDays: 8 } }), 'store'), [])
    assert.deepEqual(trouble(withTopic(topicFacts('orders', { set: forEver })), 'store'), ['warn topic orders'])
  })
  test('a schema that is older or missing fails', () => {
    assert.deepEqual(trouble(factsWith({ store: { ...store, version: 2 } }), 'store'), ['fail database'])
    assert.deepEqual(trouble(factsWith({ store: { ...store, version: null } }), 'store'), ['fail database'])
  })
})
