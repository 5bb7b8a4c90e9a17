/**
 * How to reach a cluster: options as written, checked all at once, and as resolved.
 *
 * Names are Kafka's in camelCase with their unit. `io/environment.ts` reads the same from environment variables.
 */
import { BearerToken, type OAuthTokenSource } from './oauth-token.ts'
import { OptionCheck } from './option-check.ts'
import { Secret, type SecretSource } from './secret.ts'

/** PEM text or a path to a PEM file, each. Files are read again for every connection, so that they can be rotated. */
export interface TlsOptions {
  /** Certificates trusted to sign the broker's. Default: those Node trusts. */
  readonly ca?: string
  /** The client's own certificate, for mutual TLS; needs `key`. */
  readonly cert?: string
  readonly key?: string
  /** Opens an encrypted `key`. */
  readonly passphrase?: SecretSource
  /** The name the broker's certificate must carry. Default: the host connected to. */
  readonly servername?: string
}

export type SaslOptions =
  | {
      readonly mechanism: 'plain'
      readonly username: string
      readonly password: SecretSource
      /** PLAIN sends the password itself. Without TLS it is refused unless this says otherwise. Default false. */
      readonly allowPlaintext?: boolean
    }
  | {
      readonly mechanism: 'scram-sha-256' | 'scram-sha-512'
      readonly username: string
      readonly password: SecretSource
    }
  | {
      readonly mechanism: 'oauthbearer'
      /** Gives a token whenever one is needed; see also `clientCredentials`. */
      readonly token: OAuthTokenSource
      /** Who reads a bearer token can use it. Without TLS it is refused unless this says otherwise. Default false. */
      readonly allowPlaintext?: boolean
    }

export interface ClientOptions {
  /** `host:port`, several as a list or separated by commas. All are tried; one that answers is enough. */
  readonly bootstrapServers: string | readonly string[]
  /** Shown in the broker's logs, metrics and quotas. Default `ottla`. */
  readonly clientId?: string
  /** TLS. `true` with nothing to say. Default: none. */
  readonly tls?: boolean | TlsOptions
  /** Who we are. Default: nobody. */
  readonly sasl?: SaslOptions
  /** How long one attempt to connect, TLS and SASL included, may take. Default 10 000. */
  readonly connectTimeoutMs?: number
  /** How long a request may take, connecting included. Default 30 000. */
  readonly requestTimeoutMs?: number
  /** Metadata older than this is asked for again even when nothing went wrong. Default 60 000. */
  readonly metadataMaxAgeMs?: number
  /** The largest answer accepted. Default 100 MiB, as brokers have it for requests. */
  readonly maxFrameBytes?: number
  /** Requests sent on one connection and not yet answered. Default 100; the producer has its own, lower limit. */
  readonly maxInFlight?: number
  /** The pause before connecting again after a failure; doubles each time, with jitter. Default 50. */
  readonly reconnectBackoffMs?: number
  /** Where the doubling ends. Default 1 000. */
  readonly reconnectBackoffMaxMs?: number
  /** TCP keep-alive probes start after this much silence. Default 30 000. */
  readonly keepAliveMs?: number
}

export interface ServerAddress {
  readonly host: string
  readonly port: number
}

export interface ResolvedTlsOptions {
  readonly ca: string | null
  readonly cert: string | null
  readonly key: string | null
  readonly passphrase: Secret | null
  readonly servername: string | null
}

export interface ResolvedSaslOptions {
  readonly mechanism: 'PLAIN' | 'SCRAM-SHA-256' | 'SCRAM-SHA-512' | 'OAUTHBEARER'
  /** Empty with a token: it says itself whose it is. */
  readonly username: string
  readonly password: Secret
  /** Of OAUTHBEARER, else null. */
  readonly token: BearerToken | null
}

export interface ResolvedClientOptions {
  readonly bootstrapServers: readonly ServerAddress[]
  readonly clientId: string
  readonly tls: ResolvedTlsOptions | null
  readonly sasl: ResolvedSaslOptions | null
  readonly connectTimeoutMs: number
  readonly requestTimeoutMs: number
  readonly metadataMaxAgeMs: number
  readonly maxFrameBytes: number
  readonly maxInFlight: number
  readonly reconnectBackoffMs: number
  readonly reconnectBackoffMaxMs: number
  readonly keepAliveMs: number
}

const clientOptionNames = [
  'bootstrapServers',
  'clientId',
  'tls',
  'sasl',
  'connectTimeoutMs',
  'requestTimeoutMs',
  'metadataMaxAgeMs',
  'maxFrameBytes',
  'maxInFlight',
  'reconnectBackoffMs',
  'reconnectBackoffMaxMs',
  'keepAliveMs',
] as const satisfies readonly (keyof ClientOptions)[]

/** The names `ClientOptions` knows, for those who pass them on. */
export const clientOptionKeys: readonly string[] = clientOptionNames

/** Checks everything and fills in the defaults. Throws OTTLA_CONFIG_INVALID with every problem listed. */
export function resolveClientOptions(options: ClientOptions): ResolvedClientOptions {
  const check = new OptionCheck()
  const o = check.names('options', options, clientOptionNames)
  const tls = resolveTls(check, o.tls)
  const resolved: ResolvedClientOptions = {
    bootstrapServers: resolveServers(check, o.bootstrapServers),
    clientId: check.text('clientId', o.clientId, 'ottla'),
    tls,
    sasl: resolveSasl(check, o.sasl, tls !== null),
    connectTimeoutMs: check.integer('connectTimeoutMs', o.connectTimeoutMs, {
      default: 10_000,
      min: 1,
      max: 3_600_000,
    }),
    requestTimeoutMs: check.integer('requestTimeoutMs', o.requestTimeoutMs, {
      default: 30_000,
      min: 1,
      max: 3_600_000,
    }),
    metadataMaxAgeMs: check.integer('metadataMaxAgeMs', o.metadataMaxAgeMs, {
      default: 60_000,
      min: 10,
      max: 86_400_000,
    }),
    maxFrameBytes: check.integer('maxFrameBytes', o.maxFrameBytes, {
      default: 100 * 1024 * 1024,
      min: 1024,
      max: 1024 * 1024 * 1024,
    }),
    maxInFlight: check.integer('maxInFlight', o.maxInFlight, { default: 100, min: 1, max: 10_000 }),
    reconnectBackoffMs: check.integer('reconnectBackoffMs', o.reconnectBackoffMs, { default: 50, min: 1, max: 60_000 }),
    reconnectBackoffMaxMs: check.integer('reconnectBackoffMaxMs', o.reconnectBackoffMaxMs, {
      default: 1_000,
      min: 1,
      max: 600_000,
    }),
    keepAliveMs: check.integer('keepAliveMs', o.keepAliveMs, { default: 30_000, min: 1_000, max: 7_200_000 }),
  }
  check.done('Kafka client')
  return resolved
}

function resolveServers(check: OptionCheck, value: unknown): ServerAddress[] {
  const expected = "one or more 'host:port'"
  const parts =
    typeof value === 'string' ? value.split(',') : Array.isArray(value) && value.length > 0 ? value : undefined
  if (parts === undefined) {
    check.problem('bootstrapServers', expected, value)
    return []
  }
  const servers: ServerAddress[] = []
  for (const part of parts) {
    const address = typeof part === 'string' ? parseAddress(part.trim()) : undefined
    if (address === undefined) check.problem('bootstrapServers', expected, part)
    else servers.push(address)
  }
  return servers
}

/** `host:port`, `[v6]:port`, and `PLAINTEXT://host:port` as Java's configuration writes it. */
export function parseAddress(text: string): ServerAddress | undefined {
  const match = /^(?:[A-Za-z_]+:\/\/)?(?:\[([0-9A-Fa-f:.%]+)\]|([^\s:[\]/]+)):(\d{1,5})$/.exec(text)
  const host = match?.[1] ?? match?.[2]
  const port = Number(match?.[3])
  if (host === undefined || !(port >= 1 && port <= 65_535)) return undefined
  return { host, port }
}

function resolveTls(check: OptionCheck, value: unknown): ResolvedTlsOptions | null {
  if (value === undefined || value === false) return null
  if (value === true) return { ca: null, cert: null, key: null, passphrase: null, servername: null }
  const o = check.names('tls', value, ['ca', 'cert', 'key', 'passphrase', 'servername'])
  const text = (name: string): string | null => {
    const given = o[name]
    if (given === undefined) return null
    if (typeof given === 'string' && given !== '') return given
    check.problem(`tls.${name}`, 'PEM text or a path', typeof given)
    return null
  }
  const tls = {
    ca: text('ca'),
    cert: text('cert'),
    key: text('key'),
    passphrase: secret(check, 'tls.passphrase', o.passphrase),
    servername: o.servername === undefined ? null : check.text('tls.servername', o.servername, ''),
  }
  if ((tls.cert === null) !== (tls.key === null))
    check.complain('tls.cert and tls.key belong together: give both or none')
  return tls
}

function secret(check: OptionCheck, name: string, value: unknown): Secret | null {
  if (value === undefined) return null
  if ((typeof value === 'string' && value !== '') || typeof value === 'function')
    return new Secret(value as SecretSource)
  check.problem(name, 'a text that is not empty, or a function that gives one', typeof value)
  return null
}

/** Those with a password, as written in options and as Kafka spells them. */
export const saslMechanisms = {
  plain: 'PLAIN',
  'scram-sha-256': 'SCRAM-SHA-256',
  'scram-sha-512': 'SCRAM-SHA-512',
} as const

function resolveSasl(check: OptionCheck, value: unknown, withTls: boolean): ResolvedSaslOptions | null {
  if (value === undefined) return null
  const o = check.names('sasl', value, ['mechanism', 'username', 'password', 'token', 'allowPlaintext'])
  const names = [...(Object.keys(saslMechanisms) as (keyof typeof saslMechanisms)[]), 'oauthbearer'] as const
  if (o.mechanism === undefined) check.problem('sasl.mechanism', `one of ${names.join(', ')}`, undefined)
  const name = check.oneOf('sasl.mechanism', o.mechanism, names, 'scram-sha-512')
  const allowPlaintext = check.flag('sasl.allowPlaintext', o.allowPlaintext, false)
  if ((name === 'plain' || name === 'oauthbearer') && !withTls && !allowPlaintext) {
    const what = name === 'plain' ? 'password' : 'token'
    check.complain(
      `sasl.mechanism ${name} without tls would send the ${what} readable over the network; set tls, or sasl.allowPlaintext: true`,
    )
  }
  if (name === 'oauthbearer') {
    for (const other of ['username', 'password']) {
      if (o[other] !== undefined) check.complain(`sasl.${other} is not for oauthbearer: the token says who we are`)
    }
    if (typeof o.token !== 'function') check.problem('sasl.token', 'a function that gives a token', typeof o.token)
    const token = new BearerToken(o.token as OAuthTokenSource)
    return { mechanism: 'OAUTHBEARER', username: '', password: new Secret(''), token }
  }
  if (o.token !== undefined) check.complain(`sasl.token is for oauthbearer, not for ${name}`)
  if (o.username === undefined) check.problem('sasl.username', 'a text that is not empty', undefined)
  const username = check.text('sasl.username', o.username, '')
  const password = secret(check, 'sasl.password', o.password)
  if (password === null && o.password === undefined) check.complain('sasl.password is missing')
  return { mechanism: saslMechanisms[name], username, password: password ?? new Secret(''), token: null }
}
