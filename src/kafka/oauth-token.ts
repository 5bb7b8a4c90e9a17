/**
 * A bearer token for OAUTHBEARER: asked for when it is needed, kept for most of its life, shown by nothing.
 *
 *     none ──asked──▶ asking (everybody waits for the same answer) ──▶ kept until four fifths of its life ──▶ none …
 *
 * A token whose life is not told is asked for again by every connection.
 */
import { OttlaError } from '../contract/errors.ts'

/** What a token function gives. */
export interface OAuthToken {
  /** The token itself, as it goes behind `Bearer`. */
  readonly value: string
  /** How much longer it is good for, in milliseconds. It is shared by connections for four fifths of that. */
  readonly lifetimeMs?: number
  /** SASL extensions the broker's callback handler wants to see (KIP-342): names of letters, printable values. */
  readonly extensions?: Readonly<Record<string, string>>
}

/** Asked for a token whenever one is needed. Throw an `OttlaError` that is not retriable to give up for good. */
export type OAuthTokenSource = () => OAuthToken | Promise<OAuthToken>

const keptShare = 0.8
const valuePattern = /^[\x21-\x7e]+$/
const extensionName = /^[A-Za-z]+$/
const extensionValue = /^[\x20-\x7e\t\r\n]+$/

export class BearerToken {
  readonly #source: OAuthTokenSource
  #asking: Promise<OAuthToken> | null = null
  #kept: OAuthToken | null = null
  #keptSinceMs = 0
  #keptUntilMs = 0
  #ready: OAuthToken | null = null

  constructor(source: OAuthTokenSource) {
    this.#source = source
  }

  /**
   * A token that is good now. Throws OTTLA_KAFKA_CONNECTION when none could be had within `timeoutMs` (it may be had
   * later), OTTLA_KAFKA_AUTHENTICATION when what was given is no token, and what the function threw for good.
   */
  async current(timeoutMs: number): Promise<OAuthToken> {
    const ready = this.#ready
    this.#ready = null
    if (ready !== null) return ready
    if (this.#kept !== null && performance.now() < this.#keptUntilMs) return this.#kept
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = null
    })
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(unavailable(`none came within ${timeoutMs} ms`)), timeoutMs)
    })
    try {
      return await Promise.race([this.#asking, late])
    } catch (error) {
      // A function that hangs is asked again by the next who needs a token.
      this.#asking = null
      throw error
    } finally {
      clearTimeout(timer)
    }
  }

  /**
   * Gets a token ready for the next `current`, which then need not wait: one asked for after `sinceMs` (monotonic), since
   * an older one, though good, may end before the session that is to be renewed with it. Throws what `current` does.
   */
  async prepare(timeoutMs: number, sinceMs: number): Promise<void> {
    if (this.#keptSinceMs < sinceMs) this.#kept = null
    this.#ready = await this.current(timeoutMs)
  }

  /** The broker would not have it: it is not used again. */
  reject(token: OAuthToken): void {
    if (this.#kept === token) this.#kept = null
  }

  async #ask(): Promise<OAuthToken> {
    const askedMs = performance.now()
    let given: OAuthToken
    try {
      given = await this.#source()
    } catch (error) {
      if (error instanceof OttlaError && !error.retriable) throw error
      // Only the message: a cause object of somebody else's could carry what must not be shown.
      throw unavailable(error instanceof Error ? error.message : 'the function threw something that is no Error')
    }
    const token = checked(given)
    if (token.lifetimeMs !== undefined) {
      this.#kept = token
      this.#keptSinceMs = askedMs
      this.#keptUntilMs = askedMs + token.lifetimeMs * keptShare
    }
    return token
  }

  toString(): string {
    return '[secret]'
  }

  toJSON(): string {
    return '[secret]'
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return '[secret]'
  }
}

/** A copy that is what it should be; nothing in it can end a field of the message it goes into. */
function checked(given: OAuthToken): OAuthToken {
  const { value, lifetimeMs, extensions } = (given ?? {}) as Partial<OAuthToken>
  if (typeof value !== 'string' || !valuePattern.test(value)) throw bad('value is no text of printable characters')
  if (lifetimeMs !== undefined && !(Number.isFinite(lifetimeMs) && lifetimeMs > 0)) {
    throw bad('lifetimeMs is no positive number')
  }
  for (const [name, text] of Object.entries(extensions ?? {})) {
    if (!extensionName.test(name) || name === 'auth') throw bad('an extension has a name that cannot be sent')
    if (typeof text !== 'string' || !extensionValue.test(text)) throw bad(`extension ${name} cannot be sent`)
  }
  return {
    value,
    ...(lifetimeMs === undefined ? {} : { lifetimeMs }),
    ...(extensions === undefined ? {} : { extensions: { ...extensions } }),
  }
}

function unavailable(why: string): OttlaError {
  return new OttlaError('OTTLA_KAFKA_CONNECTION', `No token for OAUTHBEARER: ${why}`)
}

function bad(why: string): OttlaError {
  return new OttlaError('OTTLA_KAFKA_AUTHENTICATION', `What sasl.token gave is no token: ${why}`)
}
