/** OAUTHBEARER against brokers that accept, reject in their odd way, and let sessions end; and tokens over HTTP. */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { describe, test } from 'node:test'
import { inspect } from 'node:util'
import { type Received, type ScriptedBroker, scriptedBroker } from '../../../test/kafka/scripted-broker.ts'
import { OttlaError } from '../../contract/errors.ts'
import type { SaslAuthenticateRequest, SaslAuthenticateResponse } from '../../wire/messages.gen.ts'
import { Api, type Draft } from '../../wire/protocol.ts'
import { KafkaClient } from '../client.ts'
import { BearerToken, type OAuthToken, type OAuthTokenSource } from '../oauth-token.ts'
import type { SaslOptions } from '../options.ts'
import { clientCredentials } from './client-credentials.ts'

type Answer = Draft<SaslAuthenticateResponse> | null

/** Offers OAUTHBEARER and answers what it is told by `judge`; null hangs up. */
function judging(judge: (told: string, turn: number) => Answer): Promise<ScriptedBroker & { readonly told: string[] }> {
  const told: string[] = []
  let turn = 0
  return scriptedBroker({
    onRequest: (request: Received) => {
      if (request.api === Api.SaslHandshake) {
        request.answer(Api.SaslHandshake, { errorCode: 0, mechanisms: ['OAUTHBEARER'] })
        return true
      }
      if (request.api === Api.SaslAuthenticate) {
        const text = Buffer.from((request.body as SaslAuthenticateRequest).authBytes).toString('latin1')
        told.push(text)
        const answer = judge(text, turn++)
        if (answer === null) request.socket.destroy()
        else request.answer(Api.SaslAuthenticate, answer)
        return true
      }
      if (request.api === Api.ListGroups) request.answer(Api.ListGroups, { errorCode: 0 })
      return request.api === Api.ListGroups
    },
  }).then((broker) => Object.assign(broker, { told }))
}

const make = (broker: ScriptedBroker, token: OAuthTokenSource): KafkaClient =>
  new KafkaClient({
    bootstrapServers: `127.0.0.1:${broker.port}`,
    sasl: { mechanism: 'oauthbearer', token, allowPlaintext: true },
    requestTimeoutMs: 2_000,
    connectTimeoutMs: 1_000,
  })
const ask = (client: KafkaClient) => client.cluster.request('any', Api.ListGroups, {})
const rejection = Buffer.from('{"status":"invalid_token"}')

/** An OttlaError of this code and text in which the token is nowhere. */
const tells = (code: string, text: RegExp, secret: string) => (error: unknown) => {
  assert.ok(error instanceof OttlaError, String(error))
  assert.equal(error.code, code, error.message)
  assert.match(error.message, text)
  assert.doesNotMatch(inspect(error, { depth: 20, showHidden: true }), new RegExp(secret))
  return true
}

describe('OAUTHBEARER', () => {
  test('says token and extensions as RFC 7628 has it, and is let in', async () => {
    await using broker = await judging(() => ({ errorCode: 0 }))
    await using client = make(broker, () => ({ value: 'abc.def', extensions: { logicalCluster: 'lkc-1', pool: 'p' } }))
    await ask(client)
    assert.deepEqual(broker.told, ['n,,\x01auth=Bearer abc.def\x01logicalCluster=lkc-1\x01pool=p\x01\x01'])
  })

  test('D25: a rejection that comes as success is answered with 0x01, and the refusal names mechanism and status', async () => {
    await using broker = await judging((told) =>
      told === '\x01' ? { errorCode: 58, errorMessage: rejection.toString() } : { errorCode: 0, authBytes: rejection },
    )
    await using client = make(broker, () => ({ value: 'canary' }))
    const startMs = performance.now()
    await assert.rejects(
      ask(client),
      tells('OTTLA_KAFKA_AUTHENTICATION', /^OAUTHBEARER was refused by 127\.0\.0\.1:\d+: .*invalid_token/, 'canary'),
    )
    assert.ok(performance.now() - startMs < 1_500)
    assert.deepEqual(broker.told, ['n,,\x01auth=Bearer canary\x01\x01', '\x01'])
    assert.equal(broker.connections, 1)
  })

  const oddEnds: Record<string, (told: string) => Answer> = {
    'hangs up': (told) => (told === '\x01' ? null : { errorCode: 0, authBytes: rejection }),
    'goes on talking': () => ({ errorCode: 0, authBytes: rejection }),
    'lets us in after all': (told) => ({ errorCode: 0, authBytes: told === '\x01' ? Buffer.alloc(0) : rejection }),
    'repeats the token': (told) =>
      told === '\x01'
        ? { errorCode: 58, errorMessage: 'canary is no good' }
        : { errorCode: 0, authBytes: Buffer.from('{"status":"canary"}') },
    'refuses at once and repeats the token': () => ({ errorCode: 58, errorMessage: 'canary is no good' }),
  }
  for (const [name, judge] of Object.entries(oddEnds)) {
    test(`a broker that rejects and then ${name} is a refusal, and the token is nowhere in it`, async () => {
      await using broker = await judging(judge)
      await using client = make(broker, () => ({ value: 'canary' }))
      await assert.rejects(ask(client), tells('OTTLA_KAFKA_AUTHENTICATION', /OAUTHBEARER/, 'canary'))
    })
  }

  test('a session that ends soon is renewed with a new token on the same connection, and no request fails', async () => {
    let given = 0
    await using broker = await judging(() => ({ errorCode: 0, sessionLifetimeMs: 200 }))
    await using client = make(broker, () => ({ value: `token-${++given}`, lifetimeMs: 200 }))
    const endMs = performance.now() + 600
    while (performance.now() < endMs) {
      await ask(client)
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    assert.equal(broker.connections, 1)
    assert.ok(broker.told.length >= 3, `${broker.told.length}`)
    assert.ok(broker.told.at(-1)?.includes(`token-${given}`) && given >= 3)
  })

  test('who gives tokens may be away for a moment when a session is to be renewed', async () => {
    let asked = 0
    await using broker = await judging(() => ({ errorCode: 0, sessionLifetimeMs: 3_000 }))
    await using client = make(broker, () => {
      asked += 1
      if (asked === 2) throw new Error('away')
      return { value: `token-${asked}` }
    })
    await ask(client)
    const renewed = (): boolean => broker.told.length >= 2
    const endMs = performance.now() + 6_000
    while (!renewed() && performance.now() < endMs) {
      await ask(client)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    assert.ok(renewed() && asked >= 3)
    assert.equal(broker.connections, 1)
  })

  test('a token function that fails is tried again with the connection; its message is told, not its cause', async () => {
    let asked = 0
    await using broker = await judging(() => ({ errorCode: 0 }))
    await using client = make(broker, () => {
      asked += 1
      throw new Error('identity provider away', { cause: 'canary' })
    })
    await assert.rejects(ask(client), tells('OTTLA_KAFKA_CONNECTION', /identity provider away/, 'canary'))
    await assert.rejects(ask(client))
    assert.ok(asked >= 2)
  })

  test('a token function that hangs is given up in time', async () => {
    await using broker = await judging(() => ({ errorCode: 0 }))
    const source = new BearerToken(() => new Promise<OAuthToken>(() => undefined))
    await assert.rejects(source.current(50), tells('OTTLA_KAFKA_CONNECTION', /none came within 50 ms/, 'canary'))
    assert.equal(broker.connections, 0)
  })

  test('connections share a token whose life is known, and ask once for it together', async () => {
    let asked = 0
    const shared = new BearerToken(async () => {
      asked += 1
      return { value: `t${asked}`, lifetimeMs: 60_000 }
    })
    const tokens = await Promise.all([shared.current(1_000), shared.current(1_000)])
    assert.deepEqual(
      [...tokens, await shared.current(1_000)].map((t) => t.value),
      ['t1', 't1', 't1'],
    )
    shared.reject(tokens[0] as OAuthToken)
    assert.equal((await shared.current(1_000)).value, 't2')
    assert.equal(`${shared} ${JSON.stringify(shared)} ${inspect(shared)}`, '[secret] "[secret]" [secret]')
  })

  const noTokens: Record<string, unknown> = {
    nothing: undefined,
    'no text': { value: 5 },
    'a token that ends its own field': { value: 'canary\x01auth=Bearer other' },
    'an empty token': { value: '' },
    'an extension called auth': { value: 'canary', extensions: { auth: 'x' } },
    'an extension that ends its field': { value: 'canary', extensions: { a: 'b\x01c=d' } },
    'a life that is over': { value: 'canary', lifetimeMs: 0 },
  }
  for (const [name, given] of Object.entries(noTokens)) {
    test(`${name} is no token`, async () => {
      const source = new BearerToken(() => given as OAuthToken)
      await assert.rejects(source.current(1_000), tells('OTTLA_KAFKA_AUTHENTICATION', /is no token/, 'canary'))
    })
  }

  test('a token got ready for a renewal is used for it, once, also when its life is not told', async () => {
    let asked = 0
    const source = new BearerToken(() => ({ value: `t${++asked}` }))
    await source.prepare(1_000, 0)
    assert.equal((await source.current(1_000)).value, 't1')
    assert.equal((await source.current(1_000)).value, 't2')
  })

  test('a session is renewed with a younger token, also when the old one is still good', async () => {
    let asked = 0
    const source = new BearerToken(() => ({ value: `t${++asked}`, lifetimeMs: 60_000 }))
    await source.current(1_000)
    const beganMs = performance.now()
    await source.prepare(1_000, beganMs)
    await source.prepare(1_000, beganMs)
    assert.equal((await source.current(1_000)).value, 't2')
    assert.equal(asked, 2)
  })

  test('without TLS, without a function, or with a password it is refused before anything is sent', () => {
    const sasl = (more: object) => () => {
      const written = { mechanism: 'oauthbearer', token: () => ({ value: 'x' }), ...more } as SaslOptions
      return new KafkaClient({ bootstrapServers: 'a:1', sasl: written })
    }
    assert.throws(sasl({}), /oauthbearer without tls would send the token readable/)
    assert.throws(sasl({ allowPlaintext: true, token: 'text' }), /sasl\.token must be a function/)
    assert.throws(sasl({ allowPlaintext: true, password: 'canary' }), /sasl\.password is not for oauthbearer/)
  })
})

describe('client credentials', () => {
  interface Asked {
    readonly authorization: string
    readonly body: string
  }
  async function provider(
    answer: (asked: Asked) => { readonly status: number; readonly body: string },
  ): Promise<AsyncDisposable & { readonly tokenUrl: string; readonly asked: Asked[] }> {
    const asked: Asked[] = []
    const server = createServer((request, response) => {
      let body = ''
      request.on('data', (chunk) => {
        body += chunk
      })
      request.on('end', () => {
        const one = { authorization: request.headers.authorization ?? '', body }
        asked.push(one)
        const told = answer(one)
        response.writeHead(told.status, { 'content-type': 'application/json', connection: 'close' })
        response.end(told.body)
      })
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const address = server.address()
    const port = typeof address === 'object' && address !== null ? address.port : 0
    return {
      tokenUrl: `http://127.0.0.1:${port}/token`,
      asked,
      async [Symbol.asyncDispose]() {
        server.closeAllConnections()
        await new Promise((resolve) => server.close(resolve))
      },
    }
  }
  const options = { clientId: 'a b', clientSecret: 'canary:1' }

  test('asks with Basic authentication and gives token and life', async () => {
    await using idp = await provider(() => ({ status: 200, body: '{"access_token":"t.1","expires_in":300}' }))
    const token = await clientCredentials({
      ...options,
      tokenUrl: idp.tokenUrl,
      scope: 'kafka',
      fields: { audience: 'k' },
    })()
    assert.deepEqual(token, { value: 't.1', lifetimeMs: 300_000 })
    assert.equal(idp.asked[0]?.body, 'grant_type=client_credentials&scope=kafka&audience=k')
    const basic = Buffer.from(idp.asked[0]?.authorization.slice(6) ?? '', 'base64').toString()
    assert.equal(basic, 'a+b:canary%3A1')
  })

  const wrong: Record<string, readonly [number, string, string, RegExp]> = {
    'a refusal': [401, '{"error":"invalid_client"}', 'OTTLA_KAFKA_AUTHENTICATION', /HTTP 401 \(invalid_client\)/],
    'an outage': [503, 'canary', 'OTTLA_KAFKA_CONNECTION', /HTTP 503/],
    'no JSON': [200, 'canary', 'OTTLA_KAFKA_CONNECTION', /no JSON object/],
    'no token': [200, '{"token":"canary"}', 'OTTLA_KAFKA_CONNECTION', /no access_token/],
    'an endless answer': [200, 'canary'.repeat(50_000), 'OTTLA_KAFKA_CONNECTION', /longer than/],
  }
  for (const [name, [status, body, code, text]] of Object.entries(wrong)) {
    test(`${name} is a typed error without secret or answer`, async () => {
      await using idp = await provider(() => ({ status, body }))
      await assert.rejects(clientCredentials({ ...options, tokenUrl: idp.tokenUrl })(), tells(code, text, 'canary'))
    })
  }

  test('an address that would send the secret readable over the network is refused', () => {
    for (const tokenUrl of ['http://idp.example/token', 'ftp://localhost/', 'https://u:p@idp.example/', 'x']) {
      assert.throws(() => clientCredentials({ ...options, tokenUrl }), /tokenUrl must be an https: address/)
    }
  })
})
