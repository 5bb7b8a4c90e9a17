/**
 * Records that were fetched and are in no lane yet, in the order of the log.
 *
 * A record comes out when a handler could be started for it. So what costs memory and time per record (its entry in a lane,
 * its ticket) exists for those in hand and those behind a busy key, and not for a whole fetch.
 */
import type { BatchView } from './ports.ts'

interface Part {
  readonly batch: BatchView
  next: number
  readonly to: number
  /** Everything below was looked at once this part is used up. */
  reached: number
}

export class Intake {
  readonly #parts: Part[] = []
  #count = 0

  /** How many records wait. */
  get count(): number {
    return this.#count
  }

  /** Is there nothing, not even the end of a batch without records? */
  get empty(): boolean {
    return this.#parts.length === 0
  }

  push(batch: BatchView, from: number, to: number): void {
    this.#parts.push({ batch, next: from, to, reached: to === batch.count ? batch.nextPosition : -1 })
    this.#count += to - from
  }

  /** Everything below `position` counts as looked at behind what waits now. Only while something does. */
  reach(position: number): void {
    const last = this.#parts.at(-1)!
    last.reached = Math.max(last.reached, position)
  }

  /** Where the first record is. Only while there is one. */
  get batch(): BatchView {
    return this.#parts[0]!.batch
  }

  get index(): number {
    return this.#parts[0]!.next
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
