/** Bytes nobody sane would send: every request of every version, damaged, answered or refused but never fatal. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { OttlaError } from '../../src/contract/errors.ts'
import {
  Api,
  type ApiKey,
  type Draft,
  decodeRequest,
  decodeRequestHeader,
  encodeRequest,
  encodeResponse,
  type Requests,
  versionRange,
} from '../../src/wire/protocol.ts'
import { batch, Harness } from './harness.ts'

const records = batch(['a', 'b'])
const protocols = [{ name: 'range', metadata: Buffer.from([0, 1, 0, 0, 0, 1, 0, 1, 116]) }]

/** Requests with something in every list, so that damage can reach all of it. */
function sample(harness: Harness, key: ApiKey, version: number): object {
  const topicId = harness.cluster.topics.get('t')!.id
  switch (key) {
    case Api.Produce:
      return { acks: -1, topicData: [{ name: 't', partitionData: [{ index: 0, records }] }] }
    case Api.Fetch:
      return {
        maxBytes: 1000,
        topics: [{ topic: 't', topicId, partitions: [{ partition: 0, fetchOffset: 0, partitionMaxBytes: 9 }] }],
      }
    case Api.ListOffsets:
      return { topics: [{ name: 't', partitions: [{ partitionIndex: 0, timestamp: 5 }] }] }
    case Api.Metadata:
      return { topics: [{ name: 't' }] }
    case Api.OffsetCommit:
      return {
        groupId: 'g',
        topics: [
          { name: 't', topicId, partitions: [{ partitionIndex: 0, committedOffset: 1, committedMetadata: 'm' }] },
        ],
      }
    case Api.OffsetFetch:
      return version < 8
        ? { groupId: 'g', topics: [{ name: 't', partitionIndexes: [0] }] }
        : { groups: [{ groupId: 'g', topics: [{ name: 't', topicId, partitionIndexes: [0] }] }] }
    case Api.FindCoordinator:
      return version < 4 ? { key: 'g' } : { coordinatorKeys: ['g'] }
    case Api.JoinGroup:
      return { groupId: 'g', sessionTimeoutMs: 6000, protocolType: 'consumer', protocols }
    case Api.SyncGroup:
      return { groupId: 'g', memberId: 'm', assignments: [{ memberId: 'm', assignment: Buffer.from('x') }] }
    case Api.LeaveGroup:
      return version < 3 ? { groupId: 'g', memberId: 'm' } : { groupId: 'g', members: [{ memberId: 'm' }] }
    case Api.DescribeGroups:
      return { groups: ['g'] }
    case Api.DeleteGroups:
      return { groupsNames: ['g'] }
    case Api.CreateTopics:
      return {
        topics: [
          {
            name: 'n',
            numPartitions: -1,
            replicationFactor: -1,
            assignments: [{ partitionIndex: 0, brokerIds: [1] }],
            configs: [{ name: 'retention.ms', value: '1' }],
          },
        ],
      }
    case Api.DeleteTopics:
      return version < 6 ? { topicNames: ['t'] } : { topics: [{ name: 't' }] }
    case Api.DeleteRecords:
      return { topics: [{ name: 't', partitions: [{ partitionIndex: 0, offset: 1 }] }] }
    case Api.OffsetForLeaderEpoch:
      return { topics: [{ topic: 't', partitions: [{ partition: 0, leaderEpoch: 0 }] }] }
    case Api.DescribeConfigs:
      return { resources: [{ resourceType: 2, resourceName: 't', configurationKeys: ['retention.ms'] }] }
    case Api.AlterConfigs:
      return { resources: [{ resourceType: 2, resourceName: 't', configs: [{ name: 'retention.ms', value: '1' }] }] }
    case Api.IncrementalAlterConfigs:
      return {
        resources: [
          { resourceType: 2, resourceName: 't', configs: [{ name: 'retention.ms', configOperation: 0, value: '1' }] },
        ],
      }
    case Api.CreatePartitions:
      return { topics: [{ name: 't', count: 2, assignments: [{ brokerIds: [1] }] }] }
    case Api.OffsetDelete:
      return { groupId: 'g', topics: [{ name: 't', partitions: [{ partitionIndex: 0 }] }] }
    default:
      return {}
  }
}

test('damaged requests of every version are answered or refused, never fatal', () => {
  let seed = 7
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
    return (seed >>> 8) % below
  }
  const outcomes = { answered: 0, malformed: 0 }
  for (const { key, min, max } of new Harness().cluster.apis()) {
    for (let version = Math.max(min, versionRange(key).min); version <= max; version++) {
      const harness = new Harness()
      const body = (): Draft<Requests[ApiKey]> => {
        if (!harness.cluster.topics.has('t')) harness.topic('t')
        return sample(harness, key, version) as Draft<Requests[ApiKey]>
      }
      for (let round = 0; round < 40; round++) {
        const frame = encodeRequest(key, version, round, 'x', body()).slice(4)
        for (let hit = random(4); hit > 0; hit--) frame[8 + random(frame.byteLength - 8)] = random(256)
        outcomes[deliver(harness, frame.subarray(0, frame.byteLength - (random(5) === 0 ? random(6) : 0)))] += 1
      }
      harness.advance(100_000_000)
    }
  }
  assert.ok(outcomes.answered > 1000 && outcomes.malformed > 1000, JSON.stringify(outcomes))
})

function deliver(harness: Harness, frame: Uint8Array): 'answered' | 'malformed' {
  try {
    const header = decodeRequestHeader(frame)
    const reply = harness.cluster.handle(
      {
        node: 1,
        apiKey: header.apiKey,
        version: header.apiVersion,
        clientId: header.clientId,
        clientHost: '/127.0.0.1',
        body: decodeRequest(frame, header),
      },
      harness.nowMs,
    )
    if (reply.kind === 'answer') encodeResponse(header.apiKey as ApiKey, header.apiVersion, 1, reply.body)
    return 'answered'
  } catch (error) {
    if (error instanceof OttlaError && error.code === 'OTTLA_WIRE_MALFORMED') return 'malformed'
    throw error
  }
}
