/**
 * Records what Apache Kafka answers, for `test/fixtures/wire/kafka-4.3.1.json`.
 *
 *   node tools/protocol/capture.ts <host:port>
 *
 * The broker must be fresh: one node, no topics. Every request is made by our encoder and sent over a plain socket;
 * request and response are kept as hex, so that the test can decode the answers, encode them again and compare bytes.
 */
import { writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { gunzipSync, gzipSync, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import type { Codec, CompressionName } from '../../src/wire/compression.ts'
import {
  Api,
  type ApiKey,
  apiName,
  type Draft,
  decodeResponse,
  encodeMessage,
  encodeRequest,
  type Requests,
  type Responses,
  versionRange,
} from '../../src/wire/protocol.ts'
import { RecordBatchBuilder, readBatches } from '../../src/wire/record-batch.ts'
import { Writer } from '../../src/wire/writer.ts'

const target = new URL('../../test/fixtures/wire/kafka-4.3.1.json', import.meta.url)

interface Exchange {
  readonly note: string
  readonly api: string
  readonly version: number
  readonly request: string
  readonly response: string
}

class Session implements AsyncDisposable {
  readonly exchanges: Exchange[] = []
  readonly #socket: Socket
  readonly #waiting: ((frame: Buffer) => void)[] = []
  #held = Buffer.alloc(0)
  #correlationId = 0

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', (chunk) => {
      this.#held = Buffer.concat([this.#held, chunk])
      while (this.#held.length >= 4 && this.#held.length >= 4 + this.#held.readInt32BE(0)) {
        const end = 4 + this.#held.readInt32BE(0)
        this.#waiting.shift()?.(this.#held.subarray(4, end))
        this.#held = this.#held.subarray(end)
      }
    })
  }

  static async open(address: string): Promise<Session> {
    const at = address.lastIndexOf(':')
    const socket = connect(Number(address.slice(at + 1)), address.slice(0, at))
    await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject))
    return new Session(socket)
  }

  async ask<K extends ApiKey>(note: string, api: K, version: number, body: Draft<Requests[K]>): Promise<Responses[K]> {
    const frame = encodeRequest(api, version, ++this.#correlationId, 'capture', body)
    const answer = await this.raw(frame)
    this.#keep(note, api, version, frame, answer)
    return decodeResponse(api, version, answer)
  }

  /** Sends a frame as it is. */
  raw(frame: Uint8Array): Promise<Buffer> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve)
      this.#socket.write(frame)
    })
  }

  /** ApiVersions in a version nobody has. */
  async unknownVersion(): Promise<void> {
    const frame = Buffer.from(encodeRequest(Api.ApiVersions, 3, ++this.#correlationId, 'capture', {}))
    frame.writeInt16BE(99, 6)
    this.#keep(
      'a version that the broker does not know is answered in version 0',
      Api.ApiVersions,
      0,
      frame,
      await this.raw(frame),
    )
  }

  #keep(note: string, api: number, version: number, request: Uint8Array, response: Uint8Array): void {
    const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
    this.exchanges.push({
      note,
      api: apiName(api),
      version,
      request: hex(request.subarray(4)),
      response: hex(response),
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise<void>((resolve) => this.#socket.end(() => resolve()))
  }
}

const text = (value: string): Uint8Array => new TextEncoder().encode(value)
const codecs: Partial<Record<CompressionName, Codec>> = {
  gzip: {
    compress: (bytes) => gzipSync(bytes),
    decompress: (bytes, maxBytes) => gunzipSync(bytes, { maxOutputLength: maxBytes }),
  },
  zstd: {
    compress: (bytes) => zstdCompressSync(bytes),
    decompress: (bytes, maxBytes) => zstdDecompressSync(bytes, { maxOutputLength: maxBytes }),
  },
}
const timestampMs = 1_760_000_000_000

/** The records every batch of the capture holds; the test knows them too. */
function batch(
  compression: CompressionName | null,
  header: { producerId?: number; transactional?: boolean } = {},
): Uint8Array {
  const builder = new RecordBatchBuilder()
  builder.append(text('key-1'), text('value 1'), [{ key: 'ce_id', value: text('a') }], timestampMs)
  builder.append(null, text('no key'), [], timestampMs + 1)
  const repeated = [
    { key: 'h', value: text('1') },
    { key: 'h', value: null },
    { key: 'ключ', value: text('') },
  ]
  builder.append(text(''), null, repeated, timestampMs - 5_000)
  builder.append(text('k'.repeat(100)), text('v'.repeat(700)), [], timestampMs + 70_000)
  const codec = compression === null ? undefined : codecs[compression]
  return builder.build({
    ...header,
    ...(header.producerId === undefined ? {} : { producerEpoch: 0, baseSequence: 0 }),
    compression: compression === null || codec === undefined ? null : { name: compression, codec },
  })
}

/** Asks until the coordinator is there: the internal topics are made on first use. */
async function settled<T>(ask: () => Promise<T>, isDone: (answer: T) => boolean, session: Session): Promise<T> {
  for (;;) {
    const answer = await ask()
    if (isDone(answer)) return answer
    session.exchanges.pop()
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

async function capture(session: Session): Promise<void> {
  const each = async (api: ApiKey, ask: (version: number) => Promise<unknown>): Promise<void> => {
    const { min, max } = versionRange(api)
    for (let version = min; version <= max; version++) await ask(version)
  }

  await each(Api.ApiVersions, (v) =>
    session.ask('versions', Api.ApiVersions, v, { clientSoftwareName: 'ottla', clientSoftwareVersion: '1' }),
  )
  await session.unknownVersion()

  const created = await session.ask('two partitions', Api.CreateTopics, 7, {
    topics: [
      {
        name: 'orders',
        numPartitions: 2,
        replicationFactor: 1,
        // The records are old, the markers new: keep them, and in one segment, as a fetch does not cross segments.
        configs: [
          { name: 'retention.ms', value: '-1' },
          { name: 'segment.ms', value: '1000000000000' },
        ],
      },
    ],
    timeoutMs: 10_000,
  })
  const topicId = created.topics[0]?.topicId ?? ''
  await settled(
    () => session.ask('settled', Api.Metadata, 12, { topics: [{ name: 'orders' }] }),
    (answer) => answer.topics[0]?.partitions.every((partition) => partition.leaderId === 1) ?? false,
    session,
  )
  await each(Api.CreateTopics, (v) =>
    session.ask('exists already', Api.CreateTopics, v, {
      topics: [{ name: 'orders', numPartitions: 2, replicationFactor: 1 }],
    }),
  )
  await each(Api.Metadata, (v) =>
    session.ask('one topic', Api.Metadata, v, {
      topics: [{ name: 'orders' }],
      ...(v >= 8 ? { includeTopicAuthorizedOperations: true } : {}),
    }),
  )
  await session.ask('an unknown topic', Api.Metadata, 12, {
    topics: [{ name: 'nowhere' }],
    allowAutoTopicCreation: false,
  })
  await each(Api.DescribeCluster, (v) => session.ask('cluster', Api.DescribeCluster, v, {}))
  await session.ask('no cursor', Api.DescribeTopicPartitions, 0, { topics: [{ name: 'orders' }] })
  await session.ask('a cursor comes back', Api.DescribeTopicPartitions, 0, {
    topics: [{ name: 'orders' }],
    responsePartitionLimit: 1,
  })
  await session.ask('configs', Api.DescribeConfigs, 4, {
    resources: [{ resourceType: 2, resourceName: 'orders', configurationKeys: ['retention.ms', 'max.message.bytes'] }],
    includeSynonyms: true,
    includeDocumentation: true,
  })

  const produce = (note: string, version: number, index: number, records: Uint8Array): Promise<unknown> =>
    session.ask(note, Api.Produce, version, {
      acks: -1,
      timeoutMs: 10_000,
      topicData: [{ ...(version >= 13 ? { topicId } : { name: 'orders' }), partitionData: [{ index, records }] }],
    })
  for (const compression of [null, 'gzip', 'zstd'] as const) await produce(`${compression}`, 9, 0, batch(compression))
  await each(Api.Produce, (v) => produce('plain', v, 1, batch(null)))
  await session.ask('a batch that is none is refused', Api.Produce, 11, {
    acks: -1,
    timeoutMs: 1000,
    topicData: [{ name: 'orders', partitionData: [{ index: 0, records: batch(null).fill(7, 40) }] }],
  })

  await each(Api.Fetch, (v) =>
    session.ask('one plain, one gzip, one zstd batch', Api.Fetch, v, {
      maxWaitMs: 100,
      minBytes: 1,
      topics: [
        {
          ...(v >= 13 ? { topicId } : { topic: 'orders' }),
          partitions: [{ partition: 0, fetchOffset: 0, partitionMaxBytes: v < 10 ? 900 : 100_000 }],
        },
      ],
    }),
  )
  await session.ask('out of range', Api.Fetch, 12, {
    topics: [{ topic: 'orders', partitions: [{ partition: 0, fetchOffset: 999, partitionMaxBytes: 1000 }] }],
  })
  await each(Api.ListOffsets, (v) =>
    session.ask('end', Api.ListOffsets, v, {
      replicaId: -1,
      topics: [{ name: 'orders', partitions: [{ partitionIndex: 0, timestamp: -1 }] }],
    }),
  )

  await settled(
    () => session.ask('group', Api.FindCoordinator, 4, { coordinatorKeys: ['billing'] }),
    (answer) => answer.coordinators[0]?.errorCode === 0,
    session,
  )
  await each(Api.FindCoordinator, (v) =>
    session.ask('group', Api.FindCoordinator, v, v >= 4 ? { coordinatorKeys: ['billing'] } : { key: 'billing' }),
  )
  const metadata = withVersion(0, encodeMessage('ConsumerProtocolSubscription', 0, { topics: ['orders'] }))
  const assignment = withVersion(
    0,
    encodeMessage('ConsumerProtocolAssignment', 0, { assignedPartitions: [{ topic: 'orders', partitions: [0, 1] }] }),
  )
  for (let v = versionRange(Api.JoinGroup).min; v <= versionRange(Api.JoinGroup).max; v++) {
    const groupId = `billing-${v}`
    const join = {
      groupId,
      sessionTimeoutMs: 10_000,
      protocolType: 'consumer',
      protocols: [{ name: 'range', metadata }],
      ...(v >= 1 ? { rebalanceTimeoutMs: 10_000 } : {}),
    }
    let joined = await settled(
      () => session.ask('first join', Api.JoinGroup, v, join),
      (answer) => answer.errorCode === 0 || answer.errorCode === 79,
      session,
    )
    if (joined.errorCode === 79) {
      joined = await session.ask('join with the id given', Api.JoinGroup, v, { ...join, memberId: joined.memberId })
    }
    const member = { groupId, generationId: joined.generationId, memberId: joined.memberId }
    const upTo = (api: ApiKey, version: number): number =>
      Math.max(versionRange(api).min, Math.min(version, versionRange(api).max))
    await session.ask('sync', Api.SyncGroup, upTo(Api.SyncGroup, v), {
      ...member,
      ...(upTo(Api.SyncGroup, v) >= 5 ? { protocolType: 'consumer', protocolName: 'range' } : {}),
      assignments: [{ memberId: joined.memberId, assignment }],
    })
    await session.ask('heartbeat', Api.Heartbeat, upTo(Api.Heartbeat, v), member)
    const commits = upTo(Api.OffsetCommit, v + 2)
    await session.ask('commit', Api.OffsetCommit, commits, {
      groupId,
      generationIdOrMemberEpoch: member.generationId,
      memberId: member.memberId,
      topics: [
        {
          ...(commits >= 10 ? { topicId } : { name: 'orders' }),
          partitions: [{ partitionIndex: 0, committedOffset: 3, committedMetadata: 'note' }],
        },
      ],
    })
    const fetches = upTo(Api.OffsetFetch, v + 1)
    const topics = [{ ...(fetches >= 10 ? { topicId } : { name: 'orders' }), partitionIndexes: [0, 1] }]
    await session.ask(
      'committed offsets',
      Api.OffsetFetch,
      fetches,
      fetches >= 8
        ? { groups: [{ groupId, topics }] }
        : { groupId, topics: [{ name: 'orders', partitionIndexes: [0, 1] }] },
    )
    await session.ask('described', Api.DescribeGroups, upTo(Api.DescribeGroups, v), { groups: [groupId] })
    const leaves = upTo(Api.LeaveGroup, v)
    await session.ask(
      'leave',
      Api.LeaveGroup,
      leaves,
      leaves >= 3 ? { groupId, members: [{ memberId: member.memberId }] } : { groupId, memberId: member.memberId },
    )
  }
  await each(Api.ListGroups, (v) => session.ask('groups', Api.ListGroups, v, {}))

  const heartbeat = await session.ask('joins; the assignment is a struct', Api.ConsumerGroupHeartbeat, 1, {
    groupId: 'new-protocol',
    memberId: 'AAAAAAAAAAAAAAAAAAAAAQ',
    rebalanceTimeoutMs: 10_000,
    subscribedTopicNames: ['orders'],
    topicPartitions: [],
  })
  await session.ask('nothing new; the assignment is null', Api.ConsumerGroupHeartbeat, 1, {
    groupId: 'new-protocol',
    memberId: 'AAAAAAAAAAAAAAAAAAAAAQ',
    memberEpoch: heartbeat.memberEpoch,
    topicPartitions: heartbeat.assignment?.topicPartitions ?? [],
  })
  await session.ask('described', Api.ConsumerGroupDescribe, 1, { groupIds: ['new-protocol'] })

  await settled(
    () => session.ask('transaction', Api.FindCoordinator, 4, { keyType: 1, coordinatorKeys: ['tx'] }),
    (answer) => answer.coordinators[0]?.errorCode === 0,
    session,
  )
  const producer = await settled(
    () =>
      session.ask('transactional', Api.InitProducerId, 4, {
        transactionalId: 'tx',
        transactionTimeoutMs: 60_000,
        producerId: -1,
        producerEpoch: -1,
      }),
    (answer) => answer.errorCode === 0,
    session,
  )
  await session.ask('added', Api.AddPartitionsToTxn, 3, {
    v3AndBelowTransactionalId: 'tx',
    v3AndBelowProducerId: producer.producerId,
    v3AndBelowProducerEpoch: producer.producerEpoch,
    v3AndBelowTopics: [{ name: 'orders', partitions: [0] }],
  })
  await session.ask('transactional', Api.Produce, 11, {
    transactionalId: 'tx',
    acks: -1,
    timeoutMs: 10_000,
    topicData: [
      {
        name: 'orders',
        partitionData: [{ index: 0, records: batch(null, { producerId: producer.producerId, transactional: true }) }],
      },
    ],
  })
  await session.ask('aborted', Api.EndTxn, 4, {
    transactionalId: 'tx',
    producerId: producer.producerId,
    producerEpoch: producer.producerEpoch,
    committed: false,
  })
  await settled(
    () =>
      session.ask('an aborted transaction and its marker', Api.Fetch, 12, {
        maxWaitMs: 100,
        minBytes: 1,
        isolationLevel: 1,
        topics: [{ topic: 'orders', partitions: [{ partition: 0, fetchOffset: 12, partitionMaxBytes: 100_000 }] }],
      }),
    (answer) => [...readBatches(answer.responses[0]?.partitions[0]?.records ?? new Uint8Array(0))].length === 2,
    session,
  )
  await each(Api.InitProducerId, (v) =>
    session.ask('idempotent', Api.InitProducerId, v, {
      transactionTimeoutMs: 60_000,
      ...(v >= 3 ? { producerId: -1, producerEpoch: -1 } : {}),
    }),
  )
  await each(Api.DeleteRecords, (v) =>
    session.ask('up to 2', Api.DeleteRecords, v, {
      topics: [{ name: 'orders', partitions: [{ partitionIndex: 1, offset: 2 }] }],
      timeoutMs: 5000,
    }),
  )
  await session.ask('no such topic', Api.DeleteTopics, 6, { topics: [{ name: 'nowhere' }], timeoutMs: 5000 })
  await session.ask('no such mechanism', Api.SaslHandshake, 1, { mechanism: 'PLAIN' })
}

/** Group data starts with its version. */
function withVersion(version: number, bytes: Uint8Array): Uint8Array {
  const writer = new Writer()
  writer.int16(version)
  writer.raw(bytes)
  return writer.finish()
}

const address = process.argv[2]
if (address === undefined) {
  process.stderr.write('usage: capture.ts <host:port>\n')
  process.exit(2)
}
await using session = await Session.open(address)
await capture(session)
const lines = session.exchanges.map((exchange) => JSON.stringify(exchange)).join(',\n')
writeFileSync(target, `[\n${lines}\n]\n`)
process.stdout.write(`${session.exchanges.length} exchanges\n`)
