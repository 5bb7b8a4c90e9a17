/**
 * One partition in this service's hands, from `gained` until it is released or lost.
 *
 *   gained ──► acquiring ──(control topic read; store: fence acquired, then confirmed by the group)──► running
 *                 ▲                                                                                   │
 *                 └────────────── a transaction was told `fenced` ────────────────────────────────────┤
 *                                                                                                     │
 *   running, acquiring ──releasing()──► releasing: nothing starts; what runs may finish ──► gone ◄────┤ lost()
 *   running ──the books do not balance──► stopped: nothing starts, nothing is committed ──► gone
 *
 * While running it may stand still for a reason: the store or the dead letters are away (until a time), a breaker is open
 * (until it closes; its probes start all the same), or the brake holds it (until somebody resumes it). Fetching is paused
 * apart from that, by budgets.
 *
 * Whoever finishes work for a partition asks `gone` first: that is the ownership fence, since each ownership has a
 * `Partition` of its own.
 */
import type { OttlaError } from '../contract/errors.ts'
import { RecordReader } from '../contract/message.ts'
import { type AnyTopic, topicInternals } from '../contract/topic.ts'
import { Brake } from '../core/brake.ts'
import { Budget } from '../core/budget.ts'
import { refused } from '../core/circuit-breaker.ts'
import { LaneEntry, Lanes } from '../core/lanes.ts'
import { Ledger, type LedgerTotals, type OpenCounts } from '../core/ledger.ts'
import { OffsetTracker } from '../core/offset-tracker.ts'
import type { DeadLetterCause, Outcome } from '../core/outcome.ts'
import { diedMax, Strikes } from '../core/strikes.ts'
import type { Breaker } from './breaker.ts'
import type { BreakerGate } from './breaker-gate.ts'
import type { HandlerContext } from './context.ts'
import { Fetched, Intake } from './intake.ts'
import type { HandlerPlan, RetryTopic, ServicePlan } from './plan.ts'
import type { BatchView, Checkpoint, Clock, Fence, Gained, Held, Sent } from './ports.ts'
import type { Redrive } from './redrive.ts'
import { type Returned, Undue } from './retry.ts'

export type PartitionState = 'acquiring' | 'running' | 'stopped' | 'releasing' | 'gone'

/** Why a running partition starts nothing. */
export type Standing =
  | { readonly why: 'storeAway' | 'deadLettersAway' | 'retryTopicsAway'; readonly untilMs: number }
  | { readonly why: 'breaker'; readonly gate: BreakerGate }
  | { readonly why: 'brake' | 'asked' | 'holdsFull' | 'offsetsVanished' }

/** Does it pass by itself? */
export function passes(standing: Standing): boolean {
  switch (standing.why) {
    case 'storeAway':
    case 'deadLettersAway':
    case 'retryTopicsAway':
    case 'breaker':
      return true
    case 'brake':
    case 'asked':
    case 'holdsFull':
    case 'offsetsVanished':
      return false
    default:
      return standing satisfies never
  }
}

/** For people. */
export function standingText(standing: Standing): string {
  return standing.why === 'breaker' ? `breaker ${standing.gate.breaker.name}` : standing.why
}

export const noHandlers: ReadonlyMap<string, HandlerPlan> = new Map()

/** One record on its way through a partition. */
export class Work extends LaneEntry {
  readonly partition: Partition
  /** What it came in; null: a redrive, which came by itself. */
  readonly fetched: Fetched | null
  batch: BatchView
  readonly index: number
  position: number
  /** Of the tracker; -1: a redrive, which is at no position of the log. */
  readonly ticket: number
  readonly bytes: number
  /** Failed attempts that count, and failures in a row that do not. */
  counted = 0
  /** How many of them are on record, so that they outlive this process. */
  noted = 0
  /** It is its turn to be tried again, but not before its last attempt is on record. */
  awaitsNote = false
  transient = 0
  transientSinceMs = 0
  /** Its retry. */
  timer: Disposable | null = null
  /** The attempt under way. */
  context: HandlerContext | null = null
  handler: HandlerPlan | null = null
  startedMs = 0
  /** Where it stands among the attempts in hand; -1: it is none of them. */
  handAt = -1
  /** It has been said that it overran its deadline twice. */
  stuck = false
  /** Given up, dead letter not stored yet. */
  givenUp: { readonly cause: DeadLetterCause; readonly error: unknown } | null = null
  /** The handler has failed for good or met an open breaker: its fallback is asked. Null: the handler is. */
  fallingBack: { readonly error: unknown; readonly outcome: Outcome } | null = null
  /** What the attempt under way was given. */
  payload: unknown = undefined
  /** The permit of the service's own breaker for the attempt under way. */
  permit = refused
  /** The breaker that refused it last. */
  met: Breaker | null = null
  /** The gate it waits at, and the gate whose probe it is. */
  gate: BreakerGate | null = null
  probing: BreakerGate | null = null
  /** Set on an entry that is loaded with dead letters. */
  redrive: Redrive | null = null
  /** Its payload is not the stored one. */
  edited = false
  /** It came back from a retry topic: where it comes from and how often it was tried. */
  returned: Returned | null = null
  /** On its way to a retry topic that has not acknowledged it yet. */
  moving: { readonly delay: number; readonly error: unknown } | null = null
  /** Acknowledged before its handler starts: its place in the row of checkpoints, and whether that one is stored. */
  early: { readonly turn: number; stored: boolean } | null = null
  /** Where its dead letter is stored, while its key is not held yet. */
  letterAt: Sent | null = null

  constructor(partition: Partition, at: { batch: BatchView; index: number; ticket: number; fetched: Fetched | null }) {
    super()
    const { batch, index, ticket, fetched } = at
    this.partition = partition
    this.fetched = fetched
    this.batch = batch
    this.index = index
    this.position = batch.position(index)
    this.ticket = ticket
    this.bytes = batch.size(index)
  }

  /** A redrive goes on with another letter: a new record in every way. */
  load(batch: BatchView, { edited }: { readonly edited: boolean }): void {
    this.batch = batch
    this.position = batch.position(0)
    this.edited = edited
    this.counted = this.noted = this.transient = this.transientSinceMs = 0
    this.moving = null
    this.givenUp = this.fallingBack = this.handler = this.context = this.letterAt = null
    this.stuck = false
  }

  /** Its key as a text that tells it from others; null: its key is nobody else's. */
  get laneKey(): string | null {
    const { lane } = this
    return lane === null || !lane.keyed ? null : Buffer.from(lane.key).toString('latin1')
  }
}

export class Partition {
  readonly held: Held
  /** Null: a retry topic, whose records come from others. */
  readonly topic: AnyTopic | null
  /** Reads its records; null: those of a retry topic are read as what they were. */
  readonly reader: RecordReader | null
  /** Handlers of its topic, by event name. */
  readonly handlers: ReadonlyMap<string, HandlerPlan>
  readonly retry: RetryTopic | null
  /** Records of a retry topic whose delay is not over. */
  readonly undue: Undue
  dueTimer: Disposable | null = null
  readonly intake = new Intake()
  readonly lanes = new Lanes<Work>()
  readonly tracker: OffsetTracker
  readonly ledger = new Ledger()
  readonly budget: Budget
  readonly brake = new Brake()
  readonly start: Checkpoint
  state: PartitionState
  standing: Standing | null = null
  fence: Fence | null = null
  /** The control topic says that it shall stand still. */
  told = false
  /** Redrives in its lanes. */
  redriving = 0
  /** Acknowledged before handling, and not ended; of these, those whose checkpoint is stored. */
  early = 0
  earlyStored = 0
  /** Checkpoints in which somebody waits: asked for, and stored. */
  earlyTurn = 0
  earlyTurnStored = 0
  /** Its place is on record with the group: had it been lost, somebody would notice. */
  placed: boolean
  /** Ended since the last checkpoint was sent. */
  endedSince = 0
  /** Something changed since the last checkpoint was stored. */
  dirty = false
  /** Records went straight to the books, so that there is room for others; nobody has been told yet. */
  skipped = false
  checkpointing: Promise<boolean> | null = null
  /** Has the loop told the reader to pause? */
  paused = false
  /** Too many records stand still in place. */
  full = false
  /** Resolved when nothing runs any more, while releasing. */
  drained: (() => void) | null = null
  /** Whom to blame when this owner dies, and whether that is being put on record: nothing starts before. */
  readonly strikes: Strikes
  noting = false
  /** When a record last ended or arrived in an empty partition; monotonic. */
  progressMs = 0
  /** Open records with failed attempts that count: these stand in the checkpoints. */
  readonly tried = new Set<Work>()
  /** Attempts that earlier owners counted, of records that have not been fetched again yet. */
  readonly #triedBefore = new Map<number, number>()
  readonly alarmed = new Set<string>()
  readonly #timers = new Set<Disposable>()
  readonly #standingMax: number
  /** May payloads, or what is asked for later, be views of the records' bytes? Then their memory is not used again. */
  readonly #keeps: boolean
  /** What the log held when it was gained. */
  readonly gained: Gained

  constructor(gained: Gained, from: { topic: AnyTopic | null; retry: RetryTopic | null }, plan: ServicePlan) {
    this.held = gained.held
    this.topic = from.topic
    this.handlers = plan.handlers.get(gained.held.topic) ?? noHandlers
    this.reader = from.topic && new RecordReader(from.topic, this.handlers)
    this.retry = from.retry
    this.undue = new Undue(from.retry?.delayMs ?? 0)
    this.start = gained.checkpoint
    this.gained = gained
    this.tracker = new OffsetTracker(gained.checkpoint)
    this.budget = new Budget(plan.budget)
    this.#standingMax = plan.standingMax
    this.#keeps = from.topic === null || topicInternals(from.topic).codec.copies !== true
    // Nothing starts before the control topic has been read and the store's fence is there.
    this.state = 'acquiring'
    const { low, strikes, suspect = low, attempts = [] } = gained.checkpoint
    this.strikes = new Strikes({ strikes, suspect })
    for (let index = 0; index + 1 < attempts.length; index += 2) {
      this.#triedBefore.set(attempts[index]!, attempts[index + 1]!)
    }
    this.placed = gained.stored
    if (gained.logStart > gained.checkpoint.low) this.expire(gained.checkpoint.low, gained.logStart)
  }

  /** Retention has removed what lies between: it is counted, and the next one is the first that is left. */
  expire(position: number, logStart: number): void {
    this.ledger.expire(logStart - position)
    this.dirty = true
    // Those of a retry topic that are not due yet are in memory: they come, and move the low mark themselves.
    if (!this.undue.empty) return
    if (this.intake.empty) this.tracker.reached(logStart)
    else this.intake.reach(logStart)
  }

  get gone(): boolean {
    return this.state === 'gone'
  }

  /** The lowest position whose record may yet do harm to the process: neither finished nor standing still. */
  get front(): number {
    const { lanes, tracker } = this
    if (lanes.standing === 0) return tracker.low
    const standing = new Set<number>()
    for (const { ticket, position } of lanes.standingEntries()) if (ticket >= 0) standing.add(position)
    return tracker.lowBesides(standing)
  }

  /** May a handler start now? Looks for a record for it. */
  mayStart(): boolean {
    const { standing, lanes } = this
    if (this.state !== 'running' || this.noting) return false
    if (this.strikes.careful && lanes.running > 0) return false
    return standing === null ? this.makeReady() : standing.why === 'breaker' && standing.gate.mayProbe(this)
  }

  /** What `take` would take. */
  peek(): Work {
    return this.standing?.why === 'breaker' ? this.standing.gate.peekProbe(this) : this.lanes.peek()!
  }

  /** Takes the next record out of its lane: the probe of a breaker, when it stands for one. */
  take(): Work {
    return this.standing?.why === 'breaker' ? this.standing.gate.takeProbe(this) : this.lanes.next()!
  }

  /** Takes in a batch, or a part of it: its records come into their lanes as handlers can be started for them. */
  add(batch: BatchView, from = 0, to = batch.count): void {
    this.ledger.fetched(to - from)
    for (let index = from; index < to; index++) this.budget.take(batch.size(index))
    this.intake.push(new Fetched(batch, { from, to, kept: this.#keeps }))
    this.dirty = true
    this.#finishParts()
  }

  /** Brings records into their lanes until there is one whose handler may start. False when there is none to be had. */
  makeReady(): boolean {
    const { lanes } = this
    while (!lanes.hasReady) if (!this.enterOneMore()) return false
    return true
  }

  /** The next record of the intake into its lane. False when there is none, or none may come in now. */
  enterOneMore(): boolean {
    const { intake, lanes, strikes } = this
    if (intake.count === 0 || lanes.standing >= this.#standingMax || strikes.spanEnds(this.nextPosition)) return false
    this.#enter()
    return true
  }

  /** Of the first record that is in no lane yet, as far as that is known. */
  get nextPosition(): number {
    const { intake, tracker } = this
    if (intake.count === 0) return tracker.next
    const { batch, next } = intake.first
    return batch.position(next)
  }

  /** Fetched and not ended. */
  get open(): number {
    return this.lanes.open + this.intake.count
  }

  counts(): OpenCounts {
    const counts = this.lanes.counts()
    return { ...counts, queued: counts.queued + this.intake.count }
  }

  /** The first record of the intake into its lane, or, when an earlier owner finished it, straight to the books. */
  #enter(): void {
    const { lanes, tracker, intake } = this
    const fetched = intake.first
    const { batch, next: index } = fetched
    const position = batch.position(index)
    const ticket = tracker.open(position)
    intake.advance()
    if (tracker.skips(position)) {
      tracker.finish(ticket)
      this.budget.give(batch.size(index))
      this.ledger.end('skipped')
      fetched.ended()
      this.endedSince++
      this.skipped = true
      this.dirty = true
    } else {
      const work = new Work(this, { batch, index, ticket, fetched })
      if (this.#triedBefore.size > 0) this.#countBefore(work)
      if (this.strikes.givesUp(position)) {
        const error = new Error(`the process died ${diedMax} times while handling this record`)
        work.givenUp = { cause: 'processDied', error }
      }
      lanes.offer(this.#laneKey(batch.key(index)), work)
    }
    this.#finishParts()
  }

  /** Batches can end in control records or a gap: these were looked at as well. */
  #finishParts(): void {
    const reached = this.intake.finishParts()
    if (reached < 0) return
    this.tracker.reached(reached)
    this.dirty = true
  }

  /** An attempt has failed and counts: that is to be on record before the next one starts. */
  remember(work: Work): void {
    // A redrive stands at no position, and what is acknowledged comes to no other owner.
    if (work.redrive !== null || work.early !== null) return
    this.tried.add(work)
    this.dirty = true
  }

  /** A record counts as done although its handler has not started. It stays open in the books until it ends. */
  acknowledgeEarly(work: Work): void {
    if (work.early !== null) return
    this.tracker.finish(work.ticket)
    this.early++
    work.early = { turn: ++this.earlyTurn, stored: false }
    this.dirty = true
  }

  /** Its checkpoint is stored: whatever happens now, nobody handles it again. */
  earlyIsStored(work: Work): void {
    if (work.early!.stored) return
    work.early!.stored = true
    this.earlyStored++
    this.ledger.acknowledgedEarly()
  }

  settleEarly(work: Work): void {
    this.early--
    if (work.early!.stored) this.earlyStored--
  }

  /** Puts a redrive into the lane of its key. It is in the books as one record until it leaves. */
  offerRedrive(key: Uint8Array | null, work: Work): void {
    this.ledger.fetched(1)
    this.redriving++
    this.lanes.offer(this.#laneKey(key), work)
  }

  /** What to store now. `leaving`: given back in peace, so this owner was not lost. */
  checkpoint(leaving: boolean): Checkpoint {
    const { low, finished } = this.tracker.progress()
    const { strikes, suspect } = this.strikes.at(this.strikes.alert ? this.front : low, leaving)
    const attempts = this.#attempts(low)
    return {
      low,
      finished,
      strikes,
      ...(suspect > low && { suspect }),
      ...(attempts.length > 0 && { attempts }),
    }
  }

  /** Forgets what is open; the caller says how it ended. */
  close(ending: 'returned.revoked' | 'returned.lost'): LedgerTotals {
    this.state = 'gone'
    for (const work of this.lanes.waitingEntries()) work.timer?.[Symbol.dispose]()
    for (const timer of this.#timers) timer[Symbol.dispose]()
    this.#timers.clear()
    // Nobody handles these again.
    if (this.earlyStored > 0) this.ledger.drop('acknowledgedBeforeHandling', this.earlyStored)
    this.ledger.endMany(ending, this.lanes.clear() + this.intake.count - this.earlyStored)
    this.intake.clear()
    return this.ledger.totals(this.counts())
  }

  /** Calls back unless the partition is gone by then. */
  later(clock: Clock, delayMs: number, callback: () => void): Disposable {
    const timer = clock.after(Math.max(0, delayMs), () => {
      this.#timers.delete(timer)
      callback()
    })
    this.#timers.add(timer)
    return {
      [Symbol.dispose]: () => {
        this.#timers.delete(timer)
        timer[Symbol.dispose]()
      },
    }
  }

  /** Compares the books. Null: they balance. */
  imbalance(): string | null {
    const { intake, lanes, tracker } = this
    return this.ledger.check(lanes.open + intake.count, tracker.openCount + this.redriving + this.early + intake.count)
  }

  /** One alarm per cause and ownership. */
  firstAlarm(error: OttlaError): boolean {
    if (this.alarmed.has(error.code)) return false
    this.alarmed.add(error.code)
    return true
  }

  #laneKey(key: Uint8Array | null): Uint8Array | null {
    // Order was given up with the retry topics.
    return this.retry === null ? key : null
  }

  #countBefore(work: Work): void {
    const counted = this.#triedBefore.get(work.position)
    if (counted === undefined) return
    this.#triedBefore.delete(work.position)
    work.counted = work.noted = counted
    this.tried.add(work)
  }

  #attempts(low: number): readonly number[] {
    if (this.tried.size + this.#triedBefore.size === 0) return []
    const pairs = [...this.#triedBefore].filter(([position]) => position >= low)
    for (const { position, counted } of this.tried) pairs.push([position, counted])
    return pairs.sort(([a], [b]) => a - b).flat()
  }
}
