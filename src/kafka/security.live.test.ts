/** TLS and SASL on Apache Kafka: who is let in, and how those who are not learn why. */
import assert from 'node:assert/strict'
import { createSign, randomUUID } from 'node:crypto'
import { connect, createServer, type Socket } from 'node:net'
import { describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { inspect } from 'node:util'
import type { SecureKafkaFacts } from '../../test/live/kafka-cluster.ts'
import { OttlaError } from '../contract/errors.ts'
import { Api } from '../wire/protocol.ts'
import { KafkaClient } from './client.ts'
import { parseAddress, type SaslOptions, type TlsOptions } from './options.ts'

const given = process.env['OTTLA_LIVE_KAFKA_SECURE']
const skip = given === undefined ? 'OTTLA_LIVE_KAFKA_SECURE is not set' : false

interface Way {
  readonly bootstrapServers?: string
  readonly tls?: TlsOptions | boolean
  readonly sasl?: SaslOptions
}

describe('security on Apache Kafka', { skip }, () => {
  const facts = skip === false ? (JSON.parse(given as string) as SecureKafkaFacts) : ({} as SecureKafkaFacts)
  const tls = { ca: facts.caFile }
  const scram = (mechanism: 'scram-sha-256' | 'scram-sha-512', password?: string): SaslOptions => ({
    mechanism,
    ...facts.scram,
    ...(password === undefined ? {} : { password }),
  })

  /** A signed token for `alice`, good for `lifetimeMs`; `claims` says what is otherwise. */
  const token = (lifetimeMs: number, claims: object = {}): string => {
    const { signingKey, keyId, issuer, audience } = facts.oauth
    const nowMs = Date.now()
    const seconds = (ms: number): number => Math.floor(ms / 1_000)
    const times = { iat: seconds(nowMs - 60_000), exp: seconds(nowMs + lifetimeMs) }
    const body = [
      { alg: 'RS256', typ: 'JWT', kid: keyId },
      { sub: 'alice', iss: issuer, aud: audience, ...times, ...claims },
    ]
      .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
      .join('.')
    return `${body}.${createSign('RSA-SHA256').update(body).sign(signingKey, 'base64url')}`
  }
  const oauth = (lifetimeMs: number, claims?: object): Way => ({
    bootstrapServers: facts.oauth.bootstrapServers,
    tls,
    sasl: { mechanism: 'oauthbearer', token: () => ({ value: token(lifetimeMs, claims), lifetimeMs }) },
  })

  const client = (way: Way): KafkaClient =>
    new KafkaClient({ bootstrapServers: facts.bootstrapServers, requestTimeoutMs: 10_000, ...way })

  const allowed: Record<string, () => Way> = {
    'SCRAM-SHA-512': () => ({ tls, sasl: scram('scram-sha-512') }),
    'SCRAM-SHA-256': () => ({ tls, sasl: scram('scram-sha-256') }),
    PLAIN: () => ({ tls, sasl: { mechanism: 'plain', ...facts.plain } }),
    OAUTHBEARER: () => oauth(600_000),
    'a client certificate': () => ({
      bootstrapServers: facts.mtls.bootstrapServers,
      tls: { ...tls, cert: facts.mtls.certFile, key: facts.mtls.keyFile },
    }),
  }
  for (const [name, way] of Object.entries(allowed)) {
    test(`${name} is let in and publishes`, async () => {
      await using kafka = client(way())
      const topic = `secure-${randomUUID()}`
      const [created] = await kafka.admin().createTopics([{ topic, partitions: 1, replicas: 1 }])
      assert.equal(created?.error, undefined)
      const value = 'x'.repeat(100_000)
      const told = await kafka.producer().sendMany([1, 2, 3].map(() => ({ topic, value })))
      assert.deepEqual(
        told.map((t) => t.offset),
        [0, 1, 2],
      )
      await kafka.admin().deleteTopics([topic])
    })
  }

  const refused: Record<string, readonly [() => Way, string, RegExp]> = {
    'a wrong SCRAM password': [
      () => ({ tls, sasl: scram('scram-sha-512', 'canary') }),
      'OTTLA_KAFKA_AUTHENTICATION',
      /SCRAM-SHA-512 as alice was refused by [\w.]+:\d+: .*invalid credentials/,
    ],
    'a wrong PLAIN password': [
      () => ({ tls, sasl: { mechanism: 'plain', username: facts.plain.username, password: 'canary' } }),
      'OTTLA_KAFKA_AUTHENTICATION',
      /PLAIN as admin was refused by [\w.]+:\d+: .*Invalid username or password/,
    ],
    'D25: a token for somebody else': [
      () => oauth(600_000, { aud: 'canary' }),
      'OTTLA_KAFKA_AUTHENTICATION',
      /OAUTHBEARER was refused by [\w.]+:\d+: the token was rejected: invalid_token/,
    ],
    'D25: an expired token': [
      () => oauth(600_000, { exp: Math.floor(Date.now() / 1_000) - 300 }),
      'OTTLA_KAFKA_AUTHENTICATION',
      /OAUTHBEARER was refused by [\w.]+:\d+: the token was rejected: invalid_token/,
    ],
    'a CA that did not sign the broker': [
      () => ({ tls: true, sasl: scram('scram-sha-512', 'canary') }),
      'OTTLA_KAFKA_TLS',
      /TLS handshake with [\w.]+:\d+ failed: .*certificate/,
    ],
    'a name the certificate does not carry': [
      () => ({ tls: { ...tls, servername: 'elsewhere.example' }, sasl: scram('scram-sha-512', 'canary') }),
      'OTTLA_KAFKA_TLS',
      /elsewhere\.example/,
    ],
    'plaintext on the TLS port': [
      () => ({ sasl: { mechanism: 'plain', username: 'u', password: 'canary', allowPlaintext: true } }),
      'OTTLA_KAFKA_TLS',
      /answers in TLS, but the client was told to speak plaintext/,
    ],
  }
  for (const [name, [way, code, text]] of Object.entries(refused)) {
    test(`${name} is a typed error within 2 s, three attempts at most, and the secret is nowhere in it`, async () => {
      const written = way()
      const target = parseAddress(written.bootstrapServers ?? facts.bootstrapServers)
      assert.ok(target !== undefined)
      await using counter = await countingProxy(target)
      const at = `${target.host}:${counter.port}`
      await using kafka = client({ ...written, bootstrapServers: `${at},${at}` })
      const started = performance.now()
      for (let i = 0; i < 3; i += 1) {
        await assert.rejects(kafka.admin().listTopics(), (error: unknown) => {
          assert.ok(error instanceof OttlaError)
          assert.equal(error.code, code, error.message)
          assert.match(error.message, text)
          assert.doesNotMatch(inspect(error, { depth: 20, showHidden: true }), /canary/)
          return true
        })
      }
      assert.ok(performance.now() - started < 2_000, `${performance.now() - started} ms`)
      await sleep(500)
      assert.ok(counter.connections <= 3, `${counter.connections} connections`)
    })
  }

  test('a token that ends is renewed in time on the same connection, and no request fails', async () => {
    const target = parseAddress(facts.oauth.bootstrapServers)
    assert.ok(target !== undefined)
    await using counter = await countingProxy(target)
    let given = 0
    await using kafka = client({
      bootstrapServers: `${target.host}:${counter.port}`,
      tls,
      sasl: {
        mechanism: 'oauthbearer',
        token: () => {
          given += 1
          return { value: token(5_000), lifetimeMs: 5_000 }
        },
      },
    })
    await kafka.cluster.request('any', Api.ListGroups, {})
    const { connections } = counter
    const endMs = performance.now() + 12_000
    while (performance.now() < endMs) {
      await kafka.cluster.request('any', Api.ListGroups, {})
      await sleep(50)
    }
    assert.ok(given >= 3, `${given} tokens`)
    assert.equal(counter.connections, connections, 'no connection was lost')
  })

  test('a client that does not log in where it must is told so', async () => {
    await using kafka = new KafkaClient({ bootstrapServers: facts.bootstrapServers, tls, requestTimeoutMs: 500 })
    await assert.rejects(kafka.admin().describeCluster(), /Does that listener want SASL\?/)
  })
})

/** Counts connections on their way to the broker. */
async function countingProxy(target: {
  readonly host: string
  readonly port: number
}): Promise<AsyncDisposable & { readonly port: number; readonly connections: number }> {
  const sockets = new Set<Socket>()
  let connections = 0
  const server = createServer((near) => {
    connections += 1
    const far = connect(target.port, target.host)
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from)
      from.pipe(to)
      from.on('error', () => to.destroy())
      from.on('close', () => to.destroy())
    }
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  return {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    get connections() {
      return connections
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
