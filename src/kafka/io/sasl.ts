/**
 * Says who we are: PLAIN, SCRAM (RFC 5802) and OAUTHBEARER (RFC 7628) inside Kafka's SaslHandshake and SaslAuthenticate.
 *
 * A mechanism is a conversation: given what the server said last, what to say next, and when to be content. SCRAM is
 * content only when the server has proved that it knows the password too; a server that cannot is not our broker.
 *
 *     SCRAM:  start ──client-first──▶ challenged ──client-final──▶ proved ──server signature right──▶ done
 *
 * A rejected token is answered with *success* and a JSON text in the bytes. Who takes that for being let in fails one
 * request later for a reason that misleads; it must be answered with one 0x01, and then comes the refusal.
 *
 *     OAUTHBEARER:  start ──token──▶ told ──no bytes──▶ done
 *                                      └──bytes (why not)──0x01──▶ rejected ──▶ refused, whatever comes
 */
import { createHash, createHmac, pbkdf2, randomBytes, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'
import { OttlaError } from '../../contract/errors.ts'
import { brokerErrorName, ErrorCode } from '../../wire/error-codes.ts'
import type { SaslAuthenticateResponse } from '../../wire/messages.gen.ts'
import { Api } from '../../wire/protocol.ts'
import type { BearerToken, OAuthToken } from '../oauth-token.ts'
import type { ResolvedSaslOptions } from '../options.ts'
import type { Connection } from './connection.ts'

const derive = promisify(pbkdf2)

/** Fewer rounds would make a stolen exchange cheap to guess from; more would let a server keep us busy. */
const iterationsMin = 4096
const iterationsMax = 1_000_000

/** What to say next. `done` when nothing more is to be said. */
export interface Conversation {
  next(challenge: Uint8Array | null): Promise<{ readonly say: Uint8Array } | { readonly done: true }>
  /** Why we were not let in, as far as the conversation knows; `told` is what the broker wrote beside its error code. */
  why?(told: string | null): string | null
}

export interface AuthenticateOptions {
  readonly sasl: ResolvedSaslOptions
  readonly handshakeVersion: number
  readonly authenticateVersion: number
  readonly timeoutMs: number
}

/**
 * Authenticates a connection, or does so again on a living one (call inside `exclusively`).
 * Returns the session's length in milliseconds, 0 when it never ends. Throws OTTLA_KAFKA_AUTHENTICATION.
 */
export async function authenticate(connection: Connection, options: AuthenticateOptions): Promise<number> {
  const { sasl, timeoutMs } = options
  const send = { timeoutMs, pastGate: true }
  const handshake = await connection.send(
    Api.SaslHandshake,
    options.handshakeVersion,
    { mechanism: sasl.mechanism },
    send,
  )
  if (handshake.errorCode !== 0) {
    const offered = handshake.mechanisms.join(', ')
    throw refused(
      connection,
      sasl,
      handshake.errorCode,
      handshake.errorCode === 33
        ? `the listener does not offer it${offered === '' ? '' : `; it offers ${offered}`}`
        : 'the handshake was refused',
    )
  }
  const conversation = begin(sasl, timeoutMs)
  let challenge: Uint8Array | null = null
  let lifetimeMs = 0
  for (;;) {
    let turn: Awaited<ReturnType<Conversation['next']>>
    try {
      turn = await conversation.next(challenge)
    } catch (error) {
      if (error instanceof OttlaError && error.code === 'OTTLA_KAFKA_AUTHENTICATION') {
        throw new OttlaError(error.code, `${sasl.mechanism} at ${connection.name} failed: ${error.message}`)
      }
      throw error
    }
    if ('done' in turn) return lifetimeMs
    let answer: SaslAuthenticateResponse
    try {
      answer = await connection.send(Api.SaslAuthenticate, options.authenticateVersion, { authBytes: turn.say }, send)
    } catch (error) {
      // A broker may hang up on those it has refused; what it said before counts for more than how it went.
      const why = conversation.why?.(null) ?? null
      if (why !== null) throw refused(connection, sasl, ErrorCode.SASL_AUTHENTICATION_FAILED, why)
      throw error
    }
    if (answer.errorCode !== 0) {
      const why = conversation.why === undefined ? answer.errorMessage : conversation.why(answer.errorMessage)
      throw refused(connection, sasl, answer.errorCode, why)
    }
    lifetimeMs = answer.sessionLifetimeMs
    challenge = answer.authBytes ?? new Uint8Array(0)
  }
}

function begin(sasl: ResolvedSaslOptions, timeoutMs: number): Conversation {
  switch (sasl.mechanism) {
    case 'PLAIN':
      return plain(sasl)
    case 'SCRAM-SHA-256':
      return scram(sasl, 'sha256')
    case 'SCRAM-SHA-512':
      return scram(sasl, 'sha512')
    case 'OAUTHBEARER':
      return bearer(sasl.token as BearerToken, timeoutMs)
    default:
      return sasl.mechanism satisfies never
  }
}

function refused(connection: Connection, sasl: ResolvedSaslOptions, code: number, why: string | null): OttlaError {
  const name = brokerErrorName(code)
  return new OttlaError(
    'OTTLA_KAFKA_AUTHENTICATION',
    `${sasl.mechanism}${sasl.username === '' ? '' : ` as ${sasl.username}`} was refused by ${connection.name}: ${why ?? name}`,
    { kafka: { code, name }, details: { mechanism: sasl.mechanism, listener: connection.name } },
  )
}

function plain(sasl: ResolvedSaslOptions): Conversation {
  let said = false
  return {
    async next() {
      if (said) return { done: true }
      said = true
      return { say: Buffer.from(`\0${sasl.username}\0${await sasl.password.reveal()}`, 'utf8') }
    },
  }
}

/** The broker is told a token once; `timeoutMs` is how long the function that gives it may take. */
export function bearer(source: BearerToken, timeoutMs: number): Conversation {
  let state: 'start' | 'told' | 'rejected' = 'start'
  let token: OAuthToken | null = null
  let status: string | null = null
  return {
    async next(challenge) {
      switch (state) {
        case 'start': {
          token = await source.current(timeoutMs)
          const extensions = Object.entries(token.extensions ?? {}).map(([name, value]) => `${name}=${value}\x01`)
          state = 'told'
          return { say: Buffer.from(`n,,\x01auth=Bearer ${token.value}\x01${extensions.join('')}\x01`, 'utf8') }
        }
        case 'told': {
          if (challenge === null || challenge.length === 0) return { done: true }
          status = rejectionStatus(challenge, (token as OAuthToken).value)
          state = 'rejected'
          return { say: Uint8Array.of(1) }
        }
        case 'rejected':
          throw untrusted(`the token was rejected: ${status}`)
        default:
          return state satisfies never
      }
    },
    why(told) {
      if (token !== null && (told !== null || status !== null)) source.reject(token)
      if (status !== null) return `the token was rejected: ${status}`
      // Whatever a broker writes, the token is not repeated.
      return told === null || token === null ? told : told.replaceAll(token.value, '[token]')
    },
  }
}

/** The `status` of a server's error (RFC 7628), and nothing else of it: the rest could repeat what we said. */
function rejectionStatus(challenge: Uint8Array, token: string): string {
  if (challenge.length > 64 * 1024) return 'no reason that can be read'
  try {
    const told: unknown = JSON.parse(Buffer.from(challenge).toString('utf8'))
    const status = (told as { status?: unknown } | null)?.status
    if (typeof status === 'string' && /^[\w-]{1,64}$/.test(status) && !status.includes(token)) return status
  } catch {
    // No JSON: then the bytes alone say that it was rejected.
  }
  return 'no reason that can be read'
}

/** `nonce` is for tests that replay a published exchange. */
export function scram(
  sasl: Pick<ResolvedSaslOptions, 'username' | 'password'>,
  hash: 'sha256' | 'sha512',
  nonce = randomBytes(24).toString('base64url'),
): Conversation {
  const name = sasl.username.replaceAll('=', '=3D').replaceAll(',', '=2C')
  const clientFirst = `n=${name},r=${nonce}`
  let state: 'start' | 'challenged' | 'proved' = 'start'
  let serverSignature: Buffer = Buffer.alloc(0)
  const hmac = (key: Uint8Array, data: Uint8Array | string): Buffer => createHmac(hash, key).update(data).digest()

  return {
    async next(challenge) {
      switch (state) {
        case 'start': {
          state = 'challenged'
          return { say: Buffer.from(`n,,${clientFirst}`, 'utf8') }
        }
        case 'challenged': {
          const text = Buffer.from(challenge ?? new Uint8Array(0)).toString('utf8')
          const fields = scramFields(text)
          const serverNonce = fields.get('r') ?? ''
          if (!serverNonce.startsWith(nonce) || serverNonce.length <= nonce.length) {
            throw untrusted('the server did not carry our nonce on')
          }
          const salt = base64(fields.get('s'))
          if (salt === undefined || salt.length === 0) throw untrusted('the server gave no salt')
          const written = fields.get('i') ?? ''
          const iterations = /^[1-9]\d{0,8}$/.test(written) ? Number(written) : 0
          if (iterations < iterationsMin || iterations > iterationsMax) {
            throw untrusted(
              `the server asks for ${iterations} iterations; accepted are ${iterationsMin} to ${iterationsMax}`,
            )
          }
          const password = (await sasl.password.reveal()).normalize('NFKC')
          const salted = await derive(password, salt, iterations, hash === 'sha256' ? 32 : 64, hash)
          const clientKey = hmac(salted, 'Client Key')
          const storedKey = createHash(hash).update(clientKey).digest()
          const finalBare = `c=biws,r=${serverNonce}`
          const authMessage = `${clientFirst},${text},${finalBare}`
          const signature = hmac(storedKey, authMessage)
          const proof = Buffer.from(clientKey.map((byte, i) => byte ^ (signature[i] as number)))
          serverSignature = hmac(hmac(salted, 'Server Key'), authMessage)
          state = 'proved'
          return { say: Buffer.from(`${finalBare},p=${proof.toString('base64')}`, 'utf8') }
        }
        case 'proved': {
          const fields = scramFields(Buffer.from(challenge ?? new Uint8Array(0)).toString('utf8'))
          const refusal = fields.get('e')
          if (refusal !== undefined) throw untrusted(`the server says ${refusal}`)
          const given = base64(fields.get('v'))
          if (
            given === undefined ||
            given.length !== serverSignature.length ||
            !timingSafeEqual(given, serverSignature)
          ) {
            throw untrusted('the server could not prove that it knows the password')
          }
          return { done: true }
        }
        default:
          return state satisfies never
      }
    },
  }
}

function scramFields(text: string): Map<string, string> {
  const fields = new Map<string, string>()
  for (const part of text.split(',')) {
    if (part.length >= 2 && part[1] === '=') fields.set(part[0] as string, part.slice(2))
  }
  if (fields.has('m')) throw untrusted('the server demands an extension that is not known')
  return fields
}

function base64(text: string | undefined): Buffer | undefined {
  if (text === undefined || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) return undefined
  return Buffer.from(text, 'base64')
}

function untrusted(why: string): OttlaError {
  return new OttlaError('OTTLA_KAFKA_AUTHENTICATION', why)
}
