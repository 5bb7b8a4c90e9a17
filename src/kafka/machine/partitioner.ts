/**
 * Which partition a record goes to.
 *
 * With a key: murmur2 of the key over the number of partitions, equal to the Java client's, so that every producer of a
 * topic puts a key in the same place. The number may be declared: then partitions added on the broker move no key.
 * Without a key the order means nothing, so records stick to one partition until enough bytes went there, for few large
 * batches instead of many small ones, and then move on, past partitions that have no leader.
 */
import { partitionFor } from '../../wire/murmur2.ts'
import type { PartitionState } from './metadata.ts'

/** Your own rule: the partition for a record, from 0 to `partitions` - 1. */
export type Partitioner = (record: {
  readonly topic: string
  readonly key: Uint8Array | null
  readonly partitions: number
}) => number

export function keyPartition(key: Uint8Array | string, partitions: number): number {
  return partitions === 1 ? 0 : partitionFor(key, partitions)
}

/** One topic's records without a key. */
export class StickyPartitioner {
  readonly #stickyBytes: number
  #current = -1
  #bytes = 0

  /** `stickyBytes`: how much goes to one partition before the next one's turn. */
  constructor(stickyBytes: number) {
    this.#stickyBytes = stickyBytes
  }

  /** `random` from 0 up to 1 picks where to go when it is time to move on. */
  choose(partitions: readonly PartitionState[], recordBytes: number, random: () => number): number {
    const current = this.#current
    const stays = current >= 0 && current < partitions.length && this.#bytes < this.#stickyBytes
    if (!stays || (partitions[current]?.leader ?? -1) < 0) this.#move(partitions, random())
    this.#bytes += recordBytes
    return this.#current
  }

  #move(partitions: readonly PartitionState[], random: number): void {
    this.#bytes = 0
    const led = partitions.filter((p) => p.leader >= 0 && p.partition !== this.#current)
    const among =
      led.length > 0 ? led : partitions.filter((p) => p.leader >= 0 || partitions.every((q) => q.leader < 0))
    this.#current = among[Math.floor(random * among.length)]?.partition ?? 0
  }
}
