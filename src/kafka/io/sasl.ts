/**
 * Says who we are: PLAIN and SCRAM (RFC 5802) inside Kafka's SaslHandshake and SaslAuthenticate.
 *
 * A mechanism is a conversation: given what the server said last, what to say next, and when to be content. SCRAM is
 * content only when the server has proved that it knows the password too; a server that cannot is not our broker.
 *
 *     SCRAM:  start ──client-first──▶ challenged ──client-final──▶ proved ──server signature right──▶ done
 *
 * OAUTHBEARER belongs here as a third conversation. It has one trap: a rejected token is answered with *success* and a
 * JSON text in the bytes; the client must then say one 0x01 and gets the real refusal (`refused` below is the place).
 */
import { createHash, createHmac, pbkdf2, randomBytes, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'
import { OttlaError } from '../../contract/errors.ts'
import { brokerErrorName } from '../../wire/error-codes.ts'
import { Api } from '../../wire/protocol.ts'
import type { ResolvedSaslOptions } from '../options.ts'
import type { Connection } from './connection.ts'

const derive = promisify(pbkdf2)

/** Fewer rounds would make a stolen exchange cheap to guess from; more would let a server keep us busy. */
const iterationsMin = 4096
const iterationsMax = 1_000_000

/** What to say next. `done` when nothing more is to be said. */
export interface Conversation {
  next(challenge: Uint8Array | null): Promise<{ readonly say: Uint8Array } | { readonly done: true }>
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
  const conversation =
    sasl.mechanism === 'PLAIN' ? plain(sasl) : scram(sasl, sasl.mechanism === 'SCRAM-SHA-256' ? 'sha256' : 'sha512')
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
    const answer = await connection.send(
      Api.SaslAuthenticate,
      options.authenticateVersion,
      { authBytes: turn.say },
      send,
    )
    if (answer.errorCode !== 0) throw refused(connection, sasl, answer.errorCode, answer.errorMessage)
    lifetimeMs = answer.sessionLifetimeMs
    challenge = answer.authBytes ?? new Uint8Array(0)
  }
}

function refused(connection: Connection, sasl: ResolvedSaslOptions, code: number, why: string | null): OttlaError {
  const name = brokerErrorName(code)
  return new OttlaError(
    'OTTLA_KAFKA_AUTHENTICATION',
    `${sasl.mechanism} as ${sasl.username} was refused by ${connection.name}: ${why ?? name}`,
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
