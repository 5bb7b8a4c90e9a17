/**
 * In which order Java's HashMap and HashSet hand out what they hold.
 *
 * Kafka's sticky assignor goes through such maps where several answers are equally good, so the order decides which
 * member keeps one partition more. To come to the same answer, the same order is needed: by slot of the table, which
 * follows from hash and size, and within a slot by time of arrival. (Java turns slots of eight and more entries into
 * trees, which takes groups far beyond what a classic group is used for.)
 */

/** `String.hashCode` of Java. */
export function javaStringHash(text: string): number {
  let hash = 0
  for (let i = 0; i < text.length; i++) hash = (Math.imul(31, hash) + text.charCodeAt(i)) | 0
  return hash
}

/** The hash Kafka's TopicPartition has in Java. */
export function javaPartitionHash(topicHash: number, partition: number): number {
  return (Math.imul(31, (31 + partition) | 0) + topicHash) | 0
}

const slotOf = (hash: number, slots: number): number => (hash ^ (hash >>> 16)) & (slots - 1)

/** Texts in the order of a HashMap into which they were put one after the other. */
export function inJavaOrder(texts: readonly string[]): readonly string[] {
  const all = [...new Set(texts)]
  let slots = 16
  while (all.length > slots * 0.75) slots *= 2
  return all
    .map((text) => ({ text, slot: slotOf(javaStringHash(text), slots) }))
    .sort((a, b) => a.slot - b.slot)
    .map(({ text }) => text)
}

/** A HashSet of which only the first element matters. */
export class JavaHashSet<T extends { readonly hash: number }> {
  readonly #items = new Set<T>()
  /** The table grows and never shrinks. */
  #slots = 16

  get size(): number {
    return this.#items.size
  }

  add(item: T): void {
    this.#items.add(item)
    if (this.#items.size > this.#slots * 0.75) this.#slots *= 2
  }

  delete(item: T): void {
    this.#items.delete(item)
  }

  first(): T | undefined {
    let best: T | undefined
    let bestSlot = Number.POSITIVE_INFINITY
    for (const item of this.#items) {
      const slot = slotOf(item.hash, this.#slots)
      if (slot < bestSlot) {
        best = item
        bestSlot = slot
      }
    }
    return best
  }
}
