/**
 * Records that were fetched and are in no lane yet, in the order of the log.
 *
 * A record comes out when a handler could be started for it. So what costs memory and time per record (its entry in a lane,
 * its ticket) exists for those in hand and those behind a busy key, and not for a whole fetch.
 */
import type { BatchView } from './ports.ts'

/**
 * A batch, or a part of one, from its arrival until its last record has ended. Then nobody looks at its bytes any more, and
 * the log may use their memory for the next records, unless somebody has said that he may.
 */
export class Fetched {
  readonly batch: BatchView
  /** The first record that is still in the intake, and where they end. */
  next: number
  readonly to: number
  /** Everything below was looked at once all of it has left the intake. */
  reached: number
  #open: number
  #kept: boolean

  constructor(batch: BatchView, range: { readonly from: number; readonly to: number; readonly kept: boolean }) {
    const { from, to, kept } = range
    this.batch = batch
    this.next = from
    this.to = to
    this.reached = to === batch.count ? batch.nextPosition : -1
    this.#open = to - from
    // Who handles a part of it does not know of the others.
    this.#kept = kept || to - from < batch.count
  }

  /** Somebody may look at bytes of a record after it has ended: their memory is left to the garbage collector. */
  keep(): void {
    this.#kept = true
  }

  /** One of its records has ended. */
  ended(): void {
    if (--this.#open === 0 && !this.#kept) this.batch.release?.()
  }
}

export class Intake {
  readonly #parts: Fetched[] = []
  #count = 0

  /** How many records wait. */
  get count(): number {
    return this.#count
  }

  /** Is there nothing, not even the end of a batch without records? */
  get empty(): boolean {
    return this.#parts.length === 0
  }

  push(part: Fetched): void {
    this.#parts.push(part)
    this.#count += part.to - part.next
  }

  /** Everything below `position` counts as looked at behind what waits now. Only while something does. */
  reach(position: number): void {
    const last = this.#parts.at(-1)!
    last.reached = Math.max(last.reached, position)
  }

  /** Where the first record is: `next` of this. Only while there is one. */
  get first(): Fetched {
    return this.#parts[0]!
  }

  /** The first record was taken out. */
  advance(): void {
    this.#parts[0]!.next++
    this.#count--
  }

  /** Drops parts that are used up. Returns up to where everything was looked at by that; -1: no news. */
  finishParts(): number {
    let reached = -1
    for (let part = this.#parts[0]; part !== undefined && part.next === part.to; part = this.#parts[0]) {
      reached = Math.max(reached, part.reached)
      this.#parts.shift()
    }
    return reached
  }

  clear(): void {
    this.#parts.length = 0
    this.#count = 0
  }
}
