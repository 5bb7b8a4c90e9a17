/** How a command ends that did not succeed: one readable message and an exit code scripts can rely on. */
import { CommanderError } from 'commander'
import { OttlaError } from '../contract/errors.ts'
import { NotFoundError, say, UsageError } from './output.ts'

/** Done. */
export const exitDone = 0
const exitFailed = 1
const exitUsage = 2
const exitNotFound = 3
const exitUnreachable = 69
/** Ctrl-C. */
export const exitInterrupted = 130

/** The exit code of an error: 1 failed, 2 wrong usage, 3 not found, 69 broker unreachable. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? exitDone : exitUsage
  if (error instanceof UsageError) return exitUsage
  if (error instanceof NotFoundError) return exitNotFound
  if (error instanceof OttlaError) {
    switch (error.code) {
      case 'OTTLA_CONFIG_INVALID':
        return exitUsage
      case 'OTTLA_KAFKA_CONNECTION':
      case 'OTTLA_KAFKA_TIMEOUT':
      case 'OTTLA_STORE_UNAVAILABLE':
        return exitUnreachable
      default:
        return exitFailed
    }
  }
  return exitFailed
}

/** Says what happened, why and what to do; the stack only when asked for. Returns the exit code. */
export function report(error: unknown, options: { readonly verbose: boolean }): number {
  // Commander has said it already, help and version included.
  if (error instanceof CommanderError) return exitCodeOf(error)
  const message = error instanceof Error ? error.message : String(error)
  if (error instanceof OttlaError) {
    say(`error: ${message}`)
    say(`${error.code}: ${error.help}`)
  } else {
    say(`error: ${message}`)
  }
  if (options.verbose && error instanceof Error) say(String(error.stack ?? ''))
  return exitCodeOf(error)
}
