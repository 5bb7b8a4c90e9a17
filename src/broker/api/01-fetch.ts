/**
 * Fetch (1), versions 4 to 17.
 *
 * Whole batches as they were stored; the first may begin before the offset asked for and comes however large it is.
 * From version 11 on any replica answers, before that only the leader. Answers at once when there is enough, an error
 * or no time to wait, else when enough was appended, something changed or the time is over. There are no open
 * transactions: the last stable offset is the end of the log.
 * Not done: preferred read replicas, fetching by replicas.
 */
import { ErrorCode } from '../../wire/error-codes.ts'
import type { FetchRequest, FetchResponse, FetchResponsePartitionData } from '../../wire/messages.gen.ts'
import { Api, type Draft } from '../../wire/protocol.ts'
import type { ApiHandler, Call } from '../api.ts'
import type { SessionContext } from '../fetch-sessions.ts'
import type { PartitionLog } from '../log.ts'
import { answer, type Reply, Wait } from '../reply.ts'
import type { Partition, Topic, Watcher } from '../topic.ts'
import { endpoints } from './00-produce.ts'

/** The first version that any replica answers. */
const firstFromFollowers = 11
/** The first version that names topics by id. */
const firstWithIds = 13
/** The first version that can say who leads instead, and the first that can say where that is. */
const firstWithLeader = 12
const firstWithEndpoints = 16
/** What one answer holds at most, whatever the client asks for. */
const answerBytesMax = 55 * 1024 * 1024

const nothing = new Uint8Array(0)

type PartitionAnswer = Draft<FetchResponsePartitionData>

interface Collected {
  readonly body: Draft<FetchResponse>
  readonly sizeBytes: number
  readonly failed: boolean
  /** Partitions that may still get data. */
  readonly partitions: readonly Partition[]
}

export const fetch: ApiHandler<typeof Api.Fetch> = {
  key: Api.Fetch,
  min: 4,
  max: 17,

  handle(call, request): Reply<Draft<FetchResponse>> {
    const { node, nowMs, version } = call
    const context = call.cluster.fetchSessions.open({ node, nowMs, byId: version >= firstWithIds }, request)
    if (typeof context === 'number') return answer({ errorCode: context })
    const first = collect(call, context.request)
    const { partitions, sizeBytes, failed } = first
    if (request.maxWaitMs <= 0 || failed || partitions.length === 0 || sizeBytes >= request.minBytes) {
      return answer(context.answer(first.body))
    }
    return { kind: 'wait', wait: longPoll(call, context, first) }
  },

  refuse(_call, request, errorCode) {
    return {
      responses: request.topics.map(({ topic, topicId, partitions }) => ({
        topic,
        topicId,
        partitions: partitions.map(({ partition }) => failure(partition, errorCode)),
      })),
    }
  },

  subject(call, request) {
    return {
      partitions: call.cluster.fetchSessions.topics(request).flatMap(({ topic, topicId, partitions }) => {
        const name = call.version >= firstWithIds ? (call.cluster.topicsById.get(topicId)?.name ?? '') : topic
        return partitions.map(({ partition }) => ({ topic: name, partition }))
      }),
    }
  },
}

function longPoll(call: Call, context: SessionContext, first: Collected): Wait<Draft<FetchResponse>> {
  const { cluster } = call
  const { request } = context
  let missing = request.minBytes - first.sizeBytes
  const finish = (nowMs: number): void => {
    stop()
    wait.answer(context.answer(collect({ ...call, nowMs }, request).body))
  }
  const watcher: Watcher = {
    appended(bytes, nowMs) {
      missing -= bytes
      if (missing <= 0) finish(nowMs)
    },
    changed: finish,
  }
  const timer = cluster.timers.at(call.nowMs + request.maxWaitMs, finish)
  const stop = (): void => {
    timer.cancel()
    for (const partition of first.partitions) partition.watchers.delete(watcher)
  }
  const wait = new Wait<Draft<FetchResponse>>(stop)
  for (const partition of first.partitions) partition.watchers.add(watcher)
  return wait
}

function failure(partitionIndex: number, errorCode: number): PartitionAnswer {
  return {
    partitionIndex,
    errorCode,
    highWatermark: -1,
    lastStableOffset: -1,
    logStartOffset: -1,
    abortedTransactions: null,
    records: nothing,
  }
}

function nothingNew(partitionIndex: number, { endOffset, startOffset }: PartitionLog): PartitionAnswer {
  return {
    partitionIndex,
    errorCode: ErrorCode.NONE,
    highWatermark: endOffset,
    lastStableOffset: endOffset,
    logStartOffset: startOffset,
    abortedTransactions: null,
    records: nothing,
  }
}

function collect(call: Call, request: FetchRequest): Collected {
  const { cluster } = call
  const byId = call.version >= firstWithIds
  const moved = new Set<number>()
  const partitions: Partition[] = []
  let left = Math.min(request.maxBytes, answerBytesMax)
  let sizeBytes = 0
  let failed = false
  const fail = (index: number, errorCode: number, partition?: Partition): PartitionAnswer => {
    failed = true
    const answered = failure(index, errorCode)
    if (partition === undefined || partition.leader === -1 || call.version < firstWithLeader) return answered
    if (call.version >= firstWithEndpoints) moved.add(partition.leader)
    return { ...answered, currentLeader: { leaderId: partition.leader, leaderEpoch: partition.leaderEpoch } }
  }
  const responses = request.topics.map((asked) => {
    const topic = byId ? cluster.topicsById.get(asked.topicId) : cluster.topics.get(asked.topic)
    return {
      topic: asked.topic,
      topicId: asked.topicId,
      partitions: asked.partitions.map((want): PartitionAnswer => {
        const index = want.partition
        if (topic === undefined && byId) return fail(index, ErrorCode.UNKNOWN_TOPIC_ID)
        const partition = topic?.partitions[index]
        if (topic === undefined || partition === undefined) return fail(index, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        const errorCode = check(call, { topic, partition, leaderEpoch: want.currentLeaderEpoch })
        if (errorCode !== ErrorCode.NONE) {
          return fail(index, errorCode, errorCode === ErrorCode.NOT_LEADER_OR_FOLLOWER ? partition : undefined)
        }
        const { log } = partition
        if (want.fetchOffset < log.startOffset || want.fetchOffset > log.endOffset) {
          return fail(index, ErrorCode.OFFSET_OUT_OF_RANGE)
        }
        const { lastFetchedEpoch } = want
        if (lastFetchedEpoch >= 0) {
          const end = log.endOfEpoch(lastFetchedEpoch, partition.leaderEpoch)
          if (end.endOffset < 0) return fail(index, ErrorCode.OFFSET_OUT_OF_RANGE)
          if (end.endOffset < want.fetchOffset || end.epoch < lastFetchedEpoch) {
            failed = true
            return { ...nothingNew(index, log), divergingEpoch: end }
          }
        }
        const slice = log.read(want.fetchOffset, Math.min(want.partitionMaxBytes, left), sizeBytes === 0)
        left -= slice.sizeBytes
        sizeBytes += slice.sizeBytes
        partitions.push(partition)
        return {
          ...nothingNew(index, log),
          abortedTransactions: request.isolationLevel === 1 ? [] : null,
          records: joined(slice.batches, slice.sizeBytes),
        }
      }),
    }
  })
  return { body: { responses, nodeEndpoints: endpoints(call, moved) }, sizeBytes, failed, partitions }
}

function check(
  call: Call,
  at: { readonly topic: Topic; readonly partition: Partition; readonly leaderEpoch: number },
): number {
  const { partition, leaderEpoch } = at
  const injected = call.fault(at.topic.name, partition.index)
  if (injected !== ErrorCode.NONE) return injected
  if (partition.leader === -1) return ErrorCode.NOT_LEADER_OR_FOLLOWER
  const mayAnswer =
    call.version >= firstFromFollowers ? partition.replicas.includes(call.node) : partition.leader === call.node
  if (!mayAnswer) return ErrorCode.NOT_LEADER_OR_FOLLOWER
  return checkLeaderEpoch(leaderEpoch, partition)
}

/** The error code for a request made under an older or newer leader than there is. */
export function checkLeaderEpoch(leaderEpoch: number, partition: Partition): number {
  if (leaderEpoch === -1 || leaderEpoch === partition.leaderEpoch) return ErrorCode.NONE
  return leaderEpoch < partition.leaderEpoch ? ErrorCode.FENCED_LEADER_EPOCH : ErrorCode.UNKNOWN_LEADER_EPOCH
}

function joined(batches: readonly { readonly bytes: Uint8Array }[], sizeBytes: number): Uint8Array {
  if (batches.length === 0) return nothing
  if (batches.length === 1) return batches[0]!.bytes
  const all = new Uint8Array(sizeBytes)
  let at = 0
  for (const { bytes } of batches) {
    all.set(bytes, at)
    at += bytes.byteLength
  }
  return all
}
