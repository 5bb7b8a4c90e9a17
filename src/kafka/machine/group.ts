/**
 * One member of a classic consumer group, as a machine: what happened goes in, what to do comes out.
 *
 * ```
 * idle ──start──► joining ──answer, leader──► planning ──planned──► syncing ──answer──► stable
 *                   ▲  └──────answer, follower──────────────────────────┘                 │
 *                   │                                                                     │ REBALANCE_IN_PROGRESS,
 *                   ├──────────────────────released────────── releasing ◄─────────────────┤ topics changed, close
 *                   │                                             │                       │
 *                   └── lose ◄── fenced, or silent for a session ─┴───────────────────────┘
 *
 * any ──close──► (releasing ──►) leaving ──► closed
 * ```
 *
 * - `joining`: a JoinGroup is on its way, or waits for its turn after a failure. Nothing is held.
 * - `planning`: we lead; the assignment is being computed. `syncing`: SyncGroup is on its way.
 * - `stable`: partitions are held, heartbeats go out. Entered with `assign`.
 * - `releasing`: partitions are being finished and committed in the generation that held them. Heartbeats go on, and
 *   REBALANCE_IN_PROGRESS in their answers is no news. Left by `released` (the runner keeps the deadline).
 * - Fencing (UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION, FENCED_INSTANCE_ID) or a session without an acknowledged heartbeat
 *   ends what is held at once, by `lose`: no commit, no drain.
 *
 * A request that can be answered late carries an `attempt`; answers to earlier attempts are ignored. Time is passed in
 * twice over, monotonic and wall: the wall clock notices that the machine was suspended, which the other one does not.
 */
import { ErrorCode } from '../../wire/error-codes.ts'

/** An instant on both clocks. */
export interface Moment {
  readonly monotonicMs: number
  readonly wallMs: number
}

export interface GroupSettings {
  readonly sessionTimeoutMs: number
  readonly heartbeatIntervalMs: number
  /** What the runner may spend on finishing what is held before it rejoins or leaves. */
  readonly drainTimeoutMs: number
  readonly retryBackoffMs: number
  readonly retryBackoffMaxMs: number
}

/** A member as JoinGroup tells the leader; `metadata` is its subscription, still encoded. */
export interface JoinedMember {
  readonly memberId: string
  readonly groupInstanceId: string | null
  readonly metadata: Uint8Array
}

/** Assignments by member, encoded. */
export type EncodedAssignments = readonly { readonly memberId: string; readonly assignment: Uint8Array }[]

export type GroupState = 'idle' | 'joining' | 'planning' | 'syncing' | 'stable' | 'releasing' | 'leaving' | 'closed'

export type GroupEvent =
  | { readonly type: 'start' }
  | { readonly type: 'tick' }
  | {
      readonly type: 'joined'
      readonly attempt: number
      readonly code: number
      readonly memberId: string
      readonly generation: number
      readonly leaderId: string
      readonly members: readonly JoinedMember[]
    }
  | { readonly type: 'planned'; readonly attempt: number; readonly assignments: EncodedAssignments }
  | {
      readonly type: 'synced'
      readonly attempt: number
      readonly sent: Moment
      readonly code: number
      readonly assignment: Uint8Array
    }
  | { readonly type: 'beaten'; readonly generation: number; readonly sent: Moment; readonly code: number }
  /** No answer at all: connection, deadline, or an answer that made no sense. */
  | { readonly type: 'failed'; readonly what: 'join' | 'plan' | 'sync' | 'leave'; readonly attempt: number }
  | { readonly type: 'heartbeat-failed'; readonly generation: number }
  | { readonly type: 'released'; readonly attempt: number }
  /** Another request of this generation was refused with this code (a commit). */
  | { readonly type: 'refused'; readonly generation: number; readonly code: number }
  /** The topics are not what the current assignment was made from. */
  | { readonly type: 'outdated' }
  | { readonly type: 'left'; readonly attempt: number }
  | { readonly type: 'close' }

export type GroupEffect =
  | { readonly do: 'join'; readonly attempt: number; readonly memberId: string }
  | { readonly do: 'plan'; readonly attempt: number; readonly members: readonly JoinedMember[] }
  | {
      readonly do: 'sync'
      readonly attempt: number
      readonly memberId: string
      readonly generation: number
      readonly assignments: EncodedAssignments
    }
  | { readonly do: 'heartbeat'; readonly memberId: string; readonly generation: number }
  | { readonly do: 'assign'; readonly assignment: Uint8Array; readonly generation: number }
  | { readonly do: 'release'; readonly attempt: number; readonly deadlineMs: number }
  | { readonly do: 'lose' }
  | { readonly do: 'leave'; readonly attempt: number; readonly memberId: string }
  | { readonly do: 'forget-coordinator' }
  /** A person must hear of this; the machine goes on trying unless it is `closed` next. */
  | { readonly do: 'fault'; readonly code: number }
  | { readonly do: 'closed' }

/** The broker answered, but not this broker or not yet. */
const isElsewhere = (code: number): boolean =>
  code === ErrorCode.NOT_COORDINATOR || code === ErrorCode.COORDINATOR_NOT_AVAILABLE

const isFencing = (code: number): boolean =>
  code === ErrorCode.UNKNOWN_MEMBER_ID || code === ErrorCode.ILLEGAL_GENERATION || code === ErrorCode.FENCED_INSTANCE_ID

export class GroupMachine {
  readonly #settings: GroupSettings
  #state: GroupState = 'idle'
  #memberId = ''
  #generation = -1
  #leads = false
  #attempt = 0
  #failures = 0
  /** When the next JoinGroup may go out; null while one is on its way. */
  #joinAtMs: number | null = null
  #heartbeatAtMs = 0
  #heartbeatOpen = false
  #acknowledged: Moment = { monotonicMs: 0, wallMs: 0 }
  #outdated = false
  #closing = false

  constructor(settings: GroupSettings) {
    this.#settings = settings
  }

  get state(): GroupState {
    return this.#state
  }

  get memberId(): string {
    return this.#memberId
  }

  /** Kafka's number of the current assignment; -1 when we are in none. */
  get generation(): number {
    return this.#generation
  }

  get leads(): boolean {
    return this.#leads
  }

  /** May partitions be held right now, by what the coordinator last said and by both clocks? */
  inSession(now: Moment): boolean {
    return (this.#state === 'stable' || this.#state === 'releasing') && !this.#expired(now)
  }

  /** When to send `tick` next, on the monotonic clock; null when nothing is waited for. */
  wakeAtMs(): number | null {
    switch (this.#state) {
      case 'joining':
        return this.#joinAtMs
      case 'stable':
      case 'releasing': {
        const expiry = this.#acknowledged.monotonicMs + this.#settings.sessionTimeoutMs
        return this.#heartbeatOpen ? expiry : Math.min(expiry, this.#heartbeatAtMs)
      }
      case 'idle':
      case 'planning':
      case 'syncing':
      case 'leaving':
      case 'closed':
        return null
      default:
        return this.#state satisfies never
    }
  }

  handle(event: GroupEvent, now: Moment): readonly GroupEffect[] {
    const effects: GroupEffect[] = []
    switch (event.type) {
      case 'start':
        if (this.#state === 'idle') this.#join(now, effects)
        break
      case 'tick':
        this.#tick(now, effects)
        break
      case 'joined':
        if (this.#state === 'joining' && event.attempt === this.#attempt) this.#joined(event, now, effects)
        break
      case 'planned':
        if (this.#state === 'planning' && event.attempt === this.#attempt) this.#sync(event.assignments, effects)
        break
      case 'synced':
        if (this.#state === 'syncing' && event.attempt === this.#attempt) this.#synced(event, now, effects)
        break
      case 'beaten':
        if (this.#isMember(event.generation)) this.#beaten(event, now, effects)
        break
      case 'heartbeat-failed':
        if (this.#isMember(event.generation)) {
          this.#heartbeatOpen = false
          this.#heartbeatAtMs = now.monotonicMs + this.#settings.retryBackoffMs
          effects.push({ do: 'forget-coordinator' })
          this.#tick(now, effects)
        }
        break
      case 'failed':
        this.#failed(event, now, effects)
        break
      case 'released':
        if (this.#state === 'releasing' && event.attempt === this.#attempt) this.#released(now, effects)
        break
      case 'refused':
        if (this.#isMember(event.generation)) {
          if (isFencing(event.code)) this.#fenced(event.code, now, effects)
          else if (event.code === ErrorCode.REBALANCE_IN_PROGRESS && this.#state === 'stable') this.#release(effects)
        }
        break
      case 'outdated':
        if (this.#state === 'stable' && this.#leads) this.#release(effects)
        else if (this.#state === 'planning' || this.#state === 'syncing') this.#outdated = true
        break
      case 'left':
        if (this.#state === 'leaving' && event.attempt === this.#attempt) this.#close(effects)
        break
      case 'close':
        this.#startClosing(effects)
        break
      default:
        event satisfies never
    }
    return effects
  }

  #isMember(generation: number): boolean {
    return (this.#state === 'stable' || this.#state === 'releasing') && generation === this.#generation
  }

  #expired(now: Moment): boolean {
    const limitMs = this.#settings.sessionTimeoutMs
    return (
      now.monotonicMs - this.#acknowledged.monotonicMs >= limitMs || now.wallMs - this.#acknowledged.wallMs >= limitMs
    )
  }

  #tick(now: Moment, effects: GroupEffect[]): void {
    if (this.#state === 'joining') {
      if (this.#joinAtMs !== null && now.monotonicMs >= this.#joinAtMs) this.#join(now, effects)
      return
    }
    if (this.#state !== 'stable' && this.#state !== 'releasing') return
    if (this.#expired(now)) {
      effects.push({ do: 'lose' })
      this.#rejoinAfterLoss(now, effects)
      return
    }
    if (!this.#heartbeatOpen && now.monotonicMs >= this.#heartbeatAtMs) {
      this.#heartbeatOpen = true
      this.#heartbeatAtMs = now.monotonicMs + this.#settings.heartbeatIntervalMs
      effects.push({ do: 'heartbeat', memberId: this.#memberId, generation: this.#generation })
    }
  }

  #join(_now: Moment, effects: GroupEffect[]): void {
    this.#state = 'joining'
    this.#generation = -1
    this.#leads = false
    this.#joinAtMs = null
    this.#heartbeatOpen = false
    this.#outdated = false
    effects.push({ do: 'join', attempt: ++this.#attempt, memberId: this.#memberId })
  }

  /** Joins again after a pause that grows with each failure in a row. */
  #joinLater(now: Moment, atLeastMs = 0): void {
    const { retryBackoffMs, retryBackoffMaxMs } = this.#settings
    const delayMs = Math.max(atLeastMs, Math.min(retryBackoffMaxMs, retryBackoffMs * 2 ** Math.min(this.#failures, 16)))
    this.#failures++
    this.#state = 'joining'
    this.#generation = -1
    this.#leads = false
    this.#attempt++
    this.#joinAtMs = now.monotonicMs + delayMs
  }

  #joined(event: GroupEvent & { type: 'joined' }, now: Moment, effects: GroupEffect[]): void {
    const code = event.code
    if (code === ErrorCode.NONE) {
      this.#memberId = event.memberId
      this.#generation = event.generation
      this.#leads = event.leaderId === event.memberId
      if (this.#leads) {
        this.#state = 'planning'
        effects.push({ do: 'plan', attempt: ++this.#attempt, members: event.members })
      } else this.#sync([], effects)
      return
    }
    if (code === ErrorCode.MEMBER_ID_REQUIRED) {
      this.#memberId = event.memberId
      this.#join(now, effects)
      return
    }
    this.#refusedToEnter(code, now, effects)
  }

  #sync(assignments: EncodedAssignments, effects: GroupEffect[]): void {
    this.#state = 'syncing'
    effects.push({
      do: 'sync',
      attempt: ++this.#attempt,
      memberId: this.#memberId,
      generation: this.#generation,
      assignments,
    })
  }

  #synced(event: GroupEvent & { type: 'synced' }, now: Moment, effects: GroupEffect[]): void {
    if (event.code !== ErrorCode.NONE) {
      this.#refusedToEnter(event.code, now, effects)
      return
    }
    this.#acknowledged = event.sent
    if (this.#expired(now)) {
      // The answer took a whole session: by now we may be a stranger again.
      this.#joinLater(now)
      return
    }
    this.#failures = 0
    this.#state = 'stable'
    this.#heartbeatOpen = false
    this.#heartbeatAtMs = event.sent.monotonicMs + this.#settings.heartbeatIntervalMs
    effects.push({ do: 'assign', assignment: event.assignment, generation: this.#generation })
    if (this.#outdated && this.#leads) this.#release(effects)
    this.#outdated = false
  }

  /** JoinGroup or SyncGroup was refused. Nothing is held, so there is nothing to lose. */
  #refusedToEnter(code: number, now: Moment, effects: GroupEffect[]): void {
    if (code === ErrorCode.UNKNOWN_MEMBER_ID) {
      this.#memberId = ''
      if (this.#failures === 0) {
        this.#failures++
        this.#join(now, effects)
      } else this.#joinLater(now)
      return
    }
    if (isElsewhere(code)) {
      effects.push({ do: 'forget-coordinator' })
      this.#joinLater(now)
      return
    }
    if (
      code === ErrorCode.REBALANCE_IN_PROGRESS ||
      code === ErrorCode.ILLEGAL_GENERATION ||
      code === ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    ) {
      this.#joinLater(now)
      return
    }
    effects.push({ do: 'fault', code })
    if (code === ErrorCode.FENCED_INSTANCE_ID) this.#close(effects)
    else this.#joinLater(now, this.#settings.retryBackoffMaxMs)
  }

  #beaten(event: GroupEvent & { type: 'beaten' }, now: Moment, effects: GroupEffect[]): void {
    this.#heartbeatOpen = false
    const code = event.code
    if (code === ErrorCode.NONE || code === ErrorCode.REBALANCE_IN_PROGRESS) {
      if (event.sent.monotonicMs > this.#acknowledged.monotonicMs) this.#acknowledged = event.sent
      if (code === ErrorCode.REBALANCE_IN_PROGRESS && this.#state === 'stable') this.#release(effects)
      this.#tick(now, effects)
      return
    }
    if (isFencing(code)) {
      this.#fenced(code, now, effects)
      return
    }
    if (isElsewhere(code)) effects.push({ do: 'forget-coordinator' })
    else if (code !== ErrorCode.COORDINATOR_LOAD_IN_PROGRESS) effects.push({ do: 'fault', code })
    this.#heartbeatAtMs = now.monotonicMs + this.#settings.retryBackoffMs
    this.#tick(now, effects)
  }

  #failed(event: GroupEvent & { type: 'failed' }, now: Moment, effects: GroupEffect[]): void {
    if (event.attempt !== this.#attempt) return
    switch (event.what) {
      case 'join':
      case 'sync':
      case 'plan':
        if (this.#state !== 'joining' && this.#state !== 'syncing' && this.#state !== 'planning') return
        if (event.what !== 'plan') effects.push({ do: 'forget-coordinator' })
        this.#joinLater(now)
        return
      case 'leave':
        if (this.#state === 'leaving') this.#close(effects)
        return
      default:
        event.what satisfies never
    }
  }

  #fenced(code: number, now: Moment, effects: GroupEffect[]): void {
    effects.push({ do: 'lose' })
    if (code === ErrorCode.FENCED_INSTANCE_ID) {
      effects.push({ do: 'fault', code })
      this.#close(effects)
      return
    }
    if (code === ErrorCode.UNKNOWN_MEMBER_ID) this.#memberId = ''
    this.#rejoinAfterLoss(now, effects)
  }

  #rejoinAfterLoss(now: Moment, effects: GroupEffect[]): void {
    if (this.#closing) this.#leave(effects)
    else this.#join(now, effects)
  }

  #release(effects: GroupEffect[]): void {
    this.#state = 'releasing'
    effects.push({ do: 'release', attempt: ++this.#attempt, deadlineMs: this.#settings.drainTimeoutMs })
  }

  #released(now: Moment, effects: GroupEffect[]): void {
    if (this.#closing) this.#leave(effects)
    else this.#join(now, effects)
  }

  #startClosing(effects: GroupEffect[]): void {
    if (this.#closing) return
    this.#closing = true
    switch (this.#state) {
      case 'stable':
        this.#release(effects)
        return
      case 'releasing':
      case 'leaving':
      case 'closed':
        return
      case 'idle':
      case 'joining':
      case 'planning':
      case 'syncing':
        this.#leave(effects)
        return
      default:
        this.#state satisfies never
    }
  }

  #leave(effects: GroupEffect[]): void {
    this.#generation = -1
    if (this.#memberId === '') {
      this.#close(effects)
      return
    }
    this.#state = 'leaving'
    effects.push({ do: 'leave', attempt: ++this.#attempt, memberId: this.#memberId })
  }

  #close(effects: GroupEffect[]): void {
    this.#state = 'closed'
    this.#generation = -1
    this.#attempt++
    effects.push({ do: 'closed' })
  }
}
