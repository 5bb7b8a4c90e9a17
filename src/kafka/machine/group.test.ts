import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ErrorCode } from '../../wire/error-codes.ts'
import { type GroupEffect, type GroupEvent, GroupMachine, type Moment } from './group.ts'

const settings = {
  cooperative: false,
  sessionTimeoutMs: 10_000,
  heartbeatIntervalMs: 1_000,
  drainTimeoutMs: 5_000,
  retryBackoffMs: 100,
  retryBackoffMaxMs: 2_000,
}

/** A machine with a hand on its clock. */
class Script {
  readonly machine: GroupMachine = new GroupMachine(settings)
  nowMs = 1_000
  wallOffsetMs = 1_700_000_000_000

  get now(): Moment {
    return { monotonicMs: this.nowMs, wallMs: this.nowMs + this.wallOffsetMs }
  }

  send(event: GroupEvent): readonly GroupEffect[] {
    return this.machine.handle(event, this.now)
  }

  tick(afterMs = 0): readonly GroupEffect[] {
    this.nowMs += afterMs
    return this.send({ type: 'tick' })
  }

  join(effect: GroupEffect | undefined, generation: number, memberId = 'm1'): readonly GroupEffect[] {
    assert.ok(effect?.do === 'join')
    return this.send({
      type: 'joined',
      attempt: effect.attempt,
      code: 0,
      memberId,
      generation,
      leaderId: 'other',
      members: [],
    })
  }

  sync(effect: GroupEffect | undefined): readonly GroupEffect[] {
    assert.ok(effect?.do === 'sync')
    return this.send({ type: 'synced', attempt: effect.attempt, sent: this.now, code: 0, assignment: bytes })
  }

  /** From nothing to stable as a follower of generation 1. */
  settle(generation = 1): readonly GroupEffect[] {
    const [join] = this.send({ type: 'start' })
    const [sync] = this.join(join, generation)
    return this.sync(sync)
  }

  beat(code = 0, generation = this.machine.generation): readonly GroupEffect[] {
    return this.send({ type: 'beaten', generation, sent: this.now, code })
  }
}

const bytes = Uint8Array.of(1)
const kinds = (effects: readonly GroupEffect[]): string[] => effects.map((effect) => effect.do)

test('a first join takes two steps, then sync, then the assignment', () => {
  const s = new Script()
  const [first] = s.send({ type: 'start' })
  assert.deepEqual(first, { do: 'join', attempt: 1, memberId: '' })
  const [second] = s.send({
    type: 'joined',
    attempt: 1,
    code: ErrorCode.MEMBER_ID_REQUIRED,
    memberId: 'm1',
    generation: -1,
    leaderId: '',
    members: [],
  })
  assert.deepEqual(second, { do: 'join', attempt: 2, memberId: 'm1' })
  const [sync] = s.join(second, 7)
  assert.deepEqual(sync, { do: 'sync', attempt: 3, memberId: 'm1', generation: 7, assignments: [] })
  assert.deepEqual(s.sync(sync), [{ do: 'assign', assignment: bytes, generation: 7 }])
  assert.equal(s.machine.state, 'stable')
  assert.equal(s.machine.inSession(s.now), true)
})

test('the leader plans before it syncs', () => {
  const s = new Script()
  const [join] = s.send({ type: 'start' })
  assert.ok(join?.do === 'join')
  const members = [{ memberId: 'm1', groupInstanceId: null, metadata: bytes }]
  const [plan] = s.send({
    type: 'joined',
    attempt: join.attempt,
    code: 0,
    memberId: 'm1',
    generation: 1,
    leaderId: 'm1',
    members,
  })
  assert.ok(plan?.do === 'plan')
  assert.deepEqual(plan.members, members)
  const assignments = [{ memberId: 'm1', assignment: bytes }]
  const [sync] = s.send({ type: 'planned', attempt: plan.attempt, assignments })
  assert.ok(sync?.do === 'sync')
  assert.deepEqual(sync.assignments, assignments)
  assert.equal(s.machine.leads, true)
})

test('heartbeats go out each interval, one at a time', () => {
  const s = new Script()
  s.settle()
  assert.deepEqual(s.tick(999), [])
  assert.deepEqual(kinds(s.tick(1)), ['heartbeat'])
  assert.deepEqual(s.tick(1_500), [], 'the last one is still unanswered')
  assert.deepEqual(kinds(s.beat()), ['heartbeat'], 'its answer makes room for the one that is due')
})

test('a rebalance drains first, with heartbeats going on, then joins as the same member', () => {
  const s = new Script()
  s.settle()
  s.tick(1_000)
  const [release] = s.beat(ErrorCode.REBALANCE_IN_PROGRESS)
  assert.ok(release?.do === 'release')
  assert.equal(release.deadlineMs, 5_000)
  assert.equal(s.machine.generation, 1, 'commits of the drain carry the old generation')
  assert.deepEqual(kinds(s.tick(1_000)), ['heartbeat'])
  assert.deepEqual(s.beat(ErrorCode.REBALANCE_IN_PROGRESS), [], 'no news while draining')
  assert.equal(s.machine.inSession(s.now), true)
  const [join] = s.send({ type: 'released', attempt: release.attempt })
  assert.ok(join?.do === 'join')
  assert.equal(join.memberId, 'm1')
  assert.equal(s.machine.generation, -1)
  assert.equal(s.machine.inSession(s.now), false)
})

test('a drain that ends after the session was lost joins nobody twice', () => {
  const s = new Script()
  s.settle()
  s.tick(1_000)
  const [release] = s.beat(ErrorCode.REBALANCE_IN_PROGRESS)
  assert.ok(release?.do === 'release')
  assert.deepEqual(kinds(s.beat(ErrorCode.UNKNOWN_MEMBER_ID)), ['lose', 'join'])
  assert.deepEqual(s.send({ type: 'released', attempt: release.attempt }), [])
})

for (const [name, memberId] of [
  ['UNKNOWN_MEMBER_ID', ''],
  ['ILLEGAL_GENERATION', 'm1'],
] as const) {
  test(`${name} in a heartbeat loses everything at once and joins anew`, () => {
    const s = new Script()
    s.settle()
    s.tick(1_000)
    const effects = s.beat(ErrorCode[name])
    assert.deepEqual(kinds(effects), ['lose', 'join'])
    assert.equal(effects[1]?.do === 'join' && effects[1].memberId, memberId)
  })
}

test('a refused commit counts like a refused heartbeat, but only in its own generation', () => {
  const s = new Script()
  s.settle(3)
  assert.deepEqual(s.send({ type: 'refused', generation: 2, code: ErrorCode.ILLEGAL_GENERATION }), [])
  assert.deepEqual(kinds(s.send({ type: 'refused', generation: 3, code: ErrorCode.ILLEGAL_GENERATION })), [
    'lose',
    'join',
  ])
})

test('without an acknowledged heartbeat for a session everything is lost', () => {
  const s = new Script()
  s.settle()
  s.tick(1_000)
  for (let i = 0; i < 8; i++) {
    const effects = s.send({ type: 'heartbeat-failed', generation: 1 })
    assert.deepEqual(kinds(effects), ['forget-coordinator'])
    assert.deepEqual(kinds(s.tick(1_000)), ['heartbeat'], 'it goes on trying')
  }
  s.nowMs += 999
  assert.equal(s.machine.inSession(s.now), true)
  s.nowMs += 1
  assert.equal(s.machine.inSession(s.now), false, 'asked without any event: the clock alone decides')
  assert.deepEqual(kinds(s.tick()), ['lose', 'join'])
})

test('a suspended machine is noticed by the wall clock', () => {
  const s = new Script()
  s.settle()
  s.wallOffsetMs += 10_000
  assert.equal(s.machine.inSession(s.now), false)
  assert.deepEqual(kinds(s.tick()), ['lose', 'join'])
})

test('a host clock that is wrong, or set back, changes nothing', () => {
  const s = new Script()
  s.wallOffsetMs -= 7_200_000
  s.settle()
  assert.equal(s.machine.inSession(s.now), true)
  s.wallOffsetMs -= 7_200_000
  assert.equal(s.machine.inSession(s.now), true)
})

test('the heartbeat counts from when it was sent, not from when its answer came', () => {
  const s = new Script()
  s.settle()
  s.tick(1_000)
  const sent = s.now
  s.nowMs += 9_000 - 1
  s.send({ type: 'beaten', generation: 1, sent, code: 0 })
  s.nowMs += 1_001
  assert.equal(s.machine.inSession(s.now), false)
})

test('a coordinator that moved is forgotten and joining goes on with the same member', () => {
  const s = new Script()
  s.settle()
  s.tick(1_000)
  assert.deepEqual(kinds(s.beat(ErrorCode.NOT_COORDINATOR)), ['forget-coordinator'])
  assert.equal(s.machine.state, 'stable', 'what is held stays held')
  assert.deepEqual(kinds(s.tick(100)), ['heartbeat'])
})

test('failed joins are repeated with a growing pause', () => {
  const s = new Script()
  let [join] = s.send({ type: 'start' })
  const pauses: number[] = []
  for (let i = 0; i < 7; i++) {
    assert.ok(join?.do === 'join')
    s.send({ type: 'failed', what: 'join', attempt: join.attempt })
    const wake = s.machine.wakeAtMs()
    assert.ok(wake !== null)
    pauses.push(wake - s.nowMs)
    assert.deepEqual(s.tick(wake - s.nowMs - 1), [])
    ;[join] = s.tick(1)
  }
  assert.deepEqual(pauses, [100, 200, 400, 800, 1_600, 2_000, 2_000])
})

test('an answer to an earlier attempt is ignored', () => {
  const s = new Script()
  const [join] = s.send({ type: 'start' })
  assert.ok(join?.do === 'join')
  s.send({ type: 'failed', what: 'join', attempt: join.attempt })
  assert.deepEqual(s.join(join, 1), [])
  assert.equal(s.machine.state, 'joining')
})

test('an error that only a person can mend is told, and joining goes on slowly', () => {
  const s = new Script()
  const [join] = s.send({ type: 'start' })
  assert.ok(join?.do === 'join')
  const code = ErrorCode.GROUP_AUTHORIZATION_FAILED
  const answer = { type: 'joined', code, memberId: '', generation: -1, leaderId: '', members: [] } as const
  assert.deepEqual(s.send({ ...answer, attempt: join.attempt }), [{ do: 'fault', code }])
  assert.equal(s.machine.wakeAtMs(), s.nowMs + 2_000)
})

test('the leader shares out again when its topics changed, a follower does not', () => {
  const s = new Script()
  s.settle()
  assert.deepEqual(s.send({ type: 'outdated' }), [])
  const leader = new Script()
  const [join] = leader.send({ type: 'start' })
  assert.ok(join?.do === 'join')
  const joined = { type: 'joined', code: 0, memberId: 'm', generation: 1, leaderId: 'm', members: [] } as const
  const [plan] = leader.send({ ...joined, attempt: join.attempt })
  assert.ok(plan?.do === 'plan')
  const [sync] = leader.send({ type: 'planned', attempt: plan.attempt, assignments: [] })
  leader.sync(sync)
  assert.deepEqual(kinds(leader.send({ type: 'outdated' })), ['release'])
})

test('closing drains, leaves and ends', () => {
  const s = new Script()
  s.settle()
  const [release] = s.send({ type: 'close' })
  assert.ok(release?.do === 'release')
  const [leave] = s.send({ type: 'released', attempt: release.attempt })
  assert.ok(leave?.do === 'leave')
  assert.equal(leave.memberId, 'm1')
  assert.deepEqual(s.send({ type: 'left', attempt: leave.attempt }), [{ do: 'closed' }])
  assert.equal(s.machine.wakeAtMs(), null)
  assert.deepEqual(s.send({ type: 'start' }), [])
})

test('closing during a rebalance drain leaves instead of joining', () => {
  const s = new Script()
  s.settle()
  s.tick(1_000)
  const [release] = s.beat(ErrorCode.REBALANCE_IN_PROGRESS)
  assert.ok(release?.do === 'release')
  assert.deepEqual(s.send({ type: 'close' }), [])
  assert.deepEqual(kinds(s.send({ type: 'released', attempt: release.attempt })), ['leave'])
})

test('closing while nothing is held leaves at once, or just ends when the group never knew us', () => {
  const fresh = new Script()
  fresh.send({ type: 'start' })
  assert.deepEqual(fresh.send({ type: 'close' }), [{ do: 'closed' }])
  const known = new Script()
  const [join] = known.send({ type: 'start' })
  known.join(join, 1)
  assert.deepEqual(kinds(known.send({ type: 'close' })), ['leave'])
})

test('a leave that fails ends as well: the session timeout does the rest', () => {
  const s = new Script()
  const [join] = s.send({ type: 'start' })
  s.join(join, 1)
  const [leave] = s.send({ type: 'close' })
  assert.ok(leave?.do === 'leave')
  assert.deepEqual(s.send({ type: 'failed', what: 'leave', attempt: leave.attempt }), [{ do: 'closed' }])
})

// ── cooperative ──

/** A member that keeps what it holds while the group shares out again. */
class Cooperative extends Script {
  override readonly machine = new GroupMachine({ ...settings, cooperative: true })

  /** The assignment is known; `surplus`: it leaves out something held. */
  take(surplus = false): readonly GroupEffect[] {
    return this.send({ type: 'taken', surplus })
  }

  /** Stable, and then told of a rebalance: the JoinGroup that follows. */
  rebalance(): GroupEffect & { do: 'join' } {
    this.settle()
    this.take()
    this.tick(1_000)
    const [join] = this.beat(ErrorCode.REBALANCE_IN_PROGRESS)
    assert.ok(join?.do === 'join')
    return join
  }
}

test('cooperative: a rebalance joins at once, with everything held, in the old generation', () => {
  const s = new Cooperative()
  const join = s.rebalance()
  assert.equal(join.memberId, 'm1')
  assert.equal(s.machine.state, 'joining')
  assert.equal(s.machine.generation, 1)
  assert.equal(s.machine.rebalancing, true)
  assert.equal(s.machine.inSession(s.now), true)
  assert.deepEqual(kinds(s.tick(1_000)), ['heartbeat'], 'heartbeats go on')
  s.beat(ErrorCode.REBALANCE_IN_PROGRESS)
  const [sync] = s.join(join, 2)
  assert.equal(s.machine.generation, 2)
  assert.equal(s.machine.inSession(s.now), true)
  assert.deepEqual(kinds(s.tick(1_000)), ['heartbeat'], 'also while the leader has not shared out yet')
  assert.deepEqual(kinds(s.sync(sync)), ['assign'])
  assert.deepEqual(s.take(), [], 'nothing to give up: that was all')
  assert.equal(s.machine.state, 'stable')
})

test('cooperative: what the assignment leaves out is released, then the group is joined again', () => {
  const s = new Cooperative()
  const join = s.rebalance()
  const [sync] = s.join(join, 2)
  s.sync(sync)
  const [release] = s.take(true)
  assert.ok(release?.do === 'release')
  assert.equal(release.what, 'surplus')
  assert.equal(s.machine.inSession(s.now), true)
  assert.deepEqual(kinds(s.tick(1_000)), ['heartbeat'])
  assert.deepEqual(s.beat(ErrorCode.REBALANCE_IN_PROGRESS), [], 'no news: it joins anyway')
  const [again] = s.send({ type: 'released', attempt: release.attempt })
  assert.ok(again?.do === 'join')
  assert.equal(s.machine.inSession(s.now), true, 'the rest is held on')
  assert.equal(s.machine.generation, 2)
})

test('cooperative: while joining, ILLEGAL_GENERATION means that the answer is on its way', () => {
  const s = new Cooperative()
  const join = s.rebalance()
  s.tick(1_000)
  assert.deepEqual(s.beat(ErrorCode.ILLEGAL_GENERATION), [])
  assert.deepEqual(s.send({ type: 'refused', generation: 1, code: ErrorCode.ILLEGAL_GENERATION }), [])
  assert.equal(s.machine.inSession(s.now), true)
  const [sync] = s.join(join, 2)
  assert.equal(sync?.do, 'sync')
  assert.deepEqual(kinds(s.send({ type: 'refused', generation: 2, code: ErrorCode.ILLEGAL_GENERATION })), [
    'lose',
    'join',
  ])
})

test('cooperative: ILLEGAL_GENERATION while joining keeps nobody alive', () => {
  const s = new Cooperative()
  s.rebalance()
  for (let i = 0; i < 9; i++) {
    s.tick(1_000)
    s.beat(ErrorCode.ILLEGAL_GENERATION)
  }
  assert.equal(s.machine.inSession(s.now), true)
  s.nowMs += 1_000
  assert.equal(s.machine.inSession(s.now), false)
  assert.deepEqual(kinds(s.tick()), ['lose'], 'and the JoinGroup goes on')
  assert.equal(s.machine.generation, -1)
})

test('cooperative: an unknown member in the middle of a rebalance loses everything and joins as a stranger', () => {
  const s = new Cooperative()
  const join = s.rebalance()
  const code = ErrorCode.UNKNOWN_MEMBER_ID
  const answer = { type: 'joined', code, memberId: '', generation: -1, leaderId: '', members: [] } as const
  const effects = s.send({ ...answer, attempt: join.attempt })
  assert.deepEqual(kinds(effects), ['lose', 'join'])
  assert.equal(effects[1]?.do === 'join' && effects[1].memberId, '')
  assert.equal(s.machine.generation, -1)
})

test('cooperative: a SyncGroup refused because the group moves on keeps everything and joins again', () => {
  const s = new Cooperative()
  const join = s.rebalance()
  const [sync] = s.join(join, 2)
  assert.ok(sync?.do === 'sync')
  const refused = { type: 'synced', sent: s.now, code: ErrorCode.REBALANCE_IN_PROGRESS, assignment: bytes } as const
  assert.deepEqual(s.send({ ...refused, attempt: sync.attempt }), [])
  assert.equal(s.machine.state, 'joining')
  assert.equal(s.machine.inSession(s.now), true)
  assert.deepEqual(kinds(s.tick(100)), ['join'])
})

test('cooperative: an answer to SyncGroup after the session ended loses first, then assigns anew', () => {
  const s = new Cooperative()
  const join = s.rebalance()
  const [sync] = s.join(join, 2)
  assert.ok(sync?.do === 'sync')
  s.nowMs += 10_000
  const sent = s.now
  const effects = s.send({ type: 'synced', attempt: sync.attempt, sent, code: 0, assignment: bytes })
  assert.deepEqual(kinds(effects), ['lose', 'assign'])
})

test('cooperative: topics that change while the leader shares out are shared out again afterwards', () => {
  const s = new Cooperative()
  const [join] = s.send({ type: 'start' })
  assert.ok(join?.do === 'join')
  const joined = { type: 'joined', code: 0, memberId: 'm', generation: 1, leaderId: 'm', members: [] } as const
  const [plan] = s.send({ ...joined, attempt: join.attempt })
  assert.ok(plan?.do === 'plan')
  const [sync] = s.send({ type: 'planned', attempt: plan.attempt, assignments: [] })
  s.send({ type: 'outdated' })
  assert.deepEqual(kinds(s.sync(sync)), ['assign'])
  assert.deepEqual(kinds(s.take()), ['join'])
})

test('cooperative: closing in the middle of a rebalance waits for its end, so that commits are taken', () => {
  const s = new Cooperative()
  const join = s.rebalance()
  assert.deepEqual(s.send({ type: 'close' }), [])
  const [sync] = s.join(join, 2)
  assert.deepEqual(kinds(s.sync(sync)), ['assign'])
  const [release] = s.take(true)
  assert.ok(release?.do === 'release')
  assert.equal(release.what, 'all')
  assert.deepEqual(kinds(s.send({ type: 'released', attempt: release.attempt })), ['leave'])
})

test('cooperative: closing waits no longer than a drain may take', () => {
  const s = new Cooperative()
  s.rebalance()
  s.send({ type: 'close' })
  for (let i = 0; i < 4; i++) {
    s.tick(1_000)
    s.beat(ErrorCode.REBALANCE_IN_PROGRESS)
  }
  assert.equal(s.machine.wakeAtMs(), s.nowMs + 1_000)
  const [release] = s.tick(1_000)
  assert.ok(release?.do === 'release')
  assert.equal(release.what, 'all')
  assert.deepEqual(kinds(s.send({ type: 'released', attempt: release.attempt })), ['leave'])
})

test('cooperative: closing while a surplus is released releases the rest after it', () => {
  const s = new Cooperative()
  const join = s.rebalance()
  const [sync] = s.join(join, 2)
  s.sync(sync)
  const [surplus] = s.take(true)
  assert.ok(surplus?.do === 'release')
  assert.deepEqual(s.send({ type: 'close' }), [])
  const [all] = s.send({ type: 'released', attempt: surplus.attempt })
  assert.ok(all?.do === 'release')
  assert.equal(all.what, 'all')
})
