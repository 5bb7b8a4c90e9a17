/**
 * What a service left beside its committed offset (which records beyond it are finished) against everything that may
 * have happened to the log or to the offset since: strings of others, a mirror's copy, a topic made again, a truncated
 * log, Kafka's own reset tool. Played with whole apps on Apache Kafka: no record may be skipped, whatever is redone.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { encodeCheckpoint } from '../../src/adapters/kafka/checkpoint.ts'
import { kafka } from '../../src/adapters/kafka/transport.ts'
import { systemClock } from '../../src/adapters/system/clock.ts'
import { topic as contract } from '../../src/contract/topic.ts'
import type { Admin } from '../../src/kafka/admin.ts'
import { RunningApp } from '../../src/runtime/app.ts'
import { service } from '../../src/runtime/service.ts'
import { partitionFor } from '../../src/wire/murmur2.ts'
import { Api } from '../../src/wire/protocol.ts'
import { runJava } from './defect-scenarios.ts'
import { Ground, until } from './ground.ts'
import { reasonToSkip } from './scenario-needs.ts'

const quiet = { debug() {}, info() {}, warn() {}, error() {} }
const bootstrapServers = process.env['OTTLA_LIVE_KAFKA'] ?? ''

type CommittedOffset = Awaited<ReturnType<Admin['fetchOffsets']>>[number]

/** Records of a partition: the first one hangs in the first life of the service, the others are handled. */
const perPartition = 8

interface Life extends AsyncDisposable {
  /** `partition-n` of what was handled, as often as it was. */
  readonly handled: string[]
  publish(ids: readonly string[]): Promise<void>
}

/** Ids that go to a partition: `<partition>-<n>-<salt>`. */
function idsOf(partition: number, partitions: number, from = 0, count = perPartition): readonly string[] {
  return Array.from({ length: count }, (_, index) => {
    for (let salt = 0; ; salt++) {
      const id = `${partition}-${from + index}-${salt}`
      if (partitionFor(Buffer.from(id), partitions) === partition) return id
    }
  })
}

/** One run of the service `group` over a topic. With `hanging`, the first record of each partition is never finished. */
async function live(group: string, topic: string, partitions: number, hanging = false): Promise<Life> {
  const Things = contract(topic, { key: 'id', partitions, events: { Happened: z.object({ id: z.string() }) } })
  const handled: string[] = []
  const worker = service(group).on(Things.Happened, async ({ id }) => {
    const [partition, n] = id.split('-')
    if (hanging && n === '0') await new Promise(() => undefined)
    handled.push(`${partition}-${n}`)
  })
  const consumer = { heartbeatIntervalMs: 100, sessionTimeoutMs: 6_000, fetchMaxWaitMs: 50 }
  const app = await new RunningApp(
    { transport: kafka({ bootstrapServers, embedded: true, consumer }), services: [worker], drainTimeout: 500 },
    { clock: systemClock, log: quiet, random: () => 0.01, instance: `test-${Math.random()}` },
  ).start()
  return {
    handled,
    publish: async (ids) => {
      await Promise.all(ids.map((id) => app.publish(Things.Happened({ id }))))
    },
    [Symbol.asyncDispose]: () => app[Symbol.asyncDispose](),
  }
}

/** A first life: in each partition the first record is open and all others are finished. What it committed. */
async function leaveMaps(
  ground: Ground,
  group: string,
  topic: string,
  partitions: number,
): Promise<readonly CommittedOffset[]> {
  const all = Array.from({ length: partitions }, (_, partition) => idsOf(partition, partitions))
  await using first = await live(group, topic, partitions, true)
  await first.publish(all.map((ids) => ids[0] as string))
  await first.publish(all.flatMap((ids) => ids.slice(1)))
  const expected = partitions * (perPartition - 1)
  await until(
    () => `${first.handled.length} of ${expected} records are handled`,
    () => first.handled.length === expected,
  )
  await first[Symbol.asyncDispose]()
  const committed = await ground.client.admin().fetchOffsets(group)
  const here = committed.filter((each) => each.topic === topic).sort((a, b) => a.partition - b.partition)
  assert.equal(here.length, partitions)
  for (const { offset, metadata, partition } of here) {
    assert.equal(offset, 0, `partition ${partition}`)
    assert.match(metadata ?? '', /^o1\./, `partition ${partition}`)
  }
  return here
}

/** Puts the records into a topic, in order, by somebody who is not of the group that is looked at. */
async function publishInOrder(topic: string, partitions: number): Promise<void> {
  await using elsewhere = await live(`${topic}-publisher`, topic, partitions, true)
  const all = Array.from({ length: partitions }, (_, partition) => idsOf(partition, partitions))
  for (let n = 0; n < perPartition; n++) await elsewhere.publish(all.map((ids) => ids[n] as string))
}

/** What some tool might do to a group that nobody is in: puts an offset and a string there. */
async function putOffset(
  ground: Ground,
  group: string,
  where: { readonly topic: string; readonly partition: number },
  value: { readonly offset: number; readonly leaderEpoch: number; readonly metadata: string | null },
): Promise<void> {
  const { cluster } = ground.client
  const keys = { keyType: 0, coordinatorKeys: [group] }
  let code = -1
  await until(
    () => `the offset is taken: ${code}`,
    async () => {
      const found = await cluster.request('any', Api.FindCoordinator, keys, { minVersion: 4 })
      const part = {
        partitionIndex: where.partition,
        committedOffset: value.offset,
        committedLeaderEpoch: value.leaderEpoch,
        committedMetadata: value.metadata,
      }
      const { body } = await cluster.request(
        found.body.coordinators[0]?.nodeId ?? -1,
        Api.OffsetCommit,
        { groupId: group, generationIdOrMemberEpoch: -1, topics: [{ name: where.topic, partitions: [part] }] },
        { maxVersion: 9 },
      )
      code = body.topics[0]?.partitions[0]?.errorCode ?? -1
      return code === 0
    },
  )
}

const all = (partition: number, from = 0, to = perPartition): string[] =>
  Array.from({ length: to - from }, (_, index) => `${partition}-${from + index}`)

const sorted = (values: readonly string[], partition: number): string[] =>
  values.filter((value) => value.startsWith(`${partition}-`)).sort()

test('a map is believed where it is right, and strings of others and maps that do not fit skip nothing', {
  skip: reasonToSkip({ needs: [] }),
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
  await using second = await live(group, topic, partitions)
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

test('offsets and maps that a mirror copied to its own topic skip nothing', {
  skip: reasonToSkip({ needs: [] }),
  timeout: 120_000,
}, async () => {
  await using ground = new Ground(bootstrapServers)
  const original = await ground.topic('mirrored', 2)
  const mirror = await ground.topic('mirror', 2)
  const left = await leaveMaps(ground, original, original, 2)
  // Other records at the same places: what a mirror that started later has.
  await publishInOrder(mirror, 2)
  for (const own of left) await putOffset(ground, mirror, { topic: mirror, partition: own.partition }, own)
  await using second = await live(mirror, mirror, 2)
  await until(
    () => `all is handled: ${second.handled}`,
    () => second.handled.length >= 2 * perPartition,
  )
  for (const partition of [0, 1]) assert.deepEqual(sorted(second.handled, partition), all(partition))
})

test('a topic deleted and made again is handled from its first record, though the old offsets came back', {
  skip: reasonToSkip({ needs: [] }),
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
  await using second = await live(topic, topic, 2)
  await until(
    () => `all is handled: ${second.handled}`,
    () => second.handled.length >= 2 * perPartition,
  )
  for (const partition of [0, 1]) assert.deepEqual(sorted(second.handled, partition), all(partition))
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
    await using second = await live(topic, topic, 2)
    await until(
      () => `all is handled: ${second.handled}`,
      () => second.handled.length >= 2 * (perPartition - from),
    )
    for (const partition of [0, 1]) assert.deepEqual(sorted(second.handled, partition), all(partition, from))
  })
}
