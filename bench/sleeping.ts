/** Line 5: what a task is, and the book that every handler which sleeps is entered in. */
import { type Order, type Spreading, uniformKeys } from './orders.ts'
import type { Counters } from './task.ts'

export interface SleepTask {
  readonly servers: string
  readonly topic: string
  readonly library: string
  readonly count: number
  /** Handled before the clock runs. */
  readonly warmUp: number
  readonly concurrency: number
  readonly sleepMs: number
  readonly spreading: Spreading
  /** `bytes`: neither parsed nor checked, and without guards, as the peer has it. */
  readonly payload: 'order' | 'bytes'
  readonly mode: 'time' | 'count'
}

/** What the book needs to know of an order. */
type Named = Pick<Order, 'orderId' | 'customerId'>

/** What a child says when all have been handled. Sleeps are as long as they really were. */
export interface SleepOutcome {
  readonly wallMs: number
  readonly cpuUsPerMessage: number
  /** Of all handlers together, and of the key that slept longest. */
  readonly sleptMs: number
  readonly hottestMs: number
  readonly handled: number
  /** The numbers of the orders added up. */
  readonly numbers: number
  /** Handlers that began before an earlier order of their key, and while another of their key ran. */
  readonly disorder: number
  readonly overlaps: number
  /** Most that ran at once. */
  readonly runningMax: number
  readonly counters: Counters | null
}

export class SleepBook {
  readonly #task: SleepTask
  readonly #busy = new Uint8Array(uniformKeys)
  readonly #last = new Float64Array(uniformKeys).fill(-1)
  readonly #slept = new Float64Array(uniformKeys)
  #handled = 0
  #running = 0
  #runningMax = 0
  #overlaps = 0
  #disorder = 0
  #numbers = 0
  #totalMs = 0
  #startMs = 0
  #cpu: NodeJS.CpuUsage | null = null

  constructor(task: SleepTask) {
    this.#task = task
  }

  /** Returns when it began. */
  begin(order: Named): number {
    const nowMs = performance.now()
    if (this.#cpu === null && this.#task.warmUp === 0) this.#measureFrom(nowMs)
    const customer = customerOf(order)
    const number = numberOf(order)
    if (this.#busy[customer] === 1) this.#overlaps += 1
    this.#busy[customer] = 1
    if (this.#last[customer]! >= number) this.#disorder += 1
    this.#last[customer] = number
    this.#running += 1
    if (this.#running > this.#runningMax) this.#runningMax = this.#running
    return nowMs
  }

  /** The outcome when it was the last. */
  end(order: Named, beganMs: number): SleepOutcome | null {
    const nowMs = performance.now()
    const customer = customerOf(order)
    this.#busy[customer] = 0
    this.#running -= 1
    this.#numbers += numberOf(order)
    if (this.#cpu !== null) {
      this.#totalMs += nowMs - beganMs
      this.#slept[customer]! += nowMs - beganMs
    }
    this.#handled += 1
    if (this.#handled === this.#task.warmUp) this.#measureFrom(nowMs)
    return this.#handled === this.#task.count ? this.#outcome(nowMs) : null
  }

  #measureFrom(nowMs: number): void {
    this.#startMs = nowMs
    this.#cpu = process.cpuUsage()
  }

  #outcome(nowMs: number): SleepOutcome {
    const { count, warmUp } = this.#task
    const { user, system } = process.cpuUsage(this.#cpu ?? undefined)
    return {
      wallMs: nowMs - this.#startMs,
      cpuUsPerMessage: (user + system) / (count - warmUp),
      sleptMs: this.#totalMs,
      hottestMs: this.#slept.reduce((most, ms) => Math.max(most, ms), 0),
      handled: this.#handled,
      numbers: this.#numbers,
      disorder: this.#disorder,
      overlaps: this.#overlaps,
      runningMax: this.#runningMax,
      counters: null,
    }
  }
}

/** What the wall clock cannot be shorter than, over what it was: 1 is as good as can be. */
export function efficiencyOf({ sleptMs, hottestMs, wallMs }: SleepOutcome, concurrency: number): number {
  return Math.max(sleptMs / concurrency, hottestMs) / wallMs
}

/** Throws unless exactly the orders 0 to `count` were handled, each key in its order and one at a time. */
export function proveSleepers(outcome: SleepOutcome, task: Pick<SleepTask, 'count' | 'concurrency'>): void {
  const { handled, numbers, disorder, overlaps, runningMax } = outcome
  const { count, concurrency } = task
  const expected = (count * (count - 1)) / 2
  if (handled !== count || numbers !== expected || disorder !== 0 || overlaps !== 0 || runningMax > concurrency) {
    throw new Error(`handled something else, or in another order: ${JSON.stringify({ task, outcome })}`)
  }
}

function customerOf(order: Named): number {
  return Number(order.customerId.slice(-5))
}

function numberOf(order: Named): number {
  return Number(order.orderId.slice(-9))
}
