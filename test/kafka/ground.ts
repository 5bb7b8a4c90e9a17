/**
 * The ground a scenario is played on: a real cluster, arranged and inspected with single requests, so that what a client
 * under test says is never judged by that client.
 */
import assert from 'node:assert/strict'
import { existsSync, openSync, readFileSync, readSync, writeSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { KafkaClient } from '../../src/kafka/client.ts'
import { builtInCompression } from '../../src/kafka/io/compression.ts'
import { ErrorCode } from '../../src/wire/error-codes.ts'
import { Api, encodeMessage } from '../../src/wire/protocol.ts'
import { readBatches } from '../../src/wire/record-batch.ts'
import { controlledCluster, type KafkaNodes, type SecureKafkaFacts } from '../live/kafka-cluster.ts'

let names = 0

/** Waits for a condition; fails after `limitMs` with what it waited for. */
export async function until(
  what: string | (() => string),
  condition: () => boolean | Promise<boolean>,
  limitMs = 30_000,
): Promise<void> {
  if (await within(limitMs, condition)) return
  assert.fail(`not in ${limitMs} ms: ${typeof what === 'string' ? what : what()}`)
}

/** Waits for a condition; whether it came true in time. */
export async function within(limitMs: number, condition: () => boolean | Promise<boolean>): Promise<boolean> {
  const endMs = performance.now() + limitMs
  while (!(await condition())) {
    if (performance.now() > endMs) return false
    await sleep(20)
  }
  return true
}

export interface StoredRecord {
  readonly offset: number
  readonly key: string | null
  readonly value: string
}

export class Ground implements AsyncDisposable {
  readonly bootstrapServers: string
  readonly client: KafkaClient
  readonly #topics: string[] = []

  constructor(bootstrapServers: string) {
    this.bootstrapServers = bootstrapServers
    this.client = new KafkaClient({ bootstrapServers, clientId: 'ground' })
  }

  /** The nodes, of a cluster that may be harmed. Throws where that is not allowed. */
  get nodes(): KafkaNodes {
    const control = process.env['OTTLA_LIVE_CONTROL']
    if (control === undefined) throw new Error('OTTLA_LIVE_CONTROL is not set')
    return controlledCluster(control)
  }

  /** The secured broker. Throws when there is none. */
  get secure(): SecureKafkaFacts {
    const facts = process.env['OTTLA_LIVE_KAFKA_SECURE']
    if (facts === undefined) throw new Error('OTTLA_LIVE_KAFKA_SECURE is not set')
    return JSON.parse(facts) as SecureKafkaFacts
  }

  unique(what: string): string {
    return `${what}-${process.pid}-${Date.now().toString(36)}-${++names}`
  }

  /** A new topic, gone again at the end. `replicas` as a list of lists: the brokers of each partition, leader first. */
  async topic(
    what: string,
    partitions: number,
    options: { readonly replicas?: number; readonly configs?: Readonly<Record<string, string>> } = {},
  ): Promise<string> {
    const topic = this.unique(what)
    const [made] = await this.client.admin().createTopics([{ topic, partitions, ...options }])
    assert.equal(made?.error, undefined)
    this.#topics.push(topic)
    await this.client.cluster.ensureTopics([topic])
    await until(`${topic} has leaders`, async () => {
      const all = Array.from({ length: partitions }, (_, partition) => this.leader(topic, partition))
      if (all.every((leader) => leader >= 0)) return true
      await this.client.cluster.refresh()
      return false
    })
    return topic
  }

  /** As of the last metadata. */
  leader(topic: string, partition: number): number {
    return this.client.cluster.metadata.partition(topic, partition)?.leader ?? -1
  }

  async brokers(): Promise<readonly number[]> {
    return (await this.client.admin().describeCluster()).brokers.map(({ id }) => id).sort()
  }

  /** Puts a partition onto these brokers and waits until the first of them leads it. */
  async place(topic: string, partition: number, replicas: readonly number[]): Promise<void> {
    await this.client.cluster.request('any', Api.AlterPartitionReassignments, {
      timeoutMs: 20_000,
      topics: [{ name: topic, partitions: [{ partitionIndex: partition, replicas }] }],
    })
    await until(
      () => `${topic}-${partition} is led by ${replicas[0]}, not ${this.leader(topic, partition)}`,
      async () => {
        await this.client.cluster.refresh()
        const state = this.client.cluster.metadata.partition(topic, partition)
        if (state !== undefined && state.leader === replicas[0] && state.replicas.length === replicas.length)
          return true
        await this.client.cluster.request('any', Api.ElectLeaders, {
          electionType: 0,
          topicPartitions: [{ topic, partitions: [partition] }],
          timeoutMs: 10_000,
        })
        return false
      },
    )
  }

  /** Waits until every replica of a topic is in sync again: what is played next begins with a whole cluster. */
  async allInSync(topic: string): Promise<void> {
    const isWhole = (): boolean =>
      (this.client.cluster.metadata.topic(topic)?.partitions ?? []).every(
        ({ isr, replicas }) => isr.length === replicas.length,
      )
    await until(
      () => `every replica of ${topic} is in sync`,
      async () => {
        await this.client.cluster.refresh().catch(() => undefined)
        return isWhole()
      },
      90_000,
    )
  }

  /** Publishes these, in order, to a partition. */
  async fill(topic: string, partition: number, values: readonly string[]): Promise<void> {
    const producer = this.client.producer()
    await producer.sendMany(values.map((value) => ({ topic, partition, value })))
    await producer.close()
  }

  /** Publishes `<partition>-<n>` to each partition in turn until it is disposed. */
  load(topic: string, partitions: readonly number[], everyMs: number): Load {
    return new Load(this.client, { topic, partitions, everyMs })
  }

  /** Everything in a partition, read with nothing but Fetch. */
  async log(topic: string, partition: number): Promise<readonly StoredRecord[]> {
    const [end] = await this.client.admin().listOffsets([{ topic, partition, at: 'latest' }])
    const [start] = await this.client.admin().listOffsets([{ topic, partition, at: 'earliest' }])
    const stored: StoredRecord[] = []
    let position = start?.offset ?? 0
    while (position < (end?.offset ?? 0)) {
      const { body } = await this.client.cluster.request(
        this.leader(topic, partition),
        Api.Fetch,
        {
          replicaId: -1,
          maxWaitMs: 500,
          minBytes: 1,
          maxBytes: 8 * 1024 * 1024,
          topics: [{ topic, partitions: [{ partition, fetchOffset: position, partitionMaxBytes: 4 * 1024 * 1024 }] }],
        },
        { maxVersion: 12 },
      )
      const part = body.responses[0]?.partitions[0]
      if (part?.errorCode !== 0) {
        await this.client.cluster.refresh()
        continue
      }
      for (const batch of readBatches(part.records ?? new Uint8Array(0), { compression: builtInCompression })) {
        for (let i = 0; i < batch.count; i++) {
          if (batch.isControl || batch.offset(i) < position) continue
          const key = batch.key(i)
          stored.push({
            offset: batch.offset(i),
            key: key === null ? null : Buffer.from(key).toString(),
            value: Buffer.from(batch.value(i) ?? []).toString(),
          })
        }
        position = batch.nextPosition
      }
    }
    return stored
  }

  /** What a group has committed for a partition; -1 when nothing. */
  async committed(group: string, topic: string, partition: number): Promise<number> {
    const [found] = await this.client.admin().fetchOffsets(group, [{ topic, partition }])
    assert.equal(found?.error, undefined)
    return found?.offset ?? -1
  }

  /** Flips one bit of the last record of a partition, in the file of the broker that leads it. */
  flipLastByte(topic: string, partition: number): void {
    const node = this.nodes.nodes.find(({ id }) => id === this.leader(topic, partition))
    const properties = readFileSync(node?.start.at(-1) ?? '', 'utf8')
    const data = /^log\.dirs=(.*)$/m.exec(properties)?.[1] ?? ''
    const file = path.join(data, `${topic}-${partition}`, '00000000000000000000.log')
    assert.ok(existsSync(file), file)
    // The file is longer than what is written in it only when it is preallocated, which it is not. The last byte of a
    // batch is the header count of its last record; before it lies its value.
    const at = readFileSync(file).length - 2
    const handle = openSync(file, 'r+')
    const byte = Buffer.alloc(1)
    readSync(handle, byte, 0, 1, at)
    byte[0] = (byte[0] ?? 0) ^ 1
    writeSync(handle, byte, 0, 1, at)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client.admin().deleteTopics(this.#topics)
    await this.client.close()
  }
}

/** Records published at a steady pace, whatever the client under test does. */
export class Load implements AsyncDisposable {
  /** Acknowledged, in no order. */
  readonly acknowledged = new Set<string>()
  readonly #done: Promise<void>
  #stopped = false

  constructor(
    client: KafkaClient,
    what: { readonly topic: string; readonly partitions: readonly number[]; readonly everyMs: number },
  ) {
    const { topic, partitions, everyMs } = what
    const producer = client.producer()
    const run = async (): Promise<void> => {
      for (let n = 0; !this.#stopped; n++) {
        const partition = partitions[n % partitions.length] as number
        const value = `${partition}-${n}`
        void producer.send({ topic, partition, value }).then(
          () => this.acknowledged.add(value),
          () => undefined,
        )
        await sleep(everyMs)
      }
      await producer.close()
    }
    this.#done = run()
  }

  /** Resolves when everything is acknowledged or given up. */
  async stop(): Promise<void> {
    this.#stopped = true
    await this.#done
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }
}

/**
 * A member of a group in single requests, which leads it and is slow to rejoin: every rebalance takes `holdMs`. It gives
 * all partitions to the others.
 */
export class SlowMember implements AsyncDisposable {
  readonly #ground: Ground
  readonly #group: { readonly id: string; readonly topic: string; readonly protocol: string; readonly holdMs: number }
  readonly #done: Promise<void>
  #memberId = ''
  #generation = -1
  #stopped = false

  constructor(
    ground: Ground,
    group: { readonly id: string; readonly topic: string; readonly protocol: string; readonly holdMs: number },
  ) {
    this.#ground = ground
    this.#group = group
    this.#done = this.#run()
    // Whoever waits hears of it; nobody has to.
    this.#done.catch(() => undefined)
  }

  get joined(): boolean {
    return this.#generation >= 0
  }

  async #run(): Promise<void> {
    const { cluster } = this.#ground.client
    const { id, topic, protocol, holdMs } = this.#group
    let coordinator = -1
    await until('a group coordinator is there', async () => {
      const answer = await cluster.request(
        'any',
        Api.FindCoordinator,
        { keyType: 0, coordinatorKeys: [id] },
        { minVersion: 4 },
      )
      const found = answer.body.coordinators[0]
      coordinator = found?.errorCode === 0 ? found.nodeId : -1
      return coordinator >= 0
    })
    const lane = { lane: `slow-${id}`, timeoutMs: 60_000 }
    while (!this.#stopped) {
      const joined = await cluster.request(
        coordinator,
        Api.JoinGroup,
        {
          groupId: id,
          sessionTimeoutMs: 20_000,
          rebalanceTimeoutMs: 60_000,
          memberId: this.#memberId,
          protocolType: 'consumer',
          protocols: [
            {
              name: protocol,
              metadata: versioned(1, encodeMessage('ConsumerProtocolSubscription', 1, { topics: [topic] })),
            },
          ],
        },
        lane,
      )
      this.#memberId = joined.body.memberId
      if (joined.body.errorCode === ErrorCode.MEMBER_ID_REQUIRED) continue
      assert.equal(joined.body.errorCode, 0)
      const generation = joined.body.generationId
      const others = joined.body.members.filter(({ memberId }) => memberId !== this.#memberId)
      const partitions = this.#ground.client.cluster.metadata.topic(topic)?.partitions.map((_, index) => index) ?? []
      const assignments =
        joined.body.leader === this.#memberId
          ? joined.body.members.map(({ memberId }) => {
              const all = memberId === others[0]?.memberId ? partitions : []
              return {
                memberId,
                assignment: versioned(
                  0,
                  encodeMessage('ConsumerProtocolAssignment', 0, { assignedPartitions: [{ topic, partitions: all }] }),
                ),
              }
            })
          : []
      const synced = await cluster.request(
        coordinator,
        Api.SyncGroup,
        {
          groupId: id,
          generationId: generation,
          memberId: this.#memberId,
          protocolType: 'consumer',
          protocolName: protocol,
          assignments,
        },
        lane,
      )
      if (synced.body.errorCode !== 0) continue
      this.#generation = generation
      let code = 0
      while (code === 0 && !this.#stopped) {
        const beat = { groupId: id, generationId: generation, memberId: this.#memberId }
        const { body } = await cluster.request(coordinator, Api.Heartbeat, beat, lane)
        code = body.errorCode
        await sleep(100)
      }
      if (!this.#stopped) await sleep(holdMs)
    }
    await cluster.request(
      coordinator,
      Api.LeaveGroup,
      { groupId: id, members: [{ memberId: this.#memberId }] },
      { minVersion: 3, ...lane },
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped = true
    await this.#done
  }
}

/** What members send each other has its version in front. */
function versioned(version: number, body: Uint8Array): Uint8Array {
  return Uint8Array.of(version >> 8, version & 255, ...body)
}
