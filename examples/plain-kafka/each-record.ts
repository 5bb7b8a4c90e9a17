/**
 * Handles records one after the other per partition, several partitions at once, and commits what is done: at least once.
 *
 * This is about what kafkajs calls `eachMessage`. It parks nothing, retries nothing and has no dead letters: a record
 * that cannot be handled stops its partition, and says so. Services of `ottla` do all of that.
 */
import type { Consumer, ConsumerOptions, FetchedBatch, HeldPartition, KafkaClient } from 'ottla/kafka'

export interface PlainRecord {
  readonly topic: string
  readonly partition: number
  readonly offset: number
  readonly timestampMs: number
  readonly key: string | null
  readonly value: string | null
}

export interface EachRecord {
  handle(record: PlainRecord): Promise<void>
  /** A handler or the consumer failed. With a place: that partition stands still until the process starts again. */
  failed(error: unknown, where: HeldPartition | 'group'): void
}

/** Starts at once; disposing it finishes what runs, commits it and leaves the group. */
export function eachRecord(
  client: KafkaClient,
  options: ConsumerOptions & { readonly groupId: string },
  on: EachRecord,
): Consumer {
  /** The last piece of work of each partition. */
  const running = new Map<HeldPartition, Promise<void>>()

  const consumer: Consumer = client.consumer(options, {
    batch(held, records) {
      // One batch at a time: what is not asked for waits at the broker, and not in this process.
      consumer.pause(held)
      const before = running.get(held) ?? Promise.resolve()
      running.set(
        held,
        before.then(() => work(held, records)),
      )
    },
    // The partitions are about to go to another member: finish first, so that it starts where we ended.
    async releasing(parts) {
      await Promise.all(parts.map((held) => running.get(held)))
      for (const held of parts) running.delete(held)
    },
    // They are gone already, and somebody else has begun: what still runs must not be committed, and is not.
    lost(parts) {
      for (const held of parts) running.delete(held)
    },
    fault: (where, error) => on.failed(error, where),
  })
  return consumer

  async function work(held: HeldPartition, records: FetchedBatch): Promise<void> {
    let done = 0
    try {
      // `owns` is false from the moment our session could be over, though nobody has told us yet.
      for (; done < records.count && consumer.owns(held); done++) {
        await on.handle({
          topic: held.topic,
          partition: held.partition,
          offset: records.position(done),
          timestampMs: records.timestampMs(done),
          key: records.keyText(done),
          value: records.valueText(done),
        })
      }
      await commit(held, done < records.count ? records.position(done) : records.nextPosition)
      consumer.resume(held)
    } catch (error) {
      // The partition stays paused. What came before the record that failed is not done again.
      on.failed(error, held)
      if (done < records.count) await commit(held, records.position(done)).catch((lost) => on.failed(lost, held))
    }
  }

  async function commit(held: HeldPartition, offset: number): Promise<void> {
    // 'lost' is no error: the partition has another owner, who starts at our last commit.
    await consumer.commit(held, { offset, metadata: '' })
  }
}
