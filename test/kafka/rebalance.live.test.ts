/** Groups that change on Apache Kafka: beside a Java member, from eager to cooperative, and what is kept meanwhile. */
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { KafkaClient } from '../../src/kafka/client.ts'
import type { AssignorName } from '../../src/kafka/consumer.ts'
import { cooperativeStickyAssignor } from '../../src/kafka/machine/assignors/cooperative-sticky.ts'
import { ForeignTool } from '../broker/foreign-tool.ts'
import { reasonToSkip } from './scenario-needs.ts'
import { type StormLine, StormMember } from './storm-member.ts'

const servers = process.env['OTTLA_LIVE_KAFKA'] ?? ''
const jars = process.env['OTTLA_LIVE_JARS'] ?? ''
const partitions = 12

let names = 0

async function until(what: string, condition: () => boolean | Promise<boolean>, limitMs = 60_000): Promise<void> {
  const end = performance.now() + limitMs
  while (!(await condition())) {
    if (performance.now() > end) assert.fail(`not in ${limitMs} ms: ${what}`)
    await sleep(50)
  }
}

/** A topic under load, a group that reads it, and who handled what. */
class Ground implements AsyncDisposable {
  readonly client = new KafkaClient({ bootstrapServers: servers })
  readonly topic = `rebalance-${process.pid}-${Date.now()}-${++names}`
  readonly lines: StormLine[] = []
  readonly sent: string[] = []
  readonly #stop = new AbortController()
  #producing: Promise<void> = Promise.resolve()

  async start(): Promise<void> {
    const [created] = await this.client.admin().createTopics([{ topic: this.topic, partitions }])
    assert.equal(created?.error, undefined)
    this.#producing = this.#produce()
  }

  member(name: string, assignors?: readonly AssignorName[]): StormMember {
    return new StormMember(
      this.client,
      name,
      {
        groupId: this.topic,
        topics: [this.topic],
        sessionTimeoutMs: 30_000,
        heartbeatIntervalMs: 200,
        ...(assignors === undefined ? {} : { assignors }),
      },
      (line) => this.lines.push(line),
    )
  }

  /** The assignment by member id once the group is stable, complete, and has nothing left to move. */
  async settled(members: number): Promise<ReadonlyMap<string, readonly number[]>> {
    let found = new Map<string, readonly number[]>()
    await until(`${members} members have settled`, async () => {
      const [group] = await this.client.admin().describeGroups([this.topic])
      if (group?.state !== 'Stable' || group.members.length !== members) return false
      found = new Map(
        group.members.map(({ memberId, assignment }) => [
          memberId,
          assignment.map(({ partition }) => partition).sort(),
        ]),
      )
      const sizes = [...found.values()].map(({ length }) => length)
      const all = new Set([...found.values()].flat())
      return all.size === partitions && Math.max(...sizes) - Math.min(...sizes) <= 1
    })
    return found
  }

  async stop(): Promise<void> {
    this.#stop.abort()
    await this.#producing
  }

  starts(): readonly string[] {
    return this.lines.flatMap((line) => (line.what === 'start' ? [line.value] : []))
  }

  told(...kinds: StormLine['what'][]): readonly StormLine[] {
    return this.lines.filter(({ what }) => kinds.includes(what))
  }

  /** Everything that was sent, once. */
  assertOnce(handled: readonly string[]): void {
    const times = new Map<string, number>()
    for (const value of handled) times.set(value, (times.get(value) ?? 0) + 1)
    assert.deepEqual(
      this.sent.filter((value) => !times.has(value)),
      [],
      'nothing is lost',
    )
    assert.deepEqual(
      [...times].filter(([, count]) => count > 1),
      [],
      'nothing is handled twice',
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
    await this.client.admin().deleteTopics([this.topic])
    await this.client.close()
  }

  async #produce(): Promise<void> {
    await using producer = this.client.producer()
    for (let i = 0; !this.#stop.signal.aborted; i++) {
      const value = `v${i}`
      await producer.send({ topic: this.topic, partition: i % partitions, key: `k${i % 31}`, value })
      this.sent.push(value)
      await sleep(5)
    }
  }
}

function javaMember(group: string): ForeignTool {
  const classpath = readdirSync(jars)
    .filter((name) => name.endsWith('.jar'))
    .map((name) => path.join(jars, name))
    .join(':')
  return new ForeignTool('java', [
    ...['-Xmx128m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-Dorg.slf4j.simpleLogger.defaultLogLevel=error'],
    ...['-cp', classpath, path.join(import.meta.dirname, 'CooperativeMember.java'), servers, group],
  ])
}

test('one Java member and two of ours over 20 joins and leaves: the same assignment, nothing lost, nothing twice', {
  skip: reasonToSkip({ needs: ['jars'] }),
  timeout: 300_000,
}, async (context) => {
  await using ground = new Ground()
  await ground.start()
  const java = javaMember(ground.topic)
  const tools = [java]
  const ours = [ground.member('a0'), ground.member('b0')]
  const agree = async (members: number): Promise<void> => {
    const assignment = await ground.settled(members)
    // Whoever leads: given what everybody holds, our assignor would leave everything where it is, as Java's just did.
    const again = cooperativeStickyAssignor.assign(
      [...assignment].map(([memberId, held]) => ({
        memberId,
        topics: [ground.topic],
        owned: [{ topic: ground.topic, partitions: held }],
        generation: 1,
      })),
      new Map([[ground.topic, partitions]]),
    )
    for (const [memberId, held] of assignment) {
      assert.deepEqual([...(again.get(memberId)?.get(ground.topic) ?? [])].sort(), [...held])
    }
  }
  try {
    await agree(3)
    for (let round = 0; round < 10; round++) {
      const flows = ground.starts().length
      if (round % 5 === 2) {
        const tool = tools.at(-1)
        tool?.kill('SIGTERM')
        await agree(2)
        tools.push(javaMember(ground.topic))
      } else {
        const index = round % 2
        await ours[index]?.[Symbol.asyncDispose]()
        await agree(2)
        ours[index] = ground.member(`${'ab'[index]}${round + 1}`)
      }
      await agree(3)
      await until('records flow', () => ground.starts().length > flows)
    }
    await ground.stop()
    const handled = (): string[] => [...ground.starts(), ...tools.flatMap(({ lines }) => lines)]
    await until('everything is handled', () => new Set(handled()).size >= ground.sent.length)
    ground.assertOnce(handled())
    assert.ok(tools.every((tool) => tool.lines.length > 0))
    assert.deepEqual(ground.told('lost', 'fault'), [])
    context.diagnostic(
      `${ground.sent.length} records, ${tools.flatMap(({ lines }) => lines).length} of them by Java members`,
    )
  } finally {
    for (const member of ours) await member[Symbol.asyncDispose]()
    for (const tool of tools) await tool[Symbol.asyncDispose]()
  }
})

test('a group goes from eager to cooperative member by member: nothing lost, nothing twice', {
  skip: reasonToSkip({ needs: [] }),
  timeout: 180_000,
}, async () => {
  await using ground = new Ground()
  await ground.start()
  let running = ['e0', 'e1', 'e2'].map((name) => ground.member(name, ['range']))
  try {
    await ground.settled(3)
    for (const [step, assignors] of ([['cooperative-sticky', 'range'], ['cooperative-sticky']] as const).entries()) {
      for (const [index, old] of [...running].entries()) {
        await old[Symbol.asyncDispose]()
        const member = ground.member(`s${step}-${index}`, assignors)
        running = [...running.filter((each) => each !== old), member]
        await ground.settled(3)
      }
    }
    const [group] = await ground.client.admin().describeGroups([ground.topic])
    assert.equal(group?.protocol, 'cooperative-sticky')
    await ground.stop()
    await until('everything is handled', () => new Set(ground.starts()).size >= ground.sent.length)
    ground.assertOnce(ground.starts())
    assert.deepEqual(ground.told('lost', 'fault'), [])
  } finally {
    for (const member of running) await member[Symbol.asyncDispose]()
  }
})

test('partitions kept through rebalances are not touched: told of nothing, nothing done again, no pause', {
  skip: reasonToSkip({ needs: [] }),
  timeout: 180_000,
}, async () => {
  await using ground = new Ground()
  await ground.start()
  const first = ground.member('first')
  try {
    await until('it holds everything', () => first.consumer.held().length === partitions)
    const before = first.consumer.held()
    for (let round = 0; round < 3; round++) {
      const second = ground.member(`second-${round}`)
      await until('they share', () => first.consumer.held().length === 6 && second.consumer.held().length === 6)
      await second[Symbol.asyncDispose]()
      await until('it holds everything again', () => first.consumer.held().length === partitions)
    }
    const kept = first.consumer.held().filter((held) => before.includes(held))
    assert.ok(kept.length >= 3, 'some have never left')
    await ground.stop()
    await until('everything is handled', () => new Set(ground.starts()).size >= ground.sent.length)
    ground.assertOnce(ground.starts())
    for (const { partition } of kept) {
      const told = ground.lines.filter((line) => 'partition' in line && line.partition === partition)
      assert.deepEqual(
        told.filter(({ what }) => what !== 'start').map(({ what, member }) => `${member} ${what}`),
        ['first gained'],
      )
    }
    assert.deepEqual(ground.told('lost', 'fault'), [])
  } finally {
    await first[Symbol.asyncDispose]()
  }
})
