/**
 * From an address to a connection that may be used: TCP, TLS, ApiVersions with who we are, SASL, and SASL again before
 * the session ends.
 */
import { OttlaError } from '../../contract/errors.ts'
import { brokerErrorName } from '../../wire/error-codes.ts'
import { Api, type ApiKey, apiName, type VersionRange, versionRange } from '../../wire/protocol.ts'
import type { ResolvedClientOptions, ServerAddress } from '../options.ts'
import { Connection } from './connection.ts'

const software = { name: 'ottla', version: '0.1.0' }

/** A connection past its handshake, and which versions its broker speaks. */
export interface ReadyConnection {
  readonly connection: Connection
  readonly versions: ReadonlyMap<number, VersionRange>
}

/**
 * Opens and introduces a connection. Throws OTTLA_KAFKA_CONNECTION, OTTLA_KAFKA_TLS, OTTLA_KAFKA_AUTHENTICATION,
 * OTTLA_KAFKA_UNSUPPORTED_VERSION, OTTLA_KAFKA_TIMEOUT, OTTLA_WIRE_MALFORMED.
 */
export async function openReady(
  address: ServerAddress,
  options: ResolvedClientOptions,
  signal?: AbortSignal,
): Promise<ReadyConnection> {
  const connection = await Connection.open(
    {
      address,
      clientId: options.clientId,
      tls: options.tls,
      connectTimeoutMs: options.connectTimeoutMs,
      silenceMs: options.requestTimeoutMs,
      maxFrameBytes: options.maxFrameBytes,
      maxInFlight: options.maxInFlight,
      keepAliveMs: options.keepAliveMs,
    },
    signal,
  )
  try {
    const versions = await askVersions(connection, options.connectTimeoutMs)
    if (options.sasl !== null) await logIn(connection, versions, options)
    return { connection, versions }
  } catch (error) {
    connection.close()
    throw error
  }
}

/** The highest version both sides know within the bounds. Throws OTTLA_KAFKA_UNSUPPORTED_VERSION. */
export function pickVersion(
  ready: ReadyConnection,
  api: ApiKey,
  bounds: { readonly min?: number | undefined; readonly max?: number | undefined } = {},
): number {
  const ours = versionRange(api)
  const theirs = ready.versions.get(api)
  const min = Math.max(ours.min, bounds.min ?? 0, theirs?.min ?? 0)
  const max = Math.min(ours.max, bounds.max ?? ours.max, theirs?.max ?? -1)
  if (max >= min) return max
  const what = theirs === undefined ? 'does not know it' : `has ${theirs.min} to ${theirs.max}`
  throw new OttlaError(
    'OTTLA_KAFKA_UNSUPPORTED_VERSION',
    `${apiName(api)}: the client needs version ${Math.max(ours.min, bounds.min ?? 0)} to ${Math.min(ours.max, bounds.max ?? ours.max)}, ${ready.connection.name} ${what}`,
  )
}

async function askVersions(connection: Connection, timeoutMs: number): Promise<Map<number, VersionRange>> {
  // A broker that does not know the version we ask in says so in the form of version 0 and lists what it knows.
  let version = versionRange(Api.ApiVersions).max
  for (;;) {
    const answer = await ask(version)
    if (answer.errorCode === 35 && version > 0) {
      const known = answer.apiKeys.find((k) => k.apiKey === Api.ApiVersions)?.maxVersion ?? 0
      version = Math.min(version - 1, known)
      continue
    }
    if (answer.errorCode !== 0) {
      throw new OttlaError(
        'OTTLA_KAFKA_CONNECTION',
        `${connection.name} refused to name its versions: ${brokerErrorName(answer.errorCode)}`,
        { kafka: { code: answer.errorCode, name: brokerErrorName(answer.errorCode) } },
      )
    }
    return new Map(answer.apiKeys.map((k) => [k.apiKey, { min: k.minVersion, max: k.maxVersion }]))
  }

  function ask(v: number) {
    return connection.send(
      Api.ApiVersions,
      v,
      { clientSoftwareName: software.name, clientSoftwareVersion: software.version },
      { timeoutMs, pastGate: true },
    )
  }
}

/** Between one login and the end of what it is good for, monotonic. */
interface Session {
  readonly beganMs: number
  readonly endsAtMs: number
}

async function logIn(
  connection: Connection,
  versions: ReadonlyMap<number, VersionRange>,
  options: ResolvedClientOptions,
): Promise<void> {
  const { sasl } = options
  if (sasl === null) return
  // Only those who log in load Node's cryptography.
  const { authenticate } = await import('./sasl.ts')
  const ready = { connection, versions }
  const how = {
    sasl,
    handshakeVersion: pickVersion(ready, Api.SaslHandshake, { min: 1 }),
    authenticateVersion: pickVersion(ready, Api.SaslAuthenticate),
    timeoutMs: options.connectTimeoutMs,
  }
  let timer: NodeJS.Timeout | undefined
  connection.onClose(() => clearTimeout(timer))

  const again = (lifetimeMs: number): void => {
    if (lifetimeMs <= 0 || !connection.isOpen) return
    const beganMs = performance.now()
    // Early enough that a slow exchange still ends in time.
    later(Math.min(lifetimeMs * 0.85, 0x7fff_ffff), { beganMs, endsAtMs: beganMs + lifetimeMs })
  }
  const later = (delayMs: number, session: Session): void => {
    timer = setTimeout(() => {
      renew(session).catch((error: OttlaError) => connection.close(error))
    }, delayMs)
    timer.unref()
  }
  const renew = async (session: Session): Promise<void> => {
    try {
      // Having a token can take a while; no request waits meanwhile. The exchange itself then finds it ready.
      if (sasl.token !== null) await sasl.token.prepare(options.connectTimeoutMs, session.beganMs)
    } catch (error) {
      // Who gives tokens may be away for a moment, and the session lasts a little longer.
      const leftMs = session.endsAtMs - performance.now()
      if (!(error instanceof OttlaError) || !error.retriable || leftMs < 200) throw error
      if (connection.isOpen) later(Math.min(1_000, leftMs / 4), session)
      return
    }
    if (!connection.isOpen) return
    again(await connection.exclusively(() => authenticate(connection, how)))
  }
  again(await authenticate(connection, how))
}
