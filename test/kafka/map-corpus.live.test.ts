/**
 * What a service left beside its committed offset (which records beyond it are finished) against everything that may
 * have happened to the log or to the offset since: strings of others, a mirror's copy, a topic made again, a truncated
 * log, Kafka's own reset tool. Played with whole apps on Apache Kafka: no record may be skipped, whatever is redone.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { encodeCheckpoint } from '../../src/adapters/kafka/checkpoint.ts'
import { startFaultProxy } from '../../src/testing/fault-proxy.ts'
import { Api, decodeResponse, encodeResponse } from '../../src/wire/protocol.ts'
import { runJava } from './defect-scenarios.ts'
import { Ground, until } from './ground.ts'
import {
  all,
  bootstrapServers,
  type CommittedOffset,
  idsOf,
  leaveMaps,
  live,
  perPartition,
  publishInOrder,
  putOffset,
  sorted,
} from './map-scenario.ts'
import { reasonToSkip } from './scenario-needs.ts'

function mapOf(
  own: CommittedOffset,
  topicId: string,
  change: { readonly low?: number; readonly leaderEpoch?: number; readonly finished?: readonly number[] },
): string {
  const { low = own.offset, leaderEpoch = own.leaderEpoch, finished = [low + 1, perPartition] } = change
  const map = encodeCheckpoint({ topicId, low, leaderEpoch, strikes: 0, finished })
  assert.match(map, /^o1\./)
  return map
}

describe('no record is skipped', { skip: reasonToSkip({ needs: [] }), concurrency: 3 }, () => {
  test('a map is believed where it is right, and strings of others and maps that do not fit skip nothing', {
    timeout: 120_000,
  }, async () => {
    await using ground = new Ground(bootstrapServers)
    const corpus: readonly ((own: CommittedOffset, topicId: string) => string | null)[] = [
      // Partition 0 is left as it is: the proof that maps are believed at all.
      (own) => own.metadata,
      () => null,
      () => '',
      () => 'o1.',
      () => 'consumer-1-host-7f3a',
      () => '{"offset":42,"finished":[1,8]}',
      () => `o1.${Buffer.alloc(40, 7).toString('base64url')}`,
      (own) => `${own.metadata?.slice(0, -6)}`,
      (own) => `${own.metadata}=`,
      (own) => `${own.metadata?.replace(/.$/, (last) => (last === 'A' ? 'B' : 'A'))}`,
      (own) => `o2.${own.metadata?.slice(3)}`,
      () => 'ö'.repeat(1_000),
      () => 'x'.repeat(4_000),
      // Maps as we make them, of another topic, offset, epoch, or of a log that was longer once.
      (own) => mapOf(own, 'AAAAAAAAAAAAAAAAAAAAAQ', {}),
      (own, id) => mapOf(own, id, { low: 1 }),
      (own, id) => mapOf(own, id, { leaderEpoch: own.leaderEpoch + 1 }),
      (own, id) => mapOf(own, id, { finished: [1, perPartition + 3] }),
    ]
    const partitions = corpus.length
    const topic = await ground.topic('map-corpus', partitions)
    const topicId = ground.client.cluster.metadata.topic(topic)?.id ?? ''
    const group = `${topic}-group`
    const left = await leaveMaps(ground, group, topic, partitions)
    for (const [partition, change] of corpus.entries()) {
      const own = left[partition] as CommittedOffset
      if (partition > 0) await putOffset(ground, group, own, { ...own, metadata: change(own, topicId) })
    }
    await using second = await live(group, topic, { partitions })
    const expected = 1 + (partitions - 1) * perPartition
    await until(
      () => `${second.handled.length} of ${expected} records are handled: ${second.handled}`,
      () => second.handled.length >= expected,
    )
    // What comes after is where a map of a longer log would skip.
    const later = corpus.flatMap((_, partition) => idsOf(partition, partitions, perPartition, 4))
    await second.publish(later)
    await until('what came after is handled', () => second.handled.length >= expected + later.length)
    assert.deepEqual(sorted(second.handled, 0), [...all(0, 0, 1), ...all(0, perPartition, perPartition + 4)].sort())
    for (let partition = 1; partition < partitions; partition++) {
      assert.deepEqual(sorted(second.handled, partition), all(partition, 0, perPartition + 4).sort(), `${partition}`)
    }
  })

  test('offsets and maps that a mirror copied to its own topic skip nothing', {
    timeout: 120_000,
  }, async () => {
    await using ground = new Ground(bootstrapServers)
    const original = await ground.topic('mirrored', 2)
    const mirror = await ground.topic('mirror', 2)
    const left = await leaveMaps(ground, original, original, 2)
    // Other records at the same places: what a mirror that started later has.
    await publishInOrder(mirror, 2)
    for (const own of left) await putOffset(ground, mirror, { topic: mirror, partition: own.partition }, own)
    await using second = await live(mirror, mirror, { partitions: 2 })
    await until(
      () => `all is handled: ${second.handled}`,
      () => second.handled.length >= 2 * perPartition,
    )
    for (const partition of [0, 1]) assert.deepEqual(sorted(second.handled, partition), all(partition))
  })

  test('a topic deleted and made again is handled from its first record, though the old offsets came back', {
    timeout: 120_000,
  }, async () => {
    await using ground = new Ground(bootstrapServers)
    const topic = await ground.topic('made-again', 2)
    const left = await leaveMaps(ground, topic, topic, 2)
    const oldId = ground.client.cluster.metadata.topic(topic)?.id
    const admin = ground.client.admin()
    assert.equal((await admin.deleteTopics([topic]))[0]?.error, undefined)
    await until('the topic is there again', async () => {
      const [made] = await admin.createTopics([{ topic, partitions: 2 }])
      return made?.created === true
    })
    await until('it has a leader and another id', async () => {
      await ground.client.cluster.refresh()
      const state = ground.client.cluster.metadata.topic(topic)
      return state !== undefined && state.id !== oldId && [0, 1].every((p) => ground.leader(topic, p) >= 0)
    })
    // Kafka forgets a deleted topic's offsets; a backup that is restored brings them back.
    for (const own of left) await putOffset(ground, topic, own, own)
    await publishInOrder(topic, 2)
    await using second = await live(topic, topic, { partitions: 2 })
    await until(
      () => `all is handled: ${second.handled}`,
      () => second.handled.length >= 2 * perPartition,
    )
    for (const partition of [0, 1]) assert.deepEqual(sorted(second.handled, partition), all(partition))
  })

  test('finished records beyond the end of their epoch, as the leader of now has it, are handled again', {
    timeout: 120_000,
  }, async () => {
    await using ground = new Ground(bootstrapServers)
    const topic = await ground.topic('cut', 1)
    await leaveMaps(ground, topic, topic, 1)
    // A log that was cut and grew again to its old length; map-truncation.soak.test.ts does it for real.
    await using proxy = await startFaultProxy(bootstrapServers)
    const rule = proxy.fault({
      api: 'OffsetForLeaderEpoch',
      times: Number.POSITIVE_INFINITY,
      action: {
        do: 'replace',
        with: (answer, { version, correlationId }) => {
          const { topics, ...rest } = decodeResponse(Api.OffsetForLeaderEpoch, version, answer.subarray(4))
          const cut = topics.map((each) => ({
            ...each,
            partitions: each.partitions.map((partition) => ({ ...partition, endOffset: 4 })),
          }))
          return encodeResponse(Api.OffsetForLeaderEpoch, version, correlationId, { ...rest, topics: cut })
        },
      },
    })
    await using second = await live(topic, topic, { partitions: 1, by: proxy.bootstrapServers })
    await until(
      () => `all is handled: ${second.handled}`,
      () => second.handled.length >= perPartition,
    )
    assert.deepEqual(sorted(second.handled, 0), all(0))
    assert.ok(rule.struck > 0)
  })

  for (const [how, args, from] of [
    ['the beginning', ['--to-earliest'], 0],
    ['an offset', ['--to-offset', '3'], 3],
  ] as const) {
    test(`Kafka's own tool resets the offsets to ${how}: all from there on is handled`, {
      skip: reasonToSkip({ needs: ['jars'] }),
      timeout: 120_000,
    }, async () => {
      await using ground = new Ground(bootstrapServers)
      const topic = await ground.topic('reset', 2)
      await leaveMaps(ground, topic, topic, 2)
      await runJava('org.apache.kafka.tools.consumer.group.ConsumerGroupCommand', [
        ...['--bootstrap-server', bootstrapServers, '--group', topic, '--topic', topic],
        ...['--reset-offsets', ...args, '--execute'],
      ])
      assert.equal(await ground.committed(topic, topic, 1), from)
      await using second = await live(topic, topic, { partitions: 2 })
      await until(
        () => `all is handled: ${second.handled}`,
        () => second.handled.length >= 2 * (perPartition - from),
      )
      for (const partition of [0, 1]) assert.deepEqual(sorted(second.handled, partition), all(partition, from))
    })
  }
})
