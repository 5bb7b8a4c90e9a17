import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { gunzipSync } from 'node:zlib'
import type { GroupMember } from './assignor.ts'
import { rangeAssignor } from './range.ts'

interface Vector {
  readonly partitions: Record<string, number>
  readonly members: readonly GroupMember[]
  readonly assigned: Record<string, Record<string, number[]>>
}

const vectors = JSON.parse(
  gunzipSync(
    readFileSync(new URL('../../../../test/fixtures/kafka/range-assignor.json.gz', import.meta.url)),
  ).toString(),
) as readonly Vector[]

test('1,000 random groups are shared out exactly as the Java class does', () => {
  assert.equal(vectors.length, 1_000)
  for (const [index, vector] of vectors.entries()) {
    const result = rangeAssignor.assign(vector.members, new Map(Object.entries(vector.partitions)))
    const plain = Object.fromEntries(
      [...result].map(([memberId, topics]) => [memberId, Object.fromEntries([...topics].sort())]),
    )
    assert.deepEqual(plain, vector.assigned, `vector ${index}`)
  }
})

test('every partition of a subscribed topic has exactly one owner that subscribed to it', () => {
  for (const vector of vectors) {
    const result = rangeAssignor.assign(vector.members, new Map(Object.entries(vector.partitions)))
    const owners = new Map<string, string>()
    for (const [memberId, topics] of result) {
      for (const [topic, partitions] of topics) {
        assert.ok(vector.members.find((member) => member.memberId === memberId)?.topics.includes(topic))
        for (const partition of partitions) {
          assert.equal(owners.has(`${topic}/${partition}`), false)
          owners.set(`${topic}/${partition}`, memberId)
        }
      }
    }
    for (const [topic, count] of Object.entries(vector.partitions)) {
      if (!vector.members.some((member) => member.topics.includes(topic))) continue
      for (let partition = 0; partition < count; partition++) assert.ok(owners.has(`${topic}/${partition}`))
    }
  }
})
