/**
 * The loss ledger of one partition in one service's hands.
 *
 * Double entry: what came in (`fetched`) must equal what ended in a stated way plus what is still open. The ledger only
 * counts; how many are open is asked of the lanes and of the offset tracker, which count for themselves. So a record
 * that any one of the three forgets, or ends twice, shows as an imbalance at the next checkpoint.
 *
 *   fetched = handled + duplicate + skipped + ignored{noHandler, unknownType} + moved + deadLettered + heldInDlq
 *           + dropped{reason} + returned{revoked, lost} + open
 */

/** The ways in which a record can end. */
export const endings = [
  'handled',
  'duplicate',
  'skipped',
  'ignored.noHandler',
  'ignored.unknownType',
  'moved',
  'deadLettered',
  'heldInDlq',
  'dropped',
  'returned.revoked',
  'returned.lost',
] as const

export type Ending = (typeof endings)[number]

/** What is open, by what it waits for. */
export interface OpenCounts {
  /** Its handler runs, or its dead letter is being written. */
  readonly running: number
  /** Next of its key, or behind a running one. */
  readonly queued: number
  /** Failed; its retry is due later. */
  readonly waiting: number
  /** Behind a waiting one of the same key. */
  readonly parked: number
}

/** The ledger as plain data. */
export interface LedgerTotals extends OpenCounts {
  readonly fetched: number
  readonly open: number
  readonly ended: Readonly<Record<Ending, number>>
  /** Dropped records by the reason that was written down. */
  readonly dropped: Readonly<Record<string, number>>
  /** Positions that retention removed before they were fetched. Not part of the balance. */
  readonly expired: number
  /** Attempts that failed and will be repeated; transient ones included. */
  readonly retries: number
  /** Handled by the fallback: a label of handled, not an ending of its own. */
  readonly fallback: number
  /** Of the retries, those that only `retry: 'forever'` allows. */
  readonly retriesForever: number
  /** Acknowledged before their handler had started: a crash loses them. A label of their endings. */
  readonly acknowledgedEarly: number
}

const dropReasonsMax = 32

export class Ledger {
  #fetched = 0
  #endedTotal = 0
  #expired = 0
  #retries = 0
  #fallback = 0
  #retriesForever = 0
  #acknowledgedEarly = 0
  readonly #ended: Record<Ending, number> = noEndings()
  readonly #dropped = new Map<string, number>()

  /** Records that came in. */
  fetched(count: number): void {
    this.#fetched += count
  }

  /** One record ended. */
  end(ending: Exclude<Ending, 'dropped'>): void {
    this.#ended[ending]++
    this.#endedTotal++
  }

  /** Several ended the same way at once. */
  endMany(ending: Exclude<Ending, 'dropped'>, count: number): void {
    this.#ended[ending] += count
    this.#endedTotal += count
  }

  /** One was dropped, on purpose and by name. */
  drop(reason: string, count = 1): void {
    this.#ended.dropped += count
    this.#endedTotal += count
    const name = this.#dropped.has(reason) || this.#dropped.size < dropReasonsMax ? reason : 'other'
    this.#dropped.set(name, (this.#dropped.get(name) ?? 0) + count)
  }

  retry(endless = false): void {
    this.#retries++
    if (endless) this.#retriesForever++
  }

  acknowledgedEarly(): void {
    this.#acknowledgedEarly++
  }

  fallback(): void {
    this.#fallback++
  }

  expire(count: number): void {
    this.#expired += count
  }

  /** What should be open by this book. */
  get open(): number {
    return this.#fetched - this.#endedTotal
  }

  /** Compares the three books. Returns what is wrong in words, null when they agree. */
  check(lanesOpen: number, trackerOpen: number): string | null {
    const open = this.#fetched - this.#endedTotal
    if (open === lanesOpen && open === trackerOpen && open >= 0) return null
    return `fetched ${this.#fetched} - ended ${this.#endedTotal} = ${open} open, but the lanes hold ${lanesOpen} and the tracker ${trackerOpen}`
  }

  totals(open: OpenCounts): LedgerTotals {
    return {
      fetched: this.#fetched,
      ended: { ...this.#ended },
      dropped: Object.fromEntries(this.#dropped),
      open: open.running + open.queued + open.waiting + open.parked,
      running: open.running,
      queued: open.queued,
      waiting: open.waiting,
      parked: open.parked,
      expired: this.#expired,
      retries: this.#retries,
      fallback: this.#fallback,
      retriesForever: this.#retriesForever,
      acknowledgedEarly: this.#acknowledgedEarly,
    }
  }
}

/** Sums two: the same partition over several ownerships, or several partitions. */
export function addTotals(a: LedgerTotals, b: LedgerTotals): LedgerTotals {
  const ended = noEndings()
  for (const ending of endings) ended[ending] = a.ended[ending] + b.ended[ending]
  const dropped: Record<string, number> = { ...a.dropped }
  for (const [reason, count] of Object.entries(b.dropped)) dropped[reason] = (dropped[reason] ?? 0) + count
  return {
    fetched: a.fetched + b.fetched,
    ended,
    dropped,
    open: a.open + b.open,
    running: a.running + b.running,
    queued: a.queued + b.queued,
    waiting: a.waiting + b.waiting,
    parked: a.parked + b.parked,
    expired: a.expired + b.expired,
    retries: a.retries + b.retries,
    fallback: a.fallback + b.fallback,
    retriesForever: a.retriesForever + b.retriesForever,
    acknowledgedEarly: a.acknowledgedEarly + b.acknowledgedEarly,
  }
}

/** Does it balance by itself? What `testApp` asserts at the end. */
export function balances(totals: LedgerTotals): boolean {
  let ended = 0
  for (const ending of endings) ended += totals.ended[ending]
  return totals.fetched === ended + totals.open && totals.open >= 0
}

function noEndings(): Record<Ending, number> {
  return {
    handled: 0,
    duplicate: 0,
    skipped: 0,
    'ignored.noHandler': 0,
    'ignored.unknownType': 0,
    moved: 0,
    deadLettered: 0,
    heldInDlq: 0,
    dropped: 0,
    'returned.revoked': 0,
    'returned.lost': 0,
  }
}
