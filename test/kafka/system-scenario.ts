/**
 * A replicated topic under brokers that come and go, after the replication tests that Apache Kafka runs on itself: a
 * producer at a steady pace, a group of two that reads what it writes, and a node that is stopped, killed or bounced.
 *
 * What must hold: every acknowledged record is in the log once and was handled once, each partition in the order of
 * sending, and nobody lost a partition. Measured beside it: for how long nothing was acknowledged, for our producer and
 * for Java's on the same partition.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { KafkaClient } from '../../src/kafka/client.ts'
import type { Consumer, HeldPartition } from '../../src/kafka/consumer.ts'
import { Api } from '../../src/wire/protocol.ts'
import { judgeLog } from './defect-scenarios.ts'
import { Ground, until } from './ground.ts'

/**
 * What happens to a node: `stop` and `kill` keep it down until all has moved, a bounce starts it at once. The next event
 * comes when every replica is in sync again.
 */
export interface SystemEvent {
  readonly target: 'leader' | 'controller'
  readonly how: 'stop' | 'kill' | 'clean bounce' | 'hard bounce'
}

export interface SystemReport {
  /** Empty when all held. */
  readonly flaws: readonly string[]
  readonly acknowledged: number
  /** Per event, the longest time without an acknowledgement of ours and of Java's, in milliseconds. */
  readonly gaps: readonly { readonly event: SystemEvent; readonly oursMs: number; readonly javaMs: number | null }[]
}

const partitions = 3

/** Plays the events one after the other. `java`: Java's producer writes beside ours. */
export async function playSystem(
  bootstrapServers: string,
  events: readonly SystemEvent[],
  options: { readonly java: boolean; readonly say: (line: string) => void },
): Promise<SystemReport> {
  await using ground = new Ground(bootstrapServers)
  const configs = { 'min.insync.replicas': '2' }
  const topic = await ground.topic('system', partitions, { replicas: 3, configs })
  const watched = await ground.topic('system-gap', 1, { replicas: 3, configs })
  await using client = new KafkaClient({ bootstrapServers, clientId: 'system' })
  const group = new Group(client, topic)
  group.join()
  group.join()
  await until('the group shares the topic', () => group.holds() === partitions)

  const producer = client.producer()
  const acknowledged: Set<number>[] = Array.from({ length: partitions }, () => new Set())
  const failures: string[] = []
  const acks: number[] = []
  let sent = 0
  const timer = setInterval(() => {
    const n = sent++
    const partition = n % partitions
    producer.send({ topic, partition, value: String(n) }).then(
      () => acknowledged[partition]?.add(n),
      (error: Error) => failures.push(error.message),
    )
    if (n % 2 === 0) {
      producer.send({ topic: watched, partition: 0, value: `ours-${n}` }).then(
        () => acks.push(Date.now()),
        (error: Error) => failures.push(error.message),
      )
    }
  }, 5)
  const java = options.java ? new JavaProducer(bootstrapServers, watched) : null
  const gaps: { event: SystemEvent; oursMs: number; javaMs: number | null }[] = []
  try {
    await until('records are acknowledged', () => acks.length > 50 && (java === null || java.acks.length > 50))
    for (const event of events) {
      const fromMs = Date.now()
      const node = event.target === 'leader' ? await leaderOf(ground, watched) : await controller(ground)
      await playEvent(ground, event, node, watched)
      const settled = (all: readonly number[]): boolean => (all.at(-1) ?? 0) > Date.now() - 200
      await until('records are acknowledged again', () => settled(acks) && (java === null || settled(java.acks)))
      const gap = { event, oursMs: longestGap(acks, fromMs), javaMs: java && longestGap(java.acks, fromMs) }
      gaps.push(gap)
      options.say(`${event.target} ${event.how}: no acknowledgement for ${gap.oursMs} ms, Java ${gap.javaMs ?? '-'} ms`)
    }
  } finally {
    clearInterval(timer)
    await java?.[Symbol.asyncDispose]()
    for (const { id } of ground.nodes.nodes) await ground.nodes.start(id)
  }
  const total = (): number => acknowledged.reduce((sum, each) => sum + each.size, 0)
  await producer.flush()
  const complete = (): boolean => group.values().size >= total()
  const flaws: string[] = []
  await until('all is handled', complete).catch((error: Error) => flaws.push(error.message))
  await group[Symbol.asyncDispose]()
  if (failures.length > 0) flaws.push(`${failures.length} sends failed: ${failures[0]}`)
  for (let partition = 0; partition < partitions; partition++) {
    const mine = acknowledged[partition] ?? new Set()
    const stored = (await ground.log(topic, partition)).map(({ value }) => Number(value))
    flaws.push(...judgeLog(stored, mine).map((flaw) => `partition ${partition}: ${flaw}`))
    const handled = group.handled[partition] ?? []
    flaws.push(...judgeLog(handled, mine).map((flaw) => `handled of partition ${partition}: ${flaw}`))
  }
  flaws.push(...group.faults, ...group.lost)
  return { flaws, acknowledged: total(), gaps }
}

async function playEvent(ground: Ground, event: SystemEvent, node: number, topic: string): Promise<void> {
  const { nodes } = ground
  switch (event.how) {
    case 'stop':
    case 'kill': {
      await (event.how === 'stop' ? nodes.stop(node) : nodes.kill(node))
      await until('the partition has another leader', async () => {
        await ground.client.cluster.refresh().catch(() => undefined)
        return ![node, -1].includes(ground.leader(topic, 0))
      })
      await sleep(1_000)
      break
    }
    case 'clean bounce':
      await nodes.stop(node)
      break
    case 'hard bounce':
      await nodes.kill(node)
      break
    default:
      event.how satisfies never
  }
  await nodes.start(node)
  await ground.allInSync(topic)
}

async function leaderOf(ground: Ground, topic: string): Promise<number> {
  await ground.client.cluster.refresh()
  return ground.leader(topic, 0)
}

/** The node that leads the quorum of controllers. */
async function controller(ground: Ground): Promise<number> {
  const { body } = await ground.client.cluster.request('any', Api.DescribeQuorum, {
    topics: [{ topicName: '__cluster_metadata', partitions: [{ partitionIndex: 0 }] }],
  })
  const leader = body.topics[0]?.partitions[0]?.leaderId ?? -1
  assert.ok(leader > 0, 'the quorum has a leader')
  return leader
}

function longestGap(acks: readonly number[], fromMs: number): number {
  let longest = 0
  let last = fromMs
  for (const atMs of acks) {
    if (atMs < fromMs) continue
    longest = Math.max(longest, atMs - last)
    last = atMs
  }
  return longest
}

/** Two members of a group in this process: what they handled, in order, and that they commit what they did. */
class Group implements AsyncDisposable {
  readonly handled: number[][] = Array.from({ length: partitions }, () => [])
  readonly faults: string[] = []
  readonly lost: string[] = []
  readonly #client: KafkaClient
  readonly #topic: string
  readonly #members: Consumer[] = []

  constructor(client: KafkaClient, topic: string) {
    this.#client = client
    this.#topic = topic
  }

  join(): void {
    const next = new Map<HeldPartition, number>()
    const commit = (parts: readonly HeldPartition[]): Promise<unknown> =>
      Promise.all(
        parts.map((held) => {
          const offset = next.get(held)
          return offset === undefined ? null : consumer.commit(held, { offset, metadata: '' })
        }),
      )
    const consumer = this.#client.consumer(
      { groupId: this.#topic, topics: [this.#topic], sessionTimeoutMs: 60_000, heartbeatIntervalMs: 500 },
      {
        batch: (held, records) => {
          for (let i = 0; i < records.count; i++) {
            this.handled[held.partition]?.push(Number(Buffer.from(records.value(i) ?? []).toString()))
          }
          next.set(held, records.nextPosition)
        },
        releasing: async (parts) => void (await commit(parts)),
        lost: (parts) => void this.lost.push(`lost: ${parts.map(({ partition }) => partition)}`),
        fault: (_, error) => void this.faults.push(`${error.code}: ${error.message}`),
      },
    )
    this.#members.push(consumer)
  }

  /** Partitions held, over all members. */
  holds(): number {
    return this.#members.every((member) => member.held().length > 0)
      ? this.#members.reduce((sum, member) => sum + member.held().length, 0)
      : 0
  }

  values(): ReadonlySet<number> {
    return new Set(this.handled.flat())
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#members.map((member) => member[Symbol.asyncDispose]()))
  }
}

/** Java's producer at 100 records a second: Kafka's VerifiableProducer, with its defaults except where it has none. */
class JavaProducer implements AsyncDisposable {
  /** When each acknowledgement came, in milliseconds since the epoch. */
  readonly acks: number[] = []
  readonly #folder = mkdtempSync(path.join(tmpdir(), 'ottla-java-'))
  readonly #child

  constructor(bootstrapServers: string, topic: string) {
    // The tool switches repetition off, which Java's producer has on.
    const config = path.join(this.#folder, 'producer.properties')
    writeFileSync(config, 'retries=2147483647\nenable.idempotence=true\n')
    const jars = process.env['OTTLA_LIVE_JARS'] ?? ''
    const names = readdirSync(jars).filter((name) => name.endsWith('.jar'))
    const classPath = names.map((name) => path.join(jars, name)).join(path.delimiter)
    const quiet = '-Dorg.slf4j.simpleLogger.defaultLogLevel=error'
    this.#child = spawn(
      'java',
      [
        ...['-Xmx128m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', quiet, '-cp', classPath],
        ...['org.apache.kafka.tools.VerifiableProducer', '--bootstrap-server', bootstrapServers],
        ...['--topic', topic, '--throughput', '100', '--acks', '-1', '--command-config', config],
      ],
      { stdio: ['ignore', 'pipe', 'ignore'] },
    )
    createInterface({ input: this.#child.stdout }).on('line', (line) => {
      const said = JSON.parse(line) as { readonly name: string; readonly timestamp: number }
      if (said.name === 'producer_send_success') this.acks.push(said.timestamp)
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      this.#child.kill('SIGKILL')
      await once(this.#child, 'exit')
    }
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

/** The value below which this part of them lies. */
export function percentile(values: readonly number[], part: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.ceil(part * sorted.length) - 1)] ?? 0
}
