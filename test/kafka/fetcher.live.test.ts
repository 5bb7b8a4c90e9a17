/** What the fetcher promises, on Apache Kafka: where reading starts, what lag is, what a request costs, what a lost log is. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { KafkaClient } from '../../src/kafka/client.ts'
import type { Consumer, ConsumerOptions, HeldPartition, StartPosition } from '../../src/kafka/consumer.ts'
import { ErrorCode } from '../../src/wire/error-codes.ts'
import { Api, type Draft, encodeRequest, type Requests } from '../../src/wire/protocol.ts'
import { RecordBatchBuilder } from '../../src/wire/record-batch.ts'
import { Ground, until } from './ground.ts'

const servers = process.env['OTTLA_LIVE_KAFKA'] ?? ''
const control = process.env['OTTLA_LIVE_CONTROL'] ?? ''
const skip = servers === '' ? 'OTTLA_LIVE_KAFKA is not set' : false
const skipHarm = control === '' ? 'OTTLA_LIVE_CONTROL is not set' : skip

/** A reader and everything it was given, as `partition@offset`. */
class Reading implements AsyncDisposable {
  readonly client = new KafkaClient({ bootstrapServers: servers })
  readonly seen: string[] = []
  readonly values: string[] = []
  readonly faults: string[] = []
  readonly gained: string[] = []
  readonly consumer: Consumer

  constructor(options: ConsumerOptions, afterBatch?: (consumer: Consumer, held: HeldPartition) => void) {
    this.consumer = this.client.consumer(options, {
      gained: (parts) => {
        for (const { held, position } of parts) this.gained.push(`${held.partition}@${position}`)
      },
      batch: (held, records) => {
        for (let i = 0; i < records.count; i++) {
          this.seen.push(`${held.partition}@${records.position(i)}`)
          this.values.push(Buffer.from(records.value(i) ?? []).toString())
        }
        afterBatch?.(this.consumer, held)
      },
      fault: (_, error) => this.faults.push(`${error.code} ${error.message}`),
    })
  }

  held(partition: number): HeldPartition {
    const held = this.consumer.held().find((each) => each.partition === partition)
    assert.ok(held, `partition ${partition} is held`)
    return held
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.consumer[Symbol.asyncDispose]()
    await this.client[Symbol.asyncDispose]()
  }
}

const minuteMs = 60_000

/** Six records, one a minute, the last one a minute ago. */
async function history(ground: Ground, topic: string): Promise<number> {
  const nowMs = Date.now()
  const producer = ground.client.producer()
  for (let i = 0; i < 6; i++) {
    await producer.send({ topic, partition: 0, value: `v${i}`, timestampMs: nowMs - (6 - i) * minuteMs })
  }
  await producer.close()
  return nowMs
}

describe('the fetcher on Apache Kafka', { skip, timeout: 120_000 }, () => {
  test('starts at the beginning, the end, an offset, a time, so long ago, or where the group committed', async () => {
    await using ground = new Ground(servers)
    const topic = await ground.topic('starts', 1)
    const nowMs = await history(ground, topic)
    const starts: readonly (readonly [StartPosition, number])[] = [
      ['earliest', 0],
      ['latest', 6],
      [{ offset: 4 }, 4],
      [{ timestampMs: nowMs - 3 * minuteMs }, 3],
      [{ timestampMs: nowMs }, 6],
      [{ agoMs: 2.5 * minuteMs }, 4],
    ]
    await Promise.all(
      starts.map(async ([start, position]) => {
        await using reading = new Reading({ topics: [topic], start })
        await until('it is gained', () => reading.gained.length > 0)
        assert.deepEqual(reading.gained, [`0@${position}`], JSON.stringify(start))
        await until('it reads', () => reading.seen.length === 6 - position)
        assert.equal(reading.seen[0], position === 6 ? undefined : `0@${position}`)
      }),
    )
    const groupId = ground.unique('starts')
    {
      await using first = new Reading({ groupId, topics: [topic] })
      await until('all is read', () => first.seen.length === 6)
      assert.equal(await first.consumer.commit(first.held(0), { offset: 2, metadata: '' }), 'stored')
    }
    await using second = new Reading({ groupId, topics: [topic], start: 'latest' })
    await until('the rest is read', () => second.seen.length === 4)
    assert.deepEqual(second.gained, ['0@2'])
    await ground.client
      .admin()
      .deleteGroups([groupId])
      .catch(() => undefined)
  })

  test('seek goes on elsewhere, by every kind of position, with nothing of before in between', async () => {
    await using ground = new Ground(servers)
    const topic = await ground.topic('seeks', 1)
    const nowMs = await history(ground, topic)
    await using reading = new Reading({ topics: [topic] })
    await until('all is read', () => reading.seen.length === 6)
    for (const [to, position] of [
      ['earliest', 0],
      [{ offset: 5 }, 5],
      [{ timestampMs: nowMs - 3 * minuteMs }, 3],
      [{ agoMs: 1.5 * minuteMs }, 5],
    ] as const) {
      reading.seen.length = 0
      await reading.consumer.seek(reading.held(0), to)
      await until('it goes on', () => reading.seen.length === 6 - position)
      assert.equal(reading.seen[0], `0@${position}`)
    }
    await reading.consumer.seek(reading.held(0), 'latest')
    reading.seen.length = 0
    await ground.fill(topic, 0, ['later'])
    await until('the next one is read', () => reading.seen.length === 1)
    assert.deepEqual(reading.seen, ['0@6'])
  })

  test('partitions assigned by hand are read and no others, each from its own start; what stays goes on', async () => {
    await using ground = new Ground(servers)
    const topic = await ground.topic('by-hand', 3)
    for (const partition of [0, 1, 2]) await ground.fill(topic, partition, ['a', 'b', 'c'])
    await using reading = new Reading({ topics: [] })
    await reading.consumer.assign([
      { topic, partition: 0 },
      { topic, partition: 2, start: { offset: 1 } },
    ])
    await until('both are read', () => reading.seen.length === 5)
    assert.deepEqual([...reading.seen].sort(), ['0@0', '0@1', '0@2', '2@1', '2@2'])
    reading.seen.length = 0
    await reading.consumer.assign([
      { topic, partition: 2, start: 'earliest' },
      { topic, partition: 1, start: { agoMs: 60 * minuteMs } },
    ])
    await until('the new one is read', () => reading.seen.length === 3)
    for (const partition of [0, 1, 2]) await ground.fill(topic, partition, ['d'])
    await until('both go on', () => reading.seen.length === 5)
    assert.deepEqual([...reading.seen].sort(), ['1@0', '1@1', '1@2', '1@3', '2@3'])
    assert.deepEqual(
      reading.consumer
        .held()
        .map(({ partition }) => partition)
        .sort(),
      [1, 2],
    )
    await assert.rejects(reading.consumer.assign([{ topic, partition: 0, start: { offset: -1 } }]), {
      code: 'OTTLA_CONFIG_INVALID',
    })
  })

  test('lag counts records up to the end the broker tells, also while paused, and their age', async () => {
    await using ground = new Ground(servers)
    const topic = await ground.topic('lag', 1)
    await history(ground, topic)
    const groupId = ground.unique('lag')
    await using reading = new Reading({ groupId, topics: [topic] })
    await until('all is read', () => reading.seen.length === 6)
    const held = reading.held(0)
    const lag = () => reading.consumer.lag().find(({ partition }) => partition === 0)
    assert.equal(lag()?.records, 6, 'nothing is committed')
    const seconds = lag()?.seconds ?? 0
    assert.ok(seconds > 355 && seconds < 480, `the oldest is six minutes old, not ${seconds} s`)
    await reading.consumer.commit(held, { offset: 4, metadata: '' })
    assert.equal(lag()?.records, 2)
    assert.ok((lag()?.seconds ?? 0) < 240, 'what is left is younger')
    await reading.consumer.commit(held, { offset: 6, metadata: '' })
    assert.deepEqual([lag()?.records, lag()?.seconds], [0, 0])
    reading.consumer.pause(held)
    await ground.fill(topic, 0, ['x', 'y', 'z'])
    await until('what comes while paused is counted', () => lag()?.records === 3)
  })

  test('a position before the log stops the partition loudly; with a stated policy reading goes on', async () => {
    await using ground = new Ground(servers)
    const topic = await ground.topic('vanished', 1)
    await ground.fill(topic, 0, ['a', 'b', 'c', 'd'])
    await ground.client.admin().deleteRecords([{ topic, partition: 0, beforeOffset: 2 }])
    await using strict = new Reading({ topics: [topic], start: { offset: 0 } })
    await until('it is told', () => strict.faults.length > 0)
    assert.match(strict.faults[0] ?? '', /^OTTLA_KAFKA_OFFSET_OUT_OF_RANGE .*holds offsets 2 to 4, and 0 was asked for/)
    assert.deepEqual(strict.seen, [])
    await using easy = new Reading({ topics: [topic], start: { offset: 0 }, outOfRange: 'earliest' })
    await until('it goes on', () => easy.seen.length === 2)
    assert.deepEqual(easy.seen, ['0@2', '0@3'])
    assert.equal(easy.faults.length, 1, 'and it is told all the same')
  })

  test('one slow partition never starves another: while it stands still its neighbours on the broker are read', async () => {
    await using ground = new Ground(servers)
    const topic = await ground.topic('slow', 2)
    const [broker] = await ground.brokers()
    for (const partition of [0, 1]) await ground.place(topic, partition, [broker as number])
    await ground.fill(
      topic,
      0,
      Array.from({ length: 2_000 }, (_, i) => `${i}-${'x'.repeat(5_000)}`),
    )
    await using reading = new Reading({ topics: [topic] }, (consumer, held) => {
      if (held.partition === 0) consumer.pause(held)
    })
    await until('the slow one has begun', () => reading.seen.some((each) => each.startsWith('0@')))
    for (let i = 0; i < 20; i++) {
      await ground.fill(topic, 1, [`v${i}`])
      await until(`record ${i} of its neighbour is read`, () => reading.values.includes(`v${i}`), 5_000)
    }
    assert.ok(reading.seen.length < 2_000, 'the slow one still stands')
    const slow = reading.held(0)
    await until('everything is read', () => {
      reading.consumer.resume(slow)
      return reading.seen.length === 2_020
    })
    assert.equal(new Set(reading.seen).size, 2_020)
  })

  test('100 partitions: in a session a request is a tenth of one without, at most, and the session is ended', async (t) => {
    await using ground = new Ground(servers)
    const topic = await ground.topic('sessions', 100, { replicas: 1 })
    const bytes: Record<'without' | 'with', number[]> = { without: [], with: [] }
    const sessions: { readonly node: number; readonly id: number }[] = []
    for (const kind of ['without', 'with'] as const) {
      await using client = new KafkaClient({ bootstrapServers: servers })
      watchFetches(client, (version, draft, node) => {
        // Epoch -1 asks for no session: so fetches the whole world that does not know of them.
        const sent = kind === 'without' ? { ...draft, sessionEpoch: -1 } : draft
        if (sent.sessionEpoch !== 0) bytes[kind].push(encodeRequest(Api.Fetch, version, 1, 'test', sent).length)
        if (kind === 'with' && sent.sessionEpoch === -1) sessions.push({ node, id: sent.sessionId ?? 0 })
        return sent
      })
      let read = 0
      const batch = (_: HeldPartition, records: { readonly count: number }): void => {
        read += records.count
      }
      await using _reader = client.consumer(
        { topics: [topic], start: 'latest' },
        { batch, fault: (_, e) => assert.fail(e) },
      )
      await until(
        () => `${_reader.held().length} held, ${bytes[kind].length} requests`,
        () => _reader.held().length === 100 && bytes[kind].length > 10,
        60_000,
      )
      await using producer = ground.client.producer()
      bytes[kind].length = 0
      for (let i = 0; i < 200; i++) await producer.send({ topic, partition: i % 100, value: `v${i}` })
      await until('all is read', () => read === 200)
    }
    const mean = (list: readonly number[]): number => list.reduce((sum, each) => sum + each, 0) / list.length
    const all = `${bytes.without.length} requests of ${mean(bytes.without).toFixed(0)} bytes without, ${bytes.with.length} of ${mean(bytes.with).toFixed(0)} with`
    t.diagnostic(all)
    assert.ok(mean(bytes.with) < mean(bytes.without) / 10, all)
    assert.ok(sessions.length > 0)
    for (const { node, id } of sessions) {
      await until('the broker has forgotten it', async () => {
        const wrongEpoch = { ...emptyFetch, sessionId: id, sessionEpoch: 2_000_000_000 }
        const { body } = await ground.client.cluster.request(node, Api.Fetch, wrongEpoch)
        // One that it knew would be out of step.
        return body.errorCode === ErrorCode.FETCH_SESSION_ID_NOT_FOUND
      })
    }
  })
})

const emptyFetch = { maxWaitMs: 0, minBytes: 0, maxBytes: 1, isolationLevel: 0, topics: [] }

type FetchDraft = Draft<Requests[typeof Api.Fetch]>

/** Sees, and may change, every Fetch request a client sends. */
function watchFetches(
  client: KafkaClient,
  look: (version: number, draft: FetchDraft, node: number) => FetchDraft,
): void {
  const { cluster } = client
  const request = cluster.request.bind(cluster)
  type Given = Parameters<typeof request<typeof Api.Fetch>>
  Object.assign(cluster, {
    request: (...[node, api, body, options]: Given) => {
      if (api !== Api.Fetch) return request(node, api, body, options)
      const watched = (version: number): FetchDraft =>
        look(version, (typeof body === 'function' ? body(version) : body) as FetchDraft, Number(node))
      return request(node, api, watched as never, options)
    },
  })
}

describe('the fetcher on a cluster that loses records', { skip: skipHarm, timeout: 180_000 }, () => {
  test('an unclean election that cuts the log off below what was read is told, not read over', async () => {
    await using ground = new Ground(servers)
    const { nodes } = ground
    const [leader, follower] = (await ground.brokers()) as [number, number, number]
    const topic = await ground.topic('unclean', 1, {
      replicas: 1,
      configs: { 'min.insync.replicas': '1', 'unclean.leader.election.enable': 'true' },
    })
    await ground.place(topic, 0, [leader, follower])
    await using client = new KafkaClient({ bootstrapServers: servers, reconnectBackoffMaxMs: 500 })
    const reading: string[] = []
    const faults: { code: string; details: Readonly<Record<string, unknown>> | undefined }[] = []
    await using consumer = client.consumer(
      { topics: [topic] },
      {
        batch: (_, records) => {
          for (let i = 0; i < records.count; i++) reading.push(Buffer.from(records.value(i) ?? []).toString())
        },
        fault: (_, error) => faults.push({ code: error.code, details: error.details }),
      },
    )
    const write = async (values: readonly string[], acks = 1): Promise<void> => {
      const builder = new RecordBatchBuilder()
      for (const value of values) builder.append(null, Buffer.from(value), [], Date.now())
      const records = builder.build()
      await until('it is written', async () => {
        await ground.client.cluster.refresh().catch(() => undefined)
        const body = {
          acks,
          timeoutMs: 10_000,
          topicData: [{ name: topic, partitionData: [{ index: 0, records }] }],
        }
        const answer = await ground.client.cluster
          .request(ground.leader(topic, 0), Api.Produce, body, { maxVersion: 8 })
          .catch(() => null)
        return answer?.body.responses[0]?.partitionResponses[0]?.errorCode === 0
      })
    }
    await until('both are in sync', async () => {
      await ground.client.cluster.refresh()
      return ground.client.cluster.metadata.partition(topic, 0)?.isr.length === 2
    })
    await write(['both-0', 'both-1'], -1)
    await nodes.kill(follower)
    await until(
      'the follower is out of sync',
      async () => {
        await ground.client.cluster.refresh().catch(() => undefined)
        return ground.client.cluster.metadata.partition(topic, 0)?.isr.length === 1
      },
      60_000,
    )
    await write(['alone-2', 'alone-3', 'alone-4'])
    await until('it is read', () => reading.length === 5)
    await nodes.kill(leader)
    await nodes.start(follower)
    await until(
      'the follower leads',
      async () => {
        await ground.client.cluster.refresh().catch(() => undefined)
        return ground.leader(topic, 0) === follower
      },
      90_000,
    )
    // Other records in the place of those read: without the comparison, offset 5 is the next and these are skipped.
    await write(['other-2', 'other-3', 'other-4', 'other-5'])
    await until('it is told', () => faults.some(({ code }) => code === 'OTTLA_KAFKA_LOG_TRUNCATED'), 60_000)
    const told = faults.find(({ code }) => code === 'OTTLA_KAFKA_LOG_TRUNCATED')
    assert.equal(told?.details?.['position'], 5)
    assert.equal(reading.length, 5, 'nothing is read over it')
    const stored = (await ground.log(topic, 0)).map(({ value }) => value)
    const differs = stored.findIndex((value, offset) => value !== reading[offset])
    assert.ok(differs >= 0 && differs <= 2, `the log is now ${stored}`)
    assert.equal(told?.details?.['divergesAt'], differs)
    const [held] = consumer.held()
    assert.ok(held)
    await consumer.seek(held, { offset: differs })
    await until('it goes on', () => reading.length === 5 + stored.length - differs)
    assert.deepEqual(reading.slice(5), stored.slice(differs))
    await nodes.start(leader)
  })
})
