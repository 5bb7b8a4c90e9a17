/** One connection against a broker that does as it is told. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { scriptedBroker } from '../../../test/kafka/scripted-broker.ts'
import { OttlaError } from '../../contract/errors.ts'
import { Api } from '../../wire/protocol.ts'
import { Connection, type ConnectionOptions } from './connection.ts'

const open = (port: number, options: Partial<ConnectionOptions> = {}): Promise<Connection> =>
  Connection.open({
    address: { host: '127.0.0.1', port },
    clientId: 'me',
    tls: null,
    connectTimeoutMs: 2_000,
    silenceMs: 2_000,
    maxFrameBytes: 1_000_000,
    maxInFlight: 100,
    keepAliveMs: 30_000,
    ...options,
  })

const list = (connection: Connection, timeoutMs = 2_000) => connection.send(Api.ListGroups, 4, {}, { timeoutMs })
const code = (expected: string) => (error: unknown) => error instanceof OttlaError && error.code === expected
const groups = (groupId: string) => ({ errorCode: 0, groups: [{ groupId, protocolType: '', groupState: '' }] })

describe('a connection', () => {
  test('matches answers to questions in order, with many in flight', async () => {
    await using broker = await scriptedBroker({
      onRequest: (r) => {
        r.answer(Api.ListGroups, groups(String(r.correlationId)))
        return true
      },
    })
    const connection = await open(broker.port)
    const answers = await Promise.all(Array.from({ length: 50 }, () => list(connection)))
    assert.deepEqual(
      answers.map((a) => a.groups[0]?.groupId),
      broker.received.map((r) => String(r.correlationId)),
    )
    assert.equal(broker.received[0]?.clientId, 'me')
    connection.close()
  })

  test('a request out of time fails alone: its late answer is dropped and the next one gets its own', async () => {
    await using broker = await scriptedBroker()
    const connection = await open(broker.port)
    const first = list(connection, 50)
    const second = list(connection)
    await assert.rejects(first, (e: OttlaError) => e.code === 'OTTLA_KAFKA_TIMEOUT' && e.details.sent === true)
    const [a, b] = [await broker.request(Api.ListGroups, 0), await broker.request(Api.ListGroups, 1)]
    a.answer(Api.ListGroups, groups('late'))
    b.answer(Api.ListGroups, groups('mine'))
    assert.equal((await second).groups[0]?.groupId, 'mine')
    assert.equal(connection.isOpen, true)
    connection.close()
  })

  test('a connection on which nothing comes while a question is overdue is taken for dead', async () => {
    await using broker = await scriptedBroker()
    const connection = await open(broker.port, { silenceMs: 150 })
    const closed = new Promise<OttlaError>((resolve) => connection.onClose(resolve))
    await assert.rejects(list(connection, 30), code('OTTLA_KAFKA_TIMEOUT'))
    assert.equal(connection.isOpen, true, 'not at once')
    const error = await closed
    assert.match(error.message, /silent for 150 ms/)
  })

  test('no more than the limit is in flight; the rest waits its turn', async () => {
    await using broker = await scriptedBroker()
    const connection = await open(broker.port, { maxInFlight: 2 })
    const answers = Promise.all([list(connection), list(connection), list(connection)])
    const second = await broker.request(Api.ListGroups, 1)
    assert.equal(broker.received.length, 2)
    broker.received[0]?.answer(Api.ListGroups, groups('a'))
    const third = await broker.request(Api.ListGroups, 2)
    second.answer(Api.ListGroups, groups('b'))
    third.answer(Api.ListGroups, groups('c'))
    assert.deepEqual(
      (await answers).map((a) => a.groups[0]?.groupId),
      ['a', 'b', 'c'],
    )
    connection.close()
  })

  test('when it is lost, every request says whether its bytes had left', async () => {
    await using broker = await scriptedBroker()
    const connection = await open(broker.port, { maxInFlight: 1 })
    const sent = list(connection)
    const unsent = list(connection)
    const outcomes = Promise.allSettled([sent, unsent])
    const { socket } = await broker.request(Api.ListGroups)
    socket.destroy()
    const errors = (await outcomes).map((o) => (o as PromiseRejectedResult).reason as OttlaError)
    assert.deepEqual(
      errors.map((e) => [e.code, e.retriable, e.details.sent]),
      [
        ['OTTLA_KAFKA_CONNECTION', true, true],
        ['OTTLA_KAFKA_CONNECTION', true, false],
      ],
    )
    await assert.rejects(list(connection), (e: OttlaError) => e.details.sent === false)
  })

  test('an aborted request rejects with the reason and disturbs nobody', async () => {
    await using broker = await scriptedBroker()
    const connection = await open(broker.port)
    const abort = new AbortController()
    const first = connection.send(Api.ListGroups, 4, {}, { timeoutMs: 2_000, signal: abort.signal })
    const second = list(connection)
    const a = await broker.request(Api.ListGroups, 0)
    abort.abort(new Error('enough'))
    await assert.rejects(first, /enough/)
    a.answer(Api.ListGroups, groups('x'))
    ;(await broker.request(Api.ListGroups, 1)).answer(Api.ListGroups, groups('y'))
    assert.equal((await second).groups[0]?.groupId, 'y')
    connection.close()
  })

  test('a throttled client sends nothing until the broker may be asked again', async () => {
    await using broker = await scriptedBroker()
    const connection = await open(broker.port)
    const first = list(connection)
    ;(await broker.request(Api.ListGroups)).answer(Api.ListGroups, { ...groups('a'), throttleTimeMs: 150 })
    await first
    const askedMs = performance.now()
    const second = list(connection)
    const request = await broker.request(Api.ListGroups, 1)
    assert.ok(performance.now() - askedMs >= 140, `came after ${performance.now() - askedMs} ms`)
    request.answer(Api.ListGroups, groups('b'))
    await second
    connection.close()
  })

  const hostile: Record<string, (correlationId: number) => Buffer> = {
    'a frame larger than allowed': () => Buffer.from([0x7f, 0, 0, 0]),
    'a negative length': () => Buffer.from([0xff, 0xff, 0xff, 0xff]),
    'an answer nobody asked for': (id) => Buffer.from([0, 0, 0, 8, 0, 0, 0, id + 5, 0, 0, 0, 0]),
    'an answer that ends too early': (id) => Buffer.from([0, 0, 0, 6, 0, 0, 0, id, 0, 0]),
    'a count far beyond the bytes': (id) =>
      Buffer.from([0, 0, 0, 16, 0, 0, 0, id, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]),
  }
  for (const [what, bytes] of Object.entries(hostile)) {
    test(`${what} is one typed error and a closed connection`, async () => {
      await using broker = await scriptedBroker()
      const connection = await open(broker.port)
      const answer = list(connection)
      const request = await broker.request(Api.ListGroups)
      request.raw(bytes(request.correlationId))
      await assert.rejects(answer, code('OTTLA_WIRE_MALFORMED'))
      assert.equal(connection.isOpen, false)
    })
  }

  test('an answer in TLS to a plaintext client is told as what it is', async () => {
    await using broker = await scriptedBroker()
    const connection = await open(broker.port)
    const answer = list(connection)
    ;(await broker.request(Api.ListGroups)).raw(Buffer.from([0x15, 0x03, 0x03, 0, 2, 2, 80]))
    await assert.rejects(answer, code('OTTLA_KAFKA_TLS'))
  })

  test('nobody listening is a connection error that names the address', async () => {
    const broker = await scriptedBroker()
    const { port } = broker
    await broker[Symbol.asyncDispose]()
    await assert.rejects(
      open(port),
      (e: OttlaError) => e.code === 'OTTLA_KAFKA_CONNECTION' && e.message.includes(`:${port}`),
    )
  })

  test('nothing else is sent while it authenticates again', async () => {
    await using broker = await scriptedBroker({
      onRequest: (r) => {
        if (r.api === Api.ListGroups) r.answer(Api.ListGroups, groups('x'))
        return true
      },
    })
    const connection = await open(broker.port)
    const apis = (): number[] => broker.received.map((r) => r.api)
    let waiting: Promise<unknown> | undefined
    await connection.exclusively(async () => {
      waiting = list(connection)
      const mine = connection.send(Api.SaslHandshake, 1, { mechanism: 'PLAIN' }, { timeoutMs: 2_000, pastGate: true })
      ;(await broker.request(Api.SaslHandshake)).answer(Api.SaslHandshake, { errorCode: 0, mechanisms: [] })
      await mine
      assert.deepEqual(apis(), [Api.SaslHandshake])
    })
    await waiting
    assert.deepEqual(apis(), [Api.SaslHandshake, Api.ListGroups])
    connection.close()
  })
})
