/** The consumer against Apache Kafka with three brokers: members come, go and die, leaders move, topics change. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { TransactionWriter } from '../../test/kafka/transaction-writer.ts'
import { controlledCluster } from '../../test/live/kafka-cluster.ts'
import { Api } from '../wire/protocol.ts'
import { KafkaClient } from './client.ts'
import type { ConsumerOptions } from './consumer.ts'

const servers = process.env['OTTLA_LIVE_KAFKA'] ?? ''
const control = process.env['OTTLA_LIVE_CONTROL'] ?? ''
const needsKafka = { skip: servers === '' ? 'OTTLA_LIVE_KAFKA is not set' : false, timeout: 120_000 }
const needsControl = {
  skip: servers === '' || control === '' ? 'OTTLA_LIVE_KAFKA and OTTLA_LIVE_CONTROL are not set' : false,
  timeout: 180_000,
}

let names = 0
const unique = (what: string): string => `${what}-${process.pid}-${Date.now()}-${++names}`

async function until(what: string, condition: () => boolean | Promise<boolean>, limitMs = 30_000): Promise<void> {
  const end = performance.now() + limitMs
  while (!(await condition())) {
    if (performance.now() > end) assert.fail(`not in ${limitMs} ms: ${what}`)
    await sleep(20)
  }
}

interface Seen {
  readonly member: string
  readonly topic: string
  readonly partition: number
  readonly offset: number
  readonly value: string
}

/** Who saw what, over all members of a test. */
class Journal {
  readonly seen: Seen[] = []
  readonly held = new Map<string, Set<string>>()
  readonly faults: string[] = []
  readonly lost: string[] = []

  /** A member in this process that commits what it saw at each release. */
  member(client: KafkaClient, name: string, options: ConsumerOptions) {
    const mine = new Set<string>()
    this.held.set(name, mine)
    const next = new Map<number, number>()
    const consumer = client.consumer(
      { sessionTimeoutMs: 6_000, heartbeatIntervalMs: 200, ...options },
      {
        gained: (parts) => {
          for (const { held } of parts) {
            const key = `${held.topic}/${held.partition}`
            for (const [other, theirs] of this.held) {
              if (other !== name) assert.equal(theirs.has(key), false, `${key} is in two hands: ${other} and ${name}`)
            }
            mine.add(key)
          }
        },
        batch: (held, records) => {
          assert.ok(mine.has(`${held.topic}/${held.partition}`), 'a record of a partition that is not held')
          for (let i = 0; i < records.count; i++) {
            const value = Buffer.from(records.value(i) ?? []).toString()
            this.seen.push({
              member: name,
              topic: held.topic,
              partition: held.partition,
              offset: records.position(i),
              value,
            })
          }
          next.set(held.partition, records.nextPosition)
        },
        releasing: async (parts) => {
          for (const held of parts) {
            const offset = next.get(held.partition)
            if (offset !== undefined) assert.equal(await consumer.commit(held, { offset, metadata: '' }), 'stored')
          }
          for (const { topic, partition } of parts) mine.delete(`${topic}/${partition}`)
        },
        lost: (parts) => {
          for (const { topic, partition } of parts) {
            mine.delete(`${topic}/${partition}`)
            this.lost.push(`${name}:${topic}/${partition}`)
          }
        },
        fault: (_, error) => this.faults.push(`${error.code}: ${error.message}`),
      },
    )
    return consumer
  }

  values(): Set<string> {
    return new Set(this.seen.map(({ value }) => value))
  }

  /** Every value exactly once, and per partition in the order of the log. */
  assertOnceInOrder(expected: number): void {
    assert.equal(this.seen.length, expected, 'nothing twice')
    assert.equal(this.values().size, expected, 'nothing lost')
    const last = new Map<string, number>()
    for (const { topic, partition, offset } of this.seen) {
      const key = `${topic}/${partition}`
      assert.ok(offset > (last.get(key) ?? -1), `${key} went back to ${offset}`)
      last.set(key, offset)
    }
  }
}

/** Publishes `value-0`, `value-1` … over all partitions until stopped; remembers what was acknowledged. */
class Load implements AsyncDisposable {
  readonly acknowledged = new Set<string>()
  readonly #done: Promise<void>
  #stopped = false

  constructor(client: KafkaClient, topic: string) {
    const producer = client.producer()
    const run = async (): Promise<void> => {
      for (let i = 0; !this.#stopped; i++) {
        const value = `value-${i}`
        void producer
          .send({ topic, key: `key-${i % 50}`, value })
          .then(() => this.acknowledged.add(value))
          .catch(() => undefined)
        if (i % 5 === 0) await sleep(5)
      }
      await producer.close()
    }
    this.#done = run()
  }

  /** Is everything that was acknowledged among these? */
  allIn(values: Iterable<string>): boolean {
    const all = new Set(values)
    return [...this.acknowledged].every((value) => all.has(value))
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await this.#done
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }
}

async function createTopic(client: KafkaClient, topic: string, partitions: number): Promise<void> {
  const [result] = await client.admin().createTopics([{ topic, partitions }])
  assert.equal(result?.error, undefined)
}

test(
  'two members join and leave under load: every record once, in order, each partition in one hand',
  needsKafka,
  async () => {
    await using client = new KafkaClient({ bootstrapServers: servers })
    const topic = unique('join-leave')
    await createTopic(client, topic, 6)
    const journal = new Journal()
    const options = { groupId: topic, topics: [topic] }
    await using load = new Load(client, topic)
    const first = journal.member(client, 'first', options)
    await until('the first member holds everything', () => first.held().length === 6)
    for (let round = 0; round < 3; round++) {
      const second = journal.member(client, `second-${round}`, options)
      await until('both hold half', () => first.held().length === 3 && second.held().length === 3)
      const before = journal.seen.length
      await until('records flow', () => journal.seen.length > before + 50)
      await second[Symbol.asyncDispose]()
      await until('the first holds everything again', () => first.held().length === 6)
    }
    await load.stop()
    await until('everything has arrived', () => journal.values().size >= load.acknowledged.size)
    journal.assertOnceInOrder(load.acknowledged.size)
    assert.deepEqual(journal.faults, [])
    assert.deepEqual(journal.lost, [])
    await first[Symbol.asyncDispose]()
  },
)

/** A member in a child process, with everything it said. */
class Child implements AsyncDisposable {
  readonly process: ChildProcess
  readonly lines: { readonly [key: string]: any; readonly atMs: number }[] = []

  constructor(options: ConsumerOptions) {
    const script = path.resolve(import.meta.dirname, '../../test/live/group-member.ts')
    const given = JSON.stringify({ bootstrapServers: servers, heartbeatIntervalMs: 200, ...options })
    this.process = spawn(process.execPath, [script, given], { stdio: ['ignore', 'pipe', 'inherit'] })
    createInterface({ input: this.process.stdout! }).on('line', (line) => this.lines.push(JSON.parse(line)))
  }

  values(): string[] {
    return this.lines.flatMap((line) => (line['value'] === undefined ? [] : [line['value'] as string]))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return
    this.process.kill('SIGKILL')
    await once(this.process, 'exit')
  }
}

test(
  'a member that is killed: its partitions move after the session timeout and no record is lost',
  needsKafka,
  async () => {
    await using client = new KafkaClient({ bootstrapServers: servers })
    const topic = unique('killed')
    await createTopic(client, topic, 6)
    const journal = new Journal()
    const options = { groupId: topic, topics: [topic], sessionTimeoutMs: 6_000 }
    await using load = new Load(client, topic)
    const survivor = journal.member(client, 'survivor', options)
    await using child = new Child(options)
    await until('both work', () => survivor.held().length === 3 && child.values().length > 50)
    child.process.kill('SIGKILL')
    const before = performance.now()
    await until('the survivor holds everything', () => survivor.held().length === 6)
    assert.ok(performance.now() - before < 15_000)
    await load.stop()
    await until('nothing is lost', () => load.allIn([...journal.values(), ...child.values()]))
    assert.deepEqual(journal.lost, [])
    assert.deepEqual(journal.faults, [])
    const survived = journal.seen.map(({ value }) => value)
    assert.equal(new Set(survived).size, survived.length, 'the survivor saw nothing twice')
    await survivor[Symbol.asyncDispose]()
  },
)

test(
  'a member frozen past its session delivers nothing after it wakes, until it has joined again',
  needsKafka,
  async () => {
    await using client = new KafkaClient({ bootstrapServers: servers })
    const topic = unique('frozen')
    await createTopic(client, topic, 4)
    const journal = new Journal()
    const options = { groupId: topic, topics: [topic], sessionTimeoutMs: 6_000 }
    await using load = new Load(client, topic)
    const awake = journal.member(client, 'awake', options)
    await using child = new Child(options)
    await until('both work', () => awake.held().length === 2 && child.values().length > 50)
    child.process.kill('SIGSTOP')
    await until('its partitions moved', () => awake.held().length === 4)
    await sleep(500)
    const wokeMs = Date.now()
    child.process.kill('SIGCONT')
    await until('it works again', () =>
      child.lines.some((line) => line['value'] !== undefined && line.atMs > wokeMs && rejoined(child, wokeMs)),
    )
    const after = child.lines.filter((line) => line.atMs >= wokeMs)
    const firstGain = after.findIndex((line) => line['gained'] !== undefined)
    const firstRecord = after.findIndex((line) => line['value'] !== undefined)
    assert.ok(
      after.some((line) => line['lost'] !== undefined),
      'it was told that its partitions were lost',
    )
    assert.ok(firstGain >= 0 && firstGain < firstRecord, 'no record before it was given partitions again')
    await load.stop()
    await until('nothing is lost', () => load.allIn([...journal.values(), ...child.values()]))
    await awake[Symbol.asyncDispose]()
  },
)

function rejoined(child: Child, sinceMs: number): boolean {
  return child.lines.some((line) => line.atMs > sinceMs && line['gained'] !== undefined)
}

test(
  'the leader of some partitions is killed: the others flow on, and all records arrive once',
  needsControl,
  async () => {
    const nodes = controlledCluster(control)
    await using client = new KafkaClient({ bootstrapServers: servers })
    const topic = unique('leader-killed')
    await createTopic(client, topic, 6)
    await client.cluster.ensureTopics([topic])
    const journal = new Journal()
    await using load = new Load(client, topic)
    const member = journal.member(client, 'member', { groupId: topic, topics: [topic], sessionTimeoutMs: 30_000 })
    await until('records flow', () => journal.seen.length > 100)
    const victim = client.cluster.metadata.partition(topic, 0)?.leader ?? -1
    const healthy = [0, 1, 2, 3, 4, 5].find((p) => client.cluster.metadata.partition(topic, p)?.leader !== victim) ?? -1
    const count = (partition: number): number => journal.seen.filter((seen) => seen.partition === partition).length
    try {
      await nodes.kill(victim)
      const [dead, alive] = [count(0), count(healthy)]
      await until('a healthy partition flows on', () => count(healthy) > alive + 5, 10_000)
      await until('the moved partition flows again', () => count(0) > dead + 5, 60_000)
    } finally {
      await nodes.start(victim)
    }
    await load.stop()
    await until('everything has arrived', () => load.allIn(journal.values()))
    const seen = journal.seen.map(({ partition, offset }) => `${partition}/${offset}`)
    assert.equal(new Set(seen).size, seen.length, 'no record was delivered twice')
    assert.deepEqual(journal.lost, [], 'and the member kept its session')
    await member[Symbol.asyncDispose]()
  },
)

test('a partition reassigned off its broker is read on from the new one, each record once', needsKafka, async () => {
  await using client = new KafkaClient({ bootstrapServers: servers })
  const topic = unique('reassigned')
  const [created] = await client.admin().createTopics([{ topic, partitions: 2, replicas: 1 }])
  assert.equal(created?.error, undefined)
  await client.cluster.ensureTopics([topic])
  const journal = new Journal()
  await using load = new Load(client, topic)
  const member = journal.member(client, 'member', { groupId: topic, topics: [topic] })
  await until('records flow', () => journal.seen.length > 100)
  for (let round = 0; round < 3; round++) {
    const from = client.cluster.metadata.partition(topic, 0)?.leader ?? -1
    const to = client.cluster.nodes().find((node) => node !== from) ?? -1
    await client.cluster.request('any', Api.AlterPartitionReassignments, {
      timeoutMs: 10_000,
      topics: [{ name: topic, partitions: [{ partitionIndex: 0, replicas: [to] }] }],
    })
    await until('the leader moved', async () => {
      await client.cluster.refresh()
      return client.cluster.metadata.partition(topic, 0)?.leader === to
    })
    const before = journal.seen.filter(({ partition }) => partition === 0).length
    await until('it flows on', () => journal.seen.filter(({ partition }) => partition === 0).length > before + 10)
  }
  await load.stop()
  await until('everything has arrived', () => load.allIn(journal.values()))
  const seen = journal.seen.map(({ partition, offset }) => `${partition}/${offset}`)
  assert.equal(new Set(seen).size, seen.length, 'no record was delivered twice')
  assert.deepEqual(journal.faults, [])
  await member[Symbol.asyncDispose]()
})

test('mixed subscriptions: a topic that only one member reads goes to that member', needsKafka, async () => {
  await using client = new KafkaClient({ bootstrapServers: servers })
  const [common, special] = [unique('common'), unique('special')]
  await createTopic(client, common, 4)
  await createTopic(client, special, 2)
  const journal = new Journal()
  const leader = journal.member(client, 'leader', { groupId: common, topics: [common] })
  await until('the leader holds all', () => leader.held().length === 4)
  const other = journal.member(client, 'other', { groupId: common, topics: [common, special] })
  await until('the special topic is read', () => other.held().filter(({ topic }) => topic === special).length === 2)
  await until('both have three', () => leader.held().length === 3 && other.held().length === 3)
  assert.ok(leader.held().every(({ topic }) => topic === common))
  await other[Symbol.asyncDispose]()
  await leader[Symbol.asyncDispose]()
})

test('new partitions are noticed and shared out', needsKafka, async () => {
  await using client = new KafkaClient({ bootstrapServers: servers, metadataMaxAgeMs: 500 })
  const topic = unique('grows')
  await createTopic(client, topic, 2)
  const journal = new Journal()
  const member = journal.member(client, 'member', { groupId: topic, topics: [topic] })
  await until('it holds two', () => member.held().length === 2)
  await client.admin().createPartitions([{ topic, partitions: 5 }])
  await until('it holds five', () => member.held().length === 5, 15_000)
  await member[Symbol.asyncDispose]()
})

test('a commit for a partition that moved on is lost and changes nothing', needsKafka, async () => {
  await using client = new KafkaClient({ bootstrapServers: servers })
  const topic = unique('stale-commit')
  await createTopic(client, topic, 1)
  const journal = new Journal()
  const options = { groupId: topic, topics: [topic], assignors: ['range'] } as const
  const first = journal.member(client, 'first', options)
  await until('it holds the partition', () => first.held().length === 1)
  const [held] = first.held()
  assert.ok(held)
  assert.equal(await first.commit(held, { offset: 7, metadata: 'a' }), 'stored')
  assert.equal(await first.confirm(held), 'held')
  assert.equal(first.owns(held), true)
  const second = journal.member(client, 'second', options)
  await until('the group shared out again', () => first.held().length + second.held().length === 1 && !first.owns(held))
  assert.equal(await first.commit(held, { offset: 3, metadata: 'stale' }), 'lost')
  assert.equal(await first.confirm(held), 'lost')
  const [committed] = await client.admin().fetchOffsets(topic)
  assert.equal(committed?.offset, 7)
  assert.equal(committed?.metadata, 'a')
  await first[Symbol.asyncDispose]()
  await second[Symbol.asyncDispose]()
})

test('metadata that the broker finds too large is said so, and stores nothing', needsKafka, async () => {
  await using client = new KafkaClient({ bootstrapServers: servers })
  const topic = unique('large-metadata')
  await createTopic(client, topic, 1)
  const journal = new Journal()
  const member = journal.member(client, 'member', { groupId: topic, topics: [topic] })
  await until('it holds the partition', () => member.held().length === 1)
  const [held] = member.held()
  assert.ok(held)
  assert.equal(await member.commit(held, { offset: 1, metadata: 'x'.repeat(4_097) }), 'too-large')
  assert.equal(
    (await client.admin().fetchOffsets(topic)).find(({ offset }) => offset >= 0),
    undefined,
  )
  await member[Symbol.asyncDispose]()
})

test('a position that retention removed is a loud fault, and seek goes on', needsKafka, async () => {
  await using client = new KafkaClient({ bootstrapServers: servers })
  const topic = unique('out-of-range')
  await createTopic(client, topic, 2)
  await using producer = client.producer()
  for (let i = 0; i < 10; i++) {
    for (const partition of [0, 1]) await producer.send({ topic, partition, value: `${partition}-${i}` })
  }
  await client.admin().deleteRecords([{ topic, partition: 0, beforeOffset: 5 }])
  const journal = new Journal()
  const member = journal.member(client, 'member', { groupId: topic, topics: [topic], start: { offset: 2 } })
  await until('the neighbour is read', () => journal.seen.filter(({ partition }) => partition === 1).length === 8)
  await until('the fault is told', () => journal.faults.length > 0)
  assert.match(
    journal.faults[0] ?? '',
    /^OTTLA_KAFKA_OFFSET_OUT_OF_RANGE: .*holds offsets 5 to 10, and 2 was asked for/,
  )
  assert.equal(
    journal.seen.some(({ partition }) => partition === 0),
    false,
  )
  const held = member.held().find(({ partition }) => partition === 0)
  assert.ok(held)
  await member.seek(held, 'earliest')
  await until('it goes on', () => journal.seen.filter(({ partition }) => partition === 0).length === 5)
  assert.equal(journal.faults.length, 1)
  await member[Symbol.asyncDispose]()
})

test('aborted records are never delivered, however the answers are cut', needsKafka, async () => {
  await using client = new KafkaClient({ bootstrapServers: servers })
  const topic = unique('aborted')
  await createTopic(client, topic, 1)
  await client.cluster.ensureTopics([topic])
  const writer = new TransactionWriter(client, topic)
  await writer.begin(unique('tx'))
  const committed: string[] = []
  for (const [round, outcome] of (['abort', 'commit', 'abort', 'abort', 'commit'] as const).entries()) {
    for (let i = 0; i < 12; i++) {
      const value = `${outcome}-${round}-${i}-${'x'.repeat(500)}`
      await writer.append(value)
      if (outcome === 'commit') committed.push(value)
    }
    await writer.end(outcome === 'commit')
  }
  for (const maxBytesPerPartition of [1_024, 8_192, 1_048_576]) {
    const values: string[] = []
    let next = 0
    const reader = client.consumer(
      { topics: [topic], maxBytesPerPartition },
      {
        batch: (_, records) => {
          for (let i = 0; i < records.count; i++) values.push(Buffer.from(records.value(i) ?? []).toString())
          next = records.nextPosition
        },
        fault: (_, error) => assert.fail(error),
      },
    )
    // The last marker is written some time after EndTxn was answered.
    await until('the end is reached, past the last marker', async () => {
      const [end] = await client.admin().listOffsets([{ topic, partition: 0, at: 'latest' }])
      return next === end?.offset && values.length >= committed.length
    })
    assert.deepEqual(values, committed, `${maxBytesPerPartition} bytes a fetch`)
    await reader[Symbol.asyncDispose]()
  }
})
