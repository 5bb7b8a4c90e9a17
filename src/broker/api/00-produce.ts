/**
 * Produce (0), versions 0 to 11.
 *
 * Versions 0 to 2 are advertised as Apache Kafka advertises them, because old librdkafka takes its compression from
 * there; a request of these versions closes the connection. One batch of format 2 per partition; length, CRC, counts
 * and the control bit are checked, sequences of idempotent producers too. acks 0 gets no answer, and an error closes
 * the connection.
 * Not done: transactions (a transactional batch is INVALID_TXN_STATE), the clean-up of null keys on compacted topics,
 * limits on timestamps, topic ids (version 13).
 */
import { ErrorCode } from '../../wire/error-codes.ts'
import type { ProduceResponse, ProduceResponsePartitionProduceResponse } from '../../wire/messages.gen.ts'
import { Api, type Draft } from '../../wire/protocol.ts'
import type { ApiHandler, Call } from '../api.ts'
import { type BatchFault, readBatchHeader } from '../batch-header.ts'
import { answer } from '../reply.ts'
import type { Partition, Topic } from '../topic.ts'

type PartitionAnswer = Draft<ProduceResponsePartitionProduceResponse>

/** The last version before zstd was allowed. */
const lastWithoutZstd = 6
const zstd = 4
/** The first version that can say who leads instead. */
const firstWithLeader = 10

const faultAnswers: Readonly<Record<BatchFault, readonly [errorCode: number, message: string]>> = {
  truncated: [ErrorCode.CORRUPT_MESSAGE, 'The batch is shorter than its length says.'],
  'old-magic': [ErrorCode.INVALID_RECORD, 'Record formats 0 and 1 are not supported.'],
  'bad-magic': [ErrorCode.INVALID_RECORD, 'The record format is unknown.'],
  'bad-crc': [ErrorCode.CORRUPT_MESSAGE, 'The checksum of the batch is wrong.'],
  'bad-counts': [ErrorCode.INVALID_RECORD, 'Record count and last offset delta of the batch do not agree.'],
}

export const produce: ApiHandler<typeof Api.Produce> = {
  key: Api.Produce,
  min: 0,
  max: 11,

  handle(call, request) {
    if (request.acks < -1 || request.acks > 1) {
      return answer(this.refuse(call, request, ErrorCode.INVALID_REQUIRED_ACKS))
    }
    const moved = new Set<number>()
    let failed = false
    const responses = request.topicData.map(({ name, partitionData }) => ({
      name,
      partitionResponses: partitionData.map(({ index, records }) => {
        const answered = store(call, { name, index, records, acks: request.acks })
        if (answered.errorCode !== ErrorCode.NONE) failed = true
        if (answered.currentLeader?.leaderId !== undefined) moved.add(answered.currentLeader.leaderId)
        return answered
      }),
    }))
    if (request.acks === 0) {
      return failed ? { kind: 'close', reason: 'a produce request with acks 0 failed' } : { kind: 'silence' }
    }
    return answer<Draft<ProduceResponse>>({ responses, nodeEndpoints: endpoints(call, moved) })
  },

  refuse(_call, request, errorCode) {
    return {
      responses: request.topicData.map(({ name, partitionData }) => ({
        name,
        partitionResponses: partitionData.map(({ index }) => failure(index, errorCode)),
      })),
    }
  },

  subject(_call, request) {
    return {
      partitions: request.topicData.flatMap(({ name, partitionData }) =>
        partitionData.map(({ index }) => ({ topic: name, partition: index })),
      ),
    }
  },
}

interface Piece {
  readonly name: string
  readonly index: number
  readonly records: Uint8Array | null
  readonly acks: number
}

function failure(index: number, errorCode: number, errorMessage: string | null = null): PartitionAnswer {
  return { index, errorCode, baseOffset: -1, logAppendTimeMs: -1, logStartOffset: -1, errorMessage }
}

function store(call: Call, piece: Piece): PartitionAnswer {
  const { cluster } = call
  const { name, index } = piece
  const injected = call.fault(name, index)
  if (injected !== ErrorCode.NONE) return failure(index, injected)
  const topic = cluster.topics.get(name)
  const partition = topic?.partitions[index]
  if (topic === undefined || partition === undefined) return failure(index, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
  if (partition.leader !== call.node) {
    return {
      ...failure(index, ErrorCode.NOT_LEADER_OR_FOLLOWER),
      ...(partition.leader === -1 || call.version < firstWithLeader
        ? {}
        : { currentLeader: { leaderId: partition.leader, leaderEpoch: partition.leaderEpoch } }),
    }
  }
  return append(call, piece, { topic, partition })
}

function append(
  call: Call,
  piece: Piece,
  at: { readonly topic: Topic; readonly partition: Partition },
): PartitionAnswer {
  const { index, records } = piece
  const { topic, partition } = at
  if (records === null || records.byteLength === 0) {
    return failure(index, ErrorCode.INVALID_RECORD, 'A produce request must hold one batch per partition.')
  }
  const header = readBatchHeader(records, true)
  if (typeof header === 'string') return failure(index, ...faultAnswers[header])
  if (header.sizeBytes !== records.byteLength) {
    return failure(index, ErrorCode.INVALID_RECORD, 'A produce request must hold one batch per partition.')
  }
  if (header.control) return failure(index, ErrorCode.INVALID_RECORD, 'Clients must not write control records.')
  if (header.transactional) {
    return failure(index, ErrorCode.INVALID_TXN_STATE, 'The embedded broker has no transactions.')
  }
  if (header.logAppendTime) {
    return failure(index, ErrorCode.INVALID_TIMESTAMP, 'Clients must not write batches with log append time.')
  }
  if (header.compression > zstd || (header.compression === zstd && call.version <= lastWithoutZstd)) {
    return failure(index, ErrorCode.UNSUPPORTED_COMPRESSION_TYPE)
  }
  if (records.byteLength > topic.number('max.message.bytes')) {
    return failure(
      index,
      ErrorCode.MESSAGE_TOO_LARGE,
      `The batch has ${records.byteLength} bytes, max.message.bytes of the topic is ${topic.config('max.message.bytes')}.`,
    )
  }
  if (piece.acks === -1 && partition.inSync.length < topic.number('min.insync.replicas')) {
    return failure(index, ErrorCode.NOT_ENOUGH_REPLICAS)
  }
  const appendTimeMs = topic.config('message.timestamp.type') === 'LogAppendTime' ? Math.floor(call.nowMs) : undefined
  const verdict = partition.producers.check(header)
  switch (verdict.kind) {
    case 'refuse':
      return failure(index, verdict.errorCode)
    case 'duplicate':
      return stored(index, partition, verdict)
    case 'append':
      break
    default:
      throw verdict satisfies never
  }
  if (!call.cluster.hasRoom(records.byteLength)) {
    return failure(index, ErrorCode.KAFKA_STORAGE_ERROR, 'The embedded broker holds as many bytes as it may.')
  }
  const batch = partition.log.append({
    bytes: records,
    header,
    leaderEpoch: partition.leaderEpoch,
    ...(appendTimeMs === undefined ? {} : { appendTimeMs }),
  })
  call.cluster.stored(records.byteLength)
  partition.producers.appended(header, batch.baseOffset, appendTimeMs ?? -1)
  for (const watcher of [...partition.watchers]) watcher.appended(records.byteLength, call.nowMs)
  return stored(index, partition, { baseOffset: batch.baseOffset, appendTimeMs: appendTimeMs ?? -1 })
}

function stored(
  index: number,
  partition: Partition,
  where: { readonly baseOffset: number; readonly appendTimeMs: number },
): PartitionAnswer {
  return {
    index,
    errorCode: ErrorCode.NONE,
    baseOffset: where.baseOffset,
    logAppendTimeMs: where.appendTimeMs,
    logStartOffset: partition.log.startOffset,
  }
}

/** Where the brokers are that an answer points to; Produce 10 and Fetch 16 carry them. */
export function endpoints(
  call: Call,
  nodes: ReadonlySet<number>,
): readonly { nodeId: number; host: string; port: number; rack: null }[] {
  if (nodes.size === 0) return []
  return [...nodes].map((nodeId) => {
    const { host, port } = call.cluster.nodes.get(nodeId)!
    return { nodeId, host, port, rack: null }
  })
}
