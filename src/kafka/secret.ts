/** A password or key that no log, `inspect` or JSON shows; only the code that sends it asks for it by name. */
import { OttlaError } from '../contract/errors.ts'

/** A secret as written: the text itself, or a function asked on every connection, so that it can be rotated. */
export type SecretSource = string | (() => string | Promise<string>)

export class Secret {
  readonly #source: SecretSource

  constructor(source: SecretSource) {
    this.#source = source
  }

  /** Throws OTTLA_KAFKA_AUTHENTICATION when the function that should give the secret fails. */
  async reveal(): Promise<string> {
    if (typeof this.#source === 'string') return this.#source
    try {
      return await this.#source()
    } catch (cause) {
      // Only the message: a cause object of somebody else's could carry what must not be shown.
      const why = cause instanceof Error ? cause.message : 'it threw something that is no Error'
      throw new OttlaError('OTTLA_KAFKA_AUTHENTICATION', `The secret could not be read: ${why}`)
    }
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
