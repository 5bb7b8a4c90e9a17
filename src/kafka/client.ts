/** A Kafka client: one cluster, and the producers, consumers and admin that share its connections and metadata. */
import { Admin } from './admin.ts'
import { Consumer, type ConsumerEvents, type ConsumerOptions } from './consumer.ts'
import { Cluster } from './io/cluster.ts'
import { builtInCompression } from './io/compression.ts'
import { type ClientOptions, type ResolvedClientOptions, resolveClientOptions } from './options.ts'
import { Producer, type ProducerOptions, resolveProducerOptions } from './producer.ts'

export class KafkaClient implements AsyncDisposable {
  readonly #options: ResolvedClientOptions
  readonly #cluster: Cluster
  readonly #producers = new Set<Producer>()
  readonly #consumers = new Set<Consumer>()
  #admin: Admin | null = null

  /** Connects nothing yet. Throws OTTLA_CONFIG_INVALID with every problem listed. */
  constructor(options: ClientOptions) {
    this.#options = resolveClientOptions(options)
    this.#cluster = new Cluster(this.#options)
  }

  /** What producers, consumers and admin share. */
  get cluster(): Cluster {
    return this.#cluster
  }

  /** Publishes records. Throws OTTLA_CONFIG_INVALID. */
  producer(options?: ProducerOptions): Producer {
    const producer: Producer = new Producer(this.#cluster, resolveProducerOptions(options, this.#options), () =>
      this.#producers.delete(producer),
    )
    this.#producers.add(producer)
    return producer
  }

  /**
   * Reads topics, as a member of a group when `groupId` is given; starts at once and tells what happens through `on`.
   * Throws OTTLA_CONFIG_INVALID.
   */
  consumer(options: ConsumerOptions, on: ConsumerEvents): Consumer {
    const consumer: Consumer = new Consumer(
      {
        cluster: this.#cluster,
        compression: builtInCompression,
        requestTimeoutMs: this.#options.requestTimeoutMs,
        onClose: () => this.#consumers.delete(consumer),
      },
      options,
      on,
    )
    this.#consumers.add(consumer)
    return consumer
  }

  /** Asks and changes the cluster: topics, configurations, groups, offsets. */
  admin(): Admin {
    this.#admin ??= new Admin(this.#cluster, this.#options)
    return this.#admin
  }

  /** Lets the consumers leave their groups, flushes and closes the producers, then closes every connection. */
  async close(): Promise<void> {
    await Promise.all([...this.#consumers].map((consumer) => consumer[Symbol.asyncDispose]()))
    await Promise.all([...this.#producers].map((producer) => producer.close()))
    await this.#cluster[Symbol.asyncDispose]()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}
