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
 * on that broker, holds no undelivered records while paused, and its position is known to be one of that leader's log.
 *
 * That last thing is a check per leader epoch (KIP-320): a position whose last record is known by leader epoch (it was
 * fetched, or committed with one) is compared with the log of every new leader before anything is fetched from it. A
 * leader that was elected without having everything ends that epoch below the position.
 *
 * ```
 *  unchecked ──asked──► checking ──as it should be──► checked (under leader epoch e) ──another leader epoch──► unchecked
 *      ▲                   │ │
 *      └──passing error────┘ └──ends below──► truncated: whoever asked stops the slot or seeks
 * ```
 * Every answer is matched by `stamp`, which moves on when the slot is removed, stopped or seeked: what was asked before
 * that is dropped. And by position: of two fetches from one position (an old leader's and a new one's) only the first
 * answer counts. One slot's failure delays that slot only.
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
  /** Of the leader that is asked, as far as we know. */
  readonly leaderEpoch: number
  /** Leader epoch of the record before the position, -1 when not known for certain. */
  readonly lastEpoch: number
}

/** Positions to be compared with one leader's log before anything is fetched from it. */
export interface CheckPlan {
  readonly node: number
  readonly items: readonly CheckItem[]
}

/** A position whose last record is said to be of `epoch`. */
export interface CheckItem extends FetchItem {
  readonly epoch: number
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
  /** Leader epoch of the last batch taken, or the one that came with the position; -1 when neither is there. */
  epoch: number
  /** `epoch` is of a batch taken. What a commit says may be newer than the record before its offset. */
  isExact: boolean
  /** The position is one of the log of the leader of this epoch. */
  checkedEpoch: number
  checking: boolean
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

  /** Takes a partition in; nothing is fetched before `open`. `epoch`: leader epoch that came with the position, or -1. */
  add(held: HeldPartition, position: number, epoch = -1): void {
    this.#slots.set(keyOf(held), {
      held,
      position,
      epoch,
      isExact: false,
      checkedEpoch: -1,
      checking: false,
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
    slot.checking = false
  }

  seek(held: HeldPartition, position: number, epoch = -1): void {
    const slot = this.#slot(held)
    if (slot === undefined) return
    slot.position = position
    slot.epoch = epoch
    slot.isExact = false
    slot.checkedEpoch = -1
    slot.checking = false
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
    const slot = this.#slot(held)
    return slot?.isExact ? slot.epoch : -1
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
    slot.epoch = told.epoch
    slot.isExact = told.epoch >= 0
    // An old leader's late answer: what it says was not compared with the log of the new one.
    slot.checkedEpoch = item.leaderEpoch
    // To the end of the queue: brokers fill an answer in the order of the request.
    this.#slots.delete(keyOf(item.held))
    this.#slots.set(keyOf(item.held), slot)
  }

  /** A good answer that brought nothing new of this partition. */
  quiet(item: FetchItem): void {
    const slot = this.#slot(item.held)
    if (slot === undefined || !this.isWanted(item)) return
    slot.failures = 0
    slot.retryAtMs = 0
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
    slot.checking = false
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

  /** Positions to be checked now. Each is left out of fetches until `checked` or `delay`. */
  checks(leaderOf: (held: HeldPartition) => Leader, nowMs: number): readonly CheckPlan[] {
    const byNode = new Map<number, CheckItem[]>()
    for (const slot of this.#slots.values()) {
      if (slot.mode !== 'open' || slot.checking || slot.retryAtMs > nowMs) continue
      const leader = leaderOf(slot.held)
      if (leader.node < 0 || !mustCheck(slot, leader)) continue
      slot.checking = true
      const item = { ...itemOf(slot, leader), epoch: slot.epoch }
      const items = byNode.get(leader.node)
      if (items === undefined) byNode.set(leader.node, [item])
      else items.push(item)
    }
    return [...byNode].map(([node, items]) => ({ node, items }))
  }

  /** The position is one of this leader's log. */
  checked(item: CheckItem): void {
    const slot = this.#slot(item.held)
    if (slot === undefined || slot.stamp !== item.stamp) return
    slot.checking = false
    // Records of an earlier leader may have come meanwhile: then the new position is asked for once more.
    if (slot.position !== item.position) return
    slot.checkedEpoch = item.leaderEpoch
    slot.failures = 0
    slot.retryAtMs = 0
  }

  /** The leader's answer does not fit the position: compare them again before the next fetch. */
  doubt(item: FetchItem): void {
    const slot = this.#slot(item.held)
    if (slot !== undefined && this.isWanted(item)) slot.checkedEpoch = -1
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
      if (mustCheck(slot, leader)) {
        crowded.add(leader.node)
        continue
      }
      if (this.#busy.has(leader.node)) continue
      if (slot.paused && slot.loaded) {
        crowded.add(leader.node)
        continue
      }
      slot.checkedEpoch = leader.epoch
      const item = itemOf(slot, leader)
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

/** Without an epoch on both sides there is nothing to compare. */
function mustCheck(slot: Slot, leader: Leader): boolean {
  return slot.epoch >= 0 && leader.epoch >= 0 && slot.checkedEpoch !== leader.epoch
}

function itemOf(slot: Slot, leader: Leader): FetchItem {
  return {
    held: slot.held,
    stamp: slot.stamp,
    position: slot.position,
    leaderEpoch: leader.epoch,
    lastEpoch: slot.isExact ? slot.epoch : -1,
  }
}
