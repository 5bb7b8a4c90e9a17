/** A cluster state machine under a clock of the test's own, and short ways to ask it things. */
import assert from 'node:assert/strict'
import { Cluster, type ClusterOptions } from '../../src/broker/cluster.ts'
import type { Reply, Settled, Wait } from '../../src/broker/reply.ts'
import { ErrorCode } from '../../src/wire/error-codes.ts'
import {
  Api,
  type ApiKey,
  apiName,
  type Draft,
  decodeRequest,
  decodeRequestHeader,
  decodeResponse,
  encodeRequest,
  encodeResponse,
  type Requests,
  type Responses,
} from '../../src/wire/protocol.ts'
import { RecordBatchBuilder } from '../../src/wire/record-batch.ts'

/** A request that has not been answered yet. */
export interface Pending<K extends ApiKey> {
  readonly done: boolean
  /** The answer; fails the test when there is none. */
  body(): Responses[K]
  cancel(): void
}

export interface AskOptions {
  readonly version?: number
  readonly node?: number
  readonly clientId?: string
}

export class Harness {
  readonly cluster: Cluster
  nowMs = 1_000_000

  constructor(options: Partial<ClusterOptions> = {}) {
    let uuids = 0
    this.cluster = new Cluster({
      nodes: 1,
      clusterId: 'test-cluster-aaaaaaaaa',
      newUuid: () => Buffer.from(String(++uuids).padStart(16, '0')).toString('base64url'),
      partitionsDefault: 1,
      autoCreateTopics: false,
      initialRebalanceDelayMs: 0,
      sessionTimeoutMinMs: 100,
      sessionTimeoutMaxMs: 1_800_000,
      maxStoredBytes: 1_000_000,
      compression: {},
      ...options,
    })
    for (const node of this.cluster.nodes.values()) node.port = 9000 + node.id
  }

  /** Sends a request through both codecs, so that every test also shows that the answer can be written and read. */
  send<K extends ApiKey>(api: K, body: Draft<Requests[K]>, options: AskOptions = {}): Reply<Responses[K]> {
    const version = options.version ?? this.cluster.apis().find(({ key }) => key === api)!.max
    const frame = encodeRequest(api, version, 7, options.clientId ?? 'test', body).subarray(4)
    const header = decodeRequestHeader(frame)
    const reply = this.cluster.handle(
      {
        node: options.node ?? 1,
        apiKey: api,
        version,
        clientId: header.clientId,
        clientHost: '/127.0.0.1',
        body: decodeRequest(frame, header),
      },
      this.nowMs,
    ) as Reply<Draft<Responses[K]>>
    if (reply.kind === 'wait') return reply as unknown as Reply<Responses[K]>
    return throughTheWire(api, version, reply)
  }

  /** Sends a request that must be answered at once. */
  ask<K extends ApiKey>(api: K, body: Draft<Requests[K]>, options: AskOptions = {}): Responses[K] {
    const reply = this.send(api, body, options)
    assert.equal(reply.kind, 'answer', `${apiName(api)} was not answered`)
    return (reply as { body: Responses[K] }).body
  }

  /** Sends a request that may be answered later. */
  later<K extends ApiKey>(api: K, body: Draft<Requests[K]>, options: AskOptions = {}): Pending<K> {
    const version = options.version ?? this.cluster.apis().find(({ key }) => key === api)!.max
    const reply = this.send(api, body, options)
    let settled: Settled<Responses[K]> | null = reply.kind === 'wait' ? null : reply
    let wait: Wait<Responses[K]> | null = null
    if (reply.kind === 'wait') {
      wait = reply.wait
      wait.whenSettled((late) => {
        settled = throughTheWire(api, version, late as Settled<Draft<Responses[K]>>) as Settled<Responses[K]>
      })
    }
    return {
      get done() {
        return settled !== null
      },
      body() {
        assert.ok(settled !== null && settled.kind === 'answer', `${apiName(api)} was not answered`)
        return settled.body
      },
      cancel: () => wait?.cancel(),
    }
  }

  /** Lets time pass, stopping at every moment something is due. */
  advance(byMs: number): void {
    const untilMs = this.nowMs + byMs
    for (;;) {
      const nextMs = this.cluster.nextWakeMs()
      if (nextMs === undefined || nextMs > untilMs) break
      this.nowMs = Math.max(this.nowMs, nextMs)
      this.cluster.tick(this.nowMs)
    }
    this.nowMs = untilMs
    this.cluster.tick(this.nowMs)
  }

  topic(name: string, partitions = 1, configs: Readonly<Record<string, string>> = {}): void {
    const made = this.cluster.createTopic({
      name,
      partitions,
      replicationFactor: -1,
      configs: new Map(Object.entries(configs)),
    })
    assert.ok('id' in made, 'the topic was not made')
  }

  /** Produces one batch and returns the answer for its partition. */
  produce(topic: string, records: Uint8Array, options: AskOptions & { partition?: number; acks?: number } = {}) {
    const body = this.ask(
      Api.Produce,
      {
        acks: options.acks ?? -1,
        timeoutMs: 1000,
        topicData: [{ name: topic, partitionData: [{ index: options.partition ?? 0, records }] }],
      },
      { ...options, version: options.version ?? 9 },
    )
    return body.responses[0]!.partitionResponses[0]!
  }
}

function throughTheWire<K extends ApiKey>(
  api: K,
  version: number,
  reply: Reply<Draft<Responses[K]>>,
): Reply<Responses[K]> {
  if (reply.kind !== 'answer') return reply as Reply<Responses[K]>
  return { kind: 'answer', body: decodeResponse(api, version, encodeResponse(api, version, 7, reply.body).subarray(4)) }
}

export interface BatchOptions {
  readonly producerId?: number
  readonly producerEpoch?: number
  readonly baseSequence?: number
  readonly transactional?: boolean
}

/** A batch of records with these values; `value@time` gives a timestamp. */
export function batch(values: readonly string[], options: BatchOptions = {}): Uint8Array {
  const builder = new RecordBatchBuilder()
  for (const text of values) {
    const [value, time] = text.split('@')
    builder.append(null, Buffer.from(value!), [], Number(time ?? 500))
  }
  return builder.build(options)
}

/** The name of an error code, for readable failures. */
export function errorName(code: number): string {
  return Object.entries(ErrorCode).find(([, other]) => other === code)?.[0] ?? String(code)
}
