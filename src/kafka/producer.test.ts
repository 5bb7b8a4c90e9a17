/** The producer against brokers that hang, refuse and forget: memory, deadlines, aborts, closing. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type Received, type Script, type ScriptedBroker, scriptedBroker } from '../../test/kafka/scripted-broker.ts'
import type { OttlaError } from '../contract/errors.ts'
import type { ProduceRequest } from '../wire/messages.gen.ts'
import { Api } from '../wire/protocol.ts'
import { readBatches } from '../wire/record-batch.ts'
import { KafkaClient } from './client.ts'
import { builtInCompression } from './io/compression.ts'
import type { ProducerRecord } from './producer.ts'

const compression = builtInCompression
const topicId = 'AAAAAAAAAAAAAAAAAAAAAQ'
const code = (expected: string) => (error: OttlaError) => error.code === expected

/** A broker that leads topic `t` with 3 partitions and stores in memory; `produce` may take a request over. */
async function storingBroker(
  produce: (request: Received, store: () => void) => void = (_, store) => store(),
  script: Script = {},
): Promise<ScriptedBroker & { readonly logs: string[][] }> {
  const logs: string[][] = [[], [], []]
  const broker: ScriptedBroker = await scriptedBroker({
    ...script,
    onRequest: (r) => {
      if (script.onRequest?.(r) === true) return true
      if (r.api === Api.Metadata) {
        const asked = (r.body as { topics: { name: string }[] | null }).topics ?? []
        r.answer(Api.Metadata, {
          brokers: [{ nodeId: 1, host: '127.0.0.1', port: broker.port }],
          controllerId: 1,
          topics: asked.map(({ name }) => ({
            name,
            topicId,
            errorCode: name === 't' ? 0 : 3,
            partitions: name === 't' ? [0, 1, 2].map((p) => ({ partitionIndex: p, leaderId: 1, leaderEpoch: 0 })) : [],
          })),
        })
      }
      if (r.api === Api.InitProducerId) r.answer(Api.InitProducerId, { errorCode: 0, producerId: 5, producerEpoch: 0 })
      if (r.api === Api.Produce) {
        produce(r, () => {
          const body = r.body as ProduceRequest
          r.answer(Api.Produce, {
            responses: body.topicData.map((t) => ({
              topicId: t.topicId,
              partitionResponses: t.partitionData.map((p) => {
                const log = logs[p.index] as string[]
                const baseOffset = log.length
                for (const batch of readBatches(p.records ?? new Uint8Array(0), { compression })) {
                  for (let i = 0; i < batch.count; i += 1) log.push(Buffer.from(batch.value(i) ?? []).toString())
                }
                return { index: p.index, errorCode: 0, baseOffset, logAppendTimeMs: -1 }
              }),
            })),
          })
        })
      }
      return r.api !== Api.ApiVersions
    },
  })
  return Object.assign(broker, { logs })
}

const make = (broker: ScriptedBroker): KafkaClient =>
  new KafkaClient({ bootstrapServers: `127.0.0.1:${broker.port}`, requestTimeoutMs: 5_000 })

const produces = (broker: ScriptedBroker): Received[] => broker.received.filter((r) => r.api === Api.Produce)

describe('the producer', () => {
  test('sends of one turn are one request, over all partitions, and each learns its own place', async () => {
    await using broker = await storingBroker()
    await using client = make(broker)
    const producer = client.producer()
    await producer.send({ topic: 't', partition: 0, value: 'first' })
    const sent = await Promise.all(
      Array.from({ length: 300 }, (_, i) =>
        producer.send({ topic: 't', partition: i % 3, value: String(i), timestampMs: i }),
      ),
    )
    assert.equal(produces(broker).length, 2)
    assert.deepEqual(sent[299], { partition: 2, offset: 99, timestampMs: 299 })
    assert.deepEqual(sent[0], { partition: 0, offset: 1, timestampMs: 0 })
    assert.equal(producer.bufferedBytes, 0)
  })

  test('a producer that is never idle may work for longer than a record may take', async () => {
    await using broker = await storingBroker()
    await using client = make(broker)
    const deliveryTimeoutMs = 1_500
    const producer = client.producer({ deliveryTimeoutMs, requestTimeoutMs: 1_000 })
    const endMs = performance.now() + 1.6 * deliveryTimeoutMs
    let sent = 0
    // Each sends again out of the answer to its last one, so that there is always a turn asked for.
    const run = async (partition: number): Promise<void> => {
      while (performance.now() < endMs) {
        await producer.send({ topic: 't', partition, value: String(sent) })
        sent += 1
      }
    }
    await Promise.all([0, 1, 2, 0, 1, 2].map(run))
    assert.equal(broker.logs.flat().length, sent)
  })

  test('while one request is unanswered, what comes meanwhile gathers for the next', async () => {
    const held: (() => void)[] = []
    await using broker = await storingBroker((_, store) => held.push(store))
    await using client = make(broker)
    const producer = client.producer()
    const sent = [producer.send({ topic: 't', partition: 0, value: 'a' })]
    await broker.request(Api.Produce, 0)
    for (const value of ['b', 'c', 'd']) {
      sent.push(producer.send({ topic: 't', partition: 0, value }))
      await new Promise((resolve) => setImmediate(resolve))
    }
    assert.equal(produces(broker).length, 1)
    held[0]?.()
    await broker.request(Api.Produce, 1)
    held[1]?.()
    await Promise.all(sent)
    assert.equal(produces(broker).length, 2)
    assert.deepEqual(broker.logs[0], ['a', 'b', 'c', 'd'])
  })

  test('D24: 20,000 sends against a hung broker stay within the buffer, and the rest is refused', async () => {
    await using broker = await storingBroker(() => {
      // Hangs.
    })
    await using client = make(broker)
    await client.cluster.ensureTopics(['t'])
    const producer = client.producer({ maxBufferedBytes: 1_000_000, maxBlockMs: 200, deliveryTimeoutMs: 400 })
    const value = Buffer.alloc(1_000)
    const sends = Array.from({ length: 20_000 }, () => producer.send({ topic: 't', partition: 0, value }))
    assert.ok(producer.bufferedBytes <= 2_000_000, `${producer.bufferedBytes} bytes`)
    const outcomes = await Promise.allSettled(sends)
    const codes = new Map<string, number>()
    for (const o of outcomes) {
      const c = o.status === 'fulfilled' ? 'stored' : (o.reason as OttlaError).code
      codes.set(c, (codes.get(c) ?? 0) + 1)
    }
    assert.deepEqual([...codes.keys()].sort(), ['OTTLA_PUBLISH_BUFFER_FULL', 'OTTLA_PUBLISH_OUTCOME_UNKNOWN'])
    assert.ok((codes.get('OTTLA_PUBLISH_OUTCOME_UNKNOWN') ?? 0) < 1_000)
    assert.equal(producer.bufferedBytes, 0)
  })

  test('waiting records move on in order as memory becomes free', async () => {
    await using broker = await storingBroker()
    await using client = make(broker)
    const producer = client.producer({ maxBufferedBytes: 3_000 })
    const values = Array.from({ length: 50 }, (_, i) => String(i).padStart(20, '0'))
    await Promise.all(values.map((value) => producer.send({ topic: 't', partition: 1, value })))
    assert.deepEqual(broker.logs[1], values)
  })

  test('a delivery that takes too long ends with "outcome unknown", which says whether it was sent', async () => {
    await using broker = await storingBroker(() => {
      // Hangs.
    })
    await using client = make(broker)
    const producer = client.producer({ deliveryTimeoutMs: 150 })
    await assert.rejects(
      producer.send({ topic: 't', partition: 0, value: 'x' }),
      (e: OttlaError) => e.code === 'OTTLA_PUBLISH_OUTCOME_UNKNOWN' && e.details.maybeStored === true && e.retriable,
    )
  })

  test('aborting says whether the record may be stored, and leaves its neighbours alone', async () => {
    let release = (): void => assert.fail('not held')
    await using broker = await storingBroker((_, store) => {
      release = store
    })
    await using client = make(broker)
    const producer = client.producer()
    const abort = new AbortController()
    const a = producer.send({ topic: 't', partition: 0, value: 'a' }, { signal: abort.signal })
    const b = producer.send({ topic: 't', partition: 0, value: 'b' })
    await broker.request(Api.Produce)
    abort.abort(new Error('enough'))
    await assert.rejects(
      a,
      (e: OttlaError) => e.code === 'OTTLA_PUBLISH_OUTCOME_UNKNOWN' && e.details.maybeStored === true,
    )
    release()
    assert.equal((await b).offset, 1)
    await assert.rejects(
      producer.send({ topic: 't', value: 'c' }, { signal: abort.signal }),
      (e: OttlaError) => e.details.maybeStored === false,
    )
    const waiting = new AbortController()
    const c = producer.send({ topic: 'unknown', value: 'c' }, { signal: waiting.signal })
    waiting.abort()
    await assert.rejects(c, (e: OttlaError) => e.details.maybeStored === false)
    assert.equal(producer.bufferedBytes, 0)
  })

  test('a lost answer is asked for again under the same numbers, so that the broker can tell', async () => {
    let lost = false
    await using broker = await storingBroker((request, store) => {
      if (!lost) {
        lost = true
        request.socket.destroy()
      } else store()
    })
    await using client = make(broker)
    const producer = client.producer({ retryBackoffMs: 1 })
    await producer.send({ topic: 't', partition: 0, value: 'x' })
    const sequences = produces(broker).map((r) => {
      const records = (r.body as ProduceRequest).topicData[0]?.partitionData[0]?.records
      const [batch] = [...readBatches(records ?? new Uint8Array(0))]
      return [batch?.producerId, batch?.producerEpoch, batch?.baseSequence]
    })
    assert.deepEqual(sequences, [
      [5, 0, 0],
      [5, 0, 0],
    ])
  })

  test('closing takes nothing more and waits for what was taken', async () => {
    let release = (): void => assert.fail('not held')
    await using broker = await storingBroker((_, store) => {
      release = store
    })
    await using client = make(broker)
    const producer = client.producer({ lingerMs: 60_000 })
    const sent = producer.send({ topic: 't', partition: 0, value: 'x' })
    const closing = producer.close()
    await assert.rejects(producer.send({ topic: 't', partition: 0, value: 'y' }), code('OTTLA_KAFKA_CLOSED'))
    await broker.request(Api.Produce)
    release()
    await closing
    assert.equal((await sent).offset, 0)
  })

  test('flush ends a linger and resolves when all is settled, failures included', async () => {
    await using broker = await storingBroker()
    await using client = make(broker)
    const producer = client.producer({ lingerMs: 60_000 })
    let settled = 0
    for (let i = 0; i < 3; i += 1) void producer.send({ topic: 't', partition: i, value: 'x' }).then(() => settled++)
    await producer.flush()
    await Promise.resolve()
    assert.equal(settled, 3)
    await producer.flush()
  })

  test('sendMany answers per record, also when some fail', async () => {
    await using broker = await storingBroker()
    await using client = make(broker)
    const producer = client.producer()
    const told = await producer.sendMany(['a', 'b'].map((value) => ({ topic: 't', partition: 0, value })))
    assert.deepEqual(
      told.map((t) => t.offset),
      [0, 1],
    )
    assert.deepEqual(await producer.sendMany([]), [])
    await assert.rejects(
      producer.sendMany([
        { topic: 't', partition: 0, value: 'c' },
        { topic: 't', partition: 9, value: 'd' },
      ]),
      (e: OttlaError) => {
        const [first, second] = e.details.results as [{ offset: number }, OttlaError]
        return e.code === 'OTTLA_PUBLISH_PARTITION' && first.offset === 2 && second.code === 'OTTLA_PUBLISH_PARTITION'
      },
    )
  })

  test('what is no record is refused, and nothing of the array it came in is taken', async () => {
    await using broker = await storingBroker()
    await using client = make(broker)
    const producer = client.producer()
    const good = { topic: 't', partition: 0, value: 'x' }
    const wrong: readonly [RegExp, object][] = [
      [/needs a topic/, { topic: '' }],
      [/needs a topic/, { topic: undefined }],
      [/partition .* not -1/, { partition: -1 }],
      [/partition .* not 1.5/, { partition: 1.5 }],
      [/partition .* not NaN/, { partition: Number.NaN }],
      [/timestampMs .* not -1/, { timestampMs: -1 }],
      [/timestampMs .* not NaN/, { timestampMs: Number.NaN }],
      [/timestampMs .* not 9007199254740992/, { timestampMs: 2 ** 53 }],
      [/key .* not number/, { key: 7 }],
      [/value .* not object/, { value: { secret: 'shown' } }],
      [/Header 0/, { headers: [{ key: 'h' }] }],
      [
        /Header 1/,
        {
          headers: [
            { key: 'h', value: null },
            { key: 1, value: 'v' },
          ],
        },
      ],
    ]
    for (const [message, part] of wrong) {
      const record = { ...good, ...part } as ProducerRecord
      const isRefusal = (e: OttlaError): boolean => e.code === 'OTTLA_PUBLISH_INVALID' && message.test(e.message)
      await assert.rejects(producer.send(record), isRefusal)
      await assert.rejects(producer.sendMany([good, record, good]), isRefusal)
    }
    assert.equal(producer.bufferedBytes, 0)
    assert.equal(produces(broker).length, 0)
    assert.equal((await producer.send({ ...good, timestampMs: 0, key: null, headers: [] })).offset, 0)
  })

  test('a record larger than a request is refused before anything of it is queued', async () => {
    await using broker = await storingBroker()
    await using client = make(broker)
    const producer = client.producer({ maxRequestBytes: 20_000 })
    const tooLarge = code('OTTLA_PUBLISH_TOO_LARGE')
    // In characters the last two are small enough.
    const values = [Buffer.alloc(20_000), 'x'.repeat(20_000), 'é'.repeat(10_000), '\u20ac'.repeat(7_000)]
    for (const value of values) {
      const refused = assert.rejects(producer.send({ topic: 't', partition: 0, value }), tooLarge)
      assert.equal(producer.bufferedBytes, 0)
      await refused
    }
    await assert.rejects(
      producer.send({ topic: 't', value: '', headers: [{ key: 'h', value: Buffer.alloc(20_000) }] }),
      tooLarge,
    )
    assert.equal(broker.connections, 0)
    assert.equal((await producer.send({ topic: 't', partition: 0, value: 'é'.repeat(9_900) })).offset, 0)
    assert.deepEqual(broker.logs[0], ['é'.repeat(9_900)])
  })

  test('texts and bytes arrive as they are, with headers that repeat a key, in their order', async () => {
    await using broker = await storingBroker()
    await using client = make(broker)
    const producer = client.producer()
    const key = 'ключ'
    const values = [
      '',
      'plain',
      'x'.repeat(300),
      'naïve',
      '€'.repeat(100),
      '\u{1f600}'.repeat(5_000),
      'x'.repeat(9_000),
    ]
    const headers = [
      { key: 'twice', value: 'è' },
      { key: 'twice', value: null },
      { key: 'имя', value: Buffer.from('bytes') },
    ]
    await producer.sendMany(values.map((value) => ({ topic: 't', partition: 2, key, value, headers })))
    assert.deepEqual(broker.logs[2], values)
    const body = produces(broker)[0]?.body as ProduceRequest
    for (const batch of readBatches(body.topicData[0]?.partitionData[0]?.records ?? new Uint8Array(0))) {
      for (let i = 0; i < batch.count; i += 1) {
        assert.equal(Buffer.from(batch.key(i) ?? []).toString(), key)
        assert.deepEqual(
          batch.headers(i).map((h) => [h.key, h.value === null ? null : Buffer.from(h.value).toString()]),
          [
            ['twice', 'è'],
            ['twice', null],
            ['имя', 'bytes'],
          ],
        )
      }
    }
  })

  test('a partitioner of your own is given the key as bytes and decides', async () => {
    await using broker = await storingBroker()
    await using client = make(broker)
    const asked: unknown[] = []
    const producer = client.producer({
      partitions: { t: 2 },
      partitioner: ({ topic, key, partitions }) => {
        asked.push([topic, key === null ? null : [...key], partitions])
        return 1
      },
    })
    const sent = await Promise.all([
      producer.send({ topic: 't', key: 'é', value: '' }),
      producer.send({ topic: 't', value: '' }),
      producer.send({ topic: 't', partition: 0, key: 'k', value: '' }),
    ])
    assert.deepEqual(
      sent.map((s) => s.partition),
      [1, 1, 0],
    )
    assert.deepEqual(asked, [
      ['t', [0xc3, 0xa9], 2],
      ['t', null, 2],
    ])
  })

  test('every codec arrives as a batch that says so', async () => {
    for (const name of ['gzip', 'snappy', 'lz4', 'zstd'] as const) {
      let seen: unknown
      await using broker = await storingBroker((request, store) => {
        const records = (request.body as ProduceRequest).topicData[0]?.partitionData[0]?.records ?? new Uint8Array(0)
        for (const batch of readBatches(records, { compression })) seen = batch.compression
        store()
      })
      await using client = make(broker)
      const producer = client.producer({ compression: name })
      const values = Array.from({ length: 100 }, (_, i) => `value ${i}`)
      await producer.sendMany(values.map((value) => ({ topic: 't', partition: 0, value })))
      assert.equal(seen, name)
      assert.deepEqual(broker.logs[0], values)
    }
  })

  test('D21: a partition the topic lacks is refused, as are fewer partitions than declared', async () => {
    await using broker = await storingBroker()
    await using client = make(broker)
    const producer = client.producer({ partitions: { t: 7 } })
    await assert.rejects(producer.send({ topic: 't', partition: 3, value: 'x' }), code('OTTLA_PUBLISH_PARTITION'))
    await assert.rejects(producer.send({ topic: 't', key: 'k', value: 'x' }), (e: OttlaError) =>
      /has 3 partitions, but 7 are declared/.test(e.message),
    )
    const own = client.producer({ partitioner: () => 9 })
    await assert.rejects(own.send({ topic: 't', key: 'k', value: 'x' }), code('OTTLA_PUBLISH_PARTITION'))
  })

  test('a declared partition count keeps keys where they are when the broker has more', async () => {
    await using broker = await storingBroker()
    await using client = make(broker)
    const all = client.producer()
    const declared = client.producer({ partitions: { t: 1 } })
    const keys = Array.from({ length: 20 }, (_, i) => `key-${i}`)
    const spread = await Promise.all(keys.map((key) => all.send({ topic: 't', key, value: 'x' })))
    assert.ok(new Set(spread.map((s) => s.partition)).size > 1)
    const kept = await Promise.all(keys.map((key) => declared.send({ topic: 't', key, value: 'x' })))
    assert.deepEqual([...new Set(kept.map((s) => s.partition))], [0])
  })
})
