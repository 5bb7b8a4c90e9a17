/** The classic group coordinator, asked through the protocol: joining, syncing, leaving, expiring, committing. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Api } from '../../src/wire/protocol.ts'
import { errorName, Harness } from './harness.ts'

interface JoinOptions {
  readonly memberId?: string
  readonly sessionTimeoutMs?: number
  readonly rebalanceTimeoutMs?: number
  readonly protocols?: readonly string[]
  readonly metadata?: string
  readonly version?: number
  readonly protocolType?: string
}

function joinLater(harness: Harness, options: JoinOptions = {}) {
  return harness.later(
    Api.JoinGroup,
    {
      groupId: 'g',
      memberId: options.memberId ?? '',
      sessionTimeoutMs: options.sessionTimeoutMs ?? 10_000,
      rebalanceTimeoutMs: options.rebalanceTimeoutMs ?? 60_000,
      protocolType: options.protocolType ?? 'consumer',
      protocols: (options.protocols ?? ['range']).map((name) => ({
        name,
        metadata: Buffer.from(options.metadata ?? `subscription of ${name}`),
      })),
    },
    options.version === undefined ? {} : { version: options.version },
  )
}

/** Asks for a member id. */
function newMember(harness: Harness, options: JoinOptions = {}): string {
  const body = joinLater(harness, options).body()
  assert.equal(errorName(body.errorCode), 'MEMBER_ID_REQUIRED')
  assert.notEqual(body.memberId, '')
  return body.memberId
}

function syncLater(harness: Harness, memberId: string, generationId: number, assignments: Record<string, string> = {}) {
  return harness.later(Api.SyncGroup, {
    groupId: 'g',
    memberId,
    generationId,
    protocolType: 'consumer',
    protocolName: 'range',
    assignments: Object.entries(assignments).map(([id, text]) => ({ memberId: id, assignment: Buffer.from(text) })),
  })
}

function beat(harness: Harness, memberId: string, generationId: number): string {
  return errorName(harness.ask(Api.Heartbeat, { groupId: 'g', memberId, generationId }).errorCode)
}

function leave(harness: Harness, ...memberIds: string[]): string[] {
  const body = harness.ask(Api.LeaveGroup, { groupId: 'g', members: memberIds.map((memberId) => ({ memberId })) })
  return body.members.map(({ errorCode }) => errorName(errorCode))
}

/** A stable group of one; returns the member's id. */
function alone(harness: Harness, options: JoinOptions = {}): string {
  const memberId = newMember(harness, options)
  const joining = joinLater(harness, { ...options, memberId })
  harness.advance(0)
  const joined = joining.body()
  assert.equal(errorName(joined.errorCode), 'NONE')
  assert.equal(joined.leader, memberId)
  const synced = syncLater(harness, memberId, joined.generationId, { [memberId]: 'all' }).body()
  assert.equal(Buffer.from(synced.assignment).toString(), 'all')
  return memberId
}

/** A stable group of two in generation 2; the first leads. */
function pair(harness: Harness, options: JoinOptions = {}): readonly [string, string] {
  const first = alone(harness, options)
  const second = newMember(harness, options)
  const joiningSecond = joinLater(harness, { ...options, memberId: second })
  assert.equal(joiningSecond.done, false)
  assert.equal(beat(harness, first, 1), 'REBALANCE_IN_PROGRESS')
  const joiningFirst = joinLater(harness, { ...options, memberId: first })
  assert.equal(joiningFirst.body().generationId, 2)
  assert.equal(joiningSecond.body().generationId, 2)
  assert.equal(joiningSecond.body().members.length, 0)
  assert.deepEqual(
    joiningFirst.body().members.map(({ memberId }) => memberId),
    [first, second],
  )
  const waiting = syncLater(harness, second, 2)
  assert.equal(waiting.done, false)
  syncLater(harness, first, 2, { [first]: 'one', [second]: 'two' }).body()
  assert.equal(Buffer.from(waiting.body().assignment).toString(), 'two')
  return [first, second]
}

test('a newcomer gets a member id first, from JoinGroup 4 on', () => {
  const harness = new Harness()
  assert.equal(newMember(harness).startsWith('test-'), true)
  const old = new Harness()
  const joining = joinLater(old, { version: 3 })
  old.advance(0)
  assert.equal(errorName(joining.body().errorCode), 'NONE')
})

test('two members share a generation, the leader gives out the assignments', () => {
  const harness = new Harness()
  const [first, second] = pair(harness)
  assert.equal(beat(harness, first, 2), 'NONE')
  assert.equal(beat(harness, second, 2), 'NONE')
  assert.equal(beat(harness, second, 1), 'ILLEGAL_GENERATION')
  assert.equal(beat(harness, 'stranger', 2), 'UNKNOWN_MEMBER_ID')
})

test('a member that leaves makes the others rejoin', () => {
  const harness = new Harness()
  const [first, second] = pair(harness)
  assert.deepEqual(leave(harness, second, 'stranger'), ['NONE', 'UNKNOWN_MEMBER_ID'])
  assert.equal(beat(harness, first, 2), 'REBALANCE_IN_PROGRESS')
  assert.equal(joinLater(harness, { memberId: first }).body().generationId, 3)
})

test('the last member that leaves empties the group', () => {
  const harness = new Harness()
  const memberId = alone(harness)
  leave(harness, memberId)
  assert.equal(harness.cluster.groups.get('g')!.state, 'Empty')
  assert.equal(beat(harness, memberId, 2), 'UNKNOWN_MEMBER_ID')
  assert.equal(harness.cluster.nextWakeMs(), undefined)
})

test('a silent member expires after its session timeout, heartbeats keep the other', () => {
  const harness = new Harness()
  const [first, second] = pair(harness)
  harness.advance(9_000)
  assert.equal(beat(harness, first, 2), 'NONE')
  harness.advance(999)
  assert.equal(beat(harness, first, 2), 'NONE')
  harness.advance(1)
  assert.equal(beat(harness, first, 2), 'REBALANCE_IN_PROGRESS')
  assert.equal(joinLater(harness, { memberId: first }).body().members.length, 1)
  assert.equal(beat(harness, second, 2), 'UNKNOWN_MEMBER_ID')
})

test('who does not rejoin within the rebalance timeout is left out', () => {
  const harness = new Harness()
  const [first, second] = pair(harness, { rebalanceTimeoutMs: 5_000, sessionTimeoutMs: 60_000 })
  const third = newMember(harness)
  const joiningThird = joinLater(harness, { memberId: third, rebalanceTimeoutMs: 5_000 })
  const joiningFirst = joinLater(harness, { memberId: first, rebalanceTimeoutMs: 5_000 })
  harness.advance(4_999)
  assert.equal(joiningFirst.done, false)
  harness.advance(1)
  assert.equal(joiningFirst.body().generationId, 3)
  assert.deepEqual(
    joiningFirst.body().members.map(({ memberId }) => memberId),
    [first, third],
  )
  assert.equal(errorName(joiningThird.body().errorCode), 'NONE')
  assert.equal(beat(harness, second, 2), 'UNKNOWN_MEMBER_ID')
})

test('who never syncs is left out after the rebalance timeout', () => {
  const harness = new Harness()
  const [first, second] = pair(harness, { rebalanceTimeoutMs: 5_000, sessionTimeoutMs: 60_000 })
  joinLater(harness, { memberId: first, rebalanceTimeoutMs: 5_000, metadata: 'other' })
  const joining = joinLater(harness, { memberId: second, rebalanceTimeoutMs: 5_000 })
  assert.equal(joining.body().generationId, 3)
  const waiting = syncLater(harness, second, 3)
  harness.advance(5_000)
  assert.equal(errorName(waiting.body().errorCode), 'REBALANCE_IN_PROGRESS')
  const again = joinLater(harness, { memberId: second })
  assert.equal(again.body().leader, second)
  assert.equal(again.body().generationId, 4)
  assert.equal(beat(harness, first, 3), 'UNKNOWN_MEMBER_ID')
})

test('members that wait in JoinGroup do not expire', () => {
  const harness = new Harness()
  const [first, second] = pair(harness, { sessionTimeoutMs: 1_000, rebalanceTimeoutMs: 60_000 })
  const joining = joinLater(harness, { memberId: first, metadata: 'other' })
  for (let step = 0; step < 20; step++) {
    harness.advance(900)
    assert.equal(beat(harness, second, 2), 'REBALANCE_IN_PROGRESS')
  }
  joinLater(harness, { memberId: second })
  assert.equal(joining.body().members.length, 2)
})

test('a follower that rejoins unchanged gets the current generation, a leader starts a new one', () => {
  const harness = new Harness()
  const [first, second] = pair(harness)
  assert.equal(joinLater(harness, { memberId: second }).body().generationId, 2)
  assert.equal(harness.cluster.groups.get('g')!.state, 'Stable')
  joinLater(harness, { memberId: first })
  assert.equal(harness.cluster.groups.get('g')!.state, 'PreparingRebalance')
})

test('a join repeated after the generation is known is answered again', () => {
  const harness = new Harness()
  const memberId = newMember(harness)
  joinLater(harness, { memberId })
  harness.advance(0)
  const repeated = joinLater(harness, { memberId }).body()
  assert.deepEqual([repeated.generationId, repeated.members.length], [1, 1])
})

test('a newcomer during CompletingRebalance sends the waiting members back to join', () => {
  const harness = new Harness()
  const [first, second] = pair(harness)
  joinLater(harness, { memberId: first, metadata: 'other' })
  joinLater(harness, { memberId: second })
  const waiting = syncLater(harness, second, 3)
  const third = newMember(harness)
  joinLater(harness, { memberId: third })
  assert.equal(errorName(waiting.body().errorCode), 'REBALANCE_IN_PROGRESS')
})

test('an empty group waits the initial delay, prolonged while members arrive, at most the rebalance timeout', () => {
  const harness = new Harness({ initialRebalanceDelayMs: 3_000 })
  const first = newMember(harness)
  const joining = joinLater(harness, { memberId: first, rebalanceTimeoutMs: 7_000 })
  harness.advance(2_000)
  const joiningSecond = joinLater(harness, { memberId: newMember(harness), rebalanceTimeoutMs: 7_000 })
  harness.advance(1_000)
  assert.equal(joining.done, false)
  harness.advance(3_000)
  assert.equal(joining.body().members.length, 2)
  assert.equal(joiningSecond.body().generationId, 1)
})

test('the strategy is one that all share, by votes', () => {
  const harness = new Harness()
  const first = alone(harness, { protocols: ['range', 'sticky'] })
  const second = newMember(harness, { protocols: ['sticky', 'range'] })
  joinLater(harness, { memberId: second, protocols: ['sticky', 'range'] })
  const third = newMember(harness, { protocols: ['sticky'] })
  joinLater(harness, { memberId: third, protocols: ['sticky'] })
  const joined = joinLater(harness, { memberId: first, protocols: ['range', 'sticky'] }).body()
  assert.equal(joined.protocolName, 'sticky')
})

test('a newcomer without a common strategy, or of another kind, is refused', () => {
  const harness = new Harness()
  alone(harness)
  const refused = (options: JoinOptions) => errorName(joinLater(harness, options).body().errorCode)
  assert.equal(refused({ protocols: ['other'] }), 'INCONSISTENT_GROUP_PROTOCOL')
  assert.equal(refused({ protocolType: 'connect' }), 'INCONSISTENT_GROUP_PROTOCOL')
  assert.equal(refused({ protocols: [] }), 'INCONSISTENT_GROUP_PROTOCOL')
  assert.equal(refused({ sessionTimeoutMs: 99 }), 'INVALID_SESSION_TIMEOUT')
  assert.equal(refused({ memberId: 'stranger' }), 'UNKNOWN_MEMBER_ID')
})

test('a member id that is never used holds a rebalance up for one session timeout', () => {
  const harness = new Harness()
  const first = alone(harness, { sessionTimeoutMs: 60_000 })
  newMember(harness, { sessionTimeoutMs: 2_000 })
  const joining = joinLater(harness, { memberId: first, sessionTimeoutMs: 60_000, metadata: 'other' })
  assert.equal(joining.done, false)
  harness.advance(2_000)
  assert.equal(joining.body().generationId, 2)
})

test('a group instance id is refused: static members are not done', () => {
  const harness = new Harness()
  const body = harness.ask(Api.JoinGroup, {
    groupId: 'g',
    groupInstanceId: 'static',
    sessionTimeoutMs: 10_000,
    protocolType: 'consumer',
    protocols: [{ name: 'range', metadata: Buffer.alloc(0) }],
  })
  assert.equal(errorName(body.errorCode), 'UNSUPPORTED_VERSION')
})

// ── offsets ──

interface CommitOptions {
  readonly memberId?: string
  readonly generation?: number
  readonly offset?: number
  readonly metadata?: string | null
  readonly partition?: number
  readonly topic?: string
}

function commit(harness: Harness, options: CommitOptions = {}): string {
  const body = harness.ask(
    Api.OffsetCommit,
    {
      groupId: 'g',
      memberId: options.memberId ?? '',
      generationIdOrMemberEpoch: options.generation ?? -1,
      topics: [
        {
          name: options.topic ?? 't',
          partitions: [
            {
              partitionIndex: options.partition ?? 0,
              committedOffset: options.offset ?? 5,
              committedLeaderEpoch: 0,
              committedMetadata: options.metadata === undefined ? 'note' : options.metadata,
            },
          ],
        },
      ],
    },
    { version: 9 },
  )
  return errorName(body.topics[0]!.partitions[0]!.errorCode)
}

function fetched(harness: Harness, partitionIndexes: readonly number[] | null = [0]) {
  const body = harness.ask(
    Api.OffsetFetch,
    { groups: [{ groupId: 'g', topics: partitionIndexes === null ? null : [{ name: 't', partitionIndexes }] }] },
    { version: 9 },
  )
  const group = body.groups[0]!
  assert.equal(errorName(group.errorCode), 'NONE')
  return group.topics.flatMap(({ partitions }) =>
    partitions.map(({ committedOffset, metadata, errorCode }) => [committedOffset, metadata, errorCode]),
  )
}

test('offsets and metadata come back as they were committed, null metadata as empty text', () => {
  const harness = new Harness()
  harness.topic('t', 2)
  assert.equal(commit(harness), 'NONE')
  assert.equal(commit(harness, { partition: 1, offset: 9, metadata: null }), 'NONE')
  assert.deepEqual(fetched(harness, null), [
    [5, 'note', 0],
    [9, '', 0],
  ])
})

test('what was never committed is -1 and no error, for unknown groups and partitions too', () => {
  const harness = new Harness()
  assert.deepEqual(fetched(harness, [0, 7]), [
    [-1, '', 0],
    [-1, '', 0],
  ])
  assert.deepEqual(fetched(harness, null), [])
})

test('members commit in their generation only, strangers not at all', () => {
  const harness = new Harness()
  harness.topic('t')
  assert.equal(commit(harness, { memberId: 'a', generation: 3 }), 'ILLEGAL_GENERATION')
  const [first, second] = pair(harness)
  assert.equal(commit(harness, { memberId: first, generation: 2 }), 'NONE')
  assert.equal(commit(harness, { memberId: first, generation: 1 }), 'ILLEGAL_GENERATION')
  assert.equal(commit(harness, { memberId: 'stranger', generation: 2 }), 'UNKNOWN_MEMBER_ID')
  assert.equal(commit(harness), 'UNKNOWN_MEMBER_ID')
  joinLater(harness, { memberId: first, metadata: 'other' })
  assert.equal(commit(harness, { memberId: second, generation: 2, offset: 6 }), 'NONE')
  joinLater(harness, { memberId: second })
  assert.equal(commit(harness, { memberId: second, generation: 3 }), 'REBALANCE_IN_PROGRESS')
  assert.deepEqual(fetched(harness), [[6, 'note', 0]])
})

test('a commit is a sign of life', () => {
  const harness = new Harness()
  harness.topic('t')
  const memberId = alone(harness)
  harness.advance(9_000)
  commit(harness, { memberId, generation: 1 })
  harness.advance(9_000)
  assert.equal(beat(harness, memberId, 1), 'NONE')
})

test('unknown partitions and too much metadata are refused', () => {
  const harness = new Harness()
  harness.topic('t')
  assert.equal(commit(harness, { partition: 3 }), 'UNKNOWN_TOPIC_OR_PARTITION')
  assert.equal(commit(harness, { topic: 'u' }), 'UNKNOWN_TOPIC_OR_PARTITION')
  assert.equal(commit(harness, { metadata: 'x'.repeat(4097) }), 'OFFSET_METADATA_TOO_LARGE')
  assert.equal(commit(harness, { metadata: 'x'.repeat(4096) }), 'NONE')
})

test('offsets of a deleted topic are gone when it is made again', () => {
  const harness = new Harness()
  harness.topic('t')
  commit(harness)
  harness.cluster.deleteTopic(harness.cluster.topics.get('t')!, harness.nowMs)
  harness.topic('t')
  assert.deepEqual(fetched(harness), [[-1, '', 0]])
})

test('groups are listed, described and, when empty, deleted', () => {
  const harness = new Harness()
  const memberId = alone(harness)
  const listed = (filter: object) => harness.ask(Api.ListGroups, filter).groups.map(({ groupId }) => groupId)
  assert.deepEqual(listed({}), ['g'])
  assert.deepEqual(listed({ statesFilter: ['stable'], typesFilter: ['classic'] }), ['g'])
  assert.deepEqual(listed({ statesFilter: ['Empty'] }), [])
  assert.deepEqual(listed({ typesFilter: ['consumer'] }), [])
  const described = harness.ask(Api.DescribeGroups, { groups: ['g', 'none'] }).groups
  assert.deepEqual(
    described.map(({ groupState, protocolData, errorCode }) => [groupState, protocolData, errorName(errorCode)]),
    [
      ['Stable', 'range', 'NONE'],
      ['Dead', '', 'GROUP_ID_NOT_FOUND'],
    ],
  )
  assert.deepEqual(
    described[0]!.members.map((member) => [
      member.memberId,
      member.clientHost,
      Buffer.from(member.memberAssignment).toString(),
    ]),
    [[memberId, '/127.0.0.1', 'all']],
  )
  const remove = () =>
    harness.ask(Api.DeleteGroups, { groupsNames: ['g', 'none'] }).results.map(({ errorCode }) => errorName(errorCode))
  assert.deepEqual(remove(), ['NON_EMPTY_GROUP', 'GROUP_ID_NOT_FOUND'])
  leave(harness, memberId)
  assert.deepEqual(remove(), ['NONE', 'GROUP_ID_NOT_FOUND'])
  assert.deepEqual(listed({}), [])
})

test('a group is served by its coordinator alone, and moves when that broker stops', () => {
  const harness = new Harness({ nodes: 3 })
  const coordinator = harness.cluster.coordinatorOf('g')
  const find = () => harness.ask(Api.FindCoordinator, { coordinatorKeys: ['g'], keyType: 0 }).coordinators[0]!
  assert.equal(find().nodeId, coordinator)
  const other = (coordinator % 3) + 1
  const refused = harness.ask(Api.Heartbeat, { groupId: 'g', memberId: 'm', generationId: 1 }, { node: other })
  assert.equal(errorName(refused.errorCode), 'NOT_COORDINATOR')
  harness.cluster.stopNode(coordinator, harness.nowMs)
  assert.equal(find().nodeId, other)
  assert.equal(find().port, 9000 + other)
})
