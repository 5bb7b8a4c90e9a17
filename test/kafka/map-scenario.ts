/** A service that leaves maps of what it has finished beside its offsets, for tests of who believes them later. */
import assert from 'node:assert/strict'
import { z } from 'zod'
import { kafka } from '../../src/adapters/kafka/transport.ts'
import { systemClock } from '../../src/adapters/system/clock.ts'
import { topic as contract } from '../../src/contract/topic.ts'
import type { Admin } from '../../src/kafka/admin.ts'
import { RunningApp } from '../../src/runtime/app.ts'
import { service } from '../../src/runtime/service.ts'
import { partitionFor } from '../../src/wire/murmur2.ts'
import { Api } from '../../src/wire/protocol.ts'
import { type Ground, until } from './ground.ts'

const quiet = { debug() {}, info() {}, warn() {}, error() {} }
export const bootstrapServers = process.env['OTTLA_LIVE_KAFKA'] ?? ''

export type CommittedOffset = Awaited<ReturnType<Admin['fetchOffsets']>>[number]

/** Records of a partition: the first one hangs in the first life of the service, the others are handled. */
export const perPartition = 8

export interface Life extends AsyncDisposable {
  /** `partition-n` of what was handled, as often as it was. */
  readonly handled: string[]
  publish(ids: readonly string[]): Promise<void>
}

/** Ids that go to a partition: `<partition>-<n>-<salt>`. */
export function idsOf(partition: number, partitions: number, from = 0, count = perPartition): readonly string[] {
  return Array.from({ length: count }, (_, index) => {
    for (let salt = 0; ; salt++) {
      const id = `${partition}-${from + index}-${salt}`
      if (partitionFor(Buffer.from(id), partitions) === partition) return id
    }
  })
}

/**
 * One run of the service `group` over a topic. With `isHanging`, the first record of each partition is never finished;
 * with `isSingle`, one replica in sync is enough.
 */
export async function live(
  group: string,
  topic: string,
  how: {
    readonly partitions: number
    readonly isHanging?: boolean
    readonly isSingle?: boolean
    /** Where to connect instead of to the brokers themselves. */
    readonly by?: string
  },
): Promise<Life> {
  const { partitions, isHanging = false, isSingle = false, by = bootstrapServers } = how
  const Things = contract(topic, { key: 'id', partitions, events: { Happened: z.object({ id: z.string() }) } })
  const handled: string[] = []
  const worker = service(group).on(Things.Happened, async ({ id }) => {
    const [partition, n] = id.split('-')
    if (isHanging && n === '0') await new Promise(() => undefined)
    handled.push(`${partition}-${n}`)
  })
  const consumer = { heartbeatIntervalMs: 100, sessionTimeoutMs: 6_000, fetchMaxWaitMs: 50 }
  const app = await new RunningApp(
    {
      transport: kafka({ bootstrapServers: by, embedded: true, consumer }),
      services: [worker],
      drainTimeout: 500,
      ...(isSingle ? { durability: 'single' } : {}),
    },
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
export async function leaveMaps(
  ground: Ground,
  group: string,
  topic: string,
  partitions: number,
): Promise<readonly CommittedOffset[]> {
  const all = Array.from({ length: partitions }, (_, partition) => idsOf(partition, partitions))
  await using first = await live(group, topic, { partitions, isHanging: true })
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
export async function publishInOrder(topic: string, partitions: number): Promise<void> {
  await using elsewhere = await live(`${topic}-publisher`, topic, { partitions, isHanging: true })
  const all = Array.from({ length: partitions }, (_, partition) => idsOf(partition, partitions))
  for (let n = 0; n < perPartition; n++) await elsewhere.publish(all.map((ids) => ids[n] as string))
}

/** What some tool might do to a group that nobody is in: puts an offset and a string there. */
export async function putOffset(
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

export const all = (partition: number, from = 0, to = perPartition): string[] =>
  Array.from({ length: to - from }, (_, index) => `${partition}-${from + index}`)

export const sorted = (values: readonly string[], partition: number): string[] =>
  values.filter((value) => value.startsWith(`${partition}-`)).sort()
