/**
 * A log that loses its end in an unclean election and grows anew, under a map that says its old end is finished: the
 * new records lie where the old ones were, and none of them may be skipped.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Api } from '../../src/wire/protocol.ts'
import { Ground, until } from './ground.ts'
import { all, bootstrapServers, idsOf, live, sorted } from './map-scenario.ts'
import { reasonToSkip } from './scenario-needs.ts'

const how = { partitions: 1, isSingle: true }

test('records in the place of truncated ones that were finished are handled', {
  skip: reasonToSkip({ needs: ['control'] }),
  timeout: 240_000,
}, async () => {
  await using ground = new Ground(bootstrapServers)
  const [behind = 0, ahead = 0] = await ground.brokers()
  const topic = await ground.topic('truncated', 1, { replicas: 2, configs: { 'min.insync.replicas': '1' } })
  await ground.place(topic, 0, [ahead, behind])
  const { nodes } = ground
  const inSync = async (expected: readonly number[]): Promise<boolean> => {
    await ground.client.cluster.refresh().catch(() => undefined)
    const isr = ground.client.cluster.metadata.partition(topic, 0)?.isr ?? []
    return isr.length === expected.length && expected.every((id) => isr.includes(id))
  }
  try {
    {
      await using first = await live(topic, topic, { ...how, isHanging: true })
      for (const id of idsOf(0, 1, 0, 4)) await first.publish([id])
      await until('both replicas have it', () => inSync([ahead, behind]))
      await nodes.stop(behind)
      await until('one replica is left', () => inSync([ahead]))
      for (const id of idsOf(0, 1, 4, 4)) await first.publish([id])
      await until('all but the first are handled', () => first.handled.length === 7)
    }
    const [left] = await ground.client.admin().fetchOffsets(topic, [{ topic, partition: 0 }])
    assert.equal(left?.offset, 0)
    assert.match(left?.metadata ?? '', /^o1\./)
    await nodes.kill(ahead)
    await nodes.start(behind)
    await until('the replica that was behind leads', async () => {
      await ground.client.cluster.request('any', Api.ElectLeaders, {
        electionType: 1,
        topicPartitions: [{ topic, partitions: [0] }],
        timeoutMs: 10_000,
      })
      await ground.client.cluster.refresh().catch(() => undefined)
      return ground.leader(topic, 0) === behind
    })
    const [end] = await ground.client.admin().listOffsets([{ topic, partition: 0, at: 'latest' }])
    assert.equal(end?.offset, 4, 'the log was cut')
    {
      await using elsewhere = await live(`${topic}-publisher`, topic, { ...how, isHanging: true })
      for (const id of idsOf(0, 1, 8, 6)) await elsewhere.publish([id])
    }
    await using second = await live(topic, topic, how)
    const expected = [...all(0, 0, 4), ...all(0, 8, 14)].sort()
    await until(
      () => `all is handled: ${second.handled}`,
      () => second.handled.length >= expected.length,
    )
    assert.deepEqual(sorted(second.handled, 0), expected)
  } finally {
    for (const id of [behind, ahead]) await nodes.start(id)
  }
})
