/** The embedded broker over TCP, asked with raw frames: framing, order, refusals, nodes that come and go. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { test } from 'node:test'
import { type BrokerClock, startBroker } from '../../src/broker.ts'
import { ErrorCode } from '../../src/wire/error-codes.ts'
import { Api, correlationIdOf, encodeRequest } from '../../src/wire/protocol.ts'
import { readBatches } from '../../src/wire/record-batch.ts'
import { batch } from './harness.ts'
import { RawClient } from './raw-client.ts'

function produceBody(topic: string, records: Uint8Array, acks = -1) {
  return { acks, timeoutMs: 1000, topicData: [{ name: topic, partitionData: [{ index: 0, records }] }] }
}

function fetchBody(topic: string, maxWaitMs: number, fetchOffset = 0) {
  return {
    maxWaitMs,
    minBytes: 1,
    maxBytes: 1 << 26,
    topics: [{ topic, partitions: [{ partition: 0, fetchOffset, partitionMaxBytes: 1 << 26 }] }],
  }
}

test('the first produce is accepted soon after the start, and what was sent is stored', async (t) => {
  const startedMs = performance.now()
  await using broker = await startBroker({ topics: ['t'] })
  await using client = await RawClient.connect(broker.port)
  const body = await client.ask(Api.Produce, 9, produceBody('t', batch(['hello@1234'])))
  t.diagnostic(`start to first accepted produce: ${(performance.now() - startedMs).toFixed(1)} ms`)
  assert.equal(body.responses[0]!.partitionResponses[0]!.errorCode, 0)
  const [record] = broker.records('t')
  assert.deepEqual([record!.offset, record!.timestampMs, Buffer.from(record!.value!).toString()], [0, 1234, 'hello'])
})

test('ApiVersions of an unknown version is answered in the form of version 0', async () => {
  await using broker = await startBroker()
  await using client = await RawClient.connect(broker.port)
  client.raw(Buffer.from('000000150012000900000063000372617700020002000000', 'hex'))
  client.raw(Buffer.from('00', 'hex'))
  assert.equal((await client.frame())!.toString('hex'), '00000063' + '0023' + '00000001' + '0012' + '0000' + '0004')
})

test('answers come in the order of the requests, also behind a long poll', async () => {
  await using broker = await startBroker({ topics: ['t'] })
  await using client = await RawClient.connect(broker.port)
  const poll = client.send(Api.Fetch, 12, fetchBody('t', 60_000))
  const next = client.send(Api.ApiVersions, 3, {})
  await using other = await RawClient.connect(broker.port)
  await other.ask(Api.Produce, 9, produceBody('t', batch(['a'])))
  assert.equal(correlationIdOf((await client.frame())!), poll)
  assert.equal(correlationIdOf((await client.frame())!), next)
})

test('a long poll ends by itself when its time is over', async () => {
  await using broker = await startBroker({ topics: ['t'] })
  await using client = await RawClient.connect(broker.port)
  const body = await client.ask(Api.Fetch, 12, fetchBody('t', 20))
  assert.equal(body.responses[0]!.partitions[0]!.records!.byteLength, 0)
})

test('frames may arrive byte by byte and many at once', async () => {
  await using broker = await startBroker({ topics: ['t'] })
  await using client = await RawClient.connect(broker.port)
  const frame = encodeRequest(Api.Produce, 9, 5, null, produceBody('t', batch(['a'])))
  for (const byte of frame) {
    client.raw(Uint8Array.of(byte))
    await new Promise((resolve) => setImmediate(resolve))
  }
  assert.equal(correlationIdOf((await client.frame())!), 5)
  client.raw(Buffer.concat(Array.from({ length: 50 }, () => frame)))
  for (let index = 0; index < 50; index++) assert.equal(correlationIdOf((await client.frame())!), 5)
  assert.equal(broker.records('t').length, 51)
})

test('acks 0 is not answered, and the connection goes on', async () => {
  await using broker = await startBroker({ topics: ['t'] })
  await using client = await RawClient.connect(broker.port)
  client.send(Api.Produce, 9, produceBody('t', batch(['a']), 0))
  const body = await client.ask(Api.ApiVersions, 3, {})
  assert.equal(body.errorCode, 0)
  assert.equal(broker.records('t').length, 1)
})

test('malformed frames close their connection and nothing else', async () => {
  await using broker = await startBroker({ topics: ['t'] })
  await using bystander = await RawClient.connect(broker.port)
  const header = encodeRequest(Api.Metadata, 9, 1, 'raw', { topics: [{ name: 't' }] })
  const cut = Buffer.from(header.subarray(0, header.byteLength - 3))
  cut.writeInt32BE(cut.byteLength - 4, 0)
  const broken: readonly Uint8Array[] = [
    Buffer.from('7fffffff', 'hex'),
    Buffer.from('ffffffff', 'hex'),
    Buffer.from('00000002' + '0000', 'hex'),
    Buffer.from('0000000a' + '7fff' + '0000' + '00000001' + 'ffff', 'hex'),
    Buffer.from('0000000a' + '0000' + '0000' + '00000001' + 'ffff', 'hex'),
    cut,
    Buffer.from('GET / HTTP/1.1\r\n\r\n'),
  ]
  for (const bytes of broken) {
    await using client = await RawClient.connect(broker.port)
    client.raw(bytes)
    assert.equal(await client.frame(), null)
  }
  assert.equal((await bystander.ask(Api.ApiVersions, 3, {})).errorCode, 0)
})

test('random bytes never bring the broker down', async () => {
  await using broker = await startBroker({ topics: ['t'] })
  let seed = 42
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
    return seed % below
  }
  const keys = [0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 21, 22, 23, 32, 33, 37, 42, 44, 47, 60]
  for (let round = 0; round < 300; round++) {
    await using client = await RawClient.connect(broker.port)
    const body = Buffer.from(Array.from({ length: random(80) }, () => (random(3) === 0 ? 0 : random(256))))
    const frame = Buffer.alloc(14 + body.byteLength)
    frame.writeInt32BE(10 + body.byteLength, 0)
    frame.writeInt16BE(keys[random(keys.length)]!, 4)
    frame.writeInt16BE(random(12), 6)
    frame.writeInt32BE(round, 8)
    frame.writeInt16BE(-1, 12)
    body.copy(frame, 14)
    client.raw(frame)
  }
  await using client = await RawClient.connect(broker.port)
  assert.equal((await client.ask(Api.ApiVersions, 3, {})).errorCode, 0)
})

test('a client that does not read its answers gets no more made, and holds up nobody else', async () => {
  await using broker = await startBroker({ topics: ['t'] })
  await using writer = await RawClient.connect(broker.port)
  const large = batch(['x'.repeat(900_000)])
  for (let index = 0; index < 8; index++) await writer.ask(Api.Produce, 9, produceBody('t', large))
  await using slow = await RawClient.connect(broker.port)
  slow.pause()
  const served = broker.control({ api: 'Fetch', respond: 'delay', delayMs: 0, times: Number.POSITIVE_INFINITY })
  for (let index = 0; index < 12; index++) slow.send(Api.Fetch, 12, fetchBody('t', 0))
  for (let index = 0; index < 20; index++) await writer.ask(Api.ApiVersions, 3, {})
  assert.ok(served.struck < 6, `${served.struck} answers of 7 MB were made for somebody who reads none`)
  slow.resume()
  for (let index = 0; index < 12; index++) {
    const frame = await slow.frame()
    assert.ok(frame !== null && frame.byteLength > 7_000_000)
  }
})

test('a node that stops hangs up, its leaderships move, and it comes back on its port', async () => {
  await using broker = await startBroker({ nodes: 3, topics: [{ topic: 't', partitions: 3 }] })
  assert.deepEqual(
    [0, 1, 2].map((partition) => broker.leaderOf('t', partition)),
    [1, 2, 3],
  )
  const port = broker.ports.get(2)!
  await using client = await RawClient.connect(port)
  await broker.stopNode(2)
  assert.equal(await client.frame(), null)
  assert.equal(broker.leaderOf('t', 1), 3)
  const refused = connect({ host: '127.0.0.1', port })
  await assert.rejects(once(refused, 'connect'))
  await broker.startNode(2)
  await using again = await RawClient.connect(port)
  const body = await again.ask(Api.Metadata, 12, { topics: null })
  assert.deepEqual(
    body.brokers.map(({ nodeId, port: at }) => [nodeId, at]),
    [...broker.ports],
  )
  broker.moveLeader('t', 1, 2)
  assert.equal(broker.leaderOf('t', 1), 2)
})

test('a fault rule hangs up instead of answering although the record was stored', async () => {
  await using broker = await startBroker({ topics: ['t'] })
  broker.control({ api: 'Produce', topic: 't', respond: 'apply-then-drop' })
  await using client = await RawClient.connect(broker.port)
  client.send(Api.Produce, 9, produceBody('t', batch(['a'])))
  assert.equal(await client.frame(), null)
  assert.equal(broker.records('t').length, 1)
})

test('groups join, sync, commit and are seen from inside', async () => {
  await using broker = await startBroker({ topics: ['t'] })
  await using client = await RawClient.connect(broker.port)
  const join = (memberId: string) =>
    client.ask(Api.JoinGroup, 9, {
      groupId: 'g',
      memberId,
      sessionTimeoutMs: 5_000,
      rebalanceTimeoutMs: 5_000,
      protocolType: 'consumer',
      protocols: [{ name: 'range', metadata: Buffer.from('x') }],
    })
  const { memberId } = await join('')
  const joined = await join(memberId)
  assert.deepEqual([joined.errorCode, joined.generationId, joined.leader], [0, 1, memberId])
  await client.ask(Api.SyncGroup, 5, {
    groupId: 'g',
    memberId,
    generationId: 1,
    assignments: [{ memberId, assignment: Buffer.from('all') }],
  })
  assert.deepEqual(broker.group('g'), { state: 'Stable', generation: 1, members: [memberId] })
  await client.ask(Api.OffsetCommit, 9, {
    groupId: 'g',
    memberId,
    generationIdOrMemberEpoch: 1,
    topics: [{ name: 't', partitions: [{ partitionIndex: 0, committedOffset: 3, committedMetadata: 'm' }] }],
  })
  assert.deepEqual(broker.committed('g'), [{ topic: 't', partition: 0, offset: 3, leaderEpoch: -1, metadata: 'm' }])
})

test('a member expires by the clock that was handed in', async () => {
  const clock = manualClock()
  await using broker = await startBroker({ clock })
  await using client = await RawClient.connect(broker.port)
  const joining = client.ask(Api.JoinGroup, 3, {
    groupId: 'g',
    sessionTimeoutMs: 10_000,
    rebalanceTimeoutMs: 10_000,
    protocolType: 'consumer',
    protocols: [{ name: 'range', metadata: Buffer.from('x') }],
  })
  await clock.pending()
  clock.advance(1)
  assert.equal((await joining).errorCode, ErrorCode.NONE)
  clock.advance(9_000)
  assert.equal(broker.group('g')!.members.length, 1)
  clock.advance(11_000)
  assert.equal(broker.group('g')!.members.length, 0)
})

test('topics given at the start are checked, and a port that is taken is said', async () => {
  await assert.rejects(startBroker({ topics: ['bad topic!'] }), { code: 'OTTLA_CONFIG_INVALID' })
  await assert.rejects(startBroker({ nodes: 0 }), { code: 'OTTLA_CONFIG_INVALID' })
  await using broker = await startBroker()
  await assert.rejects(startBroker({ port: broker.port }), { code: 'OTTLA_CONFIG_INVALID' })
})

test('gzip batches are stored as they came and can be looked into', async () => {
  await using broker = await startBroker({ topics: ['t'] })
  await using client = await RawClient.connect(broker.port)
  const { gzipSync, gunzipSync } = await import('node:zlib')
  const { RecordBatchBuilder } = await import('../../src/wire/record-batch.ts')
  const codec = {
    compress: (bytes: Uint8Array) => gzipSync(bytes),
    decompress: (bytes: Uint8Array) => gunzipSync(bytes),
  }
  const builder = new RecordBatchBuilder()
  builder.append(null, Buffer.from('one'), [], 100)
  builder.append(null, Buffer.from('two'), [], 200)
  const records = builder.build({ compression: { name: 'gzip', codec } })
  await client.ask(Api.Produce, 9, produceBody('t', records))
  const fetched = (await client.ask(Api.Fetch, 12, fetchBody('t', 0))).responses[0]!.partitions[0]!.records!
  assert.deepEqual(Buffer.from(fetched).subarray(16), Buffer.from(records).subarray(16))
  assert.equal([...readBatches(fetched, { lazy: true })][0]!.compression, 'gzip')
  const listed = await client.ask(Api.ListOffsets, 7, {
    topics: [{ name: 't', partitions: [{ partitionIndex: 0, timestamp: 150 }] }],
  })
  assert.equal(listed.topics[0]!.partitions[0]!.offset, 1)
  assert.equal(broker.records('t').length, 2)
})

/** A clock that stands until it is advanced. */
function manualClock(): BrokerClock & { advance(byMs: number): void; pending(): Promise<void> } {
  let nowMs = 5_000
  let timers: { readonly atMs: number; readonly callback: () => void }[] = []
  let told: (() => void) | null = null
  return {
    monotonicMs: () => nowMs,
    wallMs: () => 1_700_000_000_000,
    after(delayMs, callback) {
      const timer = { atMs: nowMs + delayMs, callback }
      timers.push(timer)
      told?.()
      return {
        [Symbol.dispose]: () => {
          timers = timers.filter((other) => other !== timer)
        },
      }
    },
    advance(byMs) {
      const untilMs = nowMs + byMs
      for (;;) {
        const due = timers.filter(({ atMs }) => atMs <= untilMs).sort((a, b) => a.atMs - b.atMs)[0]
        if (due === undefined) break
        timers = timers.filter((other) => other !== due)
        nowMs = Math.max(nowMs, due.atMs)
        due.callback()
      }
      nowMs = untilMs
    },
    /** Resolves once something waits for time. */
    pending: () => (timers.length > 0 ? Promise.resolve() : new Promise((resolve) => (told = resolve))),
  }
}
