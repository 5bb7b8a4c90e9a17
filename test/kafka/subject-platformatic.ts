/**
 * @platformatic/kafka as a scenario uses it, from `bench/node_modules`: it is no dependency of the project.
 *
 * Typed by the little that is used of it, because who has not installed it must still be able to check types.
 */
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import {
  type ConnectOptions,
  type MemberOptions,
  type Subject,
  type SubjectMember,
  type SubjectProducer,
  type SubjectSession,
  wholeText,
} from './subject.ts'

interface Message {
  readonly topic: string
  readonly partition: number
  readonly offset: bigint
  readonly value: Buffer | undefined
}
interface Stream extends AsyncIterable<Message> {
  on(event: 'error', listener: (error: Error) => void): void
  close(): Promise<void>
}
interface Client {
  on(event: string, listener: (error: unknown) => void): void
  close(force?: boolean): Promise<void>
}
interface Reader extends Client {
  readonly assignments: readonly { readonly topic: string; readonly partitions: readonly number[] }[] | null
  consume(options: object): Promise<Stream>
  commit(options: object): Promise<void>
}
interface Writer extends Client {
  send(options: object): Promise<unknown>
}
interface Library {
  readonly Admin: new (options: object) => Client & { listTopics(options: object): Promise<unknown> }
  readonly Consumer: new (options: object) => Reader
  readonly Producer: new (options: object) => Writer
  readonly stringSerializers: object
}

const folder = path.resolve(import.meta.dirname, '../../bench/node_modules/@platformatic/kafka')

/** Why it cannot be used here, or null. */
export const missingPlatformatic: string | null = existsSync(folder)
  ? null
  : 'bench/node_modules is missing: (cd bench && npm ci)'

/** Loads it. Throws when it is not installed. */
export async function loadPlatformatic(): Promise<Subject> {
  const library = (await import(pathToFileURL(path.join(folder, 'dist/index.js')).href)) as Library
  return {
    name: '@platformatic/kafka',
    protocol: 'roundrobin',
    connect: (options) => new PlatformaticSession(library, options),
  }
}

class PlatformaticSession implements SubjectSession {
  readonly #library: Library
  readonly #options: object
  readonly #opened: { close(): Promise<unknown> }[] = []

  constructor(library: Library, options: ConnectOptions) {
    const { bootstrapServers, requestTimeoutMs, metadataMaxAgeMs, token } = options
    this.#library = library
    this.#options = {
      clientId: 'peer',
      bootstrapBrokers: bootstrapServers.split(','),
      // As many repetitions as its documentation's defaults, but one where the time of one request is the point.
      ...(requestTimeoutMs === undefined ? {} : { requestTimeout: requestTimeoutMs, retries: 1 }),
      ...(metadataMaxAgeMs === undefined ? {} : { metadataMaxAge: metadataMaxAgeMs }),
      ...(token === undefined
        ? {}
        : { tls: { ca: [readFileSync(token.caFile)] }, sasl: { mechanism: 'OAUTHBEARER', token: token.value } }),
    }
  }

  producer(): SubjectProducer {
    const producer = new this.#library.Producer({
      ...this.#options,
      serializers: this.#library.stringSerializers,
      idempotent: true,
      acks: -1,
    })
    producer.on('error', () => undefined)
    this.#opened.push({ close: () => producer.close(true) })
    return {
      send: async (record) => {
        await producer.send({ messages: [record], acks: -1, idempotent: true })
      },
      close: () => producer.close(),
    }
  }

  async member(options: MemberOptions): Promise<SubjectMember> {
    const failures: string[] = []
    const fail = (error: unknown): void => {
      failures.push(wholeText(error))
    }
    const consumer = new this.#library.Consumer({
      ...this.#options,
      groupId: options.group,
      sessionTimeout: 10_000,
      heartbeatInterval: 200,
      rebalanceTimeout: options.rebalanceTimeoutMs ?? 60_000,
      maxWaitTime: 500,
      isolationLevel: 1,
      autocommit: false,
    })
    consumer.on('error', fail)
    const close = (): Promise<void> => consumer.close(true).catch(fail)
    this.#opened.push({ close })
    const maxBytes =
      options.maxBytesPerPartition === undefined
        ? {}
        : { maxBytes: options.maxBytesPerPartition, maxBytesPerPartition: options.maxBytesPerPartition }
    const stream = await consumer.consume({
      topics: [...options.topics],
      mode: 'committed',
      fallbackMode: 'earliest',
      ...maxBytes,
    })
    stream.on('error', fail)
    const read = async (): Promise<void> => {
      for await (const { topic, partition, offset, value } of stream) {
        await options.handle({ topic, partition, offset: Number(offset), value: (value ?? '').toString() })
      }
    }
    void read().catch(() => undefined)
    return {
      failures,
      held: () =>
        (consumer.assignments ?? [])
          .flatMap(({ topic, partitions }) => partitions.map((partition) => `${topic}/${partition}`))
          .sort(),
      commit: (topic, partition, offset) =>
        consumer.commit({ offsets: [{ topic, partition, offset: BigInt(offset), leaderEpoch: 0 }] }),
      [Symbol.asyncDispose]: close,
    }
  }

  async ask(): Promise<void> {
    const admin = new this.#library.Admin(this.#options)
    this.#opened.push({ close: () => admin.close() })
    await admin.listTopics({})
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // What a defect has left half open may not want to close; the scenario has been judged by then.
    await Promise.allSettled(this.#opened.map((each) => withinSeconds(each.close(), 5)))
  }
}

function withinSeconds(work: Promise<unknown>, seconds: number): Promise<unknown> {
  return Promise.race([
    work,
    new Promise((resolve) => {
      setTimeout(resolve, seconds * 1_000).unref()
    }),
  ])
}
