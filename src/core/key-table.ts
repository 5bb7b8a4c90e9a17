/**
 * Entries by the bytes of a key, without making a text of them: for tables that are looked into once per record and whose
 * entries come and go as fast.
 *
 * Buckets with chains. It doubles when there are as many entries as buckets; it never shrinks, since whoever uses it is
 * bounded.
 */
import { sameBytes } from '../contract/text.ts'

/** An entry of a table. The link belongs to the table. */
export interface Keyed {
  readonly key: Uint8Array
  /** Of its key, see `hashOf`. */
  readonly hash: number
  beside: Keyed | null
}

const firstBuckets = 256

/** FNV-1a. */
export function hashOf(key: Uint8Array): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key[i]!, 0x01000193)
  // The last bytes have not reached the lower bits yet, which choose the bucket.
  return hash ^ (hash >>> 15)
}

export class KeyTable<E extends Keyed> {
  #buckets: (Keyed | null)[] = emptyBuckets(firstBuckets)
  #size = 0

  get(key: Uint8Array, hash: number): E | undefined {
    let entry = this.#buckets[hash & (this.#buckets.length - 1)]!
    while (entry !== null && !(entry.hash === hash && sameBytes(entry.key, key))) entry = entry.beside!
    return (entry as E | null) ?? undefined
  }

  /** Adds an entry whose key is not there. */
  add(entry: E): void {
    if (this.#size === this.#buckets.length) this.#grow()
    this.#size++
    this.#link(entry)
  }

  /** Takes out an entry that is there. */
  delete(entry: E): void {
    const at = entry.hash & (this.#buckets.length - 1)
    const first = this.#buckets[at]!
    if (first === entry) this.#buckets[at] = entry.beside
    else {
      let before = first
      while (before.beside !== entry) before = before.beside!
      before.beside = entry.beside
    }
    entry.beside = null
    this.#size--
  }

  clear(): void {
    this.#buckets = emptyBuckets(firstBuckets)
    this.#size = 0
  }

  get size(): number {
    return this.#size
  }

  #link(entry: Keyed): void {
    const at = entry.hash & (this.#buckets.length - 1)
    entry.beside = this.#buckets[at]!
    this.#buckets[at] = entry
  }

  #grow(): void {
    const before = this.#buckets
    this.#buckets = emptyBuckets(before.length * 2)
    for (let entry of before) {
      while (entry !== null) {
        const { beside } = entry as Keyed
        this.#link(entry)
        entry = beside
      }
    }
  }
}

function emptyBuckets(count: number): (Keyed | null)[] {
  return new Array<Keyed | null>(count).fill(null)
}
