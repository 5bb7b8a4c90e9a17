/**
 * Which partitions are in our hands, and the number that fences everything said about them.
 *
 * A partition's number grows by one each time it is gained after not being held. Records, completions, commits and
 * drains carry it; whatever carries an older number is dropped. Kafka's generation cannot do this job: it changes while
 * a partition stays, and a late answer may be stamped with the new one.
 */

/** A partition in one's hands, at one ownership. */
export interface HeldPartition {
  readonly topic: string
  readonly topicId: string
  readonly partition: number
  readonly ownership: number
}

const keyOf = (topic: string, partition: number): string => `${topic}\0${partition}`

/** The partitions held by one consumer. */
export class Ownership {
  readonly #numbers = new Map<string, number>()
  readonly #held = new Map<string, HeldPartition>()
  /** The last one that was found to be held; forgotten with every change. */
  #asked: HeldPartition | null = null

  /** Takes a partition; one already held at the same topic id keeps its number. */
  gain(topic: string, topicId: string, partition: number): HeldPartition {
    const key = keyOf(topic, partition)
    const before = this.#held.get(key)
    if (before !== undefined && before.topicId === topicId) return before
    const ownership = (this.#numbers.get(key) ?? 0) + 1
    this.#numbers.set(key, ownership)
    const held = Object.freeze({ topic, topicId, partition, ownership })
    this.#held.set(key, held)
    this.#asked = null
    return held
  }

  /** Gives a partition back. False when that ownership ended before. */
  drop(held: HeldPartition): boolean {
    if (!this.holds(held)) return false
    this.#asked = null
    return this.#held.delete(keyOf(held.topic, held.partition))
  }

  /** Is exactly this ownership still the current one? */
  holds(held: HeldPartition): boolean {
    // Asked for every record, nearly always about the same one.
    if (held === this.#asked) return true
    const current = this.#held.get(keyOf(held.topic, held.partition))
    if (current?.ownership !== held.ownership) return false
    this.#asked = held
    return true
  }

  /** What is held now for a partition. */
  current(topic: string, partition: number): HeldPartition | undefined {
    return this.#held.get(keyOf(topic, partition))
  }

  all(): readonly HeldPartition[] {
    return [...this.#held.values()]
  }
}
