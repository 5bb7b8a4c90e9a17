/**
 * Where a group goes on: the change of its committed offsets, computed first and applied afterwards.
 *
 * A plan says for each partition where the group stands and where it would stand; nothing is changed by making one.
 * Applying it is refused while the group has members, since their next commit would undo it, and for each partition
 * whose committed offset has moved since.
 *
 * The metadata beside a committed offset is dropped: what somebody noted there about records beyond the old offset (our
 * own services note what they have finished) must not skip any of those that are now asked for again.
 */
import { OttlaError } from '../../contract/errors.ts'
import { ErrorCode } from '../../wire/error-codes.ts'
import { Api } from '../../wire/protocol.ts'
import { brokerError } from '../broker-error.ts'
import { type AdminCallOptions, type AdminCalls, byTopic, type PartitionName } from './calls.ts'
import { describeGroups } from './groups.ts'
import { type CommittedOffset, fetchOffsets, listOffsets, type OffsetQuery } from './offsets.ts'

/**
 * Where to. `timestampMs`: the first record stamped then or later; `agoMs`: the same, so long before now; the end of the
 * log when there is none so young. `shift`: so many offsets on, back when negative. Nothing leaves the log: what would
 * is held at its start or end, and says so.
 */
export type OffsetTarget =
  | 'earliest'
  | 'latest'
  | { readonly timestampMs: number }
  | { readonly agoMs: number }
  | { readonly offset: number }
  | { readonly shift: number }

export interface OffsetChange {
  readonly topic: string
  /** Default: every partition of the topic. */
  readonly partition?: number
  readonly to: OffsetTarget
}

export interface PlannedOffset extends PartitionName {
  /** What is committed now; null when nothing is. */
  readonly from: number | null
  /** What will be committed; -1 with an error. */
  readonly to: number
  readonly logStart: number
  readonly logEnd: number
  /** The target lay outside of the log and is held at this end of it. */
  readonly heldAt: 'logStart' | 'logEnd' | null
  /** Stands beside the committed offset now and will be dropped; empty when nothing does. */
  readonly metadata: string
  /** Why this partition will stay as it is. */
  readonly error?: OttlaError
}

export interface OffsetPlan {
  readonly group: string
  readonly state: string
  /** While there are any the plan cannot be applied. */
  readonly members: number
  readonly offsets: readonly PlannedOffset[]
}

export interface OffsetChangeResult extends PartitionName {
  readonly from: number | null
  readonly to: number
  readonly error?: OttlaError
}

/** What is known of a partition when its target is computed. */
export interface TargetFacts {
  readonly from: number | null
  readonly logStart: number
  readonly logEnd: number
  /** The first offset that is young enough, when asked by time; -1 when none is. */
  readonly byTime: number
}

export async function planOffsets(
  calls: AdminCalls,
  group: string,
  how: AdminCallOptions & { readonly changes: readonly OffsetChange[]; readonly nowMs: number },
): Promise<OffsetPlan> {
  const { nowMs } = how
  const changes = await everyPartition(calls, how.changes, how)
  const [description] = await describeGroups(calls, [group], how)
  if (description?.error !== undefined) throw description.error
  const partitions = changes.map(({ topic, partition }) => ({ topic, partition }))
  const committed = partitions.length === 0 ? [] : await fetchOffsets(calls, group, { ...how, partitions })
  const at = (query: (change: (typeof changes)[number]) => OffsetQuery['at']) =>
    changes.map((change): OffsetQuery => ({ topic: change.topic, partition: change.partition, at: query(change) }))
  const found = await listOffsets(
    calls,
    [
      ...at(() => 'earliest'),
      ...at(() => 'latest'),
      // Asked for every partition, so that the answers lie side by side; of no account where no time was given.
      ...at(({ to }) => timeOf(to, nowMs) ?? 'latest'),
    ],
    how,
  )
  const count = changes.length
  const offsets = changes.map(({ topic, partition, to }, index): PlannedOffset => {
    const now = committed.find((c) => c.topic === topic && c.partition === partition)
    const [start, end, byTime] = [found[index]!, found[count + index]!, found[2 * count + index]!]
    const from = now === undefined || now.offset < 0 ? null : now.offset
    const facts = { from, logStart: start.offset, logEnd: end.offset, byTime: byTime.offset }
    const known = { topic, partition, from, logStart: start.offset, logEnd: end.offset, metadata: now?.metadata ?? '' }
    const error = now?.error ?? start.error ?? end.error ?? byTime.error
    if (error !== undefined) return { ...known, to: -1, heldAt: null, error }
    const target = targetOffset(to, facts)
    if (target === null) {
      const message = `${group} has committed nothing for ${topic}-${partition}: there is nothing to shift`
      return { ...known, to: -1, heldAt: null, error: new OttlaError('OTTLA_KAFKA_OFFSET_OUT_OF_RANGE', message) }
    }
    return { ...known, ...target }
  })
  return { group, state: description?.state ?? 'Unknown', members: description?.members.length ?? 0, offsets }
}

export async function applyOffsets(
  calls: AdminCalls,
  plan: OffsetPlan,
  options: AdminCallOptions,
): Promise<readonly OffsetChangeResult[]> {
  const { group, offsets } = plan
  const wanted = offsets.filter((planned) => planned.error === undefined)
  const [description] = await describeGroups(calls, [group], options)
  if (description?.error !== undefined) throw description.error
  if (description !== undefined && description.members.length > 0) {
    const { length } = description.members
    throw active(group, length === 1 ? 'a live member' : `${length} live members`)
  }
  const committed = wanted.length === 0 ? [] : await fetchOffsets(calls, group, { ...options, partitions: wanted })
  const moved = wanted.filter((planned) => hasMoved(planned, committed))
  const sent = wanted.filter((planned) => !moved.includes(planned))
  const codes = await commit(calls, group, { ...options, offsets: sent })
  if (codes.some((code) => membersInTheWay.includes(code))) throw active(group, 'members that joined just now')
  return offsets.map((planned): OffsetChangeResult => {
    const { topic, partition, from, to, error } = planned
    const result = { topic, partition, from, to }
    if (error !== undefined) return { ...result, error }
    if (moved.includes(planned)) {
      const message = `The offset of ${group} for ${topic}-${partition} is not ${from ?? 'absent'} any more`
      return { ...result, error: new OttlaError('OTTLA_KAFKA_PLAN_OUTDATED', message) }
    }
    const code = codes[sent.indexOf(planned)] ?? -1
    const what = `Committing ${topic}-${partition} for group ${group}`
    return code === 0 ? result : { ...result, error: brokerError(code, what) }
  })
}

/** The offset a target means, kept within the log; null when it starts from an offset that is not there. */
export function targetOffset(
  target: OffsetTarget,
  { from, logStart, logEnd, byTime }: TargetFacts,
): Pick<PlannedOffset, 'to' | 'heldAt'> | null {
  let to: number
  if (target === 'earliest') to = logStart
  else if (target === 'latest') to = logEnd
  else if ('offset' in target) to = target.offset
  else if ('shift' in target) {
    if (from === null) return null
    to = from + target.shift
  } else to = byTime < 0 ? logEnd : byTime
  if (to < logStart) return { to: logStart, heldAt: 'logStart' }
  if (to > logEnd) return { to: logEnd, heldAt: 'logEnd' }
  return { to, heldAt: null }
}

/** What a coordinator says to a commit of nobody's while the group has members. */
const membersInTheWay: readonly number[] = [
  ErrorCode.UNKNOWN_MEMBER_ID,
  ErrorCode.ILLEGAL_GENERATION,
  ErrorCode.REBALANCE_IN_PROGRESS,
  ErrorCode.STALE_MEMBER_EPOCH,
]

/** Commits without being a member, which only a group without members takes. Kafka's codes in the order of `offsets`. */
async function commit(
  calls: AdminCalls,
  group: string,
  how: AdminCallOptions & { readonly offsets: readonly PlannedOffset[] },
): Promise<readonly number[]> {
  const { offsets } = how
  if (offsets.length === 0) return []
  const code = (answer: { readonly topics: readonly CommittedTopic[] }, { topic, partition }: PartitionName) =>
    answer.topics.find((t) => t.name === topic)?.partitions.find((p) => p.partitionIndex === partition)?.errorCode ?? -1
  const body = await calls.coordinator(
    group,
    {
      api: Api.OffsetCommit,
      body: () => ({
        groupId: group,
        generationIdOrMemberEpoch: -1,
        memberId: '',
        topics: byTopic(offsets, ({ partition, to }) => ({
          partitionIndex: partition,
          committedOffset: to,
          committedLeaderEpoch: -1,
          committedMetadata: '',
        })),
      }),
      code: (answer) => code(answer, offsets[0] as PlannedOffset),
      // From version 10 on topics are named by id only.
      minVersion: 2,
      maxVersion: 9,
    },
    how,
  )
  return offsets.map((planned) => code(body, planned))
}

interface CommittedTopic {
  readonly name: string
  readonly partitions: readonly { readonly partitionIndex: number; readonly errorCode: number }[]
}

async function everyPartition(
  calls: AdminCalls,
  changes: readonly OffsetChange[],
  options: AdminCallOptions,
): Promise<readonly (OffsetChange & PartitionName)[]> {
  const topics = [...new Set(changes.map((change) => change.topic))]
  await calls.cluster.ensureTopics(topics, calls.call(options))
  const seen = new Set<string>()
  return changes.flatMap((change) => {
    const { topic, partition } = change
    const state = calls.cluster.metadata.topic(topic)
    if (partition === undefined && (state === undefined || state.error !== 0)) {
      throw brokerError(state?.error || ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, `Finding the partitions of ${topic}`)
    }
    const all = partition === undefined ? (state?.partitions ?? []).map((p) => p.partition) : [partition]
    return all.map((each) => {
      const name = `${topic}-${each}`
      if (seen.has(name)) throw new OttlaError('OTTLA_CONFIG_INVALID', `${name} is named twice; say one target for it`)
      seen.add(name)
      return { ...change, partition: each }
    })
  })
}

function timeOf(to: OffsetTarget, nowMs: number): { readonly timestampMs: number } | null {
  if (typeof to === 'string') return null
  if ('timestampMs' in to) return { timestampMs: Math.max(0, to.timestampMs) }
  return 'agoMs' in to ? { timestampMs: Math.max(0, nowMs - to.agoMs) } : null
}

function hasMoved(planned: PlannedOffset, committed: readonly CommittedOffset[]): boolean {
  const now = committed.find((c) => c.topic === planned.topic && c.partition === planned.partition)
  const offset = now === undefined || now.offset < 0 ? null : now.offset
  return offset !== planned.from
}

function active(group: string, what: string): OttlaError {
  return new OttlaError('OTTLA_KAFKA_GROUP_ACTIVE', `Group ${group} has ${what}: the next commit would undo the change`)
}
