import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AbortedFilter } from './aborted-filter.ts'
import { FetchPlanner, type Leader } from './fetch-planner.ts'
import { type HeldPartition, Ownership } from './ownership.ts'

const settings = { maxWaitMs: 500, retryBackoffMs: 100, retryBackoffMaxMs: 1_000 }

/** Partition p is led by broker p % 2 unless moved. */
class Script {
  readonly planner = new FetchPlanner(settings)
  readonly ownership = new Ownership()
  readonly leaders = new Map<number, Leader>()

  hold(partition: number, position = 0): HeldPartition {
    const held = this.ownership.gain('t', 'id', partition)
    this.planner.add(held, position)
    this.planner.open(held)
    return held
  }

  readonly leaderOf = (held: HeldPartition): Leader =>
    this.leaders.get(held.partition) ?? { node: held.partition % 2, epoch: 0 }

  plan(nowMs = 0) {
    return this.planner.plan(this.leaderOf, nowMs)
  }

  checks(nowMs = 0) {
    return this.planner.checks(this.leaderOf, nowMs)
  }
}

const summary = (plans: ReturnType<Script['plan']>): string[] =>
  plans.map((plan) => `${plan.node}: ${plan.items.map((item) => `${item.held.partition}@${item.position}`).join(' ')}`)

test('one fetch per broker carries all of its partitions, and the next one waits for its answer', () => {
  const s = new Script()
  for (let p = 0; p < 4; p++) s.hold(p, p * 10)
  const plans = s.plan()
  assert.deepEqual(summary(plans), ['0: 0@0 2@20', '1: 1@10 3@30'])
  assert.deepEqual(s.plan(), [])
  s.planner.release(plans[0]!)
  assert.deepEqual(summary(s.plan()), ['0: 0@0 2@20'])
})

test('nothing is fetched before a partition is opened', () => {
  const s = new Script()
  const held = s.ownership.gain('t', 'id', 0)
  s.planner.add(held, 5)
  assert.deepEqual(s.plan(), [])
  s.planner.open(held)
  assert.deepEqual(summary(s.plan()), ['0: 0@5'])
})

test('a partition that failed waits alone, longer each time, and its neighbours go on', () => {
  const s = new Script()
  s.hold(0)
  const failing = s.hold(2)
  const waits: number[] = []
  let nowMs = 0
  for (let i = 0; i < 6; i++) {
    const [plan] = s.plan(nowMs)
    assert.ok(plan)
    const item = plan.items.find((it) => it.held === failing)
    assert.ok(item)
    s.planner.delay(item, nowMs)
    s.planner.release(plan)
    const [without] = s.plan(nowMs)
    assert.deepEqual(
      without?.items.map((it) => it.held.partition),
      [0],
    )
    assert.ok(without.maxWaitMs < settings.maxWaitMs, 'the neighbours do not hold the broker for long')
    s.planner.release(without)
    const wake = s.planner.wakeAtMs
    assert.ok(wake !== null)
    waits.push(wake - nowMs)
    nowMs = wake
  }
  assert.deepEqual(waits, [100, 200, 400, 800, 1_000, 1_000])
})

test('a partition nobody leads is left out and said so', () => {
  const s = new Script()
  s.hold(0)
  s.hold(2)
  s.leaders.set(2, { node: -1, epoch: 3 })
  assert.deepEqual(summary(s.plan()), ['0: 0@0'])
  assert.equal(s.planner.leaderless, true)
})

test('an answer for an ownership that ended is not wanted', () => {
  const s = new Script()
  const before = s.hold(0)
  const [plan] = s.plan()
  s.planner.remove(before)
  s.ownership.drop(before)
  s.hold(0, 7)
  const item = plan!.items[0]!
  assert.equal(s.planner.isWanted(item), false)
  s.planner.advance(item, { position: 100, epoch: 1, highWatermark: 100 })
  s.planner.release(plan!)
  assert.deepEqual(summary(s.plan()), ['0: 0@7'])
})

test('an answer asked for before a seek is not wanted', () => {
  const s = new Script()
  const held = s.hold(0)
  const [plan] = s.plan()
  s.planner.seek(held, 50)
  assert.equal(s.planner.isWanted(plan!.items[0]!), false)
  s.planner.release(plan!)
  assert.deepEqual(summary(s.plan()), ['0: 0@50'])
})

test('after a leader moved, only one of the two open fetches from the same position counts', () => {
  const s = new Script()
  s.hold(0)
  const [old] = s.plan()
  s.leaders.set(0, { node: 1, epoch: 1 })
  const [fresh] = s.plan()
  assert.equal(fresh?.node, 1)
  s.planner.advance(fresh.items[0]!, { position: 10, epoch: 1, highWatermark: 10 })
  assert.equal(s.planner.isWanted(old!.items[0]!), false)
  s.planner.advance(old!.items[0]!, { position: 5, epoch: 0, highWatermark: 5 })
  s.planner.release(fresh)
  assert.deepEqual(summary(s.plan()), ['1: 0@10'], 'positions never go back')
})

test('a paused partition is read ahead once and then left out until it is resumed', () => {
  const s = new Script()
  const held = s.hold(0)
  s.planner.pause(held)
  const [ahead] = s.plan()
  assert.ok(ahead)
  assert.equal(s.planner.mayDeliver(held), false)
  s.planner.setLoaded(held, true)
  s.planner.release(ahead)
  assert.deepEqual(s.plan(), [])
  s.planner.resume(held)
  s.planner.setLoaded(held, false)
  assert.equal(s.planner.mayDeliver(held), true)
  assert.equal(s.plan().length, 1)
})

test('who got data last is asked for last', () => {
  const s = new Script()
  s.hold(0)
  s.hold(2)
  const [plan] = s.plan()
  s.planner.advance(plan!.items[0]!, { position: 9, epoch: 0, highWatermark: 9 })
  s.planner.release(plan!)
  assert.deepEqual(summary(s.plan()), ['0: 2@0 0@9'])
})

test('a stopped partition is fetched again only after a seek', () => {
  const s = new Script()
  const held = s.hold(0)
  s.planner.stop(held)
  assert.deepEqual(s.plan(), [])
  s.planner.seek(held, 3)
  assert.deepEqual(summary(s.plan()), ['0: 0@3'])
})

const data = (producerId: number, lastOffset: number) => ({
  producerId,
  lastOffset,
  isTransactional: true,
  isControl: false,
  aborts: false,
})
const marker = (producerId: number, lastOffset: number, aborts: boolean) => ({
  producerId,
  lastOffset,
  isTransactional: true,
  isControl: true,
  aborts,
})

test('several aborts of one producer in one answer leave the commits between them in', () => {
  const filter = new AbortedFilter([
    { producerId: 1, firstOffset: 20 },
    { producerId: 1, firstOffset: 0 },
  ])
  const batches = [data(1, 1), marker(1, 2, true), data(1, 4), marker(1, 5, false), data(1, 21), marker(1, 22, true)]
  assert.deepEqual(
    batches.map((batch) => filter.leavesOut(batch)),
    [true, true, false, true, true, true],
  )
})

test('an abort whose marker is not in the answer leaves out all that follows of its producer, and of no other', () => {
  const filter = new AbortedFilter([{ producerId: 1, firstOffset: 10 }])
  const plain = { producerId: -1, lastOffset: 13, isTransactional: false, isControl: false, aborts: false }
  assert.equal(filter.leavesOut(data(1, 9)), false, 'an earlier transaction of it, committed')
  assert.equal(filter.leavesOut(data(1, 11)), true)
  assert.equal(filter.leavesOut(data(2, 12)), false)
  assert.equal(filter.leavesOut(plain), false)
  assert.equal(filter.leavesOut(data(1, 14)), true)
})

test('a new leader is asked about the last record read before anything is fetched from it', () => {
  const s = new Script()
  const held = s.hold(0)
  s.hold(2)
  const [first] = s.plan()
  assert.ok(first)
  s.planner.release(first)
  assert.deepEqual(s.checks(), [], 'nothing was read, so there is nothing to compare')
  for (const item of first.items) s.planner.advance(item, { position: 10, epoch: 4, highWatermark: 10 })
  assert.deepEqual(s.checks(), [], 'still the leader that gave the records')
  s.leaders.set(0, { node: 1, epoch: 5 })
  assert.deepEqual(summary(s.plan()), ['0: 2@10'])
  const [check] = s.checks()
  assert.ok(check)
  assert.equal(check.node, 1)
  assert.deepEqual(
    check.items.map(({ position, epoch, leaderEpoch }) => [position, epoch, leaderEpoch]),
    [[10, 4, 5]],
  )
  assert.deepEqual(s.checks(), [], 'asked once')
  assert.deepEqual(s.plan(), [], 'and not fetched meanwhile')
  s.planner.checked(check.items[0]!)
  const [next] = s.plan()
  assert.deepEqual(summary([next!]), ['1: 0@10'])
  assert.equal(next?.items[0]?.lastEpoch, 4)
  assert.equal(s.planner.epoch(held), 4)
})

test('a check that fails in a passing way is repeated later; one for a position left meanwhile says nothing', () => {
  const s = new Script()
  const held = s.hold(0)
  s.planner.seek(held, 7, 3)
  const [check] = s.checks()
  assert.ok(check)
  s.planner.delay(check.items[0]!, 0)
  assert.deepEqual(s.plan(0), [])
  assert.equal(s.planner.wakeAtMs, 100)
  const [second] = s.checks(100)
  assert.ok(second)
  s.planner.seek(held, 9, 3)
  s.planner.checked(second.items[0]!)
  assert.deepEqual(s.plan(100), [], 'position 9 has not been compared')
  const [third] = s.checks(100)
  assert.equal(third?.items[0]?.position, 9)
})

test("an old leader's late answer is compared with the new leader's log", () => {
  const s = new Script()
  const held = s.hold(0)
  s.planner.seek(held, 7, 3)
  s.planner.checked(s.checks()[0]!.items[0]!)
  const [old] = s.plan()
  assert.ok(old)
  s.leaders.set(0, { node: 1, epoch: 1 })
  s.planner.checked(s.checks()[0]!.items[0]!)
  s.planner.release(old)
  s.planner.advance(old.items[0]!, { position: 12, epoch: 3, highWatermark: 12 })
  assert.deepEqual(s.plan(), [])
  assert.equal(s.checks()[0]?.items[0]?.position, 12)
})

test('an epoch that came with a commit is compared on a new leader and never told as that of the last record', () => {
  const s = new Script()
  const held = s.ownership.gain('t', 'id', 0)
  s.planner.add(held, 5, 3)
  s.planner.open(held)
  assert.deepEqual(s.plan(), [])
  const [check] = s.checks()
  assert.equal(check?.items[0]?.epoch, 3)
  assert.equal(check?.items[0]?.lastEpoch, -1)
  s.planner.checked(check!.items[0]!)
  assert.equal(s.plan()[0]?.items[0]?.lastEpoch, -1)
  assert.equal(s.planner.epoch(held), -1)
})

test('where the cluster tells no leader epochs nothing is compared', () => {
  const s = new Script()
  s.leaders.set(0, { node: 0, epoch: -1 })
  const held = s.hold(0)
  s.planner.seek(held, 7, 3)
  assert.deepEqual(s.checks(), [])
  assert.deepEqual(summary(s.plan()), ['0: 0@7'])
})
