/**
 * What kind of failure is this?
 *
 * Transient: something between us and another system; the same call may work in a moment, and the record is innocent.
 * Permanent: repeating is pointless. Unknown: everything else; repeated a few times, then dead-lettered.
 * `store` is transient too, but it is the store itself that is away, so every key of the partition would meet it.
 */
import { OttlaError } from '../contract/errors.ts'

export type ErrorClass = 'transient' | 'permanent' | 'unknown' | 'store'

/** What a user's own rule may say. */
type Opinion = 'transient' | 'permanent' | 'unknown'

/** A user's own rule, asked first. `undefined`: no opinion; so is anything that is none of the three words. */
export type Classify = (error: unknown) => Opinion | undefined

/** Is this one of the three words? */
export function isOpinion(said: unknown): said is Opinion {
  return said === 'transient' || said === 'permanent' || said === 'unknown'
}

const networkCodes: ReadonlySet<string> = new Set([
  'ECONNABORTED',
  'ECONNREFUSED',
  'ECONNRESET',
  'EAI_AGAIN',
  'EHOSTDOWN',
  'EHOSTUNREACH',
  'ENETDOWN',
  'ENETRESET',
  'ENETUNREACH',
  'ENOTFOUND',
  'EPIPE',
  'ESOCKETTIMEDOUT',
  'ETIMEDOUT',
  'UND_ERR_BODY_TIMEOUT',
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_SOCKET',
])

/** PostgreSQL: serialization failure, deadlock, lock not available, too many connections, shutting down, starting. */
const sqlStates: ReadonlySet<string> = new Set(['40001', '40P01', '55P03', '53300', '57P01', '57P02', '57P03'])

/** Codes of ours whose class does not follow from `retriable`. */
const ownCodes: ReadonlyMap<string, ErrorClass> = new Map<string, ErrorClass>([
  ['OTTLA_CONTRACT_CODEC', 'permanent'],
  ['OTTLA_CONTRACT_INVALID', 'permanent'],
  ['OTTLA_PUBLISH_TOO_LARGE', 'permanent'],
  ['OTTLA_RUNTIME_PERMANENT', 'permanent'],
  // Too slow once may be chance; too slow for ever must not block its key for ever: counted.
  ['OTTLA_RUNTIME_DEADLINE', 'unknown'],
  ['OTTLA_STORE_UNAVAILABLE', 'store'],
])

const causesMax = 8

/** Decides by code, along the chain of causes. The outermost one with an opinion wins. */
export function classify(error: unknown): ErrorClass {
  let current = error
  for (let depth = 0; depth < causesMax && typeof current === 'object' && current !== null; depth++) {
    const found = classifyOne(current)
    if (found !== undefined) return found
    current = (current as { cause?: unknown }).cause
  }
  return 'unknown'
}

function classifyOne(error: object): ErrorClass | undefined {
  const { code, name } = error as { code?: unknown; name?: unknown }
  if (error instanceof OttlaError) return ownCodes.get(error.code) ?? (error.retriable ? 'transient' : undefined)
  if (typeof code === 'string' && (networkCodes.has(code) || sqlStates.has(code) || /^08[0-9A-Z]{3}$/.test(code))) {
    return 'transient'
  }
  if (name === 'TimeoutError') return 'transient'
  // Several addresses were tried: transient when each failure was.
  if (error instanceof AggregateError && error.errors.length > 0) {
    return error.errors.every((each) => classify(each) === 'transient') ? 'transient' : undefined
  }
  return undefined
}
