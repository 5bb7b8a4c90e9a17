/** Consumer groups: list, describe, delete. */
import { OttlaError } from '../../contract/errors.ts'
import { ErrorCode } from '../../wire/error-codes.ts'
import { Api } from '../../wire/protocol.ts'
import { brokerError } from '../broker-error.ts'
import { decodeAssignment } from '../machine/consumer-protocol.ts'
import { type AdminCallOptions, type AdminCalls, type ItemResult, item, type PartitionName } from './calls.ts'
import { rights } from './rights.ts'

export interface GroupListing {
  readonly group: string
  /** `Stable`, `Empty` … */
  readonly state: string
  readonly type: string
  readonly protocolType: string
}

export interface GroupMember {
  readonly memberId: string
  readonly instanceId: string | null
  readonly clientId: string
  readonly clientHost: string
  /** Empty when there is none, and for members of something else than consumers. */
  readonly assignment: readonly PartitionName[]
}

export interface GroupDescription {
  readonly group: string
  /** `Stable`, `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Assigning`, `Reconciling`, `Dead`; `Unknown` with an error. */
  readonly state: string
  /** `classic`, or `consumer` for a group of KIP-848. */
  readonly type: 'classic' | 'consumer'
  /** The assignor in use. */
  readonly protocol: string
  readonly members: readonly GroupMember[]
  /** May this principal join it and commit? Null when the broker does not say. */
  readonly mayRead: boolean | null
  readonly error?: OttlaError
}

export async function listGroups(calls: AdminCalls, options: AdminCallOptions): Promise<readonly GroupListing[]> {
  const { cluster } = calls
  await cluster.refresh()
  const answers = await Promise.all(
    cluster.nodes().map((node) => cluster.request(node, Api.ListGroups, {}, calls.call(options))),
  )
  const groups = new Map<string, GroupListing>()
  for (const { body, node } of answers) {
    if (body.errorCode !== 0) throw brokerError(body.errorCode, `ListGroups at broker ${node}`)
    for (const g of body.groups) {
      groups.set(g.groupId, {
        group: g.groupId,
        state: g.groupState,
        type: g.groupType,
        protocolType: g.protocolType,
      })
    }
  }
  return [...groups.values()].sort((a, b) => (a.group < b.group ? -1 : 1))
}

export async function describeGroups(
  calls: AdminCalls,
  groups: readonly string[],
  options: AdminCallOptions,
): Promise<readonly GroupDescription[]> {
  const what = (group: string) => `Describing group ${group}`
  const answers = await calls.coordinators(
    groups,
    {
      api: Api.DescribeGroups,
      body: (asked) => (version) => ({
        groups: asked,
        ...(version >= 3 ? { includeAuthorizedOperations: true } : {}),
      }),
      code: (answer, group) => answer.groups.find((g) => g.groupId === group)?.errorCode ?? -1,
    },
    options,
  )
  const classic = groups.map((group): GroupDescription | null => {
    const answer = answers.get(group)
    const failed = (error: OttlaError): GroupDescription => ({ ...nobody(group, 'Unknown'), error })
    if (answer === undefined || answer instanceof OttlaError) return failed(answer ?? brokerError(-1, what(group)))
    const told = answer.groups.find((g) => g.groupId === group)
    // Since version 6 an unknown group is an error instead of a dead one, and so is a group of the other protocol.
    if (told?.errorCode === ErrorCode.GROUP_ID_NOT_FOUND) return null
    if (told === undefined || told.errorCode !== 0) {
      return failed(brokerError(told?.errorCode ?? -1, what(group), told?.errorMessage))
    }
    return {
      group,
      state: told.groupState,
      type: 'classic',
      protocol: told.protocolData,
      mayRead: rights(told.authorizedOperations)('read'),
      members: told.members.map((m) => ({
        memberId: m.memberId,
        instanceId: m.groupInstanceId,
        clientId: m.clientId,
        clientHost: m.clientHost,
        assignment: told.protocolType === 'consumer' ? assigned(m.memberAssignment) : [],
      })),
    }
  })
  const others = await describeConsumerGroups(
    calls,
    groups.filter((_, index) => classic[index] === null),
    options,
  )
  return groups.map((group, index) => classic[index] ?? others.get(group) ?? nobody(group, 'Dead'))
}

/** Groups of KIP-848; those that are none either are left out. */
async function describeConsumerGroups(
  calls: AdminCalls,
  groups: readonly string[],
  options: AdminCallOptions,
): Promise<ReadonlyMap<string, GroupDescription>> {
  const described = new Map<string, GroupDescription>()
  const answers = await calls.coordinators(
    groups,
    {
      api: Api.ConsumerGroupDescribe,
      body: (asked) => ({ groupIds: asked, includeAuthorizedOperations: true }),
      code: (answer, group) => answer.groups.find((g) => g.groupId === group)?.errorCode ?? -1,
    },
    options,
  )
  for (const [group, answer] of answers) {
    if (answer instanceof OttlaError) {
      // A broker without that protocol has no such groups.
      if (answer.code !== 'OTTLA_KAFKA_UNSUPPORTED_VERSION') {
        described.set(group, { ...nobody(group, 'Unknown'), error: answer })
      }
      continue
    }
    const told = answer.groups.find((g) => g.groupId === group)
    if (told === undefined || told.errorCode === ErrorCode.GROUP_ID_NOT_FOUND) continue
    if (told.errorCode !== 0) {
      const error = brokerError(told.errorCode, `Describing group ${group}`, told.errorMessage)
      described.set(group, { ...nobody(group, 'Unknown'), error })
      continue
    }
    described.set(group, {
      group,
      state: told.groupState,
      type: 'consumer',
      protocol: told.assignorName,
      mayRead: rights(told.authorizedOperations)('read'),
      members: told.members.map((m) => ({
        memberId: m.memberId,
        instanceId: m.instanceId,
        clientId: m.clientId,
        clientHost: m.clientHost,
        assignment: m.assignment.topicPartitions.flatMap((t) =>
          t.partitions.map((partition) => ({ topic: t.topicName, partition })),
        ),
      })),
    })
  }
  return described
}

export async function deleteGroups(
  calls: AdminCalls,
  groups: readonly string[],
  options: AdminCallOptions,
): Promise<readonly ItemResult[]> {
  const what = (group: string) => `Deleting group ${group}`
  const answers = await calls.coordinators(
    groups,
    {
      api: Api.DeleteGroups,
      body: (asked) => ({ groupsNames: asked }),
      isOnce: true,
      code: (answer, group) => answer.results.find((r) => r.groupId === group)?.errorCode ?? -1,
    },
    options,
  )
  return groups.map((group): ItemResult => {
    const answer = answers.get(group)
    if (answer instanceof OttlaError) return { name: group, error: answer }
    return item(group, answer?.results.find((r) => r.groupId === group)?.errorCode, what(group))
  })
}

function nobody(group: string, state: string): GroupDescription {
  return { group, state, type: 'classic', protocol: '', members: [], mayRead: null }
}

function assigned(bytes: Uint8Array): PartitionName[] {
  if (bytes.length === 0) return []
  try {
    return decodeAssignment(bytes).flatMap((t) => t.partitions.map((partition) => ({ topic: t.topic, partition })))
  } catch (error) {
    // Written by another member's assignor: what cannot be read names no partition, and the group is described all the same.
    if (error instanceof OttlaError && error.code === 'OTTLA_WIRE_MALFORMED') return []
    throw error
  }
}
