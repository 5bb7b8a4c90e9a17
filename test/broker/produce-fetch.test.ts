/** Produce, Fetch, ListOffsets, DeleteRecords and leader epochs, asked of the cluster state machine. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readBatchHeader } from '../../src/broker/batch-header.ts'
import { Api } from '../../src/wire/protocol.ts'
import { readBatches } from '../../src/wire/record-batch.ts'
import { batch, errorName, Harness } from './harness.ts'

interface FetchAsk {
  readonly offset?: number
  readonly partition?: number
  readonly maxWaitMs?: number
  readonly minBytes?: number
  readonly maxBytes?: number
  readonly partitionMaxBytes?: number
  readonly version?: number
  readonly node?: number
  readonly epoch?: number
}

function fetchLater(harness: Harness, topic: string, ask: FetchAsk = {}) {
  const version = ask.version ?? 12
  return harness.later(
    Api.Fetch,
    {
      maxWaitMs: ask.maxWaitMs ?? 0,
      minBytes: ask.minBytes ?? 1,
      maxBytes: ask.maxBytes ?? 1_000_000,
      topics: [
        {
          topic,
          ...(version >= 13 ? { topicId: harness.cluster.topics.get(topic)?.id ?? topic } : {}),
          partitions: [
            {
              partition: ask.partition ?? 0,
              fetchOffset: ask.offset ?? 0,
              partitionMaxBytes: ask.partitionMaxBytes ?? 1_000_000,
              currentLeaderEpoch: ask.epoch ?? -1,
            },
          ],
        },
      ],
    },
    { version, node: ask.node ?? 1 },
  )
}

function fetchNow(harness: Harness, topic: string, ask: FetchAsk = {}) {
  return fetchLater(harness, topic, ask).body().responses[0]!.partitions[0]!
}

function values(records: Uint8Array | null): string[] {
  return [...readBatches(records!, {})].flatMap((found) =>
    Array.from({ length: found.count }, (_, index) => `${found.offset(index)}:${Buffer.from(found.value(index)!)}`),
  )
}

function listed(harness: Harness, timestamp: number, version = 9) {
  const body = harness.ask(
    Api.ListOffsets,
    { replicaId: -1, topics: [{ name: 't', partitions: [{ partitionIndex: 0, timestamp }] }] },
    { version },
  )
  return body.topics[0]!.partitions[0]!
}

test('what was produced is fetched, byte for byte but for offset and leader epoch', () => {
  const harness = new Harness()
  harness.topic('t')
  const sent = batch(['a', 'b'])
  assert.equal(harness.produce('t', batch(['first'])).baseOffset, 0)
  assert.equal(harness.produce('t', sent).baseOffset, 1)
  const got = fetchNow(harness, 't', { offset: 1 })
  assert.equal(got.highWatermark, 3)
  assert.deepEqual(values(got.records), ['1:a', '2:b'])
  assert.deepEqual(Buffer.from(got.records!).subarray(16), Buffer.from(sent).subarray(16))
})

test('every advertised version of Produce and Fetch carries records', () => {
  for (let version = 3; version <= 11; version++) {
    const harness = new Harness()
    harness.topic('t')
    assert.equal(errorName(harness.produce('t', batch(['v']), { version }).errorCode), 'NONE')
    for (let fetchVersion = 4; fetchVersion <= 17; fetchVersion++) {
      assert.deepEqual(values(fetchNow(harness, 't', { version: fetchVersion }).records), ['0:v'])
    }
  }
})

test('a fetch from the middle of a batch gets the whole batch', () => {
  const harness = new Harness()
  harness.topic('t')
  harness.produce('t', batch(['a', 'b', 'c']))
  assert.deepEqual(values(fetchNow(harness, 't', { offset: 2 }).records), ['0:a', '1:b', '2:c'])
})

test('the first batch comes however large it is, the second only if it fits', () => {
  const harness = new Harness()
  harness.topic('t')
  harness.produce('t', batch(['a'.repeat(500)]))
  harness.produce('t', batch(['b'.repeat(500)]))
  assert.equal(values(fetchNow(harness, 't', { maxBytes: 10 }).records).length, 1)
  assert.equal(values(fetchNow(harness, 't', { partitionMaxBytes: 10 }).records).length, 1)
  assert.equal(values(fetchNow(harness, 't').records).length, 2)
})

test('a fetch outside the log is OFFSET_OUT_OF_RANGE, at its end it is empty', () => {
  const harness = new Harness()
  harness.topic('t')
  harness.produce('t', batch(['a']))
  assert.equal(errorName(fetchNow(harness, 't', { offset: 2 }).errorCode), 'OFFSET_OUT_OF_RANGE')
  const atEnd = fetchNow(harness, 't', { offset: 1 })
  assert.equal(errorName(atEnd.errorCode), 'NONE')
  assert.equal(atEnd.records!.byteLength, 0)
})

test('a long poll waits for bytes and ends when they come', () => {
  const harness = new Harness()
  harness.topic('t')
  const poll = fetchLater(harness, 't', { maxWaitMs: 500 })
  harness.advance(499)
  assert.equal(poll.done, false)
  harness.produce('t', batch(['a']))
  assert.equal(poll.done, true)
  assert.deepEqual(values(poll.body().responses[0]!.partitions[0]!.records), ['0:a'])
})

test('a long poll ends empty when its time is over', () => {
  const harness = new Harness()
  harness.topic('t')
  const poll = fetchLater(harness, 't', { maxWaitMs: 500 })
  harness.advance(500)
  assert.equal(poll.body().responses[0]!.partitions[0]!.records!.byteLength, 0)
  assert.equal(harness.cluster.nextWakeMs(), undefined)
})

test('a long poll wants as many bytes as it says', () => {
  const harness = new Harness()
  harness.topic('t')
  const size = batch(['a']).byteLength
  const poll = fetchLater(harness, 't', { maxWaitMs: 500, minBytes: size + 1 })
  harness.produce('t', batch(['a']))
  assert.equal(poll.done, false)
  harness.produce('t', batch(['b']))
  assert.deepEqual(values(poll.body().responses[0]!.partitions[0]!.records), ['0:a', '1:b'])
})

test('a long poll ends at once when its topic is deleted or its leader moves', () => {
  const harness = new Harness({ nodes: 2 })
  harness.topic('t')
  harness.topic('u')
  const onDeleted = fetchLater(harness, 't', { maxWaitMs: 500 })
  harness.cluster.deleteTopic(harness.cluster.topics.get('t')!, harness.nowMs)
  assert.equal(errorName(onDeleted.body().responses[0]!.partitions[0]!.errorCode), 'UNKNOWN_TOPIC_OR_PARTITION')
  const leader = harness.cluster.topics.get('u')!.partitions[0]!.leader
  const onMoved = fetchLater(harness, 'u', { maxWaitMs: 500, version: 10, node: leader })
  assert.ok(harness.cluster.moveLeader('u', 0, 3 - leader, harness.nowMs))
  assert.equal(errorName(onMoved.body().responses[0]!.partitions[0]!.errorCode), 'NOT_LEADER_OR_FOLLOWER')
})

test('a cancelled long poll leaves nothing behind', () => {
  const harness = new Harness()
  harness.topic('t')
  fetchLater(harness, 't', { maxWaitMs: 500 }).cancel()
  assert.equal(harness.cluster.topics.get('t')!.partitions[0]!.watchers.size, 0)
  assert.equal(harness.cluster.nextWakeMs(), undefined)
})

test('any replica answers Fetch from version 11 on, before that only the leader', () => {
  const harness = new Harness({ nodes: 3 })
  harness.topic('t', 1)
  const partition = harness.cluster.topics.get('t')!.partitions[0]!
  harness.produce('t', batch(['a']), { node: partition.leader })
  const follower = partition.replicas.find((node) => node !== partition.leader)!
  assert.deepEqual(values(fetchNow(harness, 't', { node: follower, version: 11 }).records), ['0:a'])
  const refused = fetchNow(harness, 't', { node: follower, version: 10 })
  assert.equal(errorName(refused.errorCode), 'NOT_LEADER_OR_FOLLOWER')
  assert.equal(errorName(harness.produce('t', batch(['b']), { node: follower }).errorCode), 'NOT_LEADER_OR_FOLLOWER')
})

test('a broker that holds no replica says who leads', () => {
  const harness = new Harness({ nodes: 3 })
  harness.cluster.createTopic({ name: 't', partitions: 1, replicationFactor: 1, configs: new Map() })
  const { leader } = harness.cluster.topics.get('t')!.partitions[0]!
  const other = (leader % 3) + 1
  const reply = fetchLater(harness, 't', { node: other, version: 16 }).body()
  assert.equal(errorName(reply.responses[0]!.partitions[0]!.errorCode), 'NOT_LEADER_OR_FOLLOWER')
  assert.equal(reply.responses[0]!.partitions[0]!.currentLeader.leaderId, leader)
  assert.deepEqual(
    reply.nodeEndpoints.map(({ nodeId, port }) => [nodeId, port]),
    [[leader, 9000 + leader]],
  )
})

test('a topic made again has another id, and the old id is unknown', () => {
  const harness = new Harness()
  harness.topic('t')
  const old = harness.cluster.topics.get('t')!
  harness.cluster.deleteTopic(old, harness.nowMs)
  harness.topic('t')
  assert.notEqual(harness.cluster.topics.get('t')!.id, old.id)
  assert.equal(errorName(fetchNow(harness, old.id, { version: 13 }).errorCode), 'UNKNOWN_TOPIC_ID')
})

test('an older leader epoch is fenced, a newer one unknown', () => {
  const harness = new Harness({ nodes: 2 })
  harness.topic('t')
  const partition = harness.cluster.topics.get('t')!.partitions[0]!
  harness.cluster.moveLeader('t', 0, 3 - partition.leader, harness.nowMs)
  const node = partition.leader
  assert.equal(errorName(fetchNow(harness, 't', { node, epoch: 0 }).errorCode), 'FENCED_LEADER_EPOCH')
  assert.equal(errorName(fetchNow(harness, 't', { node, epoch: 1 }).errorCode), 'NONE')
  assert.equal(errorName(fetchNow(harness, 't', { node, epoch: 2 }).errorCode), 'UNKNOWN_LEADER_EPOCH')
})

/** A harness with two topics of one record each, and a way to fetch in sessions. */
function inSessions() {
  const harness = new Harness()
  for (const topic of ['t', 'u']) {
    harness.topic(topic)
    harness.produce(topic, batch(['a']))
  }
  const want = (topic: string, fetchOffset: number) => ({
    topic,
    partitions: [{ partition: 0, fetchOffset, partitionMaxBytes: 1000 }],
  })
  const ask = (
    sessionId: number,
    sessionEpoch: number,
    topics: ReturnType<typeof want>[],
    forgotten: string[] = [],
  ) => {
    const forgottenTopicsData = forgotten.map((topic) => ({ topic, partitions: [0] }))
    const body = { maxWaitMs: 0, minBytes: 1, maxBytes: 1000, sessionId, sessionEpoch, topics, forgottenTopicsData }
    const told = harness.ask(Api.Fetch, body, { version: 12 })
    const records = told.responses.flatMap(({ topic, partitions }) =>
      partitions.map((each) => `${topic} ${values(each.records)}`),
    )
    return { sessionId: told.sessionId, error: errorName(told.errorCode), records }
  }
  return { harness, want, ask }
}

test('in a fetch session requests and answers name only what differs', () => {
  const { harness, want, ask } = inSessions()
  const first = ask(0, 0, [want('t', 0), want('u', 0)])
  assert.deepEqual(first.records, ['t 0:a', 'u 0:a'])
  const { sessionId } = first
  assert.ok(sessionId > 0)
  assert.deepEqual(ask(sessionId, 1, [want('t', 1), want('u', 1)]).records, [], 'nothing new')
  harness.produce('u', batch(['b']))
  assert.deepEqual(ask(sessionId, 2, []).records, ['u 1:b'], 'remembered from the request before')
  assert.deepEqual(ask(sessionId, 3, [], ['u']).records, [], 'forgotten')
})

test('a fetch session that is gone, another one, or out of step is refused; a full fetch begins anew', () => {
  const { want, ask } = inSessions()
  assert.equal(ask(9, 3, []).error, 'FETCH_SESSION_ID_NOT_FOUND')
  const { sessionId } = ask(0, 0, [want('t', 0)])
  assert.equal(ask(sessionId, 2, []).error, 'INVALID_FETCH_SESSION_EPOCH')
  const next = ask(sessionId, 0, [want('t', 0)])
  assert.notEqual(next.sessionId, sessionId)
  assert.equal(ask(sessionId, 1, []).error, 'FETCH_SESSION_ID_NOT_FOUND')
  assert.equal(ask(next.sessionId, -1, []).sessionId, 0, 'ended')
  assert.equal(ask(next.sessionId, 1, []).error, 'FETCH_SESSION_ID_NOT_FOUND')
})

test('fetch sessions are bounded: without room a client gets full answers without one', () => {
  const { harness, want, ask } = inSessions()
  for (let i = 0; i < 1_000; i++) assert.ok(ask(0, 0, [want('t', 0)]).sessionId > 0)
  const refused = ask(0, 0, [want('t', 0)])
  assert.equal(refused.sessionId, 0)
  assert.deepEqual(refused.records, ['t 0:a'])
  assert.equal(harness.cluster.fetchSessions.size, 1_000)
})

test('damaged, doubled, old and foreign batches are refused', () => {
  const harness = new Harness()
  harness.topic('t')
  const refused = (records: Uint8Array): string => errorName(harness.produce('t', records).errorCode)
  const flipped = batch(['abc'])
  flipped[flipped.byteLength - 2]! ^= 1
  assert.equal(refused(flipped), 'CORRUPT_MESSAGE')
  assert.equal(refused(batch(['abc']).subarray(0, 65)), 'CORRUPT_MESSAGE')
  assert.equal(refused(new Uint8Array(0)), 'INVALID_RECORD')
  assert.equal(refused(new Uint8Array([...batch(['a']), ...batch(['b'])])), 'INVALID_RECORD')
  const old = batch(['a'])
  old[16] = 1
  assert.equal(refused(old), 'INVALID_RECORD')
  assert.equal(
    refused(batch(['a'], { transactional: true, producerId: 5, producerEpoch: 0, baseSequence: 0 })),
    'INVALID_TXN_STATE',
  )
  assert.equal(harness.cluster.topics.get('t')!.partitions[0]!.log.endOffset, 0)
})

test('acks 0 gets no answer, and a failure closes the connection', () => {
  const harness = new Harness()
  harness.topic('t')
  const send = (topic: string) =>
    harness.send(
      Api.Produce,
      { acks: 0, topicData: [{ name: topic, partitionData: [{ index: 0, records: batch(['a']) }] }] },
      { version: 9 },
    ).kind
  assert.equal(send('t'), 'silence')
  assert.equal(send('nowhere'), 'close')
  assert.equal(errorName(harness.produce('t', batch(['a']), { acks: 2 }).errorCode), 'INVALID_REQUIRED_ACKS')
})

test('max.message.bytes, min.insync.replicas and the memory limit are kept', () => {
  const harness = new Harness({ nodes: 2, maxStoredBytes: 600 })
  harness.topic('small', 1, { 'max.message.bytes': '100' })
  harness.topic('safe', 1, { 'min.insync.replicas': '2' })
  const nodeOf = (topic: string) => harness.cluster.topics.get(topic)!.partitions[0]!.leader
  const big = batch(['x'.repeat(200)])
  const small = errorName(harness.produce('small', big, { node: nodeOf('small') }).errorCode)
  assert.equal(small, 'MESSAGE_TOO_LARGE')
  harness.cluster.stopNode(3 - nodeOf('safe'), harness.nowMs)
  const node = nodeOf('safe')
  assert.equal(errorName(harness.produce('safe', big, { node }).errorCode), 'NOT_ENOUGH_REPLICAS')
  assert.equal(errorName(harness.produce('safe', big, { node, acks: 1 }).errorCode), 'NONE')
  assert.equal(errorName(harness.produce('safe', big, { node, acks: 1 }).errorCode), 'NONE')
  assert.equal(errorName(harness.produce('safe', big, { node, acks: 1 }).errorCode), 'KAFKA_STORAGE_ERROR')
})

test('log append time stamps the batch, and its checksum is right again', () => {
  const harness = new Harness()
  harness.topic('t', 1, { 'message.timestamp.type': 'LogAppendTime' })
  harness.nowMs = 1_700_000_000_123.7
  const answered = harness.produce('t', batch(['a@5', 'b@9']))
  assert.equal(answered.logAppendTimeMs, 1_700_000_000_123)
  const { records } = fetchNow(harness, 't')
  const header = readBatchHeader(records!, true)
  assert.ok(typeof header !== 'string', `the batch is broken: ${header as string}`)
  assert.equal(header.logAppendTime, true)
  const [found] = [...readBatches(records!, {})]
  assert.deepEqual([found!.timestampMs(0), found!.timestampMs(1)], [1_700_000_000_123, 1_700_000_000_123])
})

test('ListOffsets finds start, end, the highest timestamp and the first record at or after a time', () => {
  const harness = new Harness()
  harness.topic('t')
  harness.produce('t', batch(['a@1000', 'b@2000', 'c@3000']))
  harness.produce('t', batch(['d@9000', 'e@2500']))
  harness.produce('t', batch(['f@4000']))
  assert.equal(listed(harness, -2).offset, 0)
  assert.equal(listed(harness, -1).offset, 6)
  assert.deepEqual([listed(harness, -3).offset, listed(harness, -3).timestamp], [3, 9000])
  assert.equal(listed(harness, -4).offset, 0)
  assert.equal(listed(harness, -5).offset, -1)
  assert.deepEqual([listed(harness, 1500).offset, listed(harness, 1500).timestamp], [1, 2000])
  assert.equal(listed(harness, 2000).offset, 1)
  assert.equal(listed(harness, 3001).offset, 3)
  assert.equal(listed(harness, 9001).offset, -1)
  assert.equal(listed(harness, 0, 1).offset, 0)
  assert.equal(errorName(listed(harness, -3, 6).errorCode), 'UNSUPPORTED_VERSION')
})

test('ListOffsets says under which leader a record was written', () => {
  const harness = new Harness({ nodes: 2 })
  harness.topic('t')
  const partition = harness.cluster.topics.get('t')!.partitions[0]!
  harness.produce('t', batch(['a@1000']), { node: partition.leader })
  harness.cluster.moveLeader('t', 0, 3 - partition.leader, harness.nowMs)
  harness.produce('t', batch(['b@2000']), { node: partition.leader })
  const at = (timestamp: number) =>
    harness.ask(
      Api.ListOffsets,
      { topics: [{ name: 't', partitions: [{ partitionIndex: 0, timestamp }] }] },
      { node: partition.leader },
    ).topics[0]!.partitions[0]!.leaderEpoch
  assert.deepEqual([at(1000), at(2000), at(-2)], [0, 1, 0])
  const end = (leaderEpoch: number) =>
    harness.ask(
      Api.OffsetForLeaderEpoch,
      { topics: [{ topic: 't', partitions: [{ partition: 0, leaderEpoch }] }] },
      { node: partition.leader },
    ).topics[0]!.partitions[0]!
  assert.deepEqual([end(0).leaderEpoch, end(0).endOffset], [0, 1])
  assert.deepEqual([end(1).leaderEpoch, end(1).endOffset], [1, 2])
  assert.deepEqual([end(5).leaderEpoch, end(5).endOffset], [-1, -1])
})

test('DeleteRecords moves the start, frees whole batches and hides the rest', () => {
  const harness = new Harness()
  harness.topic('t')
  harness.produce('t', batch(['a', 'b']))
  harness.produce('t', batch(['c', 'd']))
  const remove = (offset: number) => {
    const body = harness.ask(Api.DeleteRecords, {
      topics: [{ name: 't', partitions: [{ partitionIndex: 0, offset }] }],
    })
    const { lowWatermark, errorCode } = body.topics[0]!.partitions[0]!
    return [lowWatermark, errorName(errorCode)]
  }
  assert.deepEqual(remove(3), [3, 'NONE'])
  assert.equal(harness.cluster.topics.get('t')!.partitions[0]!.log.batches.length, 1)
  assert.deepEqual(remove(1), [3, 'NONE'])
  assert.deepEqual(remove(5), [-1, 'OFFSET_OUT_OF_RANGE'])
  assert.equal(listed(harness, -2).offset, 3)
  assert.equal(errorName(fetchNow(harness, 't', { offset: 2 }).errorCode), 'OFFSET_OUT_OF_RANGE')
  assert.equal(listed(harness, 0).offset, 3)
  assert.deepEqual(remove(-1), [4, 'NONE'])
})
