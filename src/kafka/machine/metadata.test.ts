/** What is known of a cluster, and what may never be unlearned. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { MetadataResponse } from '../../wire/messages.gen.ts'
import { MetadataCache } from './metadata.ts'

const idA = 'AAAAAAAAAAAAAAAAAAAAAQ'
const idB = 'AAAAAAAAAAAAAAAAAAAAAg'

interface TopicDraft {
  name: string
  id?: string
  error?: number
  /** [leader, epoch, error] per partition. */
  partitions?: readonly (readonly [number, number, number?])[]
}

function answer(topics: readonly TopicDraft[], brokers: readonly number[] = [1, 2]): MetadataResponse {
  return {
    throttleTimeMs: 0,
    clusterId: 'c',
    controllerId: 1,
    clusterAuthorizedOperations: 0,
    errorCode: 0,
    brokers: brokers.map((nodeId) => ({ nodeId, host: `b${nodeId}`, port: 9092, rack: null })),
    topics: topics.map((t) => ({
      errorCode: t.error ?? 0,
      name: t.name,
      topicId: t.id ?? idA,
      isInternal: false,
      topicAuthorizedOperations: 0,
      partitions: (t.partitions ?? []).map(([leaderId, leaderEpoch, errorCode], partitionIndex) => ({
        errorCode: errorCode ?? 0,
        partitionIndex,
        leaderId,
        leaderEpoch,
        replicaNodes: [1, 2],
        isrNodes: [1],
        offlineReplicas: [],
      })),
    })),
  }
}

describe('the metadata cache', () => {
  test('D2: a partition without a leader is a fact beside its healthy neighbours', () => {
    const cache = new MetadataCache()
    cache.update(
      answer([
        {
          name: 't',
          partitions: [
            [1, 0],
            [-1, 0, 5],
            [2, 0],
          ],
        },
      ]),
      0,
    )
    assert.equal(cache.topic('t')?.error, 0)
    assert.deepEqual(
      [0, 1, 2].map((p) => [cache.partition('t', p)?.leader, cache.partition('t', p)?.error]),
      [
        [1, 0],
        [-1, 5],
        [2, 0],
      ],
    )
  })

  test('a topic that fails leaves what was known of its partitions, and other topics, alone', () => {
    const cache = new MetadataCache()
    cache.update(answer([{ name: 't', partitions: [[1, 0]] }]), 0)
    cache.update(
      answer([
        { name: 't', error: 29 },
        { name: 'u', id: idB, partitions: [[2, 0]] },
      ]),
      1,
    )
    assert.equal(cache.topic('t')?.error, 29)
    assert.equal(cache.partition('t', 0)?.leader, 1)
    assert.equal(cache.partition('u', 0)?.leader, 2)
  })

  test('an answer from a broker that lags behind does not bring an old leader back', () => {
    const cache = new MetadataCache()
    cache.update(answer([{ name: 't', partitions: [[2, 5]] }]), 0)
    const changes = cache.update(answer([{ name: 't', partitions: [[1, 4]] }]), 1)
    assert.equal(cache.partition('t', 0)?.leader, 2)
    assert.deepEqual(changes.moved, [])
  })

  test('a leader told elsewhere is believed only when its epoch is newer', () => {
    const cache = new MetadataCache()
    cache.update(answer([{ name: 't', partitions: [[1, 5]] }]), 0)
    assert.equal(cache.learnLeader('t', 0, 2, 5), false)
    assert.equal(cache.learnLeader('t', 0, 2, 6), true)
    assert.equal(cache.partition('t', 0)?.leader, 2)
    assert.equal(cache.learnLeader('t', 9, 2, 7), false)
  })

  test('a topic deleted and made again is told, and its older epochs count', () => {
    const cache = new MetadataCache()
    cache.update(
      answer([
        {
          name: 't',
          partitions: [
            [1, 9],
            [1, 9],
          ],
        },
      ]),
      0,
    )
    const changes = cache.update(answer([{ name: 't', id: idB, partitions: [[2, 0]] }]), 1)
    assert.deepEqual(changes.recreated, [{ topic: 't', oldId: idA, newId: idB }])
    assert.deepEqual(changes.resized, [{ topic: 't', before: 2, now: 1 }])
    assert.equal(cache.partition('t', 0)?.leader, 2)
    assert.equal(cache.topicName(idA), undefined)
    assert.equal(cache.topicName(idB), 't')
  })

  test('new partitions, moved leaders and new brokers are told; nothing new is told as nothing', () => {
    const cache = new MetadataCache()
    cache.update(answer([{ name: 't', partitions: [[1, 0]] }]), 0)
    const changes = cache.update(
      answer(
        [
          {
            name: 't',
            partitions: [
              [2, 1],
              [1, 0],
            ],
          },
        ],
        [1, 2, 3],
      ),
      1,
    )
    assert.deepEqual(changes.moved, [{ topic: 't', partition: 0, leader: 2 }])
    assert.deepEqual(changes.resized, [{ topic: 't', before: 1, now: 2 }])
    assert.equal(changes.nodesChanged, true)
    const same = cache.update(
      answer(
        [
          {
            name: 't',
            partitions: [
              [2, 1],
              [1, 0],
            ],
          },
        ],
        [1, 2, 3],
      ),
      2,
    )
    assert.deepEqual(same, { topics: [], recreated: [], resized: [], moved: [], nodesChanged: false })
  })

  test('an answer without brokers, from one just starting, erases none', () => {
    const cache = new MetadataCache()
    cache.update(answer([]), 0)
    cache.update(answer([], []), 1)
    assert.equal(cache.nodes().length, 2)
  })
})
