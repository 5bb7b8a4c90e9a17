/**
 * What to fetch next, from whom: positions per partition and ownership.
 *
 * A partition is a slot:
 *
 * ```
 *  add ──► waiting ──open──► open ◄──────seek────── stopped
 *             │                │ ▲                     ▲
 *             │          delay │ │ time passes         │ stop (fault)
 *             │                ▼ │                     │
 *             └──remove──►  (backing off) ─────────────┘
 * ```
 *
 * At most one fetch is open per broker. A slot takes part in the next one when it is open, not backing off, has a leader
 * on that broker, and holds no undelivered records while paused. Every answer is matched by `stamp`, which moves on
 * when the slot is removed, stopped or seeked: what was asked before that is dropped. And by position: of two fetches from one position
 * (an old leader's and a new one's) only the first answer counts. One slot's failure delays that slot only.
 */
import type { HeldPartition } from './ownership.ts'

export interface FetchSettings {
  /** How long a broker may hold a fetch that has nothing to give. */
  readonly maxWaitMs: number
  readonly retryBackoffMs: number
  readonly retryBackoffMaxMs: number
}

/** Where a partition can be read now; node -1 when nowhere. */
export interface Leader {
  readonly node: number
  readonly epoch: number
}

/** One partition of a fetch. */
export interface FetchItem {
  readonly held: HeldPartition
  readonly stamp: number
  readonly position: number
  readonly leaderEpoch: number
}

/** One Fetch request. */
export interface FetchPlan {
  readonly node: number
  readonly maxWaitMs: number
  readonly items: readonly FetchItem[]
}

interface Slot {
  readonly held: HeldPartition
  position: number
  /** Leader epoch of the last batch taken; -1 before the first. */
  epoch: number
  stamp: number
  mode: 'waiting' | 'open' | 'stopped'
  paused: boolean
  /** Undelivered batches wait in memory. */
  loaded: boolean
  retryAtMs: number
  failures: number
  highWatermark: number
}

/** While some partition sits out, fetches are short, so that it does not wait for its neighbours' long poll. */
const shortWaitMs = 50

const keyOf = (held: HeldPartition): string => `${held.topic}\0${held.partition}`

export class FetchPlanner {
  readonly #settings: FetchSettings
  /** In the order in which brokers are asked to fill the answer: who got data last stands at the end. */
  readonly #slots = new Map<string, Slot>()
  readonly #busy = new Set<number>()
  #stamps = 0
  #leaderless = false
  #wakeAtMs: number | null = null

  constructor(settings: FetchSettings) {
    this.#settings = settings
  }

  /** Takes a partition in; nothing is fetched before `open`. */
  add(held: HeldPartition, position: number): void {
    this.#slots.set(keyOf(held), {
      held,
      position,
      epoch: -1,
      stamp: ++this.#stamps,
      mode: 'waiting',
      paused: false,
      loaded: false,
      retryAtMs: 0,
      failures: 0,
      highWatermark: -1,
    })
  }

  open(held: HeldPartition): void {
    const slot = this.#slot(held)
    if (slot?.mode === 'waiting') slot.mode = 'open'
  }

  remove(held: HeldPartition): void {
    if (this.#slot(held) !== undefined) this.#slots.delete(keyOf(held))
  }

  /** No more fetches until `seek`; what is on its way is dropped. */
  stop(held: HeldPartition): void {
    const slot = this.#slot(held)
    if (slot === undefined) return
    slot.mode = 'stopped'
    slot.stamp = ++this.#stamps
    slot.loaded = false
  }

  seek(held: HeldPartition, position: number): void {
    const slot = this.#slot(held)
    if (slot === undefined) return
    slot.position = position
    slot.epoch = -1
    slot.stamp = ++this.#stamps
    slot.loaded = false
    slot.retryAtMs = 0
    slot.failures = 0
    if (slot.mode === 'stopped') slot.mode = 'open'
  }

  pause(held: HeldPartition): void {
    const slot = this.#slot(held)
    if (slot !== undefined) slot.paused = true
  }

  resume(held: HeldPartition): void {
    const slot = this.#slot(held)
    if (slot !== undefined) slot.paused = false
  }

  /** May records of this partition be handed over now? */
  mayDeliver(held: HeldPartition): boolean {
    const slot = this.#slot(held)
    return slot !== undefined && slot.mode === 'open' && !slot.paused
  }

  /** Is it left out of fetches, so that nobody tells where its log ends? */
  isIdle(held: HeldPartition): boolean {
    const slot = this.#slot(held)
    return slot !== undefined && (slot.mode !== 'open' || (slot.paused && slot.loaded))
  }

  setLoaded(held: HeldPartition, loaded: boolean): void {
    const slot = this.#slot(held)
    if (slot !== undefined) slot.loaded = loaded
  }

  /** Next position to ask for, or undefined when the partition is not ours any more. */
  position(held: HeldPartition): number | undefined {
    return this.#slot(held)?.position
  }

  /** Leader epoch of the last batch taken, -1 when none was. */
  epoch(held: HeldPartition): number {
    return this.#slot(held)?.epoch ?? -1
  }

  /** End of the log as the last answer told it, -1 before the first one. */
  highWatermark(held: HeldPartition): number {
    return this.#slot(held)?.highWatermark ?? -1
  }

  /** Is the answer to this still wanted: same stamp, and nobody else answered for this position meanwhile? */
  isWanted(item: FetchItem): boolean {
    const slot = this.#slot(item.held)
    return slot !== undefined && slot.stamp === item.stamp && slot.position === item.position
  }

  /** Takes over what a good answer said. `position` is where the next fetch starts. */
  advance(item: FetchItem, told: { position: number; epoch: number; highWatermark: number }): void {
    const slot = this.#slot(item.held)
    if (slot === undefined || !this.isWanted(item)) return
    slot.failures = 0
    slot.retryAtMs = 0
    slot.highWatermark = told.highWatermark
    if (told.position <= slot.position) return
    slot.position = told.position
    if (told.epoch >= 0) slot.epoch = told.epoch
    // To the end of the queue: brokers fill an answer in the order of the request.
    this.#slots.delete(keyOf(item.held))
    this.#slots.set(keyOf(item.held), slot)
  }

  knowHighWatermark(held: HeldPartition, highWatermark: number): void {
    const slot = this.#slot(held)
    if (slot !== undefined) slot.highWatermark = highWatermark
  }

  /** This partition failed in a passing way: leave it out for a while that grows with each failure in a row. */
  delay(item: FetchItem, nowMs: number, atLeastMs = 0): void {
    const slot = this.#slot(item.held)
    if (slot === undefined || slot.stamp !== item.stamp) return
    const { retryBackoffMs, retryBackoffMaxMs } = this.#settings
    const delayMs = Math.min(retryBackoffMaxMs, retryBackoffMs * 2 ** Math.min(slot.failures, 16))
    slot.failures++
    slot.retryAtMs = nowMs + Math.max(atLeastMs, delayMs)
  }

  /** How many times in a row this partition failed. */
  failures(held: HeldPartition): number {
    return this.#slot(held)?.failures ?? 0
  }

  /** The broker answered or failed as a whole; it may be asked again. */
  release(plan: FetchPlan): void {
    this.#busy.delete(plan.node)
  }

  /** Fetches to send now. Their brokers are busy until `release`. */
  plan(leaderOf: (held: HeldPartition) => Leader, nowMs: number): readonly FetchPlan[] {
    const byNode = new Map<number, FetchItem[]>()
    const crowded = new Set<number>()
    this.#leaderless = false
    this.#wakeAtMs = null
    for (const slot of this.#slots.values()) {
      if (slot.mode !== 'open') continue
      const leader = leaderOf(slot.held)
      if (leader.node < 0) {
        this.#leaderless = true
        continue
      }
      if (slot.retryAtMs > nowMs) {
        crowded.add(leader.node)
        if (this.#wakeAtMs === null || slot.retryAtMs < this.#wakeAtMs) this.#wakeAtMs = slot.retryAtMs
        continue
      }
      if (this.#busy.has(leader.node)) continue
      if (slot.paused && slot.loaded) {
        crowded.add(leader.node)
        continue
      }
      const item = { held: slot.held, stamp: slot.stamp, position: slot.position, leaderEpoch: leader.epoch }
      const items = byNode.get(leader.node)
      if (items === undefined) byNode.set(leader.node, [item])
      else items.push(item)
    }
    const plans: FetchPlan[] = []
    for (const [node, items] of byNode) {
      this.#busy.add(node)
      plans.push({ node, items, maxWaitMs: crowded.has(node) ? shortWaitMs : this.#settings.maxWaitMs })
    }
    return plans
  }

  /** Did the last `plan` meet partitions that nobody leads? Then the metadata is worth asking for. */
  get leaderless(): boolean {
    return this.#leaderless
  }

  /** When a partition left out by the last `plan` has waited long enough; null when none waits. */
  get wakeAtMs(): number | null {
    return this.#wakeAtMs
  }

  /** All partitions in here, whatever their mode. */
  held(): readonly HeldPartition[] {
    return [...this.#slots.values()].map((slot) => slot.held)
  }

  #slot(held: HeldPartition): Slot | undefined {
    const slot = this.#slots.get(keyOf(held))
    return slot?.held.ownership === held.ownership ? slot : undefined
  }
}
