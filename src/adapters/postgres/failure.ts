/**
 * What an error of the database means. Errors with an SQLSTATE are the user's business and pass through untouched, so
 * that `error.code` can be matched; a connection that broke or was refused becomes OTTLA_STORE_UNAVAILABLE, and missing
 * tables of ours become OTTLA_STORE_SCHEMA.
 */
import { OttlaError } from '../../contract/errors.ts'

/** The SQLSTATE of an error the server sent, undefined for anything else. */
export function sqlState(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || error instanceof OttlaError) return undefined
  const { code, severity } = error as { code?: unknown; severity?: unknown }
  return typeof code === 'string' && typeof severity === 'string' && /^[0-9A-Z]{5}$/.test(code) ? code : undefined
}

/** Server states in which nobody is at fault and the same call works later. */
const unavailableStates = new Set([
  '57P01', // admin_shutdown
  '57P02', // crash_shutdown
  '57P03', // cannot_connect_now
  '53300', // too_many_connections
  '25006', // read_only_sql_transaction: a standby answered
])

/** `pg` says these without a code. */
const brokenTexts =
  /connection terminated|connection error and is not queryable|client was closed|timeout exceeded when trying to connect|connection timeout|query read timeout|the pool after calling end|connection ended|ECONN|EPIPE/i

/** Did the connection, and not the statement, fail? */
export function isConnectionFailure(error: unknown): boolean {
  const state = sqlState(error)
  if (state !== undefined) return state.startsWith('08') || unavailableStates.has(state)
  if (!(error instanceof Error) || error instanceof OttlaError) return false
  const code = (error as { code?: unknown }).code
  if (typeof code === 'string' && /^E[A-Z]+$/.test(code)) return true
  return brokenTexts.test(error.message)
}

/** OTTLA_STORE_UNAVAILABLE with what was being done. The text never holds a statement or a value. */
export function unavailable(doing: string, cause: unknown): OttlaError {
  if (cause instanceof OttlaError && cause.code === 'OTTLA_STORE_UNAVAILABLE') return cause
  const text = cause instanceof Error ? cause.message : String(cause)
  return new OttlaError('OTTLA_STORE_UNAVAILABLE', `the database did not answer while ${doing}: ${text}`, { cause })
}

/** What leaves the store when a statement of ours failed. */
export function ourFailure(doing: string, error: unknown): unknown {
  if (isConnectionFailure(error)) return unavailable(doing, error)
  const state = sqlState(error)
  if (state === '42P01' || state === '3F000' || state === '42703') {
    return new OttlaError(
      'OTTLA_STORE_SCHEMA',
      `schema "ottla" is missing or older than this version of ottla: run \`ottla store migrate\`, or start once with schema: 'apply'`,
      { cause: error },
    )
  }
  if (state === '42501') {
    return new OttlaError(
      'OTTLA_STORE_SCHEMA',
      `the database role lacks a privilege while ${doing}: ${(error as Error).message}`,
      { cause: error },
    )
  }
  return error
}
