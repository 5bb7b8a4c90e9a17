import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inJavaOrder, JavaHashSet, javaPartitionHash, javaStringHash } from './java-hash.ts'

test('texts hash as in Java', () => {
  assert.equal(javaStringHash(''), 0)
  assert.equal(javaStringHash('Aa'), 2_112)
  assert.equal(javaStringHash('BB'), 2_112)
  assert.equal(javaStringHash('polygenelubricants'), -2_147_483_648)
})

test('a HashMap goes by slot, then by arrival, over the size of its table', () => {
  assert.deepEqual(inJavaOrder(['BB', 'a', 'Aa', 'b']), ['BB', 'Aa', 'a', 'b'])
  // Twelve fill a table of sixteen slots; the thirteenth makes it thirty-two.
  const many = 'qponmlkjihgfedcba'
  assert.equal(inJavaOrder([...many].slice(0, 12)).join(''), 'pqfghijklmno')
  assert.equal(inJavaOrder([...many]).join(''), 'abcdefghijklmnopq')
})

test('the first of a HashSet is by slot, not by arrival', () => {
  const set = new JavaHashSet<{ readonly hash: number; readonly partition: number }>()
  const topicHash = javaStringHash('t')
  const parts = Array.from({ length: 9 }, (_, partition) => ({
    partition,
    hash: javaPartitionHash(topicHash, partition),
  }))
  for (const part of parts) set.add(part)
  // 31 * (31 + partition) + 116 = 1077, 1108, 1139 …; over 16 slots 5, 4, 3, 2, 1, 0, 15 …
  assert.equal(set.first()?.partition, 5)
  set.delete(parts[5]!)
  assert.equal(set.first()?.partition, 4)
  assert.equal(set.size, 8)
})
