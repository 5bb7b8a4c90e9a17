/** Tokens by OAuth's client credentials grant (RFC 6749, 4.4), for `sasl.token`. */
import { OttlaError } from '../../contract/errors.ts'
import type { OAuthToken } from '../oauth-token.ts'
import { OptionCheck } from '../option-check.ts'
import { Secret, type SecretSource } from '../secret.ts'

export interface ClientCredentialsOptions {
  /** The token endpoint. `https:`, or `http:` on this machine. */
  readonly tokenUrl: string
  readonly clientId: string
  readonly clientSecret: SecretSource
  /** What is asked for, as the identity provider names it. Default: what it gives by itself. */
  readonly scope?: string
  /** Further fields of the request, such as `audience`. */
  readonly fields?: Readonly<Record<string, string>>
  /** SASL extensions that go with every token. */
  readonly extensions?: Readonly<Record<string, string>>
  /** How long one request may take. Default 10 000. */
  readonly timeoutMs?: number
}

const optionNames = [
  'tokenUrl',
  'clientId',
  'clientSecret',
  'scope',
  'fields',
  'extensions',
  'timeoutMs',
] as const satisfies readonly (keyof ClientCredentialsOptions)[]

const maxAnswerBytes = 256 * 1024

/**
 * A token function for `sasl: { mechanism: 'oauthbearer', token: clientCredentials({ … }) }`. A refusal of the identity
 * provider (400, 401, 403) is final; that it cannot be reached is not. Throws OTTLA_CONFIG_INVALID.
 */
export function clientCredentials(options: ClientCredentialsOptions): () => Promise<OAuthToken> {
  const check = new OptionCheck()
  const o = check.names('clientCredentials', options, optionNames)
  const tokenUrl = endpoint(check, o.tokenUrl)
  if (o.clientId === undefined) check.problem('clientId', 'a text that is not empty', undefined)
  const clientId = check.text('clientId', o.clientId, '')
  if (typeof o.clientSecret !== 'function' && (typeof o.clientSecret !== 'string' || o.clientSecret === '')) {
    check.problem('clientSecret', 'a text that is not empty, or a function that gives one', typeof o.clientSecret)
  }
  const timeoutMs = check.integer('timeoutMs', o.timeoutMs, { default: 10_000, min: 1, max: 600_000 })
  check.done('Client credentials')
  const clientSecret = new Secret(options.clientSecret)
  const { scope, fields, extensions } = options

  return async (): Promise<OAuthToken> => {
    const identity = `${formEncoded(clientId)}:${formEncoded(await clientSecret.reveal())}`
    const answer = await fetch(tokenUrl, {
      method: 'POST',
      headers: { authorization: `Basic ${Buffer.from(identity).toString('base64')}`, accept: 'application/json' },
      body: new URLSearchParams({
        grant_type: 'client_credentials',
        ...(scope === undefined ? {} : { scope }),
        ...fields,
      }),
      redirect: 'error',
      signal: AbortSignal.timeout(timeoutMs),
    }).catch((error: unknown) => {
      throw away(tokenUrl, reason(error))
    })
    const told = await readJson(answer, tokenUrl)
    if (!answer.ok) {
      const named = typeof told.error === 'string' && /^[\w-]{1,64}$/.test(told.error) ? ` (${told.error})` : ''
      const text = `HTTP ${answer.status}${named}`
      if (answer.status === 400 || answer.status === 401 || answer.status === 403) {
        throw new OttlaError('OTTLA_KAFKA_AUTHENTICATION', `${tokenUrl.host} gives ${clientId} no token: ${text}`)
      }
      throw away(tokenUrl, text)
    }
    const { access_token: value, expires_in: expiresIn } = told
    if (typeof value !== 'string') throw away(tokenUrl, 'its answer holds no access_token')
    const seconds = Number(expiresIn)
    return {
      value,
      ...(seconds > 0 && Number.isFinite(seconds) ? { lifetimeMs: seconds * 1_000 } : {}),
      ...(extensions === undefined ? {} : { extensions }),
    }
  }
}

function endpoint(check: OptionCheck, given: unknown): URL {
  const expected = 'an https: address (http: only on this machine)'
  const url = typeof given === 'string' && URL.canParse(given) ? new URL(given) : null
  const isHere = url !== null && ['localhost', '127.0.0.1', '[::1]'].includes(url.hostname)
  if (url !== null && (url.protocol === 'https:' || (url.protocol === 'http:' && isHere)) && url.username === '') {
    return url
  }
  check.problem('tokenUrl', expected, typeof given)
  return new URL('https://localhost')
}

/** The answer as an object; bounded, since nobody knows yet who speaks. */
async function readJson(answer: Response, tokenUrl: URL): Promise<Readonly<Record<string, unknown>>> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  try {
    for await (const chunk of answer.body ?? []) {
      bytes += chunk.length
      if (bytes > maxAnswerBytes) throw new Error(`its answer is longer than ${maxAnswerBytes} bytes`)
      chunks.push(chunk)
    }
  } catch (error) {
    throw away(tokenUrl, reason(error))
  }
  try {
    const told: unknown = JSON.parse(Buffer.concat(chunks).toString('utf8'))
    if (typeof told === 'object' && told !== null) return told as Readonly<Record<string, unknown>>
  } catch {
    // The parser's own message would quote the answer, which may hold a token.
  }
  if (!answer.ok) return {}
  throw away(tokenUrl, 'its answer is no JSON object')
}

/** As RFC 6749 wants identifiers inside Basic authentication. */
function formEncoded(text: string): string {
  return new URLSearchParams({ '': text }).toString().slice(1)
}

function reason(error: unknown): string {
  if (!(error instanceof Error)) return 'the request failed'
  return error.cause instanceof Error && error.cause.message !== '' ? error.cause.message : error.message
}

function away(tokenUrl: URL, why: string): OttlaError {
  return new OttlaError('OTTLA_KAFKA_CONNECTION', `No token from ${tokenUrl.host}: ${why}`)
}
