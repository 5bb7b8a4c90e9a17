/**
 * One service at work: its reader, its partitions, and the decision what runs next.
 *
 *   idle ──run()──► running ──stop()──► draining: nothing starts, running handlers finish within the budget,
 *                                       checkpoints, then the reader leaves the group ──► stopped
 *
 * Records come in by `batch` and wait in their lanes. `#pump` starts heads of lanes while slots are free, partition
 * after partition; it never recurses, so a handler that returns at once costs no stack. Checkpoints go out by interval,
 * by count, at a release and at the end, one at a time per partition, each computed afresh, and only when the three
 * books (ledger, lanes, tracker) agree.
 */
import type { HoldRecord, ResultOutcome } from '../contract/control.ts'
import { OttlaError } from '../contract/errors.ts'
import { AppendClock } from '../core/append-clock.ts'
import { backoffMs, handlerBackoff } from '../core/backoff.ts'
import { addTotals, type LedgerTotals } from '../core/ledger.ts'
import { Breaker } from './breaker.ts'
import { BreakerGate, type GateEvents } from './breaker-gate.ts'
import { alarm, steps } from './channels.ts'
import type { ControlLog } from './control.ts'
import { Dispatch, type DispatchEvents, slowTurnMs } from './dispatch.ts'
import { Partition, passes, type Standing, standingText, type Work } from './partition.ts'
import type { ServicePlan, Surroundings } from './plan.ts'
import type { BatchView, Fence, Gained, Held, Lag, Reader, ReaderEvents, Sent, Store, Transport } from './ports.ts'
import { ProgressWatch } from './progress-watch.ts'
import { keyText, Redriver } from './redrive.ts'
import { ServiceStats } from './stats.ts'
import { within } from './within.ts'

/** The ledger of one partition, over all ownerships of this process. */
export interface LedgerRow extends LedgerTotals {
  readonly service: string
  readonly topic: string
  readonly partition: number
  /** Null when it is not held now. */
  readonly state: string | null
  /** Why it starts nothing, when it does not. */
  readonly standing: string | null
}

/** What stands still, for people and for tests. */
export interface Parked {
  readonly service: string
  readonly topic: string
  readonly partition: number
  readonly position: number
  readonly attempts: number
  readonly why: string
}

type LoopState = 'idle' | 'running' | 'draining' | 'stopped'

/** Records ended since the last checkpoint that make the next one go out before its time. */
const checkpointCount = 1_000
/** Starts from one partition before the next one has its turn. */
const turnMax = 64
/** After so many starts, or one that took this long, it is looked whether the event loop has been ours for too long. */
const startsPerLook = 16
const longStartMs = 1
/** Handlers that do not wait for anything give the event loop back after this long. */
const sliceMs = 8
const ownsRecheckMs = 100
/** In a row of starts, the session is asked for again after this long. */
const ownedForMs = 1
const watchTickMaxMs = 250
/** Half of the least time without progress that is worth an alarm. */
const stalledMinMs = 15_000
/** However many partitions share the memory: one fetch of each must have room. */
const budgetMinBytes = 1024 * 1024
/** How long a retry that is due waits for its last attempt to be on record. */
const noteMaxMs = 2_000
/** How long leaving the group may take when the app stops. */
const leaveMs = 3_000
/** What is left of a release for the last checkpoint. */
const releaseReserve = 0.2

export class ServiceLoop implements ReaderEvents, DispatchEvents, GateEvents {
  readonly plan: ServicePlan
  readonly stats = new ServiceStats()
  /** The service's own, over what its handlers come to. */
  readonly breaker: Breaker
  /** A gate for each breaker that is open and was met. */
  readonly #gates = new Map<Breaker, BreakerGate>()
  /** The broker's time, for the delays of retry topics. */
  readonly #appendClock = new AppendClock()
  readonly #surroundings: Surroundings
  readonly #transport: Transport
  readonly #onStuck: () => void
  readonly #dispatch: Dispatch
  readonly #control: ControlLog | null
  readonly #redriver: Redriver | null
  readonly #partitions = new Map<string, Partition>()
  /** The same, for taking turns. */
  #turns: Partition[] = []
  #turn = 0
  #taken = 0
  readonly #closed = new Map<string, { readonly held: Held; readonly totals: LedgerTotals }>()
  #reader: Reader | null = null
  #state: LoopState = 'idle'
  #pumping = false
  #pumpQueued = false
  #resuming: Disposable | null = null
  /** Until when handlers may be started in the row of microtasks under way; null: no bound yet. */
  #sliceEndMs: number | null = null
  #starts = 0
  #checkpointTimer: Disposable | null = null
  #watchTimer: Disposable | null = null
  #progressTimer: Disposable | null = null
  readonly #progress: ProgressWatch
  /** Partitions without progress, and for how long. */
  readonly #stalled = new Map<Partition, number>()
  #stuck: string | null = null
  #joined = false
  #groupFault: OttlaError | null = null
  /** In a row, over all partitions. */
  #checkpointFailures = 0

  constructor(
    plan: ServicePlan,
    surroundings: Surroundings,
    beside: { transport: Transport; control: ControlLog | null; onStuck: () => void },
  ) {
    this.plan = plan
    this.#surroundings = surroundings
    const { transport, control } = beside
    this.#onStuck = beside.onStuck
    this.#transport = transport
    this.#control = control
    this.#progress = new ProgressWatch(stalledAfterMs(plan))
    this.#redriver =
      control &&
      new Redriver({
        plan,
        surroundings,
        transport,
        control,
        partition: (topic, partition) => {
          const held = this.#partitions.get(`${topic}/${partition}`)
          return held?.state === 'running' ? held : undefined
        },
        wake: (work) => this.#go(work),
      })
    control?.listen({
      changed: () => this.#controlChanged(),
      resumed: (topic, partition) => this.#controlResumed(topic, partition),
    })
    // Its calls are made by dispatch, permit by permit; what belongs to `call` is not used.
    this.breaker = new Breaker(
      plan.name,
      { limits: plan.breaker, timeoutMs: 0, isFailure: () => true, attempts: 1, share: 0 },
      surroundings,
    )
    this.breaker.subscribe(({ from, to }) => {
      surroundings.log.warn("the service's own breaker changed", { service: plan.name, from, to })
      if (to === 'open') for (const partition of this.#partitions.values()) this.#shut(partition, this.breaker)
    })
    this.#dispatch = new Dispatch(plan, surroundings, { stats: this.stats, breaker: this.breaker, events: this })
  }

  /** Joins the group. Returns at once; partitions come when the group hands them out. */
  run(): void {
    const { plan } = this
    this.#state = 'running'
    if (plan.topics.size === 0) return
    this.#reader = this.#transport.reader(
      {
        group: plan.group,
        topics: [...plan.topics.keys(), ...plan.retryTopics.map(({ topic }) => topic)],
        clientId: plan.clientId,
      },
      this,
    )
    this.#armProgress()
  }

  /** Drains and leaves the group. */
  async stop(): Promise<void> {
    if (this.#state === 'stopped' || this.#state === 'draining') return
    this.#state = 'draining'
    for (const partition of this.#partitions.values()) this.#updateFlow(partition)
    await Promise.all([...this.#partitions.values()].map((each) => this.#release(each, this.plan.drainMs)))
    const reader = this.#reader
    if (reader !== null) {
      const left = await this.#within(leaveMs, reader[Symbol.asyncDispose]())
      if (!left)
        this.#surroundings.log.warn('the group was not left in time; it notices by itself', { service: this.plan.name })
    }
    await this.#redriver?.[Symbol.asyncDispose]()
    for (const timer of [this.#checkpointTimer, this.#watchTimer, this.#progressTimer, this.#resuming])
      timer?.[Symbol.dispose]()
    for (const gate of this.#gates.values()) gate[Symbol.dispose]()
    this.#state = 'stopped'
  }

  // ── ReaderEvents ──

  async gained(parts: readonly Gained[]): Promise<void> {
    this.#joined = true
    this.#groupFault = null
    if (parts.length > 0) this.stats.rebalances++
    for (const gained of parts) {
      const { held } = gained
      const topic = this.plan.topics.get(held.topic) ?? null
      const retry = topic === null ? (this.plan.retryTopics.find((each) => each.topic === held.topic) ?? null) : null
      if (topic === null && retry === null) continue
      const partition = new Partition(gained, { topic, retry }, this.plan)
      partition.progressMs = this.#surroundings.clock.monotonicMs()
      this.#partitions.set(keyOf(held), partition)
      this.#surroundings.log.debug('gained', { service: this.plan.name, ...placeOf(held) })
      if (partition.strikes.careful) {
        this.#alarm(partition, 'OTTLA_RUNTIME_CAREFUL', `owners were lost ${gained.checkpoint.strikes} times here`)
      }
      const { logStart, checkpoint } = gained
      if (logStart > checkpoint.low) {
        this.#alarmExpired(partition, logStart - checkpoint.low)
        await this.#reader!.seek(held, { offset: logStart })
      }
      // Nothing is fetched before it is known where to go on.
      if (!partition.placed && this.plan.store !== null) this.#updateFlow(partition)
      if (this.#gates.has(this.breaker)) this.#shut(partition, this.breaker)
      // Not awaited: a store that is away must not hold up the group.
      if (partition.state === 'acquiring') void this.#acquire(partition)
    }
    this.#takeTurns()
  }

  batch(held: Held, records: BatchView): void {
    const partition = this.#of(held)
    if (partition === undefined) return
    if (partition.open === 0) partition.progressMs = this.#surroundings.clock.monotonicMs()
    try {
      if (partition.retry === null) partition.add(records)
      else {
        partition.undue.push(records, this.#surroundings.clock)
        this.#addDue(partition)
      }
    } catch (error) {
      this.defect(partition, error)
      return
    }
    this.#pump()
    this.#boundStanding(partition)
    this.#updateFlow(partition)
    this.#armCheckpoint()
  }

  /** Records of a retry topic come in when their delay is over; while one waits, the partition is not fetched. */
  #addDue(partition: Partition): void {
    const { clock } = this.#surroundings
    const nowMs = clock.monotonicMs()
    const dueMs = partition.undue.release(this.#appendClock, nowMs, (batch, from, to) => partition.add(batch, from, to))
    partition.dueTimer?.[Symbol.dispose]()
    partition.dueTimer = null
    if (dueMs === null) return
    partition.dueTimer = partition.later(clock, dueMs - nowMs, () => {
      partition.dueTimer = null
      if (partition.gone || partition.state === 'releasing') return
      try {
        this.#addDue(partition)
      } catch (error) {
        this.defect(partition, error)
        return
      }
      partition.progressMs = clock.monotonicMs()
      this.#updateFlow(partition)
      this.#pump()
      this.#armCheckpoint()
    })
  }

  async releasing(parts: readonly Held[], deadlineMs: number): Promise<void> {
    await Promise.all(
      parts.map((held) => {
        const partition = this.#of(held)
        return partition === undefined ? undefined : this.#release(partition, deadlineMs * (1 - releaseReserve))
      }),
    )
  }

  lost(parts: readonly Held[]): void {
    for (const held of parts) {
      const partition = this.#of(held)
      if (partition !== undefined) this.#close(partition, 'returned.lost')
    }
  }

  fault(where: Held | 'group', error: OttlaError): void {
    const { log } = this.#surroundings
    if (where === 'group') {
      this.#groupFault = error
      log.warn('the group has a fault', { service: this.plan.name, error })
      if (error.fatal) this.#publishAlarm(null, error)
      return
    }
    const partition = this.#of(where)
    if (error.code === 'OTTLA_KAFKA_OFFSET_OUT_OF_RANGE' && partition !== undefined) {
      if (this.#outOfRange(partition, error)) return
    }
    if (error.code === 'OTTLA_KAFKA_LOG_TRUNCATED' && partition !== undefined) {
      this.#truncated(partition, error)
      return
    }
    log.warn('a partition has a fault', { service: this.plan.name, ...placeOf(where), error })
    if (partition === undefined) this.#publishAlarm(null, error)
    else if (partition.firstAlarm(error)) this.#publishAlarm(partition, error)
  }

  /** Below the log's start, retention was faster; beyond its end, the log is not the one that was read. True: taken care of. */
  #outOfRange(partition: Partition, error: OttlaError): boolean {
    const { position, logStart, logEnd } = error.details as Partial<Record<string, number>>
    if (position === undefined || logStart === undefined || logEnd === undefined) {
      this.#refuse(partition, error.message)
      return false
    }
    if (position < logStart) {
      partition.expire(position, logStart)
      this.#alarmExpired(partition, logStart - position)
      void this.#seek(partition, logStart)
      return true
    }
    if (this.plan.offsetsVanished === null) {
      this.#refuse(partition, `its place is ${position}, but the log ends at ${logEnd}`, error)
      return true
    }
    this.#restart(partition, this.plan.offsetsVanished === 'latest' ? logEnd : logStart)
    return true
  }

  /** A leader was elected without records that were read here: what lies at their positions now is something else. */
  #truncated(partition: Partition, error: OttlaError): void {
    const { divergesAt } = error.details as { readonly divergesAt?: unknown }
    if (this.plan.offsetsVanished === null || typeof divergesAt !== 'number') {
      this.#refuse(partition, error.message, error)
    } else this.#restart(partition, Math.min(divergesAt, partition.tracker.low))
  }

  /** Goes on somewhere else, as somebody has said: with new books, since positions only ascend. */
  #restart(partition: Partition, low: number): void {
    const { held, gained } = partition
    this.#surroundings.log.warn('a partition goes on elsewhere, as offsetsVanished says', {
      service: this.plan.name,
      ...placeOf(held),
      from: partition.start.low,
      to: low,
    })
    this.#close(partition, 'returned.lost')
    const checkpoint = { low, finished: [], strikes: 0 }
    const fresh = new Partition({ ...gained, checkpoint, stored: true }, partition, this.plan)
    fresh.dirty = true
    fresh.progressMs = this.#surroundings.clock.monotonicMs()
    fresh.paused = partition.paused
    this.#partitions.set(keyOf(held), fresh)
    this.#turns = [...this.#partitions.values()]
    void this.#seek(fresh, low)
    void this.#acquire(fresh)
    this.#armCheckpoint()
  }

  async #seek(partition: Partition, offset: number): Promise<void> {
    try {
      await this.#reader!.seek(partition.held, { offset })
    } catch (error) {
      this.defect(partition, error)
    }
  }

  /** Nothing starts and nothing is committed until a person has said where to go on. */
  #refuse(partition: Partition, what: string, cause?: OttlaError): void {
    const { name } = this.plan
    const { held, gained } = partition
    partition.state = 'stopped'
    partition.standing = { why: 'offsetsVanished' }
    this.#alarm(
      partition,
      'OTTLA_RUNTIME_OFFSETS_VANISHED',
      `${what}. The log holds ${gained.logStart} to ${gained.logEnd}. Stop ${name} and choose a place for it ` +
        `(ottla groups reset-offsets ${this.plan.group} --topic ${held.topic}), or start it with offsetsVanished: 'earliest' ` +
        `(redoes what the log holds; the inbox knows what was handled) or 'latest' (skips it)`,
      cause,
    )
    this.#updateFlow(partition)
  }

  #alarmExpired(partition: Partition, count: number): void {
    // Each time, not once: every one of them is a loss.
    partition.alarmed.delete('OTTLA_RUNTIME_EXPIRED')
    this.#alarm(partition, 'OTTLA_RUNTIME_EXPIRED', `retention removed ${count} unread records`)
  }

  // ── DispatchEvents ──

  settled(partition: Partition): void {
    if (!partition.gone) {
      // Only an ending shows that those behind a failure will move; a retry alone does not.
      if (partition.full && partition.lanes.standing < this.plan.standingMax / 2) partition.full = false
      if (!partition.full && !partition.budget.stopped) partition.alarmed.delete('OTTLA_RUNTIME_PARKED_FULL')
      // While one is under way it is not waited for here: each record would, and the next one asks again.
      const due = partition.endedSince >= checkpointCount && partition.checkpointing === null
      if (this.#survived(partition) || due) void this.#checkpoint(partition, false)
      this.#updateFlow(partition)
      if (partition.lanes.running === 0) partition.drained?.()
      this.#armCheckpoint()
    }
    this.#pumpSoon()
  }

  parked(work: Work, atMs: number | null): void {
    const { partition } = work
    if (partition.lanes.running === 0) partition.drained?.()
    if (atMs !== null && partition.state !== 'releasing') {
      const { clock } = this.#surroundings
      work.timer = partition.later(clock, atMs - clock.monotonicMs(), () => this.#wake(work))
    }
    if (this.#survived(partition) || isUnnoted(work)) void this.#checkpoint(partition, false)
    this.#boundStanding(partition)
    this.#updateFlow(partition)
    this.#pump()
  }

  storeAway(partition: Partition, untilMs: number): void {
    this.#stand(partition, { why: 'storeAway', untilMs })
    this.#alarm(partition, 'OTTLA_STORE_UNAVAILABLE', 'the store is away; the partition waits for it')
  }

  storeBack(partition: Partition): void {
    partition.alarmed.delete('OTTLA_STORE_UNAVAILABLE')
  }

  breakerOpen(work: Work, breaker: Breaker): void {
    const { partition } = work
    const gate = this.#gateOf(breaker)
    gate.waiting.add(work)
    work.gate = gate
    // Others of the same topic would meet it too. What other topics need is not known; they find out with one record.
    for (const each of this.#partitions.values())
      if (each.held.topic === partition.held.topic) this.#shut(each, breaker)
  }

  deadLettersAway(partition: Partition, untilMs: number, error: unknown): void {
    this.#stand(partition, { why: 'deadLettersAway', untilMs })
    this.#alarm(
      partition,
      'OTTLA_RUNTIME_DEAD_LETTERS_AWAY',
      `a dead letter could not be written to ${this.plan.deadLetterTopic}; the partition waits`,
      error,
    )
  }

  retryTopicsAway(partition: Partition, untilMs: number, error: unknown): void {
    this.#stand(partition, { why: 'retryTopicsAway', untilMs })
    this.#alarm(
      partition,
      'OTTLA_RUNTIME_RETRY_TOPICS_AWAY',
      'a record could not be written to its retry topic; the partition waits',
      error,
    )
  }

  appending(): void {
    this.#appendClock.sending()
  }

  appended(timestampMs: number | null): void {
    this.#appendClock.sent(timestampMs, this.#surroundings.clock.wallMs())
  }

  handStarted(): void {
    this.#armWatch()
  }

  async acknowledged(work: Work): Promise<boolean> {
    const { partition } = work
    partition.acknowledgeEarly(work)
    for (;;) {
      if (partition.gone || partition.state === 'stopped') return false
      if (partition.earlyTurnStored >= work.early!.turn) {
        partition.earlyIsStored(work)
        return true
      }
      await this.#checkpoint(partition, false)
      if (partition.earlyTurnStored >= work.early!.turn || partition.gone) continue
      await new Promise<void>((done) => void this.#surroundings.clock.after(ownsRecheckMs, done))
    }
  }

  // ── held keys and redrives ──

  heldBy({ partition, batch, index }: Work): HoldRecord | null {
    const { topicId, partition: number } = partition.held
    const holds = this.#control?.holds
    if (holds === undefined || !holds.any(topicId, number)) return null
    const key = batch.key(index)
    return key === null ? null : (holds.get(topicId, number, keyText(key)) ?? null)
  }

  holdsFull(partition: Partition): boolean {
    const holds = this.#control?.holds
    if (holds === undefined || !holds.full) return false
    partition.standing = { why: 'holdsFull' }
    this.#alarm(
      partition,
      'OTTLA_RUNTIME_HOLDS_FULL',
      `${holds.size} keys are held behind dead letters; no further one can be`,
    )
    this.#updateFlow(partition)
    return true
  }

  async hold({ partition, batch, index, position }: Work, letter: Sent, error: string): Promise<void> {
    const control = this.#control
    const key = batch.key(index)
    if (control === null || key === null) return
    const { topic, topicId, partition: number } = partition.held
    const text = keyText(key)
    if (control.holds.get(topicId, number, text) !== undefined) return
    await control.write({
      kind: 'hold',
      topic,
      topicId,
      partition: number,
      key: text,
      head: position,
      letter: { partition: letter.partition, position: letter.position },
      done: -1,
      skip: [],
      redrives: 0,
      atMs: this.#surroundings.clock.wallMs(),
      error,
    })
  }

  letterEnded(work: Work, outcome: ResultOutcome, error: string): void {
    this.#redriver!.ended(work, outcome, error)
  }

  redriveNext(work: Work): void {
    this.#redriver!.next(work)
  }

  redriveOver(work: Work): void {
    this.#redriver!.over(work)
  }

  /** A redrive has been offered or loaded: it may start. */
  #go(work: Work): void {
    const { partition } = work
    if (partition.gone || partition.state === 'releasing') return
    if (partition.lanes.waits(work)) partition.lanes.wake(work)
    this.#updateFlow(partition)
    this.#pump()
  }

  /** Somebody lets partitions go on; those that another pause concerns stand still. */
  #controlResumed(topic: string | null, partition: number | null): void {
    for (const { held } of [...this.#partitions.values()]) {
      if (topic !== null && held.topic !== topic) continue
      if (partition !== null && held.partition !== partition) continue
      if (!this.#control!.paused(held.topic, held.partition)) this.resume(held.topic, held.partition)
    }
  }

  /** The control topic says something new. */
  #controlChanged(): void {
    const control = this.#control!
    for (const partition of this.#partitions.values()) {
      if (partition.state !== 'running') continue
      const { topic, partition: number } = partition.held
      const paused = control.paused(topic, number)
      if (paused && !partition.told) this.pause(topic, number)
      partition.told = paused
      if (partition.standing?.why === 'holdsFull' && !control.holds.full) this.resume(topic, number)
    }
    this.#redriver!.consider()
  }

  braked(partition: Partition): void {
    partition.standing = { why: 'brake' }
    this.#alarm(
      partition,
      'OTTLA_RUNTIME_BRAKE',
      `too many dead letters; the commonest cause is ${partition.brake.commonestCause()}. Resume when it is mended`,
    )
    this.#updateFlow(partition)
  }

  fenced(partition: Partition, fence: Fence): void {
    if (partition.state !== 'running' || partition.fence?.epoch !== fence.epoch) return
    partition.state = 'acquiring'
    void this.#acquire(partition)
  }

  defect(partition: Partition, error: unknown): void {
    if (partition.gone || partition.state === 'stopped') return
    partition.state = 'stopped'
    this.#alarm(
      partition,
      'OTTLA_RUNTIME_LEDGER_IMBALANCE',
      `a record is unaccounted for: ${error instanceof Error ? error.message : String(error)}`,
      error,
    )
    this.#updateFlow(partition)
  }

  // ── GateEvents ──

  probeDue(): void {
    this.#pump()
  }

  lifted(gate: BreakerGate): void {
    this.#gates.delete(gate.breaker)
    gate[Symbol.dispose]()
    for (const partition of gate.partitions) {
      if (partition.gone || partition.standing?.why !== 'breaker' || partition.standing.gate !== gate) continue
      partition.standing = this.#behindAnother(partition)
      this.#updateFlow(partition)
    }
    for (const work of gate.waiting) {
      work.gate = null
      if (!work.partition.gone && work.partition.state !== 'releasing') work.partition.lanes.wake(work)
    }
    // Not at once: this may be inside of a handler's own call.
    this.#pumpLater(0)
  }

  // ── for operators, metrics and tests ──

  /** Lets partitions go on that stand still until somebody says so. Returns how many. */
  resume(topic?: string, partition?: number): number {
    let count = 0
    for (const each of this.#partitions.values()) {
      if (topic !== undefined && each.held.topic !== topic) continue
      if (partition !== undefined && each.held.partition !== partition) continue
      if (each.standing === null || each.state === 'stopped' || passes(each.standing)) continue
      each.brake.release()
      each.standing = this.#behindAnother(each)
      each.alarmed.clear()
      for (const work of [...each.lanes.waitingEntries()]) {
        if (work.timer === null && work.gate === null) each.lanes.wake(work)
      }
      this.#updateFlow(each)
      count++
    }
    this.#pump()
    return count
  }

  /** Stands a partition, or all of a topic, or all, still. Running handlers finish. Returns how many. */
  pause(topic?: string, partition?: number): number {
    let count = 0
    for (const each of this.#partitions.values()) {
      if (topic !== undefined && each.held.topic !== topic) continue
      if (partition !== undefined && each.held.partition !== partition) continue
      if (each.standing !== null && !passes(each.standing)) continue
      each.standing = { why: 'asked' }
      this.#updateFlow(each)
      count++
    }
    return count
  }

  ledger(): readonly LedgerRow[] {
    const rows: LedgerRow[] = []
    for (const [key, partition] of this.#partitions) {
      const totals = partition.ledger.totals(partition.counts())
      const before = this.#closed.get(key)
      rows.push(
        this.#row(partition.held, before === undefined ? totals : addTotals(before.totals, totals), {
          state: partition.state,
          standing: partition.standing === null ? null : standingText(partition.standing),
        }),
      )
    }
    for (const [key, { held, totals }] of this.#closed) {
      if (!this.#partitions.has(key)) rows.push(this.#row(held, totals, { state: null, standing: null }))
    }
    return rows
  }

  lag(): readonly Lag[] {
    return this.#reader?.lag() ?? []
  }

  /** Records that wait for a retry or for a person. */
  parkedRecords(): readonly Parked[] {
    const parked: Parked[] = []
    for (const partition of this.#partitions.values()) {
      for (const work of partition.lanes.waitingEntries()) {
        parked.push({
          service: this.plan.name,
          topic: partition.held.topic,
          partition: partition.held.partition,
          position: work.position,
          attempts: work.counted + work.transient,
          why: partition.standing === null ? 'retry' : standingText(partition.standing),
        })
      }
      const undue = partition.undue.first(this.#appendClock)
      if (undue !== null) {
        const inMs = Math.max(0, Math.ceil(undue.dueMs - this.#surroundings.clock.monotonicMs()))
        parked.push({
          service: this.plan.name,
          topic: partition.held.topic,
          partition: partition.held.partition,
          position: undue.position,
          attempts: 0,
          why: `due in ${inMs} ms, and those behind it later`,
        })
      }
    }
    return parked
  }

  /** How far a partition has come: everything below is finished. Null when it is not held or not ready. */
  low(topic: string, partition: number): number | null {
    const held = this.#partitions.get(`${topic}/${partition}`)
    return held === undefined || held.state !== 'running' ? null : held.tracker.low
  }

  get inFlight(): number {
    return this.#dispatch.running
  }

  /** Why a person or the orchestrator must act; null when all is well. */
  get stuck(): string | null {
    return this.#stuck
  }

  /** Has the group handed something out, and is nothing wrong with it? */
  get joined(): boolean {
    return this.#reader === null || (this.#joined && this.#groupFault === null)
  }

  /** Does the group's coordinator take no checkpoints? Work goes on; a new owner would redo it. */
  get checkpointsFail(): boolean {
    return this.#checkpointFailures > 0
  }

  /** Is something wrong with the group itself? */
  get faulty(): boolean {
    return this.#groupFault !== null
  }

  /** Partitions that make no progress although they should: stopped, standing, or still without the store's fence. */
  standing(): readonly { readonly topic: string; readonly partition: number; readonly why: string }[] {
    const list = []
    for (const { held, state, standing } of this.#partitions.values()) {
      const waits = state === 'acquiring' ? 'acquiring' : null
      const why = state === 'stopped' ? 'stopped' : standing === null ? waits : standingText(standing)
      if (why !== null) list.push({ topic: held.topic, partition: held.partition, why })
    }
    for (const [{ held }, stillMs] of this.#stalled) {
      const why = `no record has ended for ${Math.round(stillMs / 1_000)} s`
      list.push({ topic: held.topic, partition: held.partition, why })
    }
    return list
  }

  /** Sends the checkpoints of everything that has changed and waits for them. */
  async checkpointAll(): Promise<void> {
    await Promise.all([...this.#partitions.values()].map((each) => this.#checkpoint(each, false)))
  }

  // ── starting handlers ──

  #pump(): void {
    if (this.#pumping || this.#state !== 'running') return
    this.#pumping = true
    try {
      const { clock } = this.#surroundings
      let nowMs = clock.monotonicMs()
      if (this.#sliceIsOver(nowMs)) return
      let owned: Partition | null = null
      let ownedMs = 0
      while (this.#dispatch.running < this.plan.concurrency) {
        const partition = this.#nextPartition()
        if (partition === null) break
        // Within one call nothing but time takes a partition away, and sessions last for seconds.
        if (partition !== owned || nowMs - ownedMs >= ownedForMs) {
          if (!this.#reader!.owns(partition.held)) {
            // Perhaps no longer ours: nothing starts. Either `lost` follows, or the session turns out to be alive.
            this.#pumpLater(ownsRecheckMs)
            break
          }
          owned = partition
          ownedMs = nowMs
        }
        if (partition.strikes.alert && !this.#isOnRecord(partition)) continue
        const work = partition.take()
        try {
          this.#dispatch.start(work, nowMs)
        } catch (error) {
          this.defect(partition, error)
        }
        const beganMs = nowMs
        nowMs = clock.monotonicMs()
        if (nowMs - beganMs >= longStartMs || ++this.#starts % startsPerLook === 0) this.#beginSlice(beganMs)
        if (this.#sliceIsOver(nowMs)) break
      }
      if (this.#dispatch.inHand.size > 0) this.#armWatch()
    } finally {
      this.#pumping = false
    }
  }

  /**
   * Handlers that settle without ever waiting for the event loop go from one call of `#pump` to the next in one row of
   * microtasks, and that must not last. A tick that one of them asks for comes when the row has ended. Rows are short where
   * each timer or socket wakes one handler: there most begin no slice.
   */
  #beginSlice(nowMs: number): void {
    if (this.#sliceEndMs !== null) return
    this.#sliceEndMs = nowMs + sliceMs
    queueMicrotask(this.#endSliceBehindRow)
  }

  /** Has the event loop been ours for too long? Then the rest follows in another turn. */
  #sliceIsOver(nowMs: number): boolean {
    if (this.#sliceEndMs === null || nowMs <= this.#sliceEndMs) return false
    this.#pumpLater(0)
    return true
  }

  readonly #endSliceBehindRow = (): void => process.nextTick(this.#endSlice)
  readonly #endSlice = (): void => {
    this.#sliceEndMs = null
  }

  /**
   * Once all handlers that have settled by now have had their endings written down: the same few things done for many
   * records in a row cost less than everything for one record after the other.
   */
  #pumpSoon(): void {
    if (this.#pumping || this.#pumpQueued || this.#state !== 'running') return
    this.#pumpQueued = true
    queueMicrotask(this.#pumpQueuedNow)
  }

  readonly #pumpQueuedNow = (): void => {
    this.#pumpQueued = false
    this.#pump()
  }

  #pumpLater(delayMs: number): void {
    this.#resuming ??= this.#surroundings.clock.after(delayMs, () => {
      this.#resuming = null
      this.#pump()
    })
  }

  /** The partition whose turn it is, among those that can start something. */
  #nextPartition(): Partition | null {
    const turns = this.#turns
    // Once around and back to where it began: that one may only have had its turn.
    for (let tried = 0; tried <= turns.length && turns.length > 0; tried++) {
      const partition = turns[this.#turn % turns.length]!
      const mayStart = partition.mayStart()
      if (partition.skipped) {
        partition.skipped = false
        this.#updateFlow(partition)
        this.#armCheckpoint()
      }
      if (mayStart && this.#taken < turnMax) {
        this.#taken++
        return partition
      }
      this.#turn = (this.#turn + 1) % turns.length
      this.#taken = 0
    }
    return null
  }

  /** Partitions came or went: turns and memory are shared anew. */
  #takeTurns(): void {
    this.#turns = [...this.#partitions.values()]
    const shareBytes = Math.max(budgetMinBytes, this.plan.budgetBytes / this.#turns.length)
    for (const partition of this.#turns) {
      partition.budget.share(shareBytes)
      this.#updateFlow(partition)
    }
  }

  #wake(work: Work): void {
    work.timer = null
    const { partition } = work
    if (partition.gone || partition.state === 'releasing') return
    if (isUnnoted(work) && !work.awaitsNote) {
      // Whoever owns the partition next must not begin at its first attempt. A coordinator that is away holds up nothing.
      work.awaitsNote = true
      work.timer = partition.later(this.#surroundings.clock, noteMaxMs, () => this.#wake(work))
      void this.#checkpoint(partition, false)
      return
    }
    work.awaitsNote = false
    partition.lanes.wake(work)
    this.#updateFlow(partition)
    this.#pump()
  }

  /** Attempts are on record, or cannot be now: what waits for that goes on. */
  #noted(attempts: ReadonlyMap<Work, number>, stored: boolean): void {
    for (const [work, counted] of attempts) {
      if (stored) work.noted = Math.max(work.noted, counted)
      if (!work.awaitsNote || (stored && isUnnoted(work))) continue
      work.timer?.[Symbol.dispose]()
      this.#wake(work)
    }
  }

  /** Nothing of this partition starts before `untilMs`. */
  #stand(
    partition: Partition,
    standing: { readonly why: 'storeAway' | 'deadLettersAway' | 'retryTopicsAway'; readonly untilMs: number },
  ) {
    if (partition.gone) return
    // A breaker lets only probes through, so that it includes what would be asked for here.
    if (partition.standing !== null && !('untilMs' in partition.standing)) return
    partition.standing = standing
    this.#updateFlow(partition)
    const { clock } = this.#surroundings
    partition.later(clock, standing.untilMs - clock.monotonicMs(), () => {
      if (partition.standing !== standing) return
      partition.standing = null
      this.#updateFlow(partition)
      this.#pump()
    })
  }

  // ── breakers ──

  /** The partition starts nothing but probes until the breaker closes. */
  #shut(partition: Partition, breaker: Breaker): void {
    // Where every handler has a fallback, that takes over: nothing has to wait for the service's own breaker.
    if (breaker === this.breaker && this.#fallsBack(partition.held.topic)) return
    if (partition.gone || (partition.standing !== null && !passes(partition.standing))) return
    const gate = this.#gateOf(breaker)
    gate.partitions.add(partition)
    partition.standing = { why: 'breaker', gate }
    this.#updateFlow(partition)
  }

  /** Two breakers may be open for one partition. It stands for one of them; records that met the other wait all the same. */
  #behindAnother(partition: Partition): Standing | null {
    for (const gate of this.#gates.values()) if (gate.partitions.has(partition)) return { why: 'breaker', gate }
    return null
  }

  #gateOf(breaker: Breaker): BreakerGate {
    let gate = this.#gates.get(breaker)
    if (gate === undefined) {
      gate = new BreakerGate(breaker, this.#surroundings.clock, this)
      this.#gates.set(breaker, gate)
      const whose = breaker === this.breaker ? "the service's own breaker" : `the breaker ${breaker.name}`
      this.#publishAlarm(
        null,
        new OttlaError(
          'OTTLA_BREAKER_OPEN',
          `${this.plan.name}: ${whose} is open, so partitions stand still until a probe succeeds; the last failure was ${this.#dispatch.lastFailure}`,
          { details: { service: this.plan.name, breaker: breaker.name } },
        ),
      )
    }
    return gate
  }

  #fallsBack(topic: string): boolean {
    const handlers = this.plan.handlers.get(topic)
    if (this.plan.retryTopics.some((each) => each.topic === topic)) {
      return [...this.plan.topics.keys()].every((source) => this.#fallsBack(source))
    }
    return handlers !== undefined && [...handlers.values()].every(({ fallback }) => fallback !== null)
  }

  // ── the store's fence ──

  /** Acquire, then confirm: bump the epoch in the store, then ask the group whether the partition is still ours. */
  async #acquire(partition: Partition): Promise<void> {
    const { held } = partition
    const { clock, log, random } = this.#surroundings
    for (let failures = 1; partition.state === 'acquiring'; failures++) {
      let step = 'the control topic cannot be read'
      let code: AlarmCode = 'OTTLA_RUNTIME_CONTROL_AWAY'
      try {
        // What the last owner held is known before the first record is handled.
        await this.#control?.ready()
        if (partition.state !== 'acquiring') return
        step = 'the fence of the partition cannot be acquired'
        code = 'OTTLA_STORE_UNAVAILABLE'
        if (await this.#takeFence(partition)) {
          if ((partition.state as string) !== 'acquiring') return
          partition.state = 'running'
          partition.alarmed.delete('OTTLA_STORE_UNAVAILABLE')
          partition.alarmed.delete('OTTLA_RUNTIME_CONTROL_AWAY')
          partition.told = this.#control?.paused(held.topic, held.partition) ?? false
          if (partition.told) this.pause(held.topic, held.partition)
          this.#updateFlow(partition)
          this.#pump()
          this.#redriver?.consider()
          return
        }
      } catch (error) {
        log.warn(`${step}; trying again`, { service: this.plan.name, ...placeOf(held), error })
        this.#alarm(partition, code, step, error)
      }
      if (partition.state !== 'acquiring') return
      const waitMs = backoffMs(handlerBackoff, failures, random())
      await new Promise<void>((done) => void partition.later(clock, waitMs, done))
    }
  }

  /** Without a store there is none to take. */
  async #takeFence(partition: Partition): Promise<boolean> {
    const { store, name: service } = this.plan
    if (store === null) return true
    const { held } = partition
    if (!partition.placed && !(await this.#place(partition, store))) return false
    const epoch = await store.acquire(service, held.topicId, held.partition)
    if (partition.state !== 'acquiring' || (await this.#reader!.confirm(held)) !== 'held') return false
    partition.fence = { service, topicId: held.topicId, partition: held.partition, epoch }
    return true
  }

  /**
   * The group has no offset for this partition. A fence row is only made once one is stored, so where there is a row the
   * offset was lost. Else this is the first time: the place is put on record before the row.
   */
  async #place(partition: Partition, store: Store): Promise<boolean> {
    const { name, offsetsVanished } = this.plan
    const { held, gained } = partition
    if (gained.logEnd > 0 && (await store.knows(name, held.topicId, held.partition))) {
      if (partition.state !== 'acquiring') return false
      if (offsetsVanished === null) {
        this.#refuse(partition, `the group has no offset here any more, although ${name} has worked here`)
        return false
      }
      if (offsetsVanished === 'latest') {
        this.#restart(partition, gained.logEnd)
        return false
      }
    }
    if (partition.state !== 'acquiring') return false
    if ((await this.#reader!.checkpoint(held, partition.checkpoint(true))) === 'lost') return false
    partition.placed = true
    return true
  }

  // ── strikes ──

  /** Before a handler starts: is it on record what the death of the process in it would mean? Else it is put there. */
  #isOnRecord(partition: Partition): boolean {
    const { strikes } = partition
    const { ticket, position } = partition.peek()
    const at = ticket < 0 ? null : position
    if (strikes.mayStart(at)) return true
    strikes.begin(at)
    partition.noting = true
    partition.dirty = true
    void this.#putOnRecord(partition)
    return false
  }

  async #putOnRecord(partition: Partition): Promise<void> {
    if (!partition.strikes.careful) {
      // A coordinator that is away holds up nothing for long.
      await this.#within(noteMaxMs, this.#checkpoint(partition, false))
    } else {
      // Without it the culprit would never be found.
      let stored = await this.#checkpoint(partition, false)
      for (; !stored && partition.state === 'running'; stored = await this.#checkpoint(partition, false)) {
        await new Promise<void>((done) => void partition.later(this.#surroundings.clock, ownsRecheckMs, done))
      }
      if (!stored) partition.strikes.retract()
    }
    partition.noting = false
    this.#pump()
  }

  /** A record has ended or stands still, and the process lives. True when that is worth a checkpoint at once. */
  #survived(partition: Partition): boolean {
    const { strikes, tracker } = partition
    if (!strikes.alert) return false
    const changed = strikes.blames && strikes.survived(partition.front, tracker.next)
    strikes.finishedBelow(tracker.low)
    if (changed) partition.dirty = true
    return changed
  }

  // ── flow ──

  #boundStanding(partition: Partition): void {
    const { standing } = partition.lanes
    if (partition.full || standing < this.plan.standingMax) return
    partition.full = true
    this.#alarm(
      partition,
      'OTTLA_RUNTIME_PARKED_FULL',
      `${standing} records wait behind failures; nothing more is fetched until they are fewer`,
    )
  }

  #updateFlow(partition: Partition): void {
    if (partition.gone) return
    const { lanes, strikes } = partition
    const stands = lanes.standing > 0 && partition.open === lanes.standing
    partition.budget.change(stands)
    if (stands && partition.budget.stopped) {
      const text = `the ${partition.budget.bytes} bytes that wait behind failures are all it may hold`
      this.#alarm(partition, 'OTTLA_RUNTIME_PARKED_FULL', `${text}; nothing more is fetched until they are fewer`)
    }
    if (strikes.careful && lanes.running === 0 && !partition.makeReady() && strikes.quiet(partition.nextPosition)) {
      partition.dirty = true
      this.#pumpSoon()
    }
    const pause =
      this.#state !== 'running' ||
      partition.state !== 'running' ||
      partition.budget.stopped ||
      partition.full ||
      !partition.undue.empty ||
      (partition.standing !== null && !passes(partition.standing)) ||
      (strikes.careful && strikes.spanEnds(partition.nextPosition))
    if (pause === partition.paused) return
    partition.paused = pause
    if (pause) this.#reader?.pause(partition.held)
    else this.#reader?.resume(partition.held)
  }

  // ── checkpoints ──

  #armCheckpoint(): void {
    if (this.#checkpointTimer !== null || this.#state !== 'running') return
    this.#checkpointTimer = this.#surroundings.clock.after(this.plan.checkpointIntervalMs, () => {
      this.#checkpointTimer = null
      for (const partition of this.#partitions.values()) void this.#checkpoint(partition, false)
    })
  }

  /**
   * Sends one; a call while one is under way waits for it and, when something changed since, sends another. True when all
   * that there was to say is on record.
   */
  async #checkpoint(partition: Partition, leaving: boolean): Promise<boolean> {
    while (partition.checkpointing !== null) await partition.checkpointing
    if (partition.gone || partition.state === 'stopped') return false
    if (!partition.dirty && !(leaving && partition.strikes.begun)) return true
    const wrong = partition.imbalance()
    if (wrong !== null) {
      this.defect(partition, wrong)
      return false
    }
    partition.dirty = false
    partition.endedSince = 0
    partition.checkpointing = this.#sendCheckpoint(partition, leaving)
    try {
      return await partition.checkpointing
    } finally {
      partition.checkpointing = null
    }
  }

  async #sendCheckpoint(partition: Partition, leaving: boolean): Promise<boolean> {
    const checkpoint = partition.checkpoint(leaving)
    const turn = partition.earlyTurn
    const attempts = new Map<Work, number>()
    for (const work of partition.tried) attempts.set(work, work.counted)
    const about = { service: this.plan.name, ...placeOf(partition.held), low: checkpoint.low }
    if (steps.offsetBeforeCommit.hasSubscribers) steps.offsetBeforeCommit.publish(about)
    try {
      const result = await this.#reader!.checkpoint(partition.held, checkpoint)
      this.#checkpointFailures = 0
      if (result === 'lost') {
        this.#surroundings.log.debug('checkpoint refused: no longer ours', about)
        // Should it be ours still, the next one is computed afresh.
        partition.dirty = true
      } else {
        partition.earlyTurnStored = Math.max(partition.earlyTurnStored, turn)
        this.#noted(attempts, true)
        if (steps.offsetAfterCommit.hasSubscribers) steps.offsetAfterCommit.publish(about)
      }
      return result !== 'lost'
    } catch (error) {
      // Nothing is lost by it: the next one covers it, and a new owner redoes what lies between.
      partition.dirty = true
      this.#checkpointFailures++
      this.#surroundings.log.warn('checkpoint failed; trying again', { ...about, error })
      this.#armCheckpoint()
      this.#noted(attempts, false)
      return false
    }
  }

  // ── giving up partitions ──

  async #release(partition: Partition, budgetMs: number): Promise<void> {
    if (partition.gone) return
    const stopped = partition.state === 'stopped'
    partition.state = 'releasing'
    for (const work of partition.lanes.waitingEntries()) {
      work.timer?.[Symbol.dispose]()
      work.timer = null
    }
    if (partition.lanes.running > 0) {
      await this.#within(budgetMs, new Promise<void>((done) => (partition.drained = done)))
    }
    // It may have been lost while its handlers finished.
    if (partition.gone) return
    // A broker that does not answer must not hold up the end: without the checkpoint the next owner redoes.
    if (!stopped) await this.#within(Math.max(500, budgetMs * releaseReserve), this.#checkpoint(partition, true))
    this.#close(partition, 'returned.revoked')
  }

  #within(maxMs: number, work: PromiseLike<unknown>): Promise<boolean> {
    return within(this.#surroundings.clock, maxMs, work)
  }

  #close(partition: Partition, ending: 'returned.revoked' | 'returned.lost'): void {
    if (partition.gone) return
    const { held } = partition
    const key = keyOf(held)
    const totals = partition.close(ending)
    const before = this.#closed.get(key)
    this.#closed.set(key, { held, totals: before === undefined ? totals : addTotals(before.totals, totals) })
    if (this.#partitions.get(key) === partition) this.#partitions.delete(key)
    this.#redriver?.consider()
    this.#takeTurns()
    for (const gate of this.#gates.values()) gate.forget(partition)
    this.#stalled.delete(partition)
    this.#dispatch.abort(partition)
    partition.drained?.()
    this.#surroundings.log.debug('given up', { service: this.plan.name, ...placeOf(held), ending })
  }

  // ── deadlines ──

  #armWatch(): void {
    if (this.#watchTimer !== null) return
    let tickMs = watchTickMaxMs
    for (const work of this.#dispatch.inHand) {
      if (work.handler !== null) tickMs = Math.min(tickMs, Math.max(5, work.handler.timeoutMs / 4))
    }
    const { clock } = this.#surroundings
    const dueMs = clock.monotonicMs() + tickMs
    this.#watchTimer = clock.after(tickMs, () => {
      this.#watchTimer = null
      const nowMs = clock.monotonicMs()
      if (nowMs - dueMs >= slowTurnMs) this.#warnOfStandstill(nowMs - dueMs)
      this.#dispatch.recent.clear()
      for (const work of this.#dispatch.watch(nowMs)) {
        this.#stuck = `${work.handler!.name} ignores its deadline`
        this.#alarm(
          work.partition,
          'OTTLA_RUNTIME_DEADLINE',
          `${work.handler!.name} has not settled ${work.handler!.timeoutMs} ms after its signal aborted`,
        )
        this.#onStuck()
      }
      if (this.#dispatch.inHand.size > 0) this.#armWatch()
    })
  }

  /** The event loop stood still, and not in the first turn of a handler: it was one of those in hand, or someone else. */
  #warnOfStandstill(lateMs: number): void {
    const { recent, inHand } = this.#dispatch
    for (const { handler } of inHand) if (handler !== null) recent.add(handler.name)
    this.#surroundings.log.warn('the event loop stood still while these handlers were in hand', {
      service: this.plan.name,
      handlers: [...recent],
      durationMs: Math.round(lateMs),
    })
  }

  // ── progress ──

  #armProgress(): void {
    this.#progressTimer = this.#surroundings.clock.after(this.#progress.intervalMs, () => {
      if (this.#state !== 'running') return
      this.#lookForProgress()
      this.#armProgress()
    })
  }

  #lookForProgress(): void {
    const nowMs = this.#surroundings.clock.monotonicMs()
    const lags = new Map(this.lag().map((each) => [`${each.topic}/${each.partition}`, each.records]))
    this.#stalled.clear()
    for (const [key, partition] of this.#partitions) {
      const stillMs = this.#progress.look(partition, lags.get(key) ?? 0, nowMs)
      if (stillMs === 0) {
        partition.alarmed.delete('OTTLA_RUNTIME_STALLED')
        continue
      }
      this.#stalled.set(partition, stillMs)
      const { running, queued } = partition.counts()
      this.#alarm(
        partition,
        'OTTLA_RUNTIME_STALLED',
        `no record has ended for ${Math.round(stillMs / 1_000)} s: ${running} are in hand, ${queued} are next, ${lags.get(key) ?? 0} are unfinished in the log`,
      )
    }
  }

  // ── saying things ──

  #alarm(partition: Partition, code: AlarmCode, text: string, cause?: unknown): void {
    const { held } = partition
    const error = new OttlaError(code, `${this.plan.name}, ${held.topic}-${held.partition}: ${text}`, {
      cause,
      details: { service: this.plan.name, ...placeOf(held) },
    })
    if (partition.firstAlarm(error)) this.#publishAlarm(partition, error)
  }

  #publishAlarm(partition: Partition | null, error: OttlaError): void {
    this.stats.alarms++
    const place = partition === null ? {} : placeOf(partition.held)
    this.#surroundings.log.error(error.message, { code: error.code, service: this.plan.name, ...place, error })
    alarm.publish({ service: this.plan.name, ...place, error })
  }

  #row(held: Held, totals: LedgerTotals, now: Pick<LedgerRow, 'state' | 'standing'>): LedgerRow {
    return { service: this.plan.name, topic: held.topic, partition: held.partition, ...now, ...totals }
  }

  #of(held: Held): Partition | undefined {
    const partition = this.#partitions.get(keyOf(held))
    return partition?.held.ownership === held.ownership ? partition : undefined
  }
}

type AlarmCode =
  | 'OTTLA_RUNTIME_BRAKE'
  | 'OTTLA_RUNTIME_CAREFUL'
  | 'OTTLA_RUNTIME_CONTROL_AWAY'
  | 'OTTLA_RUNTIME_DEADLINE'
  | 'OTTLA_RUNTIME_DEAD_LETTERS_AWAY'
  | 'OTTLA_RUNTIME_EXPIRED'
  | 'OTTLA_RUNTIME_HOLDS_FULL'
  | 'OTTLA_RUNTIME_LEDGER_IMBALANCE'
  | 'OTTLA_RUNTIME_OFFSETS_VANISHED'
  | 'OTTLA_RUNTIME_PARKED_FULL'
  | 'OTTLA_RUNTIME_RETRY_TOPICS_AWAY'
  | 'OTTLA_RUNTIME_STALLED'
  | 'OTTLA_STORE_UNAVAILABLE'

/** Has it attempts that would be forgotten with this process? */
function isUnnoted(work: Work): boolean {
  return work.counted > work.noted && work.partition.tried.has(work)
}

/** A handler may use up its time, and be told so, before its partition counts as stalled. */
function stalledAfterMs({ handlers }: ServicePlan): number {
  const timeouts = [...handlers.values()].flatMap((each) => [...each.values()].map(({ timeoutMs }) => timeoutMs))
  return 2 * Math.max(stalledMinMs, ...timeouts)
}

function keyOf(held: Held): string {
  return `${held.topic}/${held.partition}`
}

function placeOf(held: Held): { readonly topic: string; readonly partition: number } {
  return { topic: held.topic, partition: held.partition }
}
