/** What the admin changes, on a three-broker Apache Kafka. */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { describe, test } from 'node:test'
import { KafkaClient } from '../../src/kafka/client.ts'
import { Api } from '../../src/wire/protocol.ts'
import * as scenario from './admin-scenario.ts'

const servers = process.env['OTTLA_LIVE_KAFKA'] as string
const skip = servers === undefined ? 'OTTLA_LIVE_KAFKA is not set' : false

describe('what the admin changes on Apache Kafka', { skip }, () => {
  test('configs change setting by setting, and a resource as a whole', () => scenario.configsChangeOneByOne(servers))
  test('brokers tell of themselves', () => scenario.brokersAreDescribed(servers))
  test('offsets change as planned, and one bad partition leaves its neighbours alone', () =>
    scenario.offsetsChangeAsPlanned(servers))
  test('a group with live members keeps its offsets', () => scenario.liveGroupsKeepTheirOffsets(servers))
  test('records are deleted per partition', () => scenario.recordsAreDeletedPerPartition(servers))

  test('a group of the newer protocol is described, and keeps its offsets while it has members', async () => {
    await using client = new KafkaClient({ bootstrapServers: servers })
    const admin = client.admin()
    const group = `admin-${randomUUID()}`
    const topic = `admin-${randomUUID()}`
    await admin.createTopics([{ topic, partitions: 2 }])
    const coordinator = await client.cluster.coordinator(group)
    const memberId = randomUUID()
    const beat = (memberEpoch: number, owned: object[]) =>
      client.cluster.request(coordinator, Api.ConsumerGroupHeartbeat, {
        groupId: group,
        memberId,
        memberEpoch,
        rebalanceTimeoutMs: 60_000,
        subscribedTopicNames: [topic],
        topicPartitions: owned as never,
      })
    const joined = await beat(0, [])
    assert.equal(joined.body.errorCode, 0, joined.body.errorMessage ?? '')
    let described = (await admin.describeGroups([group]))[0]
    let epoch = joined.body.memberEpoch
    // Newer brokers share out in their own time, and tell a member when it asks again.
    const endMs = performance.now() + 20_000
    while (described?.members[0]?.assignment.length !== 2 && performance.now() < endMs) {
      await new Promise((done) => setTimeout(done, 100))
      epoch = (await beat(epoch, [])).body.memberEpoch
      described = (await admin.describeGroups([group]))[0]
    }
    assert.deepEqual(
      [described?.type, described?.members.map((member) => member.memberId), described?.error],
      ['consumer', [memberId], undefined],
    )
    assert.equal(described?.members[0]?.assignment.length, 2)
    const plan = await admin.planOffsets(group, [{ topic, to: 'earliest' }])
    await assert.rejects(admin.alterOffsets(plan), { code: 'OTTLA_KAFKA_GROUP_ACTIVE' })
    await beat(-1, [])
    assert.deepEqual(
      (await admin.alterOffsets(plan)).map((each) => each.error),
      [undefined, undefined],
    )
    await admin.deleteGroups([group])
    await admin.deleteTopics([topic])
  })
})
