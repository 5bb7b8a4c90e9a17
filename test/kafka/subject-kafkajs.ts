/**
 * kafkajs as a scenario uses it, from `bench/node_modules`: it is no dependency of the project.
 *
 * Typed by the little that is used of it, because who has not installed it must still be able to check types.
 */
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import {
  type ConnectOptions,
  type MemberOptions,
  type Subject,
  type SubjectMember,
  type SubjectProducer,
  type SubjectSession,
  wholeText,
} from './subject.ts'

interface Connected {
  connect(): Promise<void>
  disconnect(): Promise<void>
}
interface Writer extends Connected {
  send(options: object): Promise<unknown>
}
interface Reader extends Connected {
  on(event: string, listener: (event: { readonly payload: unknown }) => void): void
  subscribe(options: object): Promise<void>
  run(options: object): Promise<void>
  commitOffsets(offsets: readonly object[]): Promise<void>
}
interface Client {
  producer(options: object): Writer
  consumer(options: object): Reader
  admin(): Connected & { listTopics(): Promise<unknown> }
}
interface Library {
  readonly Kafka: new (options: object) => Client
  readonly logLevel: { readonly NOTHING: number }
}
interface EachMessage {
  readonly topic: string
  readonly partition: number
  readonly message: { readonly offset: string; readonly value: Buffer | null }
}

const bench = path.resolve(import.meta.dirname, '../../bench')

/** Why it cannot be used here, or null. */
export const missingKafkajs: string | null = existsSync(path.join(bench, 'node_modules/kafkajs'))
  ? null
  : 'bench/node_modules is missing: (cd bench && npm ci)'

/** Loads it. Throws when it is not installed. */
export function loadKafkajs(): Subject {
  const library = createRequire(path.join(bench, 'package.json'))('kafkajs') as Library
  return {
    name: 'kafkajs',
    protocol: 'RoundRobinAssigner',
    connect: (options) => new KafkajsSession(library, options),
  }
}

class KafkajsSession implements SubjectSession {
  readonly #client: Client
  readonly #metadataMaxAge: object
  readonly #opened: Connected[] = []

  constructor(library: Library, options: ConnectOptions) {
    const { bootstrapServers, requestTimeoutMs, metadataMaxAgeMs, token } = options
    this.#client = new library.Kafka({
      clientId: 'peer',
      brokers: bootstrapServers.split(','),
      logLevel: library.logLevel.NOTHING,
      ...(requestTimeoutMs === undefined ? {} : { requestTimeout: requestTimeoutMs, retry: { retries: 1 } }),
      ...(token === undefined
        ? {}
        : {
            retry: { retries: 0 },
            ssl: { ca: [readFileSync(token.caFile)] },
            sasl: { mechanism: 'oauthbearer', oauthBearerProvider: async () => ({ value: token.value }) },
          }),
    })
    this.#metadataMaxAge = metadataMaxAgeMs === undefined ? {} : { metadataMaxAge: metadataMaxAgeMs }
  }

  producer(): SubjectProducer {
    const producer = this.#client.producer({ idempotent: true, maxInFlightRequests: 5, ...this.#metadataMaxAge })
    const connected = producer.connect()
    connected.catch(() => undefined)
    this.#opened.push(producer)
    return {
      send: async ({ topic, ...message }) => {
        await connected
        await producer.send({ topic, acks: -1, messages: [message] })
      },
      close: () => producer.disconnect(),
    }
  }

  async member(options: MemberOptions): Promise<SubjectMember> {
    const failures: string[] = []
    let held: readonly string[] = []
    const consumer = this.#client.consumer({
      groupId: options.group,
      sessionTimeout: 10_000,
      heartbeatInterval: 200,
      rebalanceTimeout: options.rebalanceTimeoutMs ?? 60_000,
      maxWaitTimeInMs: 500,
      ...(options.maxBytesPerPartition === undefined ? {} : { maxBytesPerPartition: options.maxBytesPerPartition }),
      ...this.#metadataMaxAge,
    })
    this.#opened.push(consumer)
    consumer.on('consumer.crash', ({ payload }) => {
      failures.push(wholeText((payload as { readonly error: unknown }).error))
    })
    consumer.on('consumer.group_join', ({ payload }) => {
      const { memberAssignment } = payload as { readonly memberAssignment: Readonly<Record<string, readonly number[]>> }
      held = Object.entries(memberAssignment)
        .flatMap(([topic, partitions]) => partitions.map((partition) => `${topic}/${partition}`))
        .sort()
    })
    await consumer.connect()
    await consumer.subscribe({ topics: [...options.topics], fromBeginning: true })
    await consumer.run({
      autoCommit: false,
      partitionsConsumedConcurrently: 4,
      eachMessage: async ({ topic, partition, message }: EachMessage) => {
        const value = (message.value ?? '').toString()
        await options.handle({ topic, partition, offset: Number(message.offset), value })
      },
    })
    return {
      failures,
      held: () => held,
      commit: (topic, partition, offset) => consumer.commitOffsets([{ topic, partition, offset: String(offset) }]),
      [Symbol.asyncDispose]: () => consumer.disconnect(),
    }
  }

  async ask(): Promise<void> {
    const admin = this.#client.admin()
    this.#opened.push(admin)
    await admin.connect()
    await admin.listTopics()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // What a defect has left half open may not want to close; the scenario has been judged by then.
    const enough = new Promise((resolve) => {
      setTimeout(resolve, 5_000).unref()
    })
    await Promise.race([Promise.allSettled(this.#opened.map((each) => each.disconnect())), enough])
  }
}
