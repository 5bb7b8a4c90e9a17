/** Our client as a scenario uses it. */
import { KafkaClient } from '../../src/kafka/client.ts'
import type { Consumer, HeldPartition } from '../../src/kafka/consumer.ts'
import {
  type ConnectOptions,
  type GivenRecord,
  type MemberOptions,
  type Subject,
  type SubjectMember,
  type SubjectProducer,
  type SubjectSession,
  wholeText,
} from './subject.ts'

export const ottla: Subject = {
  name: 'ottla',
  protocol: 'cooperative-sticky',
  connect: (options) => new OttlaSession(options),
}

class OttlaSession implements SubjectSession {
  readonly #client: KafkaClient

  constructor(options: ConnectOptions) {
    const { bootstrapServers, requestTimeoutMs, metadataMaxAgeMs, token } = options
    this.#client = new KafkaClient({
      bootstrapServers,
      ...(requestTimeoutMs === undefined ? {} : { requestTimeoutMs }),
      ...(metadataMaxAgeMs === undefined ? {} : { metadataMaxAgeMs }),
      ...(token === undefined
        ? {}
        : {
            tls: { ca: token.caFile },
            sasl: { mechanism: 'oauthbearer', token: () => ({ value: token.value, lifetimeMs: 600_000 }) },
          }),
    })
  }

  producer(options?: { readonly deliveryTimeoutMs?: number }): SubjectProducer {
    const producer = this.#client.producer(options)
    return {
      send: async (record) => {
        await producer.send(record)
      },
      close: () => producer.close(),
    }
  }

  async member(options: MemberOptions): Promise<SubjectMember> {
    return new OttlaMember(this.#client, options)
  }

  async ask(): Promise<void> {
    await this.#client.admin().listTopics()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#client.close()
  }
}

/** What an application would write: one record after the other, and at a release what is begun is finished. */
class OttlaMember implements SubjectMember {
  readonly failures: string[] = []
  readonly #consumer: Consumer
  readonly #waiting: { readonly held: HeldPartition; readonly record: GivenRecord }[] = []
  readonly #once = new Map<string, HeldPartition>()
  readonly #next = new Map<HeldPartition, number>()
  /** The record in hand. */
  #handling: Promise<void> = Promise.resolve()
  #isWorking = false

  constructor(client: KafkaClient, options: MemberOptions) {
    const { maxBytesPerPartition, rebalanceTimeoutMs } = options
    this.#consumer = client.consumer(
      {
        groupId: options.group,
        topics: options.topics,
        sessionTimeoutMs: 10_000,
        heartbeatIntervalMs: 200,
        ...(maxBytesPerPartition === undefined ? {} : { maxBytesPerPartition }),
        ...(rebalanceTimeoutMs === undefined ? {} : { rebalanceTimeoutMs }),
      },
      {
        gained: (parts) => {
          for (const { held } of parts) this.#once.set(`${held.topic}/${held.partition}`, held)
        },
        batch: (held, records) => {
          for (let i = 0; i < records.count; i++) {
            const value = Buffer.from(records.value(i) ?? []).toString()
            const { topic, partition } = held
            this.#waiting.push({ held, record: { topic, partition, offset: records.position(i), value } })
          }
          if (!this.#isWorking) void this.#work(options)
        },
        releasing: async (parts) => {
          for (let i = this.#waiting.length - 1; i >= 0; i--) {
            if (parts.includes((this.#waiting[i] as { held: HeldPartition }).held)) this.#waiting.splice(i, 1)
          }
          // Partitions that stay go on all the while: only what is in hand is waited for.
          await this.#handling
          for (const held of parts) {
            const offset = this.#next.get(held)
            if (offset !== undefined) await this.#consumer.commit(held, { offset, metadata: '' })
          }
        },
        fault: (where, error) => {
          const of = where === 'group' ? '' : `${where.topic}/${where.partition}: `
          this.failures.push(`${of}${error.code}: ${error.message}`)
        },
      },
    )
  }

  async #work(options: MemberOptions): Promise<void> {
    this.#isWorking = true
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      if (!this.#consumer.owns(next.held)) continue
      const { held, record } = next
      this.#handling = Promise.resolve(options.handle(record)).then(() => {
        this.#next.set(held, record.offset + 1)
      })
      await this.#handling
    }
    this.#isWorking = false
  }

  held(): readonly string[] {
    return this.#consumer
      .held()
      .map(({ topic, partition }) => `${topic}/${partition}`)
      .sort()
  }

  async commit(topic: string, partition: number, offset: number): Promise<void> {
    const held = this.#once.get(`${topic}/${partition}`)
    if (held === undefined) throw new Error('never held')
    const result = await this.#consumer.commit(held, { offset, metadata: '' })
    if (result !== 'stored') throw new Error(result)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#consumer[Symbol.asyncDispose]().catch((error: unknown) => this.failures.push(wholeText(error)))
  }
}
