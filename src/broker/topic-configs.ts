/**
 * The topic and broker configurations there are, with their defaults and what each accepts.
 *
 * Acted upon: max.message.bytes, message.timestamp.type, min.insync.replicas. Stored and described only: retention.*,
 * cleanup.policy, segment.*, delete.retention.ms and the other clean-up knobs, because a log in memory keeps everything
 * until it is deleted. compression.type may only be `producer`: batches are kept as they came.
 */

/** ConfigDef.Type as DescribeConfigs numbers it. */
const types = { boolean: 1, string: 2, int: 3, long: 5, double: 6, list: 7 } as const

/** One configuration key. */
export interface ConfigKey {
  readonly name: string
  readonly type: number
  readonly default: string
  /** Why a value is refused, or null when it is good. */
  readonly problem: (value: string) => string | null
}

const whole =
  (min: number, max: number) =>
  (value: string): string | null => {
    if (!/^-?\d{1,19}$/.test(value)) return 'not a whole number'
    const number = Number(value)
    return number < min || number > max ? `not between ${min} and ${max}` : null
  }

const oneOf =
  (...allowed: readonly string[]) =>
  (value: string): string | null =>
    allowed.includes(value) ? null : `not one of ${allowed.join(', ')}`

const listOf =
  (...allowed: readonly string[]) =>
  (value: string): string | null =>
    value.split(',').every((part) => allowed.includes(part.trim())) ? null : `not a list of ${allowed.join(', ')}`

const ratio = (value: string): string | null => {
  const number = Number(value)
  return value !== '' && number >= 0 && number <= 1 ? null : 'not between 0 and 1'
}

const int = 0x7fff_ffff
const long = Number.MAX_VALUE

const key = (
  name: string,
  type: keyof typeof types,
  defaultAndCheck: readonly [string, ConfigKey['problem']],
): ConfigKey => ({ name, type: types[type], default: defaultAndCheck[0], problem: defaultAndCheck[1] })

/** Topic configurations by name. */
export const topicConfigKeys: ReadonlyMap<string, ConfigKey> = new Map(
  [
    key('cleanup.policy', 'list', ['delete', listOf('delete', 'compact')]),
    key('compression.type', 'string', ['producer', oneOf('producer')]),
    key('delete.retention.ms', 'long', ['86400000', whole(0, long)]),
    key('file.delete.delay.ms', 'long', ['60000', whole(0, long)]),
    key('flush.messages', 'long', ['9223372036854775807', whole(1, long)]),
    key('flush.ms', 'long', ['9223372036854775807', whole(0, long)]),
    key('index.interval.bytes', 'int', ['4096', whole(0, int)]),
    key('max.compaction.lag.ms', 'long', ['9223372036854775807', whole(1, long)]),
    key('max.message.bytes', 'int', ['1048588', whole(0, int)]),
    key('message.timestamp.after.max.ms', 'long', ['9223372036854775807', whole(0, long)]),
    key('message.timestamp.before.max.ms', 'long', ['9223372036854775807', whole(0, long)]),
    key('message.timestamp.type', 'string', ['CreateTime', oneOf('CreateTime', 'LogAppendTime')]),
    key('min.cleanable.dirty.ratio', 'double', ['0.5', ratio]),
    key('min.compaction.lag.ms', 'long', ['0', whole(0, long)]),
    key('min.insync.replicas', 'int', ['1', whole(1, int)]),
    key('preallocate', 'boolean', ['false', oneOf('true', 'false')]),
    key('retention.bytes', 'long', ['-1', whole(-1, long)]),
    key('retention.ms', 'long', ['604800000', whole(-1, long)]),
    key('segment.bytes', 'int', ['1073741824', whole(14, int)]),
    key('segment.index.bytes', 'int', ['10485760', whole(4, int)]),
    key('segment.jitter.ms', 'long', ['0', whole(0, long)]),
    key('segment.ms', 'long', ['604800000', whole(1, long)]),
    key('unclean.leader.election.enable', 'boolean', ['false', oneOf('true', 'false')]),
  ].map((entry) => [entry.name, entry]),
)

/** Why these topic configurations are refused, or null when all are good. */
export function topicConfigProblem(name: string, value: string | null): string | null {
  const known = topicConfigKeys.get(name)
  if (known === undefined) return `Unknown topic config name: ${name}`
  if (value === null) return `Null value not supported for topic configs: ${name}`
  const problem = known.problem(value)
  return problem === null ? null : `Invalid value for configuration ${name}: ${problem}`
}

/** How DescribeConfigs numbers where a value comes from. */
export const configSources = { topic: 1, staticBroker: 4, default: 5 } as const

/** ConfigDef.Type numbers. */
export const configTypes = types
