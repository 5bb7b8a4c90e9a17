/**
 * Timers of the cluster state machine: a heap of moments, without a clock of its own.
 *
 * Whoever drives the cluster asks `nextMs()` when to come back and calls `run(nowMs)` then. Cancelling is lazy: a
 * cancelled timer stays in the heap until its moment and is skipped.
 */

/** Something that happens at a moment unless cancelled. */
export interface Timer {
  readonly atMs: number
  cancel(): void
}

class Entry implements Timer {
  readonly atMs: number
  fire: ((nowMs: number) => void) | null

  constructor(atMs: number, fire: (nowMs: number) => void) {
    this.atMs = atMs
    this.fire = fire
  }

  cancel(): void {
    this.fire = null
  }
}

/** The pending moments of one cluster, earliest first. */
export class Timers {
  readonly #heap: Entry[] = []

  /** Calls `fire` in the first `run` at or after `atMs`. */
  at(atMs: number, fire: (nowMs: number) => void): Timer {
    const entry = new Entry(atMs, fire)
    this.#heap.push(entry)
    this.#up(this.#heap.length - 1)
    return entry
  }

  /** The earliest moment anything waits for, or undefined when nothing does. */
  nextMs(): number | undefined {
    while (this.#heap.length > 0 && this.#heap[0]!.fire === null) this.#pop()
    return this.#heap[0]?.atMs
  }

  /** Fires everything due at `nowMs`, in order of its moment; what is added meanwhile and already due fires too. */
  run(nowMs: number): void {
    for (let next = this.nextMs(); next !== undefined && next <= nowMs; next = this.nextMs()) {
      const entry = this.#pop()
      const fire = entry.fire
      entry.fire = null
      fire?.(nowMs)
    }
  }

  #pop(): Entry {
    const heap = this.#heap
    const top = heap[0]!
    const last = heap.pop()!
    if (heap.length > 0) {
      heap[0] = last
      this.#down(0)
    }
    return top
  }

  #up(start: number): void {
    const heap = this.#heap
    let index = start
    while (index > 0) {
      const parent = (index - 1) >> 1
      if (heap[parent]!.atMs <= heap[index]!.atMs) return
      ;[heap[parent], heap[index]] = [heap[index]!, heap[parent]!]
      index = parent
    }
  }

  #down(start: number): void {
    const heap = this.#heap
    let index = start
    for (;;) {
      let least = index
      for (const child of [2 * index + 1, 2 * index + 2]) {
        if (child < heap.length && heap[child]!.atMs < heap[least]!.atMs) least = child
      }
      if (least === index) return
      ;[heap[least], heap[index]] = [heap[index]!, heap[least]!]
      index = least
    }
  }
}
