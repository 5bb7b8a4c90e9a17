/** `deadLetters`: the dead letters of a service from any program, on this machine's clock. */
import { userInfo } from 'node:os'
import { DeadLetterDesk } from '../../runtime/dlq.ts'
import type { Log, Transport } from '../../runtime/ports.ts'
import { consoleLog } from './app.ts'
import { systemClock } from './clock.ts'

/** Whose letters, and how to reach them. */
export interface DeadLettersOptions {
  /** It stays the caller's: closing the desk does not close it. */
  readonly transport: Transport
  /** The service's name. */
  readonly service: string
  /** The namespace that its app was given. */
  readonly namespace?: string
  /** Who asks; stands in the audit. Default: the user of this process. */
  readonly by?: string
  /** Default: warnings and errors on the console. */
  readonly log?: Log
}

/**
 * Opens the dead letters of a service: list them, have the service handle them once more, discard them, pause and resume
 * it. What `ottla dlq` does. Throws what the transport throws when the service's topics cannot be read.
 *
 * ```ts
 * const desk = await deadLetters({ transport: kafka({ bootstrapServers }), service: 'inventory' })
 * await desk.redrive(await desk.letters(), { reason: 'mended in 1.4.2', perSecond: 20 })
 * ```
 */
export function deadLetters(options: DeadLettersOptions): Promise<DeadLetterDesk> {
  return DeadLetterDesk.open({ by: userInfo().username, log: consoleLog, ...options, clock: systemClock })
}
