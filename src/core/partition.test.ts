import assert from 'node:assert/strict'
import { test } from 'node:test'
import { declaredPartition } from './partition.ts'

/** murmur2 values that Kafka's own tests for its Java client hold. */
const vectors: readonly (readonly [string, number])[] = [
  ['21', -973_932_308],
  ['foobar', -790_332_482],
  ['a-little-bit-long-string', -985_981_536],
  ['a-little-bit-longer-string', -1_486_304_829],
  ['lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8', -58_897_971],
  ['abc', 479_470_107],
]

test('keys go where Java would put them on a topic of the declared size', () => {
  for (const [key, hash] of vectors) {
    for (const partitions of [1, 12, 997, 0x7fffffff]) {
      assert.equal(declaredPartition(Buffer.from(key), partitions), (hash & 0x7fffffff) % partitions, key)
    }
  }
})
