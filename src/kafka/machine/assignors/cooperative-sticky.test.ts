import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { gunzipSync } from 'node:zlib'
import type { GroupMember, MemberAssignment } from './assignor.ts'
import { cooperativeStickyAssignor } from './cooperative-sticky.ts'

type Parts = Readonly<Record<string, readonly number[]>>

interface Round {
  readonly p: Record<string, number>
  readonly m: readonly [
    id: string,
    instance: string | null,
    topics: string,
    owned: Parts,
    generation: number | null,
    generationInBytes: number | null,
  ][]
  readonly a: Record<string, Parts>
}

const groups = JSON.parse(
  gunzipSync(
    readFileSync(new URL('../../../../test/fixtures/kafka/cooperative-sticky-assignor.json.gz', import.meta.url)),
  ).toString(),
) as readonly (readonly Round[])[]

const { assign, userData } = cooperativeStickyAssignor

const toTopics = (owned: Parts) => Object.entries(owned).map(([topic, partitions]) => ({ topic, partitions }))

function membersOf({ m }: Round): GroupMember[] {
  return m.map(([memberId, instanceId, topics, owned, generation, inBytes]) => ({
    memberId,
    instanceId,
    topics: [...topics],
    owned: toTopics(owned),
    generation: generation ?? -1,
    userData: inBytes === null ? null : (userData?.(inBytes) ?? null),
  }))
}

const plain = (assignment: MemberAssignment | undefined): Parts => Object.fromEntries([...(assignment ?? [])].sort())

test('1,000 random groups over all their rebalances are shared out exactly as the Java class does', () => {
  assert.equal(groups.length, 1_000)
  let rounds = 0
  for (const [index, group] of groups.entries()) {
    for (const [number, round] of group.entries()) {
      const result = assign(membersOf(round), new Map(Object.entries(round.p)))
      const got = Object.fromEntries([...result].map(([id, assignment]) => [id, plain(assignment)]))
      assert.deepEqual(got, round.a, `group ${index}, round ${number}`)
      rounds++
    }
  }
  assert.ok(rounds > 3_000)
})

test('in no round does a partition go to a new owner while another claims it, and none is in two hands', () => {
  for (const group of groups) {
    for (const round of group) {
      const members = membersOf(round)
      const owners = new Map<string, string>()
      for (const [id, assignment] of assign(members, new Map(Object.entries(round.p)))) {
        for (const [topic, partitions] of assignment) {
          for (const partition of partitions) {
            assert.equal(owners.has(`${topic}${partition}`), false)
            owners.set(`${topic}${partition}`, id)
          }
        }
      }
      // In the same generation, so that nobody claims what is long gone.
      const latest = Math.max(...members.map(({ generation }) => generation ?? -1))
      for (const { memberId, topics, owned, generation } of members) {
        if (generation !== latest || latest < 0) continue
        for (const { topic, partitions } of owned ?? []) {
          for (const partition of partitions) {
            const owner = owners.get(`${topic}${partition}`)
            const claimedByIt = members
              .find((member) => member.memberId === owner)
              ?.owned?.some((each) => each.topic === topic && each.partitions.includes(partition))
            if (topics.includes(topic)) assert.ok(owner === undefined || owner === memberId || claimedByIt)
          }
        }
      }
    }
  }
})

/** Runs rounds until nothing changes any more; tells how many it took. */
function settle(members: GroupMember[], partitions: ReadonlyMap<string, number>): number {
  for (let round = 1; ; round++) {
    assert.ok(round < 10)
    const result = assign(members, partitions)
    const before = JSON.stringify(members.map(({ owned }) => owned))
    for (const [index, member] of members.entries()) {
      members[index] = { ...member, owned: toTopics(plain(result.get(member.memberId))), generation: round }
    }
    if (JSON.stringify(members.map(({ owned }) => owned)) === before) return round
  }
}

test('a newcomer gets its share in the second round, and nobody else moves', () => {
  const partitions = new Map([['t', 9]])
  const members: GroupMember[] = ['a', 'b'].map((memberId) => ({ memberId, topics: ['t'] }))
  settle(members, partitions)
  const before = members.map(({ owned }) => owned?.[0]?.partitions ?? [])
  members.push({ memberId: 'c', topics: ['t'] })
  const first = assign(members, partitions)
  assert.deepEqual(plain(first.get('c')), {}, 'nothing is free yet')
  settle(members, partitions)
  const after = members.map(({ owned }) => owned?.[0]?.partitions ?? [])
  assert.deepEqual(
    after.map((parts) => parts.length),
    [3, 3, 3],
  )
  for (const index of [0, 1]) assert.ok(after[index]?.every((partition) => before[index]?.includes(partition)))
})

test('what somebody claims of a partition that does not exist any more disturbs nobody', () => {
  const members: GroupMember[] = [
    { memberId: 'a', topics: ['t'], owned: [{ topic: 't', partitions: [5, 0] }], generation: 1 },
    { memberId: 'b', topics: ['t'], owned: [{ topic: 't', partitions: [1] }], generation: 1 },
  ]
  const result = assign(members, new Map([['t', 2]]))
  assert.deepEqual(plain(result.get('a')), { t: [0] })
  assert.deepEqual(plain(result.get('b')), { t: [1] })
})

test('a member without topics gets nothing', () => {
  const result = assign(
    [
      { memberId: 'a', topics: [] },
      { memberId: 'b', topics: ['t'] },
    ],
    new Map([['t', 2]]),
  )
  assert.deepEqual(plain(result.get('a')), {})
  assert.deepEqual(plain(result.get('b')), { t: [0, 1] })
})
