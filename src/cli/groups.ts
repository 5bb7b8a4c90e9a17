/**
 * `ottla groups list|describe|reset-offsets|delete`: looks after consumer groups.
 *
 * `reset-offsets` shows what would change and changes nothing, as Kafka's own tool does, until it is told `--execute`.
 */
import type { Command } from 'commander'
import { type Duration, durationMs } from '../contract/duration.ts'
import type { PartitionName } from '../kafka/admin/calls.ts'
import type { GroupDescription, GroupMember } from '../kafka/admin/groups.ts'
import type { OffsetChange, OffsetPlan, OffsetTarget } from '../kafka/admin/offset-plan.ts'
import type { CommittedOffset } from '../kafka/admin/offsets.ts'
import type { Admin } from '../kafka/admin.ts'
import { existingTopic, withClient } from './open-topic.ts'
import {
  addOutputOption,
  NotFoundError,
  type OutputFlags,
  type OutputFormat,
  printable,
  printJson,
  printLine,
  say,
  table,
  UsageError,
  wholeNumber,
} from './output.ts'

interface ResetFlags extends OutputFlags {
  readonly topic: readonly string[]
  readonly allTopics?: boolean
  readonly toEarliest?: boolean
  readonly toLatest?: boolean
  readonly toOffset?: number
  readonly toDatetime?: string
  readonly byDuration?: string
  readonly shiftBy?: number
  readonly execute?: boolean
  readonly dryRun?: boolean
}

interface DeleteFlags extends OutputFlags {
  readonly dryRun?: boolean
}

const exitFailed = 1

export function addGroupsCommand(program: Command): void {
  const groups = program.command('groups').description('list, describe, move and delete consumer groups')

  const list = groups.command('list').description('all groups that may be seen')
  addOutputOption(list).action(() => listGroups(list))

  const describe = groups
    .command('describe')
    .description('members with what they read, and per partition committed offset, end and lag')
    .argument('<group>')
  addOutputOption(describe).action((group: string) => describeGroup(describe, group))

  const reset = groups
    .command('reset-offsets')
    .description('have a group go on elsewhere; shows what would change unless --execute is given')
    .argument('<group>')
    .option('--topic <name[:partition,…]>', 'a topic, or some of its partitions; may be repeated', collect, [])
    .option('--all-topics', 'every partition the group has committed for')
    .option('--to-earliest', 'to the oldest record there is')
    .option('--to-latest', 'to the end: skips all there is')
    .option('--to-offset <number>', 'to this offset', wholeNumber('--to-offset', { min: 0, max: 2 ** 53 - 1 }))
    .option('--to-datetime <time>', 'to the first record stamped then or later: 2026-11-22T08:00:00Z')
    .option('--by-duration <duration>', 'to the first record of the last so and so much: 30m, 12h, 7d')
    .option('--shift-by <number>', 'so many records on; back when negative', shiftOf)
    .option('--execute', 'change them; the group must have no live members')
    .option('--dry-run', 'change nothing: the default')
  addOutputOption(reset).action((group: string) => resetOffsets(reset, group))

  const remove = groups
    .command('delete')
    .description('forget groups that have no members, and their offsets')
    .argument('<groups...>')
    .option('--dry-run', 'say what would be deleted, delete nothing')
  addOutputOption(remove).action((names: string[]) => deleteGroups(remove, names))
}

async function listGroups(command: Command): Promise<void> {
  const { output } = command.opts<OutputFlags>()
  const found = await withClient(command, (client) => client.admin().listGroups())
  if (output === 'json') return printJson(found)
  const rows = found.map(({ group, state, type, protocolType }) => [
    group,
    state,
    // Brokers before Kafka 3.8 do not tell.
    type === '' ? 'classic' : type,
    protocolType,
  ])
  for (const line of table([['group', 'state', 'type', 'protocol'], ...rows])) await printLine(printable(line))
}

/** How far a group is in one partition. */
interface GroupPartition extends PartitionName {
  readonly committed: number | null
  readonly logStart: number
  readonly logEnd: number
  /** Records from the committed offset to the end; null when nothing is committed. */
  readonly lag: number | null
  readonly memberId: string | null
  readonly error?: string
}

async function describeGroup(command: Command, group: string): Promise<void> {
  const { output } = command.opts<OutputFlags>()
  const { described, partitions } = await withClient(command, async (client) => {
    const admin = client.admin()
    const { described, committed } = await existingGroup(admin, group)
    return { described, partitions: await groupPartitions(admin, described, committed) }
  })
  if (output === 'json') {
    const { state, type, protocol, members } = described
    const known = partitions.map(({ lag }) => lag).filter((lag) => lag !== null)
    return printJson({ group, state, type, protocol, members, partitions, lag: known.reduce((a, b) => a + b, 0) })
  }
  const { state, protocol, members } = described
  const assignor = protocol === '' ? '' : `, assignor ${protocol}`
  await printLine(
    printable(`${group}  ${state}, ${members.length} member${members.length === 1 ? '' : 's'}${assignor}`),
  )
  const clientOf = new Map(members.map((member) => [member.memberId, placeOf(member)]))
  const rows = partitions.map(({ topic, partition, committed, logEnd, lag, memberId, error }) => [
    topic,
    String(partition),
    committed === null ? '-' : String(committed),
    error === undefined ? String(logEnd) : '?',
    lag === null ? '-' : String(lag),
    memberId === null ? '-' : (clientOf.get(memberId) ?? memberId),
  ])
  const heading = ['topic', 'partition', 'committed', 'end', 'lag', 'member']
  for (const line of table([heading, ...rows])) await printLine(printable(line))
  const idle = members.filter((member) => member.assignment.length === 0)
  for (const { clientId, clientHost } of idle)
    await printLine(printable(`without a partition: ${clientId}${clientHost}`))
  for (const { error } of partitions) if (error !== undefined) say(`warning: ${error}`)
}

/** Kafka writes a slash in front of the address. */
function placeOf({ clientId, clientHost }: GroupMember): string {
  return `${clientId} at ${clientHost.replace(/^\//, '')}`
}

async function groupPartitions(
  admin: Admin,
  { members }: GroupDescription,
  committed: readonly CommittedOffset[],
): Promise<readonly GroupPartition[]> {
  const owners = new Map<string, { readonly place: PartitionName; readonly memberId: string | null }>()
  for (const { topic, partition } of committed) {
    owners.set(`${topic}-${partition}`, { place: { topic, partition }, memberId: null })
  }
  for (const { memberId, assignment } of members) {
    for (const place of assignment) owners.set(`${place.topic}-${place.partition}`, { place, memberId })
  }
  const places = [...owners.values()].sort(({ place: a }, { place: b }) =>
    a.topic === b.topic ? a.partition - b.partition : a.topic < b.topic ? -1 : 1,
  )
  const found = await admin.listOffsets([
    ...places.map(({ place }) => ({ ...place, at: 'earliest' as const })),
    ...places.map(({ place }) => ({ ...place, at: 'latest' as const })),
  ])
  return places.map(({ place, memberId }, index): GroupPartition => {
    const [start, end] = [found[index]!, found[places.length + index]!]
    const told = committed.find((c) => c.topic === place.topic && c.partition === place.partition)
    const at = told === undefined || told.offset < 0 ? null : told.offset
    const error = told?.error ?? start.error ?? end.error
    const lag = at === null || error !== undefined ? null : Math.max(0, end.offset - at)
    const known = { ...place, committed: at, logStart: start.offset, logEnd: end.offset, lag, memberId }
    return error === undefined ? known : { ...known, error: error.message }
  })
}

async function resetOffsets(command: Command, group: string): Promise<void> {
  const flags = command.opts<ResetFlags>()
  const to = targetOf(flags)
  if (flags.topic.length === 0 && flags.allTopics !== true) throw new UsageError('say --topic or --all-topics')
  if (flags.topic.length > 0 && flags.allTopics === true) throw new UsageError('--topic or --all-topics, not both')
  if (flags.execute === true && flags.dryRun === true) throw new UsageError('--execute or --dry-run, not both')
  await withClient(command, async (client) => {
    const admin = client.admin()
    const { committed } = await existingGroup(admin, group, { mayBeNew: flags.topic.length > 0 })
    const changes: OffsetChange[] =
      flags.allTopics === true
        ? committed.map(({ topic, partition }) => ({ topic, partition, to }))
        : flags.topic.flatMap((text) => changesOf(text, to))
    for (const topic of new Set(changes.map((change) => change.topic))) {
      if (flags.allTopics !== true) await existingTopic(client, topic)
    }
    const plan = await admin.planOffsets(group, changes)
    if (flags.execute !== true) return tellPlan(plan, flags.output)
    const results = await admin.alterOffsets(plan)
    await tellPlan(
      { ...plan, offsets: plan.offsets.map((each, index) => ({ ...each, ...results[index] })) },
      flags.output,
      {
        executed: true,
      },
    )
  })
}

async function tellPlan(plan: OffsetPlan, output: OutputFormat, done?: { readonly executed: true }): Promise<void> {
  const executed = done?.executed === true
  const { group, members, offsets } = plan
  if (output === 'json') {
    await printJson({
      group,
      executed,
      members,
      partitions: offsets.map(({ topic, partition, from, to, logStart, logEnd, heldAt, error }) => ({
        topic,
        partition,
        from,
        to: error === undefined ? to : null,
        logStart,
        logEnd,
        heldAt,
        ...(error === undefined ? {} : { error: { code: error.code, message: error.message } }),
      })),
    })
  } else {
    const rows = offsets.map(({ topic, partition, from, to, heldAt, error, logStart }) => [
      topic,
      String(partition),
      from === null ? '-' : String(from),
      error === undefined ? String(to) : '-',
      error === undefined ? effectOf({ from, to, logStart, heldAt }) : `unchanged: ${error.message}`,
    ])
    for (const line of table([['topic', 'partition', 'from', 'to', 'effect'], ...rows]))
      await printLine(printable(line))
  }
  if (offsets.some((each) => each.error !== undefined)) process.exitCode = exitFailed
  if (executed) return
  if (members > 0) {
    say(
      `error: ${group} has ${members} live member${members === 1 ? '' : 's'}, so --execute would be refused: stop it first`,
    )
    process.exitCode = exitFailed
  } else say('nothing was changed; say --execute to change it')
}

/** What a change means for the records: counted in offsets, so gaps count too. */
function effectOf({
  from,
  to,
  logStart,
  heldAt,
}: {
  readonly from: number | null
  readonly to: number
  readonly logStart: number
  readonly heldAt: 'logStart' | 'logEnd' | null
}): string {
  const held = heldAt === null ? '' : ` (held at the ${heldAt === 'logStart' ? 'start' : 'end'} of the log)`
  if (from === null) return `${to === logStart ? 'reads all' : `skips ${to - logStart}`}${held}`
  if (to === from) return `stays${held}`
  return `${to < from ? `redoes ${from - to}` : `skips ${to - from}`}${held}`
}

async function deleteGroups(command: Command, names: readonly string[]): Promise<void> {
  const flags = command.opts<DeleteFlags>()
  const results = await withClient(command, async (client) => {
    const admin = client.admin()
    if (flags.dryRun !== true) {
      const deleted = await admin.deleteGroups(names)
      return deleted.map(({ name, error }) => ({ group: name, deleted: error === undefined, error }))
    }
    const described = await admin.describeGroups(names)
    return described.map(({ group, state, members, error }) => ({
      group,
      deleted: false,
      error: error ?? refusalOf(group, { state, members: members.length }),
    }))
  })
  for (const { group, deleted, error } of results) {
    if (flags.output === 'json') {
      const told = error === undefined ? {} : { error: error.message }
      await printJson({ group, deleted, ...(flags.dryRun === true ? { dryRun: true } : {}), ...told })
    } else if (error === undefined) await printLine(deleted ? `group ${group} deleted` : `would delete group ${group}`)
    if (error !== undefined) {
      say(`error: ${error.message}`)
      process.exitCode = exitFailed
    }
  }
}

function refusalOf(group: string, { state, members }: { readonly state: string; readonly members: number }) {
  if (state === 'Dead') return new NotFoundError(`there is no group '${group}'`)
  if (members > 0) return new Error(`group ${group} has ${members} live members: stop them first`)
  return undefined
}

/** State and offsets of a group. Throws NotFoundError when nobody knows it, and what the broker complains of. */
async function existingGroup(
  admin: Admin,
  group: string,
  { mayBeNew = false }: { readonly mayBeNew?: boolean } = {},
): Promise<{ readonly described: GroupDescription; readonly committed: readonly CommittedOffset[] }> {
  const [described] = await admin.describeGroups([group])
  if (described?.error !== undefined) throw described.error
  if (described === undefined || (described.state === 'Dead' && !mayBeNew)) {
    throw new NotFoundError(`there is no group '${group}'; ottla groups list shows those there are`)
  }
  return { described, committed: described.state === 'Dead' ? [] : await admin.fetchOffsets(group) }
}

function targetOf(flags: ResetFlags): OffsetTarget {
  const targets: OffsetTarget[] = []
  if (flags.toEarliest === true) targets.push('earliest')
  if (flags.toLatest === true) targets.push('latest')
  if (flags.toOffset !== undefined) targets.push({ offset: flags.toOffset })
  if (flags.toDatetime !== undefined) targets.push({ timestampMs: timeOf(flags.toDatetime) })
  if (flags.byDuration !== undefined) {
    targets.push({ agoMs: durationMs(flags.byDuration as Duration, '--by-duration') })
  }
  if (flags.shiftBy !== undefined) targets.push({ shift: flags.shiftBy })
  const [target] = targets
  if (target === undefined || targets.length > 1) {
    throw new UsageError(
      'say where to, once: --to-earliest, --to-latest, --to-offset, --to-datetime, --by-duration or --shift-by',
    )
  }
  return target
}

function changesOf(text: string, to: OffsetTarget): OffsetChange[] {
  const match = /^([a-zA-Z0-9._-]+)(?::(\d+(?:,\d+)*))?$/.exec(text)
  if (match === null) throw new UsageError(`--topic is name or name:0,3,7, not '${text}'`)
  const topic = match[1] as string
  return match[2] === undefined
    ? [{ topic, to }]
    : match[2].split(',').map((partition) => ({ topic, partition: Number(partition), to }))
}

/** A time with its zone: without one, two people would mean different records. */
function timeOf(text: string): number {
  const ms = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})$/.test(text)
    ? Date.parse(text)
    : Number.NaN
  if (Number.isNaN(ms))
    throw new UsageError(`--to-datetime is a time with its zone, 2026-11-22T08:00:00Z, not '${text}'`)
  return ms
}

function shiftOf(text: string): number {
  const shift = Number(text)
  if (!/^[+-]?\d+$/.test(text) || !Number.isSafeInteger(shift) || shift === 0) {
    throw new UsageError(`--shift-by is a whole number that is not 0, not '${text}'`)
  }
  return shift
}

const collect = (value: string, before: readonly string[]): readonly string[] => [...before, value]
