/**
 * The keys of a service that wait behind a dead letter.
 *
 *                    its record is dead-lettered                 every letter of it settled, or discarded
 *   (key flows) ───────────────────────────────────► held ──────────────────────────────────────────────► (key flows)
 *                                                    │  ▲
 *                           a follower arrives: its  │  │ a redrive of its first letter fails:
 *                           letter goes behind       └──┘ nothing moves, the count grows
 *
 * Letters of a held key are settled in the order of their source positions: `done` says how far. A record that comes
 * again after a crash is told apart by its position: before the failed one it is handled as ever, the failed one and
 * what is settled already have their letters, everything behind is held.
 *
 * Bounded: past `keysMax` no further key can be held, and whoever would hold one stands still instead.
 */

/** A held key. Positions are of the source partition; `letter` is where its unsettled letters begin. */
export interface Hold {
  readonly topic: string
  readonly topicId: string
  readonly partition: number
  /** Raw key bytes as base64url. */
  readonly key: string
  readonly head: number
  readonly letter: { readonly partition: number; readonly position: number }
  readonly done: number
  readonly skip: readonly number[]
  readonly redrives: number
}

/** What a hold means for a record of its key. */
export type Standing =
  /** Older than what failed: it comes again after a crash, and is handled. */
  | 'before'
  /** The failed one itself, its letter is stored. */
  | 'failed'
  /** A follower whose letter is settled already. */
  | 'settled'
  /** A follower: its letter goes behind the others. */
  | 'behind'

export const heldKeysMax = 10_000

export class Holds<H extends Hold = Hold> {
  readonly #byPartition = new Map<string, Map<string, H>>()
  readonly #keysMax: number
  #size = 0

  constructor(keysMax: number = heldKeysMax) {
    this.#keysMax = keysMax
  }

  /** The hold of a key; undefined when it flows. */
  get(topicId: string, partition: number, key: string): H | undefined {
    return this.#byPartition.get(`${topicId}/${partition}`)?.get(key)
  }

  /** Has this partition any held key? Asked for each record, before its key is looked at. */
  any(topicId: string, partition: number): boolean {
    return this.#size > 0 && this.#byPartition.has(`${topicId}/${partition}`)
  }

  /** Puts a hold in, or a newer one in the place of the same key's. */
  set(hold: H): void {
    const place = `${hold.topicId}/${hold.partition}`
    let keys = this.#byPartition.get(place)
    if (keys === undefined) {
      keys = new Map()
      this.#byPartition.set(place, keys)
    }
    if (!keys.has(hold.key)) this.#size++
    keys.set(hold.key, hold)
  }

  /** Lets a key go. False: it was not held. */
  release(topicId: string, partition: number, key: string): boolean {
    const place = `${topicId}/${partition}`
    const keys = this.#byPartition.get(place)
    if (keys?.delete(key) !== true) return false
    this.#size--
    if (keys.size === 0) this.#byPartition.delete(place)
    return true
  }

  get size(): number {
    return this.#size
  }

  /** May no further key be held? */
  get full(): boolean {
    return this.#size >= this.#keysMax
  }

  *[Symbol.iterator](): Iterator<H> {
    for (const keys of this.#byPartition.values()) yield* keys.values()
  }
}

/** What a hold means for the record of its key at `position`. */
export function standingOf(hold: Hold, position: number): Standing {
  if (position < hold.head) return 'before'
  if (position === hold.head) return 'failed'
  return position <= hold.done ? 'settled' : 'behind'
}

/** Is the letter of this source position the next one, or later, to be settled? */
export function isUnsettled(hold: Hold, position: number): boolean {
  return position > hold.done && !hold.skip.includes(position)
}
