/**
 * Publishes records: each is answered by where it was stored, or by an error that says whether it may have been.
 *
 * Always `acks=all` and idempotent: a record is stored once and in the order of the calls, per partition, whatever
 * requests go wrong in between. Calls of one turn of the event loop travel together; nobody needs to make arrays.
 */
import { OttlaError } from '../contract/errors.ts'
import type { CompressionName } from '../wire/compression.ts'
import type { OutgoingHeader, Payload } from '../wire/record-batch.ts'
import type { Cluster } from './io/cluster.ts'
import { builtInCompression } from './io/compression.ts'
import { type Outgoing, ProducerLoop, type ProducerLoopOptions } from './io/producer-loop.ts'
import type { Partitioner } from './machine/partitioner.ts'
import { OptionCheck } from './option-check.ts'

export interface ProducerOptions {
  /**
   * How long a record may wait for company. Default 0: until the end of the turn, or, while a request to that broker is
   * unanswered, until the answer. Above 0 every record waits that long, unless its batch is full earlier.
   */
  readonly lingerMs?: number
  /** A batch of this size is full. Default 1 000 000, just below the limit a topic has by default. */
  readonly batchBytes?: number
  /** The largest record, and the size from which a request takes no further batch. Default 1 MiB. */
  readonly maxRequestBytes?: number
  /** Records taken and not settled; as much again may wait for room. Default 32 MiB. */
  readonly maxBufferedBytes?: number
  /** How long a record may wait for room, or for anything to be known of its topic. Default 60 000. */
  readonly maxBlockMs?: number
  /** How long a record may take from the batch to its confirmation, repetitions included. Default 120 000. */
  readonly deliveryTimeoutMs?: number
  /** How long one request may take. Default: the client's, at most the delivery timeout. */
  readonly requestTimeoutMs?: number
  /** Requests unanswered per broker, 1 to 5. Default 5. */
  readonly maxInFlight?: number
  /** The first pause after a passing error; doubles up to a second. Default 50. */
  readonly retryBackoffMs?: number
  /** `none`, `gzip`, `snappy`, `lz4` or `zstd`. Default `none`. */
  readonly compression?: 'none' | CompressionName
  /** Declared partition counts by topic: keys are spread over so many, whatever the broker has. */
  readonly partitions?: Readonly<Record<string, number>>
  /** Your own rule where a record names no partition. Default: murmur2 of the key as Java, sticky without one. */
  readonly partitioner?: Partitioner
}

/** Bytes, or a text that is sent as UTF-8. `null` as a value is a tombstone. */
export type Bytes = Uint8Array | string | null

export interface ProducerRecord {
  readonly topic: string
  /** Leave out, or `null`, to have it chosen. */
  readonly partition?: number | null
  readonly key?: Bytes
  readonly value?: Bytes
  /** Keys may repeat; the order is kept. */
  readonly headers?: readonly { readonly key: string; readonly value: Bytes }[]
  /** Milliseconds since the epoch. Default: now. */
  readonly timestampMs?: number
}

/** Where a record was stored. */
export interface RecordMetadata {
  readonly partition: number
  /** -1 in the one rare case where the broker knows the record to be stored and no longer where. */
  readonly offset: number
  /** The broker's clock where the topic says so, else the record's own. */
  readonly timestampMs: number
}

export interface SendOptions {
  /** Aborting gives up waiting. What was handed to a batch may be stored all the same: OTTLA_PUBLISH_OUTCOME_UNKNOWN. */
  readonly signal?: AbortSignal
}

const optionNames = [
  'lingerMs',
  'batchBytes',
  'maxRequestBytes',
  'maxBufferedBytes',
  'maxBlockMs',
  'deliveryTimeoutMs',
  'requestTimeoutMs',
  'maxInFlight',
  'retryBackoffMs',
  'compression',
  'partitions',
  'partitioner',
] as const satisfies readonly (keyof ProducerOptions)[]

/** What goes into one request unless it is said otherwise. */
export const defaultMaxRequestBytes = 1024 * 1024

/** Throws OTTLA_CONFIG_INVALID with every problem listed; OTTLA_KAFKA_COMPRESSION. */
export function resolveProducerOptions(
  options: ProducerOptions | undefined,
  client: { readonly requestTimeoutMs: number },
): ProducerLoopOptions {
  const check = new OptionCheck()
  const o = check.names('options', options, optionNames)
  const maxRequestBytes = check.integer('maxRequestBytes', o.maxRequestBytes, {
    default: defaultMaxRequestBytes,
    min: 1024,
    max: 1024 * 1024 * 1024,
  })
  const deliveryTimeoutMs = check.integer('deliveryTimeoutMs', o.deliveryTimeoutMs, {
    default: 120_000,
    min: 1,
    max: 86_400_000,
  })
  const compression = check.oneOf('compression', o.compression, ['none', 'gzip', 'snappy', 'lz4', 'zstd'], 'none')
  const partitions: Record<string, number> = {}
  if (o.partitions !== undefined) {
    const given = typeof o.partitions === 'object' && o.partitions !== null ? o.partitions : {}
    if (given !== o.partitions) check.problem('partitions', 'an object of counts by topic', o.partitions)
    for (const [topic, count] of Object.entries(given)) {
      partitions[topic] = check.integer(`partitions.${topic}`, count, { default: 1, min: 1, max: 1_000_000 })
    }
  }
  if (o.partitioner !== undefined && typeof o.partitioner !== 'function') {
    check.problem('partitioner', 'a function', o.partitioner)
  }
  const resolved: ProducerLoopOptions = {
    lingerMs: check.integer('lingerMs', o.lingerMs, { default: 0, min: 0, max: 600_000 }),
    batchBytes: Math.min(
      check.integer('batchBytes', o.batchBytes, { default: 1_000_000, min: 1, max: 1024 * 1024 * 1024 }),
      maxRequestBytes,
    ),
    maxRequestBytes,
    maxBufferedBytes: check.integer('maxBufferedBytes', o.maxBufferedBytes, { default: 32 * 1024 * 1024, min: 1024 }),
    maxBlockMs: check.integer('maxBlockMs', o.maxBlockMs, { default: 60_000, min: 0, max: 86_400_000 }),
    deliveryTimeoutMs,
    requestTimeoutMs: Math.min(
      check.integer('requestTimeoutMs', o.requestTimeoutMs, {
        default: client.requestTimeoutMs,
        min: 1,
        max: 3_600_000,
      }),
      deliveryTimeoutMs,
    ),
    maxInFlight: check.integer('maxInFlight', o.maxInFlight, { default: 5, min: 1, max: 5 }),
    retryBackoffMs: check.integer('retryBackoffMs', o.retryBackoffMs, { default: 50, min: 1, max: 60_000 }),
    compression: compression === 'none' ? null : { name: compression, codec: builtInCompression[compression] },
    partitions,
    partitioner: typeof o.partitioner === 'function' ? (o.partitioner as Partitioner) : null,
  }
  check.done('Kafka producer')
  // A compressor that cannot be had is told now, and not by every batch.
  resolved.compression?.codec.compress(Uint8Array.of(0))
  return resolved
}

const noHeaders: readonly OutgoingHeader[] = []

export class Producer implements AsyncDisposable {
  readonly #loop: ProducerLoop
  readonly #onClose: () => void

  /** Made by `KafkaClient.producer`. */
  constructor(cluster: Cluster, options: ProducerLoopOptions, onClose: () => void) {
    this.#loop = new ProducerLoop(cluster, options)
    this.#onClose = onClose
  }

  /** Bytes of records taken and not yet settled. */
  get bufferedBytes(): number {
    return this.#loop.bufferedBytes
  }

  /**
   * Publishes a record and resolves when all in-sync replicas have it.
   *
   * Throws OTTLA_PUBLISH_INVALID, OTTLA_PUBLISH_TOO_LARGE, OTTLA_PUBLISH_PARTITION, OTTLA_PUBLISH_BUFFER_FULL, OTTLA_PUBLISH_OUTCOME_UNKNOWN
   * (time is up or aborted; `details.maybeStored`), OTTLA_KAFKA_AUTHORIZATION, OTTLA_KAFKA_AUTHENTICATION,
   * OTTLA_KAFKA_BROKER, OTTLA_KAFKA_RETRIABLE (the topic does not exist), OTTLA_KAFKA_TIMEOUT, OTTLA_KAFKA_CLOSED.
   */
  send(record: ProducerRecord, options?: SendOptions): Promise<RecordMetadata> {
    const signal = options?.signal
    return new Promise<RecordMetadata>((resolve, reject) => {
      if (signal === undefined) {
        this.#loop.accept(new Single(record, resolve, reject))
        return
      }
      if (signal.aborted) {
        reject(aborted(record.topic, signal, false))
        return
      }
      const single = new Single(
        record,
        (stored) => {
          signal.removeEventListener('abort', onAbort)
          resolve(stored)
        },
        (error) => {
          signal.removeEventListener('abort', onAbort)
          reject(error)
        },
      )
      const onAbort = (): void => {
        const withdrawn = this.#loop.withdraw(single)
        reject(aborted(record.topic, signal, !withdrawn))
      }
      signal.addEventListener('abort', onAbort, { once: true })
      this.#loop.accept(single)
    })
  }

  /**
   * Publishes several records, in order per partition, and resolves with one answer per record when all are stored.
   * When some are not, it rejects with the first error once every record is settled; its `details.results` then holds,
   * per record, where it was stored or why not. OTTLA_PUBLISH_INVALID: one of them is no record; none was taken.
   */
  sendMany(records: readonly ProducerRecord[]): Promise<readonly RecordMetadata[]> {
    if (records.length === 0) return Promise.resolve([])
    return new Promise((resolve, reject) => {
      const nowMs = Date.now()
      const results = new Array<RecordMetadata | OttlaError>(records.length)
      const group: Group = { nowMs, left: records.length, results, failure: null, resolve, reject }
      // All are looked at before the first is handed over.
      const members = records.map((record, i) => new Member(record, group, i))
      for (const member of members) this.#loop.accept(member)
    })
  }

  /** Resolves when everything sent before is settled, one way or the other. Lingering ends. */
  flush(): Promise<void> {
    return this.#loop.flush()
  }

  /** Takes nothing more, flushes, and closes; at the longest the delivery timeout. */
  async close(): Promise<void> {
    await this.#loop.close()
    this.#onClose()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

/** A record on its way, with what was left out filled in. */
abstract class Sent implements Outgoing {
  readonly topic: string
  readonly partition: number
  readonly key: Payload
  readonly value: Payload
  readonly headers: readonly OutgoingHeader[]
  readonly timestampMs: number
  estimate = 0
  sinceMs = 0

  constructor({ topic, partition, key, value, headers, timestampMs }: ProducerRecord, nowMs: number) {
    this.topic = topic
    this.partition = partition ?? -1
    this.key = key ?? null
    this.value = value ?? null
    this.headers = headers ?? noHeaders
    this.timestampMs = timestampMs ?? nowMs
    const problem = problemOf(this, partition)
    if (problem !== null) throw new OttlaError('OTTLA_PUBLISH_INVALID', problem, { details: { topic } })
  }

  abstract stored(partition: number, offset: number, timestampMs: number): void
  abstract failed(error: OttlaError): void
}

class Single extends Sent {
  readonly #resolve: (stored: RecordMetadata) => void
  readonly #reject: (error: OttlaError) => void

  constructor(record: ProducerRecord, resolve: (stored: RecordMetadata) => void, reject: (error: OttlaError) => void) {
    super(record, Date.now())
    this.#resolve = resolve
    this.#reject = reject
  }

  stored(partition: number, offset: number, timestampMs: number): void {
    this.#resolve({ partition, offset, timestampMs })
  }

  failed(error: OttlaError): void {
    this.#reject(error)
  }
}

/** The records of one `sendMany`: one promise for all of them. */
interface Group {
  /** When they were handed in. */
  readonly nowMs: number
  left: number
  readonly results: (RecordMetadata | OttlaError)[]
  failure: OttlaError | null
  readonly resolve: (results: readonly RecordMetadata[]) => void
  readonly reject: (error: OttlaError) => void
}

class Member extends Sent {
  readonly #group: Group
  readonly #index: number

  constructor(record: ProducerRecord, group: Group, index: number) {
    super(record, group.nowMs)
    this.#group = group
    this.#index = index
  }

  stored(partition: number, offset: number, timestampMs: number): void {
    this.#settle({ partition, offset, timestampMs })
  }

  failed(error: OttlaError): void {
    this.#group.failure ??= error
    this.#settle(error)
  }

  #settle(result: RecordMetadata | OttlaError): void {
    const group = this.#group
    group.results[this.#index] = result
    group.left -= 1
    if (group.left > 0) return
    const { failure, results } = group
    if (failure === null) {
      group.resolve(results as RecordMetadata[])
      return
    }
    const failed = results.filter((r) => r instanceof OttlaError).length
    group.reject(
      new OttlaError(failure.code, `${failed} of ${results.length} records failed, the first so: ${failure.message}`, {
        cause: failure,
        retriable: failure.retriable,
        ...(failure.kafka === undefined ? {} : { kafka: failure.kafka }),
        details: { ...failure.details, results },
      }),
    )
  }
}

/** Why it is no record, or null. Never holds payload. */
function problemOf(sent: Sent, partition: number | null | undefined): string | null {
  const { topic, key, value, headers, timestampMs } = sent
  if (typeof topic !== 'string' || topic === '') return 'A record needs a topic'
  if (partition != null && !(Number.isInteger(partition) && partition >= 0)) {
    return `The partition of a record for ${topic} must be a whole number from 0 on, or left out; not ${partition}`
  }
  if (!(Number.isSafeInteger(timestampMs) && timestampMs >= 0)) {
    return `The timestampMs of a record for ${topic} must be whole milliseconds since 1970, not ${timestampMs}`
  }
  if (!isPayload(key)) return `The key of a record for ${topic} must be bytes, a text or null, not ${typeof key}`
  if (!isPayload(value)) return `The value of a record for ${topic} must be bytes, a text or null, not ${typeof value}`
  for (let i = 0; i < headers.length; i += 1) {
    const header = headers[i]
    if (typeof header?.key !== 'string' || !isPayload(header.value)) {
      return `Header ${i} of a record for ${topic} must be { key: text, value: bytes, a text or null }`
    }
  }
  return null
}

function isPayload(given: unknown): boolean {
  return given === null || typeof given === 'string' || given instanceof Uint8Array
}

function aborted(topic: string, signal: AbortSignal, maybeStored: boolean): OttlaError {
  return new OttlaError(
    'OTTLA_PUBLISH_OUTCOME_UNKNOWN',
    maybeStored
      ? `Publishing to ${topic} was aborted; the record may be stored all the same`
      : `Publishing to ${topic} was aborted before the record was sent`,
    { cause: signal.reason, details: { topic, maybeStored } },
  )
}
