/**
 * One member of a classic consumer group, as a machine: what happened goes in, what to do comes out.
 *
 * ```
 * idle ──start──► joining ──answer, leader──► planning ──planned──► syncing ──answer──► stable
 *                  ▲ ▲ └──────answer, follower──────────────────────────┘               │ │ │
 *                  │ │                                                                  │ │ │
 *                  │ └───────── cooperative: REBALANCE_IN_PROGRESS, topics changed ─────┘ │ │
 *                  │                                                                      │ │
 *                  ├──────────────────────released────────── releasing ◄──────────────────┘ │
 *                  │   eager: REBALANCE_IN_PROGRESS, topics changed (all); cooperative:     │
 *                  │   what the assignment leaves out (surplus); close (all)                │
 *                  │                                                                        │
 *                  └── lose ◄── fenced, or silent for a session ────────────────────────────┘
 *
 * any ──close──► (releasing ──►) leaving ──► closed
 * ```
 *
 * - `joining`: a JoinGroup is on its way, or waits for its turn after a failure. `planning`: we lead; the assignment is
 *   being computed. `syncing`: SyncGroup is on its way.
 * - `stable`: partitions are held, heartbeats go out. Entered with `assign`, which is answered by `taken`.
 * - `releasing`: partitions are being finished and committed in the generation that held them; heartbeats go on, and
 *   REBALANCE_IN_PROGRESS in their answers is no news. Left by `released` (the runner keeps the deadline).
 * - Eager: everything is released before joining, so nothing is held in `joining`, `planning` and `syncing`.
 * - Cooperative: everything stays held through them, heartbeats go on, and the generation is the last one entered. Only
 *   what the new assignment leaves out is released afterwards, and then the group is joined again so that somebody else
 *   gets it. ILLEGAL_GENERATION while joining means that the answer to the JoinGroup is on its way.
 * - Fencing (UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION, FENCED_INSTANCE_ID) or a session without an acknowledged heartbeat
 *   ends what is held at once, by `lose`: no commit, no drain.
 * - Closing while something is held and a rebalance is under way waits for its end, because commits are refused in the
 *   middle; but no longer than a drain may take.
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
  /** Keep what is held while the group shares out again (KIP-429). Only when every assignor offered is cooperative. */
  readonly cooperative: boolean
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
  /** The assignment is known. `surplus`: it leaves out something that is held. */
  | { readonly type: 'taken'; readonly surplus: boolean }
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
  | {
      readonly do: 'release'
      readonly attempt: number
      readonly what: 'all' | 'surplus'
      readonly deadlineMs: number
    }
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
  /** Are partitions in our hands, whatever the state? */
  #holding = false
  /** In `releasing`: only what the assignment left out. */
  #partial = false
  /** Closing in the middle of a rebalance: when waiting for its end ends. */
  #closeAtMs = Number.POSITIVE_INFINITY

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

  /** Are partitions held while the group shares out again? Commits may be refused until that is over. */
  get rebalancing(): boolean {
    return this.#holding && (this.#state === 'joining' || this.#state === 'planning' || this.#state === 'syncing')
  }

  /** May partitions be held right now, by what the coordinator last said and by both clocks? */
  inSession(now: Moment): boolean {
    return this.#holding && !this.#expired(now)
  }

  /** When to send `tick` next, on the monotonic clock; null when nothing is waited for. */
  wakeAtMs(): number | null {
    let wakeMs = Number.POSITIVE_INFINITY
    if (this.#state === 'joining' && this.#joinAtMs !== null) wakeMs = this.#joinAtMs
    if (this.#holding) {
      wakeMs = Math.min(wakeMs, this.#acknowledged.monotonicMs + this.#settings.sessionTimeoutMs)
      if (!this.#heartbeatOpen) wakeMs = Math.min(wakeMs, this.#heartbeatAtMs)
      if (this.rebalancing) wakeMs = Math.min(wakeMs, this.#closeAtMs)
    }
    return wakeMs === Number.POSITIVE_INFINITY ? null : wakeMs
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
          if (this.#isOverdue(event.code)) break
          if (isFencing(event.code)) this.#fenced(event.code, now, effects)
          else if (event.code === ErrorCode.REBALANCE_IN_PROGRESS && this.#state === 'stable') {
            this.#rebalance(now, effects)
          }
        }
        break
      case 'taken':
        if (this.#state !== 'stable') break
        if (this.#closing) this.#release('all', effects)
        else if (event.surplus) this.#release('surplus', effects)
        else if (this.#outdated && this.#leads) this.#rebalance(now, effects)
        this.#outdated = false
        break
      case 'outdated':
        if (this.#state === 'stable' && this.#leads) this.#rebalance(now, effects)
        else if (this.#state === 'planning' || this.#state === 'syncing') this.#outdated = true
        break
      case 'left':
        if (this.#state === 'leaving' && event.attempt === this.#attempt) this.#close(effects)
        break
      case 'close':
        this.#startClosing(now, effects)
        break
      default:
        event satisfies never
    }
    return effects
  }

  #isMember(generation: number): boolean {
    return this.#holding && generation === this.#generation
  }

  /** The generation is over because the one that we asked to join has begun; its answer is on its way. */
  #isOverdue(code: number): boolean {
    return code === ErrorCode.ILLEGAL_GENERATION && this.#state === 'joining'
  }

  #expired(now: Moment): boolean {
    const limitMs = this.#settings.sessionTimeoutMs
    return (
      now.monotonicMs - this.#acknowledged.monotonicMs >= limitMs || now.wallMs - this.#acknowledged.wallMs >= limitMs
    )
  }

  #tick(now: Moment, effects: GroupEffect[]): void {
    if (this.#holding && this.#expired(now)) {
      this.#lose(effects)
      // An answer that is waited for comes as it comes; what it assigns is gained afresh.
      if (this.#state === 'stable' || this.#state === 'releasing') this.#join(now, effects)
      else if (this.#closing) this.#leave(effects)
      return
    }
    if (this.rebalancing && now.monotonicMs >= this.#closeAtMs) {
      this.#release('all', effects)
      return
    }
    if (this.#state === 'joining' && this.#joinAtMs !== null && now.monotonicMs >= this.#joinAtMs) {
      this.#join(now, effects)
    }
    if (this.#holding && !this.#heartbeatOpen && now.monotonicMs >= this.#heartbeatAtMs) {
      this.#heartbeatOpen = true
      this.#heartbeatAtMs = now.monotonicMs + this.#settings.heartbeatIntervalMs
      effects.push({ do: 'heartbeat', memberId: this.#memberId, generation: this.#generation })
    }
  }

  #lose(effects: GroupEffect[]): void {
    if (!this.#holding) return
    this.#holding = false
    this.#heartbeatOpen = false
    if (this.#state === 'joining') this.#generation = -1
    effects.push({ do: 'lose' })
  }

  /** The group shares out again. */
  #rebalance(now: Moment, effects: GroupEffect[]): void {
    if (this.#settings.cooperative) this.#join(now, effects)
    else this.#release('all', effects)
  }

  #join(_now: Moment, effects: GroupEffect[]): void {
    if (this.#closing && !this.#holding) {
      this.#leave(effects)
      return
    }
    this.#beforeJoin()
    this.#joinAtMs = null
    this.#outdated = false
    effects.push({ do: 'join', attempt: ++this.#attempt, memberId: this.#memberId })
  }

  #beforeJoin(): void {
    this.#state = 'joining'
    this.#leads = false
    if (this.#holding) return
    this.#generation = -1
    this.#heartbeatOpen = false
  }

  /** Joins again after a pause that grows with each failure in a row. */
  #joinLater(now: Moment, effects: GroupEffect[], atLeastMs = 0): void {
    if (this.#closing && !this.#holding) {
      this.#leave(effects)
      return
    }
    const { retryBackoffMs, retryBackoffMaxMs } = this.#settings
    const delayMs = Math.max(atLeastMs, Math.min(retryBackoffMaxMs, retryBackoffMs * 2 ** Math.min(this.#failures, 16)))
    this.#failures++
    this.#beforeJoin()
    this.#attempt++
    this.#joinAtMs = now.monotonicMs + delayMs
  }

  #joined(event: GroupEvent & { type: 'joined' }, now: Moment, effects: GroupEffect[]): void {
    const code = event.code
    if (code === ErrorCode.NONE) {
      this.#memberId = event.memberId
      this.#generation = event.generation
      // Whatever a heartbeat of the generation before comes to, it says nothing about this one.
      this.#heartbeatOpen = false
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
    // The session may have run out before this answer came.
    if (this.#expired(now)) this.#lose(effects)
    this.#acknowledged = event.sent
    if (this.#expired(now)) {
      // The answer took a whole session: by now we may be a stranger again.
      this.#joinLater(now, effects)
      return
    }
    this.#failures = 0
    this.#state = 'stable'
    this.#holding = true
    this.#heartbeatOpen = false
    this.#heartbeatAtMs = event.sent.monotonicMs + this.#settings.heartbeatIntervalMs
    effects.push({ do: 'assign', assignment: event.assignment, generation: this.#generation })
  }

  /** JoinGroup or SyncGroup was refused. */
  #refusedToEnter(code: number, now: Moment, effects: GroupEffect[]): void {
    if (isFencing(code)) this.#lose(effects)
    if (code === ErrorCode.UNKNOWN_MEMBER_ID) {
      this.#memberId = ''
      if (this.#failures === 0) {
        this.#failures++
        this.#join(now, effects)
      } else this.#joinLater(now, effects)
      return
    }
    if (isElsewhere(code)) {
      effects.push({ do: 'forget-coordinator' })
      this.#joinLater(now, effects)
      return
    }
    if (
      code === ErrorCode.REBALANCE_IN_PROGRESS ||
      code === ErrorCode.ILLEGAL_GENERATION ||
      code === ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
    ) {
      this.#joinLater(now, effects)
      return
    }
    effects.push({ do: 'fault', code })
    if (code === ErrorCode.FENCED_INSTANCE_ID) this.#close(effects)
    else this.#joinLater(now, effects, this.#settings.retryBackoffMaxMs)
  }

  #beaten(event: GroupEvent & { type: 'beaten' }, now: Moment, effects: GroupEffect[]): void {
    this.#heartbeatOpen = false
    const code = event.code
    if (code === ErrorCode.NONE || code === ErrorCode.REBALANCE_IN_PROGRESS) {
      if (event.sent.monotonicMs > this.#acknowledged.monotonicMs) this.#acknowledged = event.sent
      if (code === ErrorCode.REBALANCE_IN_PROGRESS && this.#state === 'stable') this.#rebalance(now, effects)
      this.#tick(now, effects)
      return
    }
    if (this.#isOverdue(code)) {
      // Not acknowledged: if the answer never comes, the session runs out.
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
        this.#joinLater(now, effects)
        return
      case 'leave':
        if (this.#state === 'leaving') this.#close(effects)
        return
      default:
        event.what satisfies never
    }
  }

  #fenced(code: number, now: Moment, effects: GroupEffect[]): void {
    this.#lose(effects)
    if (code === ErrorCode.FENCED_INSTANCE_ID) {
      effects.push({ do: 'fault', code })
      this.#close(effects)
      return
    }
    if (code === ErrorCode.UNKNOWN_MEMBER_ID) this.#memberId = ''
    this.#join(now, effects)
  }

  #release(what: 'all' | 'surplus', effects: GroupEffect[]): void {
    this.#state = 'releasing'
    this.#partial = what === 'surplus'
    effects.push({ do: 'release', attempt: ++this.#attempt, what, deadlineMs: this.#settings.drainTimeoutMs })
  }

  #released(now: Moment, effects: GroupEffect[]): void {
    if (this.#partial && this.#closing) {
      this.#release('all', effects)
      return
    }
    if (!this.#partial) this.#holding = false
    this.#join(now, effects)
  }

  #startClosing(now: Moment, effects: GroupEffect[]): void {
    if (this.#closing) return
    this.#closing = true
    switch (this.#state) {
      case 'stable':
        this.#release('all', effects)
        return
      case 'releasing':
      case 'leaving':
      case 'closed':
        return
      case 'idle':
      case 'joining':
      case 'planning':
      case 'syncing':
        if (this.#holding) this.#closeAtMs = now.monotonicMs + this.#settings.drainTimeoutMs
        else this.#leave(effects)
        return
      default:
        this.#state satisfies never
    }
  }

  #leave(effects: GroupEffect[]): void {
    this.#generation = -1
    this.#holding = false
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
    this.#holding = false
    this.#attempt++
    effects.push({ do: 'closed' })
  }
}
