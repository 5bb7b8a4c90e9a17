/**
 * How far one partition has come, when records finish out of order.
 *
 * Records are opened in the order of their positions and finished in any order. The checkpoint is the lowest position
 * still open, plus the runs of finished ones beyond it, so that a new owner does not redo them. Positions may have gaps
 * (compaction, control records): a gap counts as finished together with what surrounds it.
 *
 * Only open records are kept, as a list in the order of their positions; each knows the run of finished ones that follows
 * it. Opening and finishing are O(1), a checkpoint is O(open), and memory follows the open records: a record that stays
 * open for an hour costs the same however many finish beyond it.
 *
 *   open 3 ──► finished 4 to 8 ──► open 9 ──► (none) ──► open 10 ──► finished 11
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

const none = -1
const firstSlots = 256
/** A ticket is a slot and how often that was taken. Budgets keep a partition far below so many open records. */
const slotsMax = 2 ** 22

export class OffsetTracker {
  /** By slot: the position of the open record there, and the finished run behind it; -1: none. */
  #positions = new Float64Array(firstSlots)
  #runFrom = new Float64Array(firstSlots)
  #runLast = new Float64Array(firstSlots)
  /** By slot: the open records before and after it; -1: none. Free slots are chained by `#after`. */
  #before = new Int32Array(firstSlots)
  #after = new Int32Array(firstSlots)
  /** By slot: how often it was taken, odd while it is open. Part of a ticket, so that an old one is known as such. */
  #turns = new Float64Array(firstSlots)
  #oldest = none
  #newest = none
  #free = none
  /** Slots from here on were never used. */
  #unused = 0
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
    const slot = this.#take()
    this.#positions[slot] = position
    this.#runFrom[slot] = none
    this.#before[slot] = this.#newest
    this.#after[slot] = none
    if (this.#newest === none) this.#oldest = slot
    else this.#after[this.#newest] = slot
    this.#newest = slot
    this.#open++
    this.#next = position + 1
    return this.#turns[slot]! * slotsMax + slot
  }

  /** Finishes the record with this ticket, once. */
  finish(ticket: number): void {
    const slot = ticket % slotsMax
    const turn = Math.floor(ticket / slotsMax)
    if (ticket < 0 || turn % 2 === 0 || slot >= this.#unused || this.#turns[slot] !== turn) {
      throw new Error(`ticket ${ticket} is not open`)
    }
    const before = this.#before[slot]!
    const after = this.#after[slot]!
    if (before === none) this.#oldest = after
    else {
      // What was finished before it, itself, and what was finished behind it are one run now.
      if (this.#runFrom[before] === none) this.#runFrom[before] = this.#positions[slot]!
      this.#runLast[before] = this.#runFrom[slot] === none ? this.#positions[slot]! : this.#runLast[slot]!
      this.#after[before] = after
    }
    if (after === none) this.#newest = before
    else this.#before[after] = before
    this.#turns[slot] = turn + 1
    this.#after[slot] = this.#free
    this.#free = slot
    this.#open--
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
    return this.#oldest === none ? this.#lowWithoutOpen() : this.#positions[this.#oldest]!
  }

  /** The lowest position that is open and none of these; the next one to come when there is none. */
  lowBesides(positions: ReadonlySet<number>): number {
    for (let slot = this.#oldest; slot !== none; slot = this.#after[slot]!) {
      if (!positions.has(this.#positions[slot]!)) return this.#positions[slot]!
    }
    return this.#next
  }

  progress(): Progress {
    const low = this.low
    const finished: number[] = []
    for (let slot = this.#oldest; slot !== none; slot = this.#after[slot]!) {
      if (this.#runFrom[slot] !== none) finished.push(this.#runFrom[slot]!, this.#runLast[slot]! + 1)
    }
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

  /** A slot for one more open record. */
  #take(): number {
    let slot = this.#free
    if (slot === none) {
      slot = this.#unused++
      if (slot === this.#positions.length) this.#grow()
    } else this.#free = this.#after[slot]!
    this.#turns[slot]!++
    return slot
  }

  #grow(): void {
    const size = this.#positions.length * 2
    if (size > slotsMax) throw new Error(`more than ${slotsMax / 2} records are open in one partition`)
    const enlarge = <A extends Float64Array | Int32Array>(made: A, from: A): A => {
      made.set(from)
      return made
    }
    this.#positions = enlarge(new Float64Array(size), this.#positions)
    this.#runFrom = enlarge(new Float64Array(size), this.#runFrom)
    this.#runLast = enlarge(new Float64Array(size), this.#runLast)
    this.#turns = enlarge(new Float64Array(size), this.#turns)
    this.#before = enlarge(new Int32Array(size), this.#before)
    this.#after = enlarge(new Int32Array(size), this.#after)
  }
}
