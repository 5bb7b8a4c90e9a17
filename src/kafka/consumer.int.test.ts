/** The consumer against the embedded broker, which misbehaves on demand. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type EmbeddedBroker, startBroker } from '../broker/embedded.ts'
import { ErrorCode } from '../wire/error-codes.ts'
import { KafkaClient } from './client.ts'
import type { Consumer, ConsumerOptions, GainedPartition, HeldPartition } from './consumer.ts'

async function until(what: string, condition: () => boolean): Promise<void> {
  const end = performance.now() + 10_000
  while (!condition()) {
    if (performance.now() > end) assert.fail(`not in 10 s: ${what}`)
    await sleep(2)
  }
}

/** A consumer that writes down everything it is told. */
class Member implements AsyncDisposable {
  readonly gained: GainedPartition[] = []
  readonly values: string[] = []
  readonly told: string[] = []
  /** Where each partition goes on. */
  readonly next = new Map<number, number>()
  readonly consumer: Consumer
  onReleasing: (parts: readonly HeldPartition[]) => Promise<void> = async () => undefined
  onLost: (parts: readonly HeldPartition[]) => void = () => undefined

  constructor(client: KafkaClient, options: ConsumerOptions) {
    this.consumer = client.consumer(
      { sessionTimeoutMs: 1_000, heartbeatIntervalMs: 50, ...options },
      {
        gained: (parts) => {
          this.gained.push(...parts)
          for (const { held } of parts) this.told.push(`gained ${held.partition}`)
        },
        batch: (held, records) => {
          for (let i = 0; i < records.count; i++) {
            this.values.push(`${held.partition}:${Buffer.from(records.value(i) ?? []).toString()}`)
          }
          this.next.set(held.partition, records.nextPosition)
        },
        releasing: async (parts) => {
          for (const held of parts) this.told.push(`releasing ${held.partition}`)
          await this.onReleasing(parts)
        },
        lost: (parts) => {
          for (const held of parts) this.told.push(`lost ${held.partition}`)
          this.onLost(parts)
        },
        fault: (_, error) => this.told.push(`fault ${error.code}`),
      },
    )
  }

  get held(): HeldPartition {
    const [held] = this.consumer.held()
    assert.ok(held)
    return held
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.consumer[Symbol.asyncDispose]()
  }
}

async function produce(client: KafkaClient, partition: number, ...values: string[]): Promise<void> {
  await using producer = client.producer()
  for (const value of values) await producer.send({ topic: 't', partition, value })
}

const start = (partitions: number, nodes = 1): Promise<EmbeddedBroker> =>
  startBroker({ nodes, sessionTimeoutMinMs: 100, topics: [{ topic: 't', partitions }] })
const inGroup = { groupId: 'g', topics: ['t'] }
const eager = { ...inGroup, assignors: ['range'] } as const

test('commits made one after the other, and at once, are all answered; the last value stands', async () => {
  await using broker = await start(2)
  await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
  await using member = new Member(client, inGroup)
  await until('both are held', () => member.consumer.held().length === 2)
  for (let offset = 1; offset <= 20; offset++) {
    assert.equal(await member.consumer.commit(member.held, { offset, metadata: `m${offset}` }), 'stored')
  }
  const results = await Promise.all(
    [21, 22, 23].map((offset) => member.consumer.commit(member.held, { offset, metadata: '' })),
  )
  assert.deepEqual(results, ['stored', 'stored', 'stored'])
  const committed = broker.committed('g').find(({ partition }) => partition === member.held.partition)
  assert.equal(committed?.offset, 23)
})

test('what waits while a commit is in flight is sent as one request', async () => {
  await using broker = await start(1)
  await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
  await using member = new Member(client, inGroup)
  await until('it is held', () => member.consumer.held().length === 1)
  using slow = broker.control({ api: 'OffsetCommit', respond: 'delay', delayMs: 100 })
  using counted = broker.control({ api: 'OffsetCommit', respond: 'delay', delayMs: 0, times: Infinity })
  const first = member.consumer.commit(member.held, { offset: 1, metadata: '' })
  await until('it is in flight', () => slow.struck === 1)
  const later = [2, 3, 4, 5].map((offset) => member.consumer.commit(member.held, { offset, metadata: '' }))
  assert.deepEqual(await Promise.all([first, ...later]), Array(5).fill('stored'))
  assert.equal(counted.struck, 1)
  assert.equal(broker.committed('g')[0]?.offset, 5)
})

for (const [name, fault] of [
  ['the coordinator has moved', ErrorCode.NOT_COORDINATOR],
  ['the coordinator is loading', ErrorCode.COORDINATOR_LOAD_IN_PROGRESS],
  ['the connection is lost before the commit is applied', 'drop'],
  ['the connection is lost after the commit was applied', 'apply-then-drop'],
] as const) {
  test(`a commit is sent again when ${name}`, async () => {
    await using broker = await start(1)
    await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
    await using member = new Member(client, inGroup)
    await until('it is held', () => member.consumer.held().length === 1)
    using rule = broker.control({ api: 'OffsetCommit', respond: fault })
    assert.equal(await member.consumer.commit(member.held, { offset: 4, metadata: 'm' }), 'stored')
    assert.equal(rule.struck, 1)
    assert.equal(broker.committed('g')[0]?.offset, 4)
    assert.deepEqual(member.told, ['gained 0'])
  })
}

test('a commit refused for its generation is lost, never sent again, and the member joins anew', async () => {
  await using broker = await start(1)
  await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
  await using member = new Member(client, inGroup)
  await until('it is held', () => member.consumer.held().length === 1)
  const before = member.held
  using rule = broker.control({ api: 'OffsetCommit', respond: ErrorCode.ILLEGAL_GENERATION })
  assert.equal(await member.consumer.commit(before, { offset: 9, metadata: '' }), 'lost')
  await until('it was gained again', () => member.gained.length === 2)
  assert.equal(rule.struck, 1)
  assert.deepEqual(member.told, ['gained 0', 'lost 0', 'gained 0'])
  assert.equal(member.held.ownership, before.ownership + 1)
  assert.equal(broker.committed('g').length, 0)
  assert.equal(await member.consumer.commit(before, { offset: 9, metadata: '' }), 'lost', 'the old ownership is over')
})

test('an unknown member loses everything without a commit and joins anew', async () => {
  await using broker = await start(1)
  await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
  await using member = new Member(client, inGroup)
  await until('it is held', () => member.consumer.held().length === 1)
  using commits = broker.control({ api: 'OffsetCommit', respond: 'delay', delayMs: 0, times: Infinity })
  const tried: Promise<string>[] = []
  member.onLost = (parts) => {
    for (const held of parts) tried.push(member.consumer.commit(held, { offset: 9, metadata: 'too late' }))
  }
  using rule = broker.control({ api: 'Heartbeat', respond: ErrorCode.UNKNOWN_MEMBER_ID })
  await until('it was gained again', () => member.gained.length === 2)
  assert.equal(rule.struck, 1)
  assert.deepEqual(member.told, ['gained 0', 'lost 0', 'gained 0'])
  assert.deepEqual(await Promise.all(tried), ['lost'])
  assert.equal(commits.struck, 0, 'not even sent')
})

test('no answer to heartbeats for a session: the member fences itself', async () => {
  await using broker = await start(1)
  await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
  await using member = new Member(client, inGroup)
  await until('it is held', () => member.consumer.held().length === 1)
  const held = member.held
  const rule = broker.control({ api: 'Heartbeat', respond: 'silence', times: Infinity })
  const before = performance.now()
  await until('it is lost', () => member.told.includes('lost 0'))
  const tookMs = performance.now() - before
  rule[Symbol.dispose]()
  assert.ok(tookMs > 900 && tookMs < 1_500, `${tookMs} ms`)
  assert.equal(member.consumer.owns(held), false)
  assert.equal(await member.consumer.confirm(held), 'lost')
})

test('offsets of a transaction that is just ending are waited for, and never taken for none', async () => {
  await using broker = await start(2)
  await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
  await produce(client, 0, 'a', 'b', 'c')
  {
    await using first = new Member(client, inGroup)
    await until('both are held', () => first.consumer.held().length === 2)
    const held = first.consumer.held().find(({ partition }) => partition === 0)
    assert.ok(held)
    await first.consumer.commit(held, { offset: 2, metadata: 'kept' })
  }
  using rule = broker.control({ api: 'OffsetFetch', times: 2, respond: ErrorCode.UNSTABLE_OFFSET_COMMIT })
  await using second = new Member(client, inGroup)
  await until('it has been told to wait', () => rule.struck === 1)
  assert.deepEqual(second.told, [])
  await until('both are gained', () => second.gained.length === 2)
  assert.equal(rule.struck, 2)
  const gained = second.gained.find(({ held }) => held.partition === 0)
  assert.equal(gained?.position, 2)
  const leaderEpoch = gained?.committed?.leaderEpoch
  assert.deepEqual(gained?.committed, { offset: 2, leaderEpoch, metadata: 'kept', knownTo: 3 })
  await until('it is read from there', () => second.values.includes('0:c'))
  assert.deepEqual(second.values, ['0:c'])
})

test('eager: heartbeats go on while a member drains for longer than its session', async () => {
  await using broker = await start(2)
  await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
  await using first = new Member(client, eager)
  await until('both are held', () => first.consumer.held().length === 2)
  first.onReleasing = async (parts) => {
    await sleep(1_500)
    for (const held of parts)
      assert.equal(await first.consumer.commit(held, { offset: 0, metadata: 'drained' }), 'stored')
  }
  await using second = new Member(client, eager)
  await until('they share', () => first.gained.length + second.gained.length === 4)
  first.onReleasing = async () => undefined
  assert.equal(
    first.told.some((line) => line.startsWith('lost')),
    false,
  )
  assert.equal(
    second.gained.find(({ held }) => held.partition !== first.held.partition)?.committed?.metadata,
    'drained',
  )
})

test('eager: a drain that never ends is cut off at its deadline, and the group goes on', async () => {
  await using broker = await start(2)
  await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
  await using first = new Member(client, { ...eager, drainTimeoutMs: 300 })
  await until('both are held', () => first.consumer.held().length === 2)
  const before = first.held
  const stuck = Promise.withResolvers<void>()
  first.onReleasing = () => stuck.promise
  await using second = new Member(client, eager)
  await until('the second has its share', () => second.gained.length === 1)
  assert.equal(await first.consumer.commit(before, { offset: 1, metadata: '' }), 'lost')
  first.onReleasing = async () => undefined
  stuck.resolve()
  await until('the first has its share', () => first.gained.length === 3)
})

/** What it has read is committed when it has to give a partition up. */
function commitsAtRelease(member: Member): Member {
  member.onReleasing = async (parts) => {
    for (const held of parts) {
      const offset = member.next.get(held.partition)
      if (offset !== undefined) assert.equal(await member.consumer.commit(held, { offset, metadata: '' }), 'stored')
    }
  }
  return member
}

/** Publishes to all partitions in turn until told to stop; tells how many. */
async function produceForever(client: KafkaClient, partitions: number, signal: AbortSignal): Promise<number> {
  await using producer = client.producer()
  let count = 0
  for (; !signal.aborted; count++) {
    await producer.send({ topic: 't', partition: count % partitions, value: `v${count}` })
    await sleep(2)
  }
  return count
}

test('cooperative: what is kept through rebalances is not touched, and nothing is read twice', async () => {
  await using broker = await start(6)
  await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
  await using first = commitsAtRelease(new Member(client, inGroup))
  await until('all are held', () => first.consumer.held().length === 6)
  const before = first.consumer.held()
  const stop = new AbortController()
  const producing = produceForever(client, 6, stop.signal)
  await using second = commitsAtRelease(new Member(client, inGroup))
  await until('they share', () => first.consumer.held().length === 3 && second.consumer.held().length === 3)
  const kept = first.consumer.held()
  for (const held of kept) assert.ok(before.includes(held), 'the same ownership as before')
  const moved = before.filter((held) => !kept.includes(held))
  assert.deepEqual(
    first.told,
    [
      ...before.map(({ partition }) => `gained ${partition}`),
      ...moved.map(({ partition }) => `releasing ${partition}`),
    ],
    'told of the difference, and of nothing else',
  )
  const partitions = (of: readonly HeldPartition[]) => of.map(({ partition }) => partition).sort()
  assert.deepEqual(partitions(second.consumer.held()), partitions(moved))
  await second[Symbol.asyncDispose]()
  await until('the first has them again', () => first.consumer.held().length === 6)
  for (const held of kept) assert.ok(first.consumer.held().includes(held))
  stop.abort()
  const count = await producing
  const all = (): string[] => [...first.values, ...second.values]
  await until('all is read', () => new Set(all()).size === count)
  assert.equal(all().length, count, 'and once')
})

test('cooperative: commits and heartbeats of what is kept go on while another member drains', async () => {
  await using broker = await start(4)
  await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
  await using first = new Member(client, inGroup)
  await until('all are held', () => first.consumer.held().length === 4)
  const drained = Promise.withResolvers<void>()
  first.onReleasing = () => drained.promise
  await using second = new Member(client, inGroup)
  await until('it drains', () => first.told.some((line) => line.startsWith('releasing')))
  // Longer than a session.
  await sleep(1_300)
  const released = new Set(first.told.filter((line) => line.startsWith('releasing')).map((line) => line.slice(10)))
  const kept = first.consumer.held().filter(({ partition }) => !released.has(`${partition}`))
  assert.equal(kept.length, 2)
  for (const held of kept) {
    assert.ok(first.consumer.owns(held))
    assert.equal(await first.consumer.confirm(held), 'held')
    assert.equal(await first.consumer.commit(held, { offset: 0, metadata: 'kept' }), 'stored')
  }
  assert.equal(second.gained.length, 0, "what is not given up is in nobody else's hands")
  drained.resolve()
  await until('the second has its share', () => second.gained.length === 2)
  assert.equal(
    first.told.some((line) => line.startsWith('lost')),
    false,
  )
})

test('cooperative: a commit that meets the middle of a rebalance goes out in the generation that follows', async () => {
  await using broker = await start(2)
  await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
  await using first = new Member(client, inGroup)
  await until('all are held', () => first.consumer.held().length === 2)
  // The leader's SyncGroup is late, so that the rebalance stays in its middle.
  using slow = broker.control({ api: 'SyncGroup', respond: 'delay', delayMs: 500, times: 2 })
  await using second = new Member(client, inGroup)
  await until('the rebalance is in its middle', () => slow.struck > 0)
  const results = await Promise.all(
    first.consumer.held().map((held) => first.consumer.commit(held, { offset: 0, metadata: 'late' })),
  )
  assert.deepEqual(results, ['stored', 'stored'])
  await until('they share', () => first.consumer.held().length === 1 && second.consumer.held().length === 1)
})

test('cooperative: a session that ends in the middle of a rebalance loses everything at once', async () => {
  await using broker = await start(2)
  await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
  await using first = new Member(client, inGroup)
  await until('all are held', () => first.consumer.held().length === 2)
  using slow = broker.control({ api: 'SyncGroup', respond: 'delay', delayMs: 3_000, times: 2 })
  await using second = new Member(client, inGroup)
  await until('the rebalance is in its middle', () => slow.struck > 0)
  using mute = broker.control({ api: 'Heartbeat', respond: 'drop', times: Infinity })
  await until('all is lost', () => first.told.filter((line) => line.startsWith('lost')).length === 2)
  assert.ok(mute.struck > 0)
  mute[Symbol.dispose]()
  await until('they share', () => first.consumer.held().length === 1 && second.consumer.held().length === 1)
})

test('cooperative: members that leave in the middle of a rebalance give their work back committed', async () => {
  await using broker = await start(6)
  await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
  const members = Array.from({ length: 3 }, () => new Member(client, inGroup))
  for (const member of members) {
    member.onReleasing = async (parts) => {
      for (const held of parts) {
        const offset = member.consumer.position(held) ?? 0
        assert.equal(await member.consumer.commit(held, { offset, metadata: 'left' }), 'stored')
      }
    }
  }
  await until('they share', () => members.every((member) => member.consumer.held().length === 2))
  // The fourth starts a rebalance in which the second and third leave.
  members.push(new Member(client, inGroup))
  await Promise.all(members.slice(1, 3).map((member) => member[Symbol.asyncDispose]()))
  await until('two share', () => [members[0], members[3]].every((member) => member?.consumer.held().length === 3))
  for (const member of members) await member[Symbol.asyncDispose]()
  assert.equal(broker.committed('g').length, 6)
  assert.deepEqual(
    members.flatMap((member) => member.told.filter((line) => /^(lost|fault)/.test(line))),
    [],
  )
})

test('who offers range too gives everything up before it joins, because the group may choose that', async () => {
  await using broker = await start(4)
  await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
  await using first = new Member(client, { ...inGroup, assignors: ['cooperative-sticky', 'range'] })
  await until('all are held', () => first.consumer.held().length === 4)
  const drained = Promise.withResolvers<void>()
  first.onReleasing = () => drained.promise
  await using second = new Member(client, eager)
  await until('all of it drains', () => first.told.filter((line) => line.startsWith('releasing')).length === 4)
  await sleep(300)
  assert.deepEqual(second.told, [], 'nothing is in two hands')
  drained.resolve()
  await until('they share', () => first.consumer.held().length === 2 && second.consumer.held().length === 2)
})

test('a group goes from eager to cooperative member by member, and back, with nothing lost or read twice', async () => {
  await using broker = await start(6)
  await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
  const stop = new AbortController()
  const producing = produceForever(client, 6, stop.signal)
  const all: Member[] = []
  const deploy = (assignors: ConsumerOptions['assignors'] & {}): Member => {
    const member = commitsAtRelease(new Member(client, { ...inGroup, assignors }))
    all.push(member)
    return member
  }
  let running = [deploy(['range']), deploy(['range'])]
  const shared = (): boolean => running.every((member) => member.consumer.held().length === 3)
  await until('they share', shared)
  for (const assignors of [
    ['cooperative-sticky', 'range'],
    ['cooperative-sticky'],
    ['cooperative-sticky', 'range'],
    ['range'],
  ] as const) {
    for (const old of running) {
      await old[Symbol.asyncDispose]()
      running = [...running.filter((member) => member !== old), deploy(assignors)]
      await until('they share', shared)
    }
  }
  stop.abort()
  const count = await producing
  const values = (): string[] => all.flatMap((member) => member.values)
  await until('all is read', () => new Set(values()).size === count)
  assert.equal(values().length, count, 'and once')
  assert.deepEqual(
    all.flatMap((member) => member.told.filter((line) => /^(lost|fault)/.test(line))),
    [],
  )
  for (const member of running) await member[Symbol.asyncDispose]()
})

test('partitions that are added, and a topic made later, are noticed; who does not read a topic gets none of it', async () => {
  await using broker = await start(2)
  await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers, metadataMaxAgeMs: 100 })
  await using both = new Member(client, { groupId: 'g', topics: ['t', 'later'] })
  await using one = new Member(client, { groupId: 'g', topics: ['t'] })
  const held = (member: Member): string[] =>
    member.consumer
      .held()
      .map(({ topic, partition }) => `${topic}-${partition}`)
      .sort()
  await until('the topic there is is shared', () => held(both).length === 1 && held(one).length === 1)
  const before = [...both.consumer.held(), ...one.consumer.held()]
  await client.admin().createTopics([{ topic: 'later', partitions: 1 }])
  await until('the new topic is read', () => held(both).includes('later-0'))
  const [grown] = await client.admin().createPartitions([{ topic: 't', partitions: 4 }])
  assert.equal(grown?.error, undefined)
  await until('the new partitions are read', () => held(both).length + held(one).length === 5)
  assert.ok(held(one).every((name) => name.startsWith('t-')))
  const now = [...both.consumer.held(), ...one.consumer.held()]
  assert.ok(
    before.every((each) => now.includes(each)),
    'what was held before has stayed where it was',
  )
})

for (const code of [
  'NOT_LEADER_OR_FOLLOWER',
  'UNKNOWN_LEADER_EPOCH',
  'FENCED_LEADER_EPOCH',
  'KAFKA_STORAGE_ERROR',
] as const) {
  test(`${code} of one partition delays that partition and no other`, async () => {
    await using broker = await start(2)
    await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
    using rule = broker.control({ api: 'Fetch', topic: 't', partition: 0, times: 3, respond: ErrorCode[code] })
    await produce(client, 0, 'a')
    await produce(client, 1, 'b')
    await using member = new Member(client, { topics: ['t'] })
    await until('the other is read', () => member.values.includes('1:b'))
    await until('it is read in the end', () => member.values.includes('0:a'))
    assert.equal(rule.struck, 3)
    assert.equal(
      member.told.some((line) => line.startsWith('fault')),
      false,
    )
  })
}

test('a leader that moves is followed, with every record once', async () => {
  await using broker = await start(2, 3)
  await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
  await using member = new Member(client, inGroup)
  const sent: string[] = []
  for (let round = 0; round < 6; round++) {
    for (const partition of [0, 1]) {
      await produce(client, partition, `r${round}`)
      sent.push(`${partition}:r${round}`)
    }
    broker.moveLeader('t', 0, ((broker.leaderOf('t', 0) ?? 1) % 3) + 1)
  }
  await until('all are read', () => member.values.length >= sent.length)
  assert.deepEqual([...member.values].sort(), sent.sort())
})

test('a coordinator that goes away is found again; nothing is lost', async () => {
  await using broker = await start(2, 3)
  await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
  await using member = new Member(client, inGroup)
  await until('both are held', () => member.consumer.held().length === 2)
  const node = broker.coordinatorOf('g')
  await broker.stopNode(node)
  assert.equal(await member.consumer.commit(member.held, { offset: 0, metadata: 'after' }), 'stored')
  assert.equal(member.consumer.owns(member.held), true)
  assert.deepEqual(member.told, ['gained 0', 'gained 1'])
  await broker.startNode(node)
})

test('a callback that throws stops its partition with a fault, and no other', async () => {
  await using broker = await start(2)
  await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
  await produce(client, 0, 'bad')
  await produce(client, 1, 'good')
  const faults: string[] = []
  const values: string[] = []
  await using _ = client.consumer(
    { topics: ['t'] },
    {
      batch: (held, records) => {
        const value = Buffer.from(records.value(0) ?? []).toString()
        if (value === 'bad') throw new Error('cannot')
        values.push(`${held.partition}:${value}`)
      },
      fault: (where, error) => faults.push(`${where === 'group' ? where : where.partition} ${error.code}`),
    },
  )
  await until('the good one is read', () => values.length === 1)
  await until('the fault is told', () => faults.length === 1)
  await produce(client, 0, 'next')
  await produce(client, 1, 'more')
  await until('its neighbour goes on', () => values.length === 2)
  assert.deepEqual(values, ['1:good', '1:more'])
  assert.deepEqual(faults, ['0 OTTLA_KAFKA_LISTENER'])
})

test('wrong options are all told at once', () => {
  const client = new KafkaClient({ bootstrapServers: 'localhost:1' })
  assert.throws(
    () =>
      client.consumer({ topics: [''], sessionTimeoutMs: 3_000, heartbeatIntervalMs: 2_000, groupID: 'g' } as never, {
        batch() {},
        fault() {},
      }),
    /options are wrong[\s\S]*groupID is not an option; did you mean groupId[\s\S]*heartbeatIntervalMs must be a whole number from 1 to 1000[\s\S]*topics must be a list of topic names/,
  )
})

test('a topic deleted and made again is told, and read from its start without any commit of the old one', async () => {
  await using broker = await start(2)
  await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers, metadataMaxAgeMs: 100 })
  await produce(client, 0, 'old-0', 'old-1', 'old-2')
  await using member = commitsAtRelease(new Member(client, inGroup))
  await until('the old one is read', () => member.values.length === 3)
  const before = member.consumer.held()
  const admin = client.admin()
  await admin.deleteTopics(['t'])
  await admin.createTopics([{ topic: 't', partitions: 2 }])
  await until('it begins anew', () => {
    const now = member.consumer.held()
    return now.length === 2 && now.every((held) => !before.includes(held))
  })
  await produce(client, 0, 'new-0')
  await until('the new one is read', () => member.values.includes('0:new-0'))
  assert.ok(member.told.includes('fault OTTLA_KAFKA_OFFSET_OUT_OF_RANGE'))
  assert.ok(member.told.includes('lost 0') && member.told.includes('lost 1'))
  assert.equal(
    broker.committed('g').some(({ offset }) => offset > 1),
    false,
    'no offset of the old topic',
  )
})
