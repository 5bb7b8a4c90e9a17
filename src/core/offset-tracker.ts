/**
 * How far one partition has come, when records finish out of order.
 *
 * Records are opened in the order of their positions and finished in any order. The checkpoint is the lowest position
 * still open, plus the runs of finished ones beyond it, so that a new owner does not redo them. Positions may have gaps
 * (compaction, control records): a gap counts as finished together with what surrounds it.
 *
 * Open and finished-beyond records live in a ring indexed by a running number, the ticket. Opening and finishing are
 * O(1); the ring is as long as the distance between the oldest open record and the newest.
 *
 * The checkpoint the partition was gained with may hold finished ranges of the previous owner. They are believed here
 * (the adapter has validated them): records inside are to be skipped, and ranges not yet reached stay in our own
 * checkpoints, so that a second crash does not forget them.
 */

/** The lowest position not finished, and finished ranges beyond it: from, to (exclusive), from, to … ascending. */
export interface Progress {
  readonly low: number
  readonly finished: readonly number[]
}

export class OffsetTracker {
  /** Position by ticket, a power-of-two ring. */
  #positions = new Float64Array(256)
  #finished = new Uint8Array(256)
  #mask = 255
  /** Ticket of the oldest one not yet passed, and of the next one to come. */
  #head = 0
  #tail = 0
  #open = 0
  /** Everything below was looked at: fetched, or known not to exist. */
  #next: number
  readonly #inherited: readonly number[]
  #inheritedCursor = 0

  constructor(start: Progress) {
    this.#next = start.low
    this.#inherited = start.finished
  }

  /** Did an earlier owner finish this one? Ask in ascending order. */
  skips(position: number): boolean {
    const ranges = this.#inherited
    while (this.#inheritedCursor < ranges.length && position >= ranges[this.#inheritedCursor + 1]!) {
      this.#inheritedCursor += 2
    }
    return this.#inheritedCursor < ranges.length && position >= ranges[this.#inheritedCursor]!
  }

  /** Opens a record and returns its ticket. Positions must ascend. */
  open(position: number): number {
    if (position < this.#next) throw new Error(`position ${position} after ${this.#next}: positions must ascend`)
    if (this.#tail - this.#head > this.#mask) this.#grow()
    const slot = this.#tail & this.#mask
    this.#positions[slot] = position
    this.#finished[slot] = 0
    this.#open++
    this.#next = position + 1
    return this.#tail++
  }

  /** Finishes the record with this ticket, once. */
  finish(ticket: number): void {
    const slot = ticket & this.#mask
    if (ticket < this.#head || ticket >= this.#tail || this.#finished[slot] === 1) {
      throw new Error(`ticket ${ticket} is not open`)
    }
    this.#finished[slot] = 1
    this.#open--
    while (this.#head < this.#tail && this.#finished[this.#head & this.#mask] === 1) this.#head++
  }

  /** Everything below `position` was looked at, even when the batch ended in control records or a gap. */
  reached(position: number): void {
    if (position > this.#next) this.#next = position
  }

  /** Records opened and not finished. */
  get openCount(): number {
    return this.#open
  }

  /** The position after the newest one looked at. */
  get next(): number {
    return this.#next
  }

  /** The lowest position not finished. */
  get low(): number {
    return this.#head < this.#tail ? this.#positions[this.#head & this.#mask]! : this.#lowWithoutOpen()
  }

  progress(): Progress {
    const low = this.low
    const finished: number[] = []
    let from = -1
    let last = -1
    for (let ticket = this.#head; ticket < this.#tail; ticket++) {
      const slot = ticket & this.#mask
      if (this.#finished[slot] === 1) {
        if (from < 0) from = this.#positions[slot]!
        last = this.#positions[slot]!
      } else if (from >= 0) {
        finished.push(from, last + 1)
        from = -1
      }
    }
    if (from >= 0) finished.push(from, last + 1)
    for (let index = this.#inheritedCursor; index < this.#inherited.length; index += 2) {
      const start = Math.max(this.#inherited[index]!, this.#next, low)
      const end = this.#inherited[index + 1]!
      if (start >= end) continue
      if (finished.length > 0 && finished[finished.length - 1] === start) finished[finished.length - 1] = end
      else finished.push(start, end)
    }
    return { low, finished }
  }

  /** Nothing is open: the low mark is the newest position, or beyond an inherited range that starts right there. */
  #lowWithoutOpen(): number {
    let low = this.#next
    for (let index = this.#inheritedCursor; index < this.#inherited.length; index += 2) {
      if (this.#inherited[index]! <= low && low < this.#inherited[index + 1]!) low = this.#inherited[index + 1]!
    }
    return low
  }

  #grow(): void {
    const size = (this.#mask + 1) * 2
    const positions = new Float64Array(size)
    const finished = new Uint8Array(size)
    for (let ticket = this.#head; ticket < this.#tail; ticket++) {
      positions[ticket & (size - 1)] = this.#positions[ticket & this.#mask]!
      finished[ticket & (size - 1)] = this.#finished[ticket & this.#mask]!
    }
    this.#positions = positions
    this.#finished = finished
    this.#mask = size - 1
  }
}
