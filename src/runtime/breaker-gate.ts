/**
 * The partitions of one service that stand still because a breaker is open, and what it takes to let them go.
 *
 *                     the breaker's time is over             the loop starts one record
 *   shut ─────────────────────────────────────────► due ─────────────────────────────────► probing
 *    ▲                                                                                         │
 *    └──────────── the record has left its handler, and the breaker is not closed ─────────────┘
 *
 *   any ──the breaker closes, whoever's call did it──► lifted: records that met it wake up, partitions go on
 *
 * So an open breaker costs one record per probe, not one per slot: what would meet it anyway does not start. The probe is
 * a record that met it, while there is one; else any record that may start. A probe that does not come near the breaker
 * proves nothing, and the next one follows.
 */
import type { Breaker } from './breaker.ts'
import type { Partition, Work } from './partition.ts'
import type { Clock } from './ports.ts'

/** What the service loop does for a gate. */
export interface GateEvents {
  /** One record may start. */
  probeDue(): void
  lifted(gate: BreakerGate): void
}

/** Between two probes that prove nothing, and while somebody else's probe is out. */
const probeGapMs = 50

export class BreakerGate implements Disposable {
  readonly breaker: Breaker
  readonly partitions = new Set<Partition>()
  /** Records that met the breaker and wait for it, no timer running. */
  readonly waiting = new Set<Work>()
  readonly #clock: Clock
  readonly #events: GateEvents
  readonly #subscription: Disposable
  #timer: Disposable | null = null
  #due = false
  #probe: Work | null = null
  #open = true

  constructor(breaker: Breaker, clock: Clock, events: GateEvents) {
    this.breaker = breaker
    this.#clock = clock
    this.#events = events
    this.#subscription = breaker.subscribe(({ to }) => {
      if (to === 'closed') this.#events.lifted(this)
      else if (to === 'open' && this.#probe === null) this.#arm(0)
    })
    this.#arm(0)
  }

  /** Could a record of this partition start as the probe? */
  mayProbe(partition: Partition): boolean {
    return this.#due && this.#probe === null && (this.#waitingOf(partition) !== undefined || partition.makeReady())
  }

  /** What `takeProbe` would take. */
  peekProbe(partition: Partition): Work {
    return this.#waitingOf(partition) ?? partition.lanes.peek()!
  }

  /** Starts the probe: takes it out of its lane. */
  takeProbe(partition: Partition): Work {
    const met = this.#waitingOf(partition)
    let work: Work
    if (met === undefined) {
      work = partition.lanes.next()!
      // Those that failed as probes are ready again before the next one is due: without this, no other had a turn.
      partition.enterOneMore()
    } else {
      work = met
      this.waiting.delete(met)
      met.gate = null
      partition.lanes.take(met)
    }
    this.#probe = work
    work.probing = this
    return work
  }

  /** The probe has given its slot back, whatever became of it. */
  probeLeft(): void {
    this.#probe = null
    this.#arm(probeGapMs)
  }

  /** The partition is gone. */
  forget(partition: Partition): void {
    this.partitions.delete(partition)
    for (const work of this.waiting) if (work.partition === partition) this.waiting.delete(work)
  }

  [Symbol.dispose](): void {
    this.#open = false
    this.#due = false
    this.#timer?.[Symbol.dispose]()
    this.#subscription[Symbol.dispose]()
  }

  #waitingOf(partition: Partition): Work | undefined {
    for (const work of this.waiting) if (work.partition === partition) return work
    return undefined
  }

  /** Waits for the breaker, at least `delayMs`. */
  #arm(delayMs: number): void {
    this.#timer?.[Symbol.dispose]()
    this.#due = false
    if (!this.#open) return
    const waitMs = Math.max(delayMs, this.breaker.waitMs() ?? probeGapMs)
    this.#timer = this.#clock.after(waitMs, () => {
      if (this.breaker.waitMs() !== 0) {
        this.#arm(probeGapMs)
        return
      }
      this.#due = true
      this.#events.probeDue()
    })
  }
}
