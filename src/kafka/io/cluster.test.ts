/** The cluster against brokers that do as they are told: bootstrap, versions, refusals, refreshing. */
import assert from 'node:assert/strict'
import dns from 'node:dns'
import { describe, test } from 'node:test'
import { allVersions, type Received, type ScriptedBroker, scriptedBroker } from '../../../test/kafka/scripted-broker.ts'
import { OttlaError } from '../../contract/errors.ts'
import { Api, encodeResponse } from '../../wire/protocol.ts'
import { type ClientOptions, resolveClientOptions } from '../options.ts'
import { Cluster } from './cluster.ts'

const topicId = 'AAAAAAAAAAAAAAAAAAAAAQ'

function metadata(brokers: readonly { id: number; port: number }[], topics: Record<string, number> = {}) {
  return {
    brokers: brokers.map(({ id, port }) => ({ nodeId: id, host: '127.0.0.1', port })),
    clusterId: 'c',
    controllerId: brokers[0]?.id ?? -1,
    topics: Object.entries(topics).map(([name, errorCode]) => ({
      name,
      topicId,
      errorCode,
      partitions:
        errorCode === 0
          ? [{ partitionIndex: 0, leaderId: brokers[0]?.id ?? -1, leaderEpoch: 0, replicaNodes: [1], isrNodes: [1] }]
          : [],
    })),
  }
}

const askedTopics = (r: Received): string[] =>
  ((r.body as { topics: { name: string }[] | null }).topics ?? []).map((t) => t.name)

const make = (servers: readonly number[], options: Partial<ClientOptions> = {}): Cluster =>
  new Cluster(
    resolveClientOptions({
      bootstrapServers: servers.map((port) => `127.0.0.1:${port}`),
      requestTimeoutMs: 3_000,
      ...options,
    }),
  )

describe('the cluster', () => {
  test('finds one living bootstrap server among dead ones, and says who it is', async () => {
    const dead = await scriptedBroker()
    await dead[Symbol.asyncDispose]()
    let self = 0
    await using broker = await scriptedBroker({
      onRequest: (r) => {
        if (r.api !== Api.Metadata) return false
        r.answer(Api.Metadata, metadata([{ id: 1, port: self }]))
        return true
      },
    })
    self = broker.port
    for (let i = 0; i < 3; i += 1) {
      await using cluster = make([dead.port, broker.port, dead.port])
      await cluster.refresh()
      assert.deepEqual(cluster.nodes(), [1])
    }
    const hello = broker.received.find((r) => r.api === Api.ApiVersions)?.body as Record<string, string>
    assert.equal(hello.clientSoftwareName, 'ottla')
    assert.match(hello.clientSoftwareVersion as string, /^\d+\.\d+\.\d+/)
    assert.equal(broker.connections, 3, 'the bootstrap connection becomes the node connection')
  })

  test('when nobody answers, the error lists every address within the deadline', async () => {
    const dead = await scriptedBroker()
    await dead[Symbol.asyncDispose]()
    await using cluster = make([dead.port, dead.port], { requestTimeoutMs: 400 })
    const started = performance.now()
    await assert.rejects(
      cluster.ensureTopics(['t']),
      (e: OttlaError) => e.code === 'OTTLA_KAFKA_CONNECTION' && e.retriable && e.message.includes(`:${dead.port}`),
    )
    assert.ok(performance.now() - started < 1_500)
  })

  test('a broker that does not know our ApiVersions is asked again in a version it knows', async () => {
    await using broker = await scriptedBroker({
      onRequest: (r) => {
        if (r.api === Api.ApiVersions && r.version > 2) {
          // The form of version 0, whatever was asked.
          r.raw(
            encodeResponse(Api.ApiVersions, 0, r.correlationId, {
              errorCode: 35,
              apiKeys: [{ apiKey: Api.ApiVersions, minVersion: 0, maxVersion: 2 }],
            }),
          )
          return true
        }
        if (r.api === Api.Metadata) r.answer(Api.Metadata, metadata([{ id: 1, port: 1 }]))
        return r.api === Api.Metadata
      },
      versions: allVersions.map((v) => (v.apiKey === Api.Metadata ? { ...v, maxVersion: 5 } : v)),
    })
    await using cluster = make([broker.port])
    const { version } = await cluster.request('any', Api.Metadata, { topics: [], allowAutoTopicCreation: false })
    assert.equal(version, 5)
    assert.deepEqual(
      broker.received.filter((r) => r.api === Api.ApiVersions).map((r) => r.version),
      [4, 2],
    )
  })

  test('no common version is a typed error that names both ranges', async () => {
    await using broker = await scriptedBroker({
      versions: allVersions.map((v) => (v.apiKey === Api.ListGroups ? { ...v, minVersion: 90, maxVersion: 91 } : v)),
    })
    await using cluster = make([broker.port])
    await assert.rejects(
      cluster.request('any', Api.ListGroups, {}),
      (e: OttlaError) => e.code === 'OTTLA_KAFKA_UNSUPPORTED_VERSION' && /90 to 91/.test(e.message),
    )
  })

  test('refreshes asked for at once are one request, and a failing topic fails no neighbour', async () => {
    await using broker: ScriptedBroker = await scriptedBroker({
      onRequest: (r) => {
        if (r.api !== Api.Metadata) return false
        const told = Object.fromEntries(askedTopics(r).map((name) => [name, name === 'bad' ? 29 : 0]))
        r.answer(Api.Metadata, metadata([{ id: 1, port: broker.port }], told))
        return true
      },
    })
    await using cluster = make([broker.port])
    const changes: string[][] = []
    using _ = cluster.onMetadata((c) => changes.push([...c.topics]))
    await cluster.ensureTopics(['good', 'bad'])
    assert.equal(cluster.metadata.topic('good')?.error, 0)
    assert.equal(cluster.metadata.topic('bad')?.error, 29)
    assert.deepEqual(changes, [['good', 'bad']])
    const before = broker.received.length
    await Promise.all([cluster.refresh(), cluster.refresh(), cluster.refresh()])
    assert.equal(broker.received.length, before + 1)
    await cluster.ensureTopics(['good'])
    assert.equal(broker.received.length, before + 1, 'known and fresh: not asked')
  })

  test('refreshes in quick succession that bring nothing new are spaced out', async () => {
    await using broker: ScriptedBroker = await scriptedBroker({
      onRequest: (r) => {
        if (r.api === Api.Metadata) r.answer(Api.Metadata, metadata([{ id: 1, port: broker.port }]))
        return r.api === Api.Metadata
      },
    })
    await using cluster = make([broker.port])
    const untilMs = performance.now() + 600
    while (performance.now() < untilMs) await cluster.refresh()
    const asked = broker.received.filter((r) => r.api === Api.Metadata).length
    assert.ok(asked >= 2 && asked <= 10, `${asked} requests in 600 ms`)
  })

  test('a refused login ends the cluster at once: one connection, the same error for all, the password in none', async () => {
    await using broker = await scriptedBroker({
      onRequest: (r) => {
        if (r.api === Api.SaslHandshake) r.answer(Api.SaslHandshake, { errorCode: 0, mechanisms: ['PLAIN'] })
        if (r.api === Api.SaslAuthenticate) {
          r.answer(Api.SaslAuthenticate, { errorCode: 58, errorMessage: 'no such user', authBytes: new Uint8Array(0) })
        }
        return r.api !== Api.ApiVersions
      },
    })
    await using cluster = make([broker.port, broker.port], {
      sasl: { mechanism: 'plain', username: 'u', password: 'canary', allowPlaintext: true },
    })
    for (let i = 0; i < 3; i += 1) {
      await assert.rejects(cluster.ensureTopics(['t']), (e: OttlaError) => {
        assert.equal(e.code, 'OTTLA_KAFKA_AUTHENTICATION')
        assert.match(e.message, /PLAIN as u was refused by 127.0.0.1:\d+: no such user/)
        assert.doesNotMatch(JSON.stringify(e) + String(e.stack), /canary/)
        return true
      })
    }
    assert.equal(broker.connections, 1)
  })

  test('a mechanism the listener lacks is told with those it has', async () => {
    await using broker = await scriptedBroker({
      onRequest: (r) => {
        if (r.api === Api.SaslHandshake) r.answer(Api.SaslHandshake, { errorCode: 33, mechanisms: ['GSSAPI', 'PLAIN'] })
        return r.api !== Api.ApiVersions
      },
    })
    await using cluster = make([broker.port], { sasl: { mechanism: 'scram-sha-256', username: 'u', password: 'p' } })
    await assert.rejects(
      cluster.refresh(),
      (e: OttlaError) => e.code === 'OTTLA_KAFKA_AUTHENTICATION' && /it offers GSSAPI, PLAIN/.test(e.message),
    )
  })

  test('it authenticates again before the session ends, and no request fails over it', async () => {
    let logins = 0
    await using broker: ScriptedBroker = await scriptedBroker({
      onRequest: (r) => {
        if (r.api === Api.SaslHandshake) r.answer(Api.SaslHandshake, { errorCode: 0, mechanisms: ['PLAIN'] })
        if (r.api === Api.SaslAuthenticate) {
          logins += 1
          r.answer(Api.SaslAuthenticate, { errorCode: 0, authBytes: new Uint8Array(0), sessionLifetimeMs: 200 })
        }
        if (r.api === Api.Metadata) r.answer(Api.Metadata, metadata([{ id: 1, port: broker.port }]))
        return r.api !== Api.ApiVersions
      },
    })
    await using cluster = make([broker.port], {
      sasl: { mechanism: 'plain', username: 'u', password: 'p', allowPlaintext: true },
    })
    while (logins < 3) await cluster.request('any', Api.Metadata, { topics: [] })
    assert.equal(broker.connections, 1)
  })

  test('lanes have connections of their own, so that a long poll blocks nobody', async () => {
    await using broker: ScriptedBroker = await scriptedBroker({
      onRequest: (r) => {
        if (r.api === Api.Metadata) r.answer(Api.Metadata, metadata([{ id: 1, port: broker.port }]))
        if (r.api === Api.ListGroups) r.answer(Api.ListGroups, { errorCode: 0, groups: [] })
        return r.api !== Api.ApiVersions
      },
    })
    await using cluster = make([broker.port])
    await cluster.refresh()
    const poll = cluster.request(1, Api.Fetch, {}, { lane: 'fetch', timeoutMs: 300 })
    const outcome = assert.rejects(poll, (e: OttlaError) => e.code === 'OTTLA_KAFKA_TIMEOUT')
    await cluster.request(1, Api.ListGroups, {})
    await outcome
    assert.equal(broker.connections, 2)
  })

  test('a name is looked up again for every connection, so that a broker that moved is found', async (t) => {
    const asked: string[] = []
    // The name leads nowhere at first, as that of a broker that is not yet back.
    let address = '127.0.0.1'
    t.mock.method(dns, 'lookup', (host: string, options: { all?: boolean }, tell: (...given: unknown[]) => void) => {
      asked.push(`${host} ${address}`)
      process.nextTick(() => (options.all === true ? tell(null, [{ address, family: 4 }]) : tell(null, address, 4)))
    })
    await using broker: ScriptedBroker = await scriptedBroker({
      onRequest: (r) => {
        if (r.api === Api.Metadata) {
          const named = [{ nodeId: 1, host: 'broker.test', port: broker.port }]
          r.answer(Api.Metadata, { brokers: named, clusterId: 'c', controllerId: 1, topics: [] })
        }
        if (r.api === Api.ListGroups) r.answer(Api.ListGroups, { errorCode: 0, groups: [] })
        return r.api !== Api.ApiVersions
      },
    })
    await using cluster = make([broker.port])
    await cluster.refresh()
    await cluster.request(1, Api.ListGroups, {}, { lane: 'other' })
    // Where nothing listens.
    address = '127.0.0.0'
    for (const socket of broker.sockets) socket.destroy()
    const ask = () => cluster.request(1, Api.ListGroups, {}, { lane: 'other', timeoutMs: 500 })
    while (!asked.includes('broker.test 127.0.0.0')) await assert.rejects(ask())
    address = '127.0.0.1'
    const answered = () =>
      ask().then(
        () => true,
        () => false,
      )
    for (let again = true; again; ) again = !(await answered())
    const ofBroker = asked.filter((line) => line.startsWith('broker.test'))
    assert.equal(ofBroker.at(-1), 'broker.test 127.0.0.1')
  })

  test('a group coordinator is looked up once, and again when forgotten', async () => {
    await using broker: ScriptedBroker = await scriptedBroker({
      onRequest: (r) => {
        if (r.api === Api.Metadata) r.answer(Api.Metadata, metadata([{ id: 1, port: broker.port }]))
        if (r.api === Api.FindCoordinator) {
          const asked = broker.received.filter((x) => x.api === Api.FindCoordinator).length
          const errorCode = asked === 1 ? 15 : 0
          r.answer(Api.FindCoordinator, {
            coordinators: [{ key: 'g', nodeId: 1, host: '127.0.0.1', port: broker.port, errorCode }],
          })
        }
        return r.api !== Api.ApiVersions
      },
    })
    await using cluster = make([broker.port])
    const lookUps = (): number => broker.received.filter((r) => r.api === Api.FindCoordinator).length
    assert.equal(await cluster.coordinator('g'), 1)
    assert.equal(await cluster.coordinator('g'), 1)
    assert.equal(lookUps(), 2, 'one that was not available yet, one that answered')
    cluster.forgetCoordinator('g', 7)
    await cluster.coordinator('g')
    assert.equal(lookUps(), 2, 'another node was forgotten')
    cluster.forgetCoordinator('g', 1)
    await cluster.coordinator('g')
    assert.equal(lookUps(), 3)
  })

  test('closing fails what is still asked and leaves no connection', async () => {
    await using broker = await scriptedBroker()
    const cluster = make([broker.port])
    const asked = cluster.request('any', Api.ListGroups, {})
    const outcome = assert.rejects(asked, (e: unknown) => e instanceof OttlaError && e.code === 'OTTLA_KAFKA_CLOSED')
    await broker.request(Api.ListGroups)
    await cluster[Symbol.asyncDispose]()
    await outcome
    await assert.rejects(cluster.refresh(), (e: unknown) => e instanceof OttlaError && e.code === 'OTTLA_KAFKA_CLOSED')
  })
})
