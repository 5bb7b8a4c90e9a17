/** Options: every problem at once, nearest names, secrets that stay secret. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { describe, test } from 'node:test'
import { inspect } from 'node:util'
import { OttlaError } from '../contract/errors.ts'
import { KafkaClient } from './client.ts'
import { optionsFromEnvironment } from './io/environment.ts'
import { type ClientOptions, parseAddress, resolveClientOptions } from './options.ts'
import { resolveProducerOptions } from './producer.ts'

function problems(call: () => unknown): readonly string[] {
  try {
    call()
  } catch (error) {
    assert.ok(error instanceof OttlaError)
    assert.equal(error.code, 'OTTLA_CONFIG_INVALID')
    return error.details.problems as string[]
  }
  return assert.fail('should be refused')
}

describe('client options', () => {
  test('all problems are listed at once, an unknown name with the nearest known one', () => {
    const list = problems(() =>
      resolveClientOptions({
        bootstrapServers: 'localhost',
        requestTimeoutMS: 5,
        connectTimeoutMs: -1,
        tls: { cert: 'x' },
        sasl: { mechanism: 'plane', username: '', password: 'canary' },
      } as unknown as ClientOptions),
    )
    assert.equal(list.length, 6)
    assert.match(list.join('\n'), /requestTimeoutMS is not an option; did you mean requestTimeoutMs\?/)
    assert.match(list.join('\n'), /bootstrapServers must be one or more 'host:port', got 'localhost'/)
    assert.match(list.join('\n'), /tls.cert and tls.key belong together/)
    assert.match(
      list.join('\n'),
      /sasl.mechanism must be one of plain, scram-sha-256, scram-sha-512, oauthbearer, got 'plane'/,
    )
    assert.doesNotMatch(list.join('\n'), /canary/)
  })

  test('PLAIN without TLS is refused unless it is named', () => {
    const sasl = { mechanism: 'plain', username: 'u', password: 'p' } as const
    assert.match(
      problems(() => resolveClientOptions({ bootstrapServers: 'a:1', sasl })).join(),
      /readable over the network/,
    )
    resolveClientOptions({ bootstrapServers: 'a:1', sasl, tls: true })
    resolveClientOptions({ bootstrapServers: 'a:1', sasl: { ...sasl, allowPlaintext: true } })
  })

  test('a password is seen in no inspection, JSON or text of a client and its options', () => {
    const options: ClientOptions = {
      bootstrapServers: 'a:1',
      tls: { key: '-----BEGIN PRIVATE KEY-----', cert: '-----BEGIN', passphrase: 'canary-2' },
      sasl: { mechanism: 'scram-sha-512', username: 'u', password: 'canary-1' },
    }
    const resolved = resolveClientOptions(options)
    const seen = [
      inspect(resolved, { depth: 20, showHidden: true }),
      JSON.stringify(resolved),
      String(resolved.sasl?.password),
      inspect(new KafkaClient(options), { depth: 20, showHidden: true }),
    ].join()
    assert.doesNotMatch(seen, /canary/)
  })

  test('addresses are host and port, with or without a protocol in front', () => {
    assert.deepEqual(parseAddress('kafka-1.example:9092'), { host: 'kafka-1.example', port: 9092 })
    assert.deepEqual(parseAddress('[::1]:9092'), { host: '::1', port: 9092 })
    assert.deepEqual(parseAddress('SASL_SSL://b:1'), { host: 'b', port: 1 })
    for (const wrong of ['a', 'a:', ':1', 'a:0', 'a:65536', '::1:9092', 'a b:1', '']) {
      assert.equal(parseAddress(wrong), undefined, wrong)
    }
    assert.equal(resolveClientOptions({ bootstrapServers: 'a:1, b:2' }).bootstrapServers.length, 2)
  })
})

describe('producer options', () => {
  const client = { requestTimeoutMs: 30_000 }

  test('limits depend on one another', () => {
    const o = resolveProducerOptions({ maxRequestBytes: 2_000, deliveryTimeoutMs: 5_000 }, client)
    assert.equal(o.batchBytes, 2_000)
    assert.equal(o.requestTimeoutMs, 5_000)
    assert.equal(o.lingerMs, 0)
  })

  test('what is wrong is listed', () => {
    const list = problems(() =>
      resolveProducerOptions(
        { lingerMs: -1, acks: 1, maxInFlight: 6, compression: 'lz5', partitions: { a: 0 } } as never,
        client,
      ),
    )
    assert.equal(list.length, 5)
  })
})

describe('options from the environment', () => {
  test('Kafka names become options; the file of a secret is read again each time', async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'ottla-options-'))
    try {
      const file = path.join(folder, 'password')
      writeFileSync(file, 'first\n')
      const options = optionsFromEnvironment({
        KAFKA_BOOTSTRAP_SERVERS: 'a:1,b:2',
        KAFKA_SECURITY_PROTOCOL: 'SASL_SSL',
        KAFKA_SASL_MECHANISM: 'SCRAM-SHA-512',
        KAFKA_SASL_USERNAME: 'u',
        KAFKA_SASL_PASSWORD_FILE: file,
        KAFKA_SSL_CA_LOCATION: '/ca.pem',
      })
      assert.ok(options !== undefined)
      const resolved = resolveClientOptions(options)
      assert.deepEqual(resolved.tls?.ca, '/ca.pem')
      assert.equal(resolved.sasl?.mechanism, 'SCRAM-SHA-512')
      assert.equal(await resolved.sasl?.password.reveal(), 'first')
      writeFileSync(file, 'second')
      assert.equal(await resolved.sasl?.password.reveal(), 'second')
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  test('KAFKA_BROKERS is an alias; nothing set is no options', () => {
    assert.deepEqual(optionsFromEnvironment({ KAFKA_BROKERS: 'a:1' }), { bootstrapServers: 'a:1' })
    assert.equal(optionsFromEnvironment({}), undefined)
  })

  test('SASL without its parts is refused with all of them named', () => {
    const list = problems(() => optionsFromEnvironment({ KAFKA_BROKERS: 'a:1', KAFKA_SECURITY_PROTOCOL: 'sasl_ssl' }))
    assert.equal(list.length, 3)
  })

  test('PLAIN over SASL_PLAINTEXT has named what it is', () => {
    const options = optionsFromEnvironment({
      KAFKA_BROKERS: 'a:1',
      KAFKA_SECURITY_PROTOCOL: 'SASL_PLAINTEXT',
      KAFKA_SASL_MECHANISM: 'PLAIN',
      KAFKA_SASL_USERNAME: 'u',
      KAFKA_SASL_PASSWORD: 'p',
    })
    assert.ok(options !== undefined)
    assert.equal(resolveClientOptions(options).sasl?.mechanism, 'PLAIN')
  })

  test('OAUTHBEARER takes its tokens by client credentials, and says what it needs for that', () => {
    const env = { KAFKA_BROKERS: 'a:1', KAFKA_SECURITY_PROTOCOL: 'SASL_SSL', KAFKA_SASL_MECHANISM: 'OAUTHBEARER' }
    const options = optionsFromEnvironment({
      ...env,
      KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL: 'https://idp.example/token',
      KAFKA_SASL_OAUTHBEARER_CLIENT_ID: 'id',
      KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET: 'canary',
    })
    assert.ok(options !== undefined)
    const resolved = resolveClientOptions(options)
    assert.equal(resolved.sasl?.mechanism, 'OAUTHBEARER')
    assert.ok(resolved.sasl?.token !== null)
    assert.doesNotMatch(inspect(resolved, { depth: 20 }), /canary/)
    assert.match(problems(() => optionsFromEnvironment(env)).join(), /OAUTHBEARER_TOKEN_ENDPOINT_URL.*CLIENT_SECRET/)
  })
})
