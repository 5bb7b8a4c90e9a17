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
  readonly consumer: Consumer
  onReleasing: (parts: readonly HeldPartition[]) => Promise<void> = async () => undefined

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
        },
        releasing: async (parts) => {
          for (const held of parts) this.told.push(`releasing ${held.partition}`)
          await this.onReleasing(parts)
        },
        lost: (parts) => {
          for (const held of parts) this.told.push(`lost ${held.partition}`)
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
  using rule = broker.control({ api: 'Heartbeat', respond: ErrorCode.UNKNOWN_MEMBER_ID })
  await until('it was gained again', () => member.gained.length === 2)
  assert.equal(rule.struck, 1)
  assert.deepEqual(member.told, ['gained 0', 'lost 0', 'gained 0'])
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
  assert.deepEqual(gained?.committed, { offset: 2, leaderEpoch: gained?.committed?.leaderEpoch, metadata: 'kept' })
  await until('it is read from there', () => second.values.includes('0:c'))
  assert.deepEqual(second.values, ['0:c'])
})

test('heartbeats go on while a member drains for longer than its session', async () => {
  await using broker = await start(2)
  await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
  await using first = new Member(client, inGroup)
  await until('both are held', () => first.consumer.held().length === 2)
  first.onReleasing = async (parts) => {
    await sleep(1_500)
    for (const held of parts)
      assert.equal(await first.consumer.commit(held, { offset: 0, metadata: 'drained' }), 'stored')
  }
  await using second = new Member(client, inGroup)
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

test('a drain that never ends is cut off at its deadline, and the group goes on', async () => {
  await using broker = await start(2)
  await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
  await using first = new Member(client, { ...inGroup, drainTimeoutMs: 300 })
  await until('both are held', () => first.consumer.held().length === 2)
  const before = first.held
  const stuck = Promise.withResolvers<void>()
  first.onReleasing = () => stuck.promise
  await using second = new Member(client, inGroup)
  await until('the second has its share', () => second.gained.length === 1)
  assert.equal(await first.consumer.commit(before, { offset: 1, metadata: '' }), 'lost')
  first.onReleasing = async () => undefined
  stuck.resolve()
  await until('the first has its share', () => first.gained.length === 3)
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
      client.consumer({ topics: [], sessionTimeoutMs: 3_000, heartbeatIntervalMs: 2_000, groupID: 'g' } as never, {
        batch() {},
        fault() {},
      }),
    /options are wrong[\s\S]*groupID is not an option; did you mean groupId[\s\S]*heartbeatIntervalMs must be a whole number from 1 to 1000[\s\S]*topics must be a list of topic names/,
  )
})
