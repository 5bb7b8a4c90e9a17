/**
 * Leaves out the records of aborted transactions, for one partition's part of a Fetch answer.
 *
 * The broker names the aborted transactions that touch what it sent: producer and first offset, ascending. A batch
 * belongs to one when its producer's transaction began at or before it and has not ended; the abort marker ends it. One
 * producer may abort several times in one answer, and the marker may lie beyond it.
 */
export interface AbortedTransaction {
  readonly producerId: number
  readonly firstOffset: number
}

/** What the filter must know of a batch. */
export interface BatchFacts {
  readonly producerId: number
  readonly lastOffset: number
  readonly isTransactional: boolean
  readonly isControl: boolean
  /** Of a control batch: does its marker abort? */
  readonly aborts: boolean
}

export class AbortedFilter {
  readonly #waiting: AbortedTransaction[]
  readonly #open = new Set<number>()
  #next = 0

  constructor(aborted: readonly AbortedTransaction[] | null) {
    this.#waiting = [...(aborted ?? [])].sort((a, b) => a.firstOffset - b.firstOffset)
  }

  /** Must this batch be left out? Asked in offset order, for every batch. Control batches are always left out. */
  leavesOut(batch: BatchFacts): boolean {
    for (; this.#next < this.#waiting.length; this.#next++) {
      const aborted = this.#waiting[this.#next]
      if (aborted === undefined || aborted.firstOffset > batch.lastOffset) break
      this.#open.add(aborted.producerId)
    }
    if (batch.isControl) {
      if (batch.aborts) this.#open.delete(batch.producerId)
      return true
    }
    return batch.isTransactional && this.#open.has(batch.producerId)
  }
}
