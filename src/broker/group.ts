/**
 * One consumer group: the classic protocol, the broker's side.
 *
 * States and what leads out of them:
 *
 *   Empty                No members; offsets may remain.
 *                        first join → PreparingRebalance
 *   PreparingRebalance   Waits until every member has joined (and every member id given out has been used), at most
 *                        the longest rebalance timeout; an empty group waits the initial delay instead (which may be 0),
 *                        prolonged while members arrive, and not for member ids given out.
 *                        all joined, or time over and somebody joined → CompletingRebalance (generation + 1)
 *                        time over and nobody joined → Empty (generation + 1)
 *   CompletingRebalance  Everybody knows the generation; waits for the leader's assignment.
 *                        leader syncs → Stable; a member joins anew, leaves, expires or never syncs → PreparingRebalance
 *   Stable               Members have their assignments.
 *                        new member, leader rejoins, changed subscription, leave, expiry → PreparingRebalance
 *   Dead                 Deleted. Nothing leads out.
 *
 * A request that has to wait hands in a callback, which is called exactly once; a repeated request of the same member
 * answers the one before with REBALANCE_IN_PROGRESS. A member that waits in JoinGroup or SyncGroup counts as alive; a
 * new one at most five minutes.
 * Not done: static members (`groupInstanceId`), the consumer protocol of KIP-848.
 */
import { ErrorCode } from '../wire/error-codes.ts'
import type { Timer, Timers } from './timers.ts'

export type GroupState = 'Empty' | 'PreparingRebalance' | 'CompletingRebalance' | 'Stable' | 'Dead'

/** One assignment strategy a member offers, with its subscription as opaque bytes. */
export interface OfferedProtocol {
  readonly name: string
  readonly metadata: Uint8Array
}

export interface JoinInput {
  readonly memberId: string
  readonly clientId: string
  readonly clientHost: string
  readonly sessionTimeoutMs: number
  readonly rebalanceTimeoutMs: number
  readonly protocolType: string
  readonly protocols: readonly OfferedProtocol[]
  /** JoinGroup 4 and later: a member without an id gets one and must come back with it. */
  readonly memberIdRequired: boolean
}

export interface JoinOutcome {
  readonly errorCode: number
  readonly generation: number
  readonly protocolType: string | null
  readonly protocolName: string | null
  readonly leader: string
  readonly memberId: string
  readonly members: readonly { readonly memberId: string; readonly metadata: Uint8Array }[]
}

export interface SyncInput {
  readonly memberId: string
  readonly generation: number
  readonly protocolType: string | null
  readonly protocolName: string | null
  readonly assignments: readonly { readonly memberId: string; readonly assignment: Uint8Array }[]
}

export interface SyncOutcome {
  readonly errorCode: number
  readonly protocolType: string | null
  readonly protocolName: string | null
  readonly assignment: Uint8Array
}

/** A committed position. */
export interface CommittedOffset {
  readonly offset: number
  readonly leaderEpoch: number
  readonly metadata: string
}

export interface GroupOptions {
  /** How long an empty group waits for more members before the first generation. Kafka's default is 3,000. */
  readonly initialRebalanceDelayMs: number
  readonly newMemberId: (clientId: string) => string
  readonly timers: Timers
}

interface Member {
  readonly id: string
  clientId: string
  clientHost: string
  sessionTimeoutMs: number
  rebalanceTimeoutMs: number
  protocols: readonly OfferedProtocol[]
  assignment: Uint8Array
  /** Joined for the first time and not yet part of any generation. */
  isNew: boolean
  joining: ((outcome: JoinOutcome) => void) | null
  syncing: ((outcome: SyncOutcome) => void) | null
  expiresAtMs: number
  expiry: Timer | null
}

/** What a description of the group shows of a member. */
export interface MemberFacts {
  readonly memberId: string
  readonly clientId: string
  readonly clientHost: string
  readonly metadata: Uint8Array
  readonly assignment: Uint8Array
}

const newMemberLimitMs = 300_000
const membersMax = 5_000
const nothing = new Uint8Array(0)

const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0

export class Group {
  readonly id: string
  readonly #options: GroupOptions
  #state: GroupState = 'Empty'
  #protocolType: string | null = null
  #protocolName: string | null = null
  #generation = 0
  #leader: string | null = null
  readonly #members = new Map<string, Member>()
  /** Member ids given out and not yet used, each with the timer that forgets it. */
  readonly #pending = new Map<string, Timer>()
  /** Members that have not yet asked for their assignment in this generation. */
  readonly #unsynced = new Set<string>()
  #barrier: Timer | null = null
  /** While an empty group waits for its first members: how long it may still be prolonged. */
  #initialRemainingMs = -1
  #arrived = false
  /** topic → partition → position. */
  readonly offsets = new Map<string, Map<number, CommittedOffset>>()

  constructor(id: string, options: GroupOptions) {
    this.id = id
    this.#options = options
  }

  get state(): GroupState {
    return this.#state
  }

  get generation(): number {
    return this.#generation
  }

  get protocolType(): string {
    return this.#protocolType ?? ''
  }

  /** The strategy in force; empty unless the group is Stable or completing. */
  get protocolName(): string {
    return this.#state === 'Stable' ? (this.#protocolName ?? '') : ''
  }

  get leader(): string {
    return this.#leader ?? ''
  }

  members(): readonly MemberFacts[] {
    const stable = this.#state === 'Stable'
    return [...this.#members.values()].map((member) => ({
      memberId: member.id,
      clientId: member.clientId,
      clientHost: member.clientHost,
      metadata: stable ? this.#metadataOf(member) : nothing,
      assignment: stable ? member.assignment : nothing,
    }))
  }

  /** The subscriptions of all members, whatever the state; for checks by topic. */
  subscriptions(): readonly Uint8Array[] {
    return [...this.#members.values()].map((member) => member.protocols[0]?.metadata ?? nothing)
  }

  // ── requests ──

  join(input: JoinInput, nowMs: number, answer: (outcome: JoinOutcome) => void): void {
    const refuse = (errorCode: number, memberId = input.memberId): void =>
      answer({
        errorCode,
        generation: -1,
        protocolType: null,
        protocolName: null,
        leader: '',
        memberId,
        members: [],
      })
    if (this.#state === 'Dead') {
      refuse(ErrorCode.COORDINATOR_NOT_AVAILABLE)
      return
    }
    if (!this.#accepts(input)) {
      refuse(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
      return
    }
    if (input.memberId === '') {
      if (this.#members.size + this.#pending.size >= membersMax) {
        refuse(ErrorCode.GROUP_MAX_SIZE_REACHED)
        return
      }
      const memberId = this.#options.newMemberId(input.clientId)
      if (!input.memberIdRequired) {
        this.#add(memberId, input, nowMs, answer)
        return
      }
      this.#pending.set(
        memberId,
        this.#options.timers.at(nowMs + input.sessionTimeoutMs, (firedMs) => this.#forgetPending(memberId, firedMs)),
      )
      refuse(ErrorCode.MEMBER_ID_REQUIRED, memberId)
      return
    }
    const pending = this.#pending.get(input.memberId)
    if (pending !== undefined) {
      pending.cancel()
      this.#pending.delete(input.memberId)
      this.#add(input.memberId, input, nowMs, answer)
      return
    }
    const member = this.#members.get(input.memberId)
    if (member === undefined) {
      refuse(ErrorCode.UNKNOWN_MEMBER_ID)
      return
    }
    const unchanged = this.#offersTheSame(member, input)
    switch (this.#state) {
      case 'PreparingRebalance':
        this.#rejoin(member, input, nowMs, answer)
        return
      case 'CompletingRebalance':
        // The answer to its join was lost: it gets it again.
        if (unchanged) {
          answer(this.#joined(member))
          return
        }
        this.#rejoin(member, input, nowMs, answer)
        return
      case 'Stable':
        if (unchanged && member.id !== this.#leader) {
          this.#touch(member, nowMs)
          answer(this.#joined(member))
          return
        }
        this.#rejoin(member, input, nowMs, answer)
        return
      case 'Empty':
        refuse(ErrorCode.UNKNOWN_MEMBER_ID)
        return
      default:
        throw this.#state satisfies never
    }
  }

  sync(input: SyncInput, nowMs: number, answer: (outcome: SyncOutcome) => void): void {
    const refuse = (errorCode: number): void =>
      answer({ errorCode, protocolType: null, protocolName: null, assignment: nothing })
    const errorCode = this.#checkMember(input.memberId, input.generation)
    if (errorCode !== 0) {
      refuse(errorCode)
      return
    }
    const member = this.#members.get(input.memberId)!
    if (
      (input.protocolType !== null && input.protocolType !== this.#protocolType) ||
      (input.protocolName !== null && input.protocolName !== this.#protocolName)
    ) {
      refuse(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
      return
    }
    switch (this.#state) {
      case 'PreparingRebalance':
        refuse(ErrorCode.REBALANCE_IN_PROGRESS)
        return
      case 'CompletingRebalance': {
        this.#unsynced.delete(member.id)
        member.syncing?.({
          errorCode: ErrorCode.REBALANCE_IN_PROGRESS,
          protocolType: null,
          protocolName: null,
          assignment: nothing,
        })
        member.syncing = answer
        if (member.id === this.#leader) this.#assign(input, nowMs)
        return
      }
      case 'Stable':
        this.#unsynced.delete(member.id)
        this.#touch(member, nowMs)
        answer(this.#synced(member))
        return
      case 'Empty':
      case 'Dead':
        refuse(ErrorCode.UNKNOWN_MEMBER_ID)
        return
      default:
        throw this.#state satisfies never
    }
  }

  /** The error code of a heartbeat. */
  heartbeat(memberId: string, generation: number, nowMs: number): number {
    const errorCode = this.#checkMember(memberId, generation)
    if (errorCode !== 0) return errorCode
    this.#touch(this.#members.get(memberId)!, nowMs)
    return this.#state === 'PreparingRebalance' ? ErrorCode.REBALANCE_IN_PROGRESS : ErrorCode.NONE
  }

  /** Takes a member out; the error code for it. */
  leave(memberId: string, nowMs: number): number {
    if (this.#pending.has(memberId)) {
      this.#pending.get(memberId)!.cancel()
      this.#forgetPending(memberId, nowMs)
      return ErrorCode.NONE
    }
    const member = this.#members.get(memberId)
    if (member === undefined) return ErrorCode.UNKNOWN_MEMBER_ID
    this.#remove(member, nowMs)
    return ErrorCode.NONE
  }

  /** May this commit be stored? The error code for it; a good one also counts as a sign of life. */
  checkCommit(memberId: string, generation: number, nowMs: number): number {
    if (this.#state === 'Dead') return ErrorCode.COORDINATOR_NOT_AVAILABLE
    if (generation < 0 && this.#state === 'Empty') return ErrorCode.NONE
    if (generation < 0 && memberId === '') return ErrorCode.UNKNOWN_MEMBER_ID
    const errorCode = this.#checkMember(memberId, generation)
    if (errorCode !== 0) return errorCode
    if (this.#state === 'CompletingRebalance') return ErrorCode.REBALANCE_IN_PROGRESS
    this.#touch(this.#members.get(memberId)!, nowMs)
    return ErrorCode.NONE
  }

  commit(topic: string, partition: number, position: CommittedOffset): void {
    let partitions = this.offsets.get(topic)
    if (partitions === undefined) {
      partitions = new Map()
      this.offsets.set(topic, partitions)
    }
    partitions.set(partition, position)
  }

  /** Ends the group; only an empty one may be. */
  die(): void {
    this.#state = 'Dead'
    this.#barrier?.cancel()
    for (const timer of this.#pending.values()) timer.cancel()
    this.#pending.clear()
    this.offsets.clear()
  }

  // ── inside ──

  #checkMember(memberId: string, generation: number): number {
    if (this.#state === 'Dead') return ErrorCode.COORDINATOR_NOT_AVAILABLE
    if (!this.#members.has(memberId)) return ErrorCode.UNKNOWN_MEMBER_ID
    if (generation !== this.#generation) return ErrorCode.ILLEGAL_GENERATION
    return ErrorCode.NONE
  }

  /** Has the newcomer something in common with everybody who stays? */
  #accepts(input: JoinInput): boolean {
    if (input.protocolType === '' || input.protocols.length === 0) return false
    const others = [...this.#members.values()].filter((member) => member.id !== input.memberId)
    if (others.length === 0) return true
    if (this.#protocolType !== input.protocolType) return false
    return input.protocols.some((offer) => others.every((member) => offersProtocol(member, offer.name)))
  }

  #offersTheSame(member: Member, input: JoinInput): boolean {
    return (
      member.protocols.length === input.protocols.length &&
      member.protocols.every((offer, at) => {
        const other = input.protocols[at]!
        return offer.name === other.name && same(offer.metadata, other.metadata)
      })
    )
  }

  #metadataOf(member: Member): Uint8Array {
    return member.protocols.find((offer) => offer.name === this.#protocolName)?.metadata ?? nothing
  }

  #add(memberId: string, input: JoinInput, nowMs: number, answer: (outcome: JoinOutcome) => void): void {
    const member: Member = {
      id: memberId,
      clientId: input.clientId,
      clientHost: input.clientHost,
      sessionTimeoutMs: input.sessionTimeoutMs,
      rebalanceTimeoutMs: input.rebalanceTimeoutMs,
      protocols: copyOf(input.protocols),
      assignment: nothing,
      isNew: true,
      joining: answer,
      syncing: null,
      expiresAtMs: 0,
      expiry: null,
    }
    this.#members.set(memberId, member)
    this.#protocolType = input.protocolType
    this.#leader ??= memberId
    this.#arrived = true
    this.#setExpiry(member, nowMs + newMemberLimitMs)
    this.#rebalance(nowMs)
  }

  #rejoin(member: Member, input: JoinInput, nowMs: number, answer: (outcome: JoinOutcome) => void): void {
    member.joining?.({
      errorCode: ErrorCode.REBALANCE_IN_PROGRESS,
      generation: -1,
      protocolType: null,
      protocolName: null,
      leader: '',
      memberId: member.id,
      members: [],
    })
    member.protocols = copyOf(input.protocols)
    member.clientId = input.clientId
    member.clientHost = input.clientHost
    member.sessionTimeoutMs = input.sessionTimeoutMs
    member.rebalanceTimeoutMs = input.rebalanceTimeoutMs
    member.joining = answer
    if (this.#members.size === 1) this.#protocolType = input.protocolType
    this.#rebalance(nowMs)
  }

  /** Enters PreparingRebalance if not there, and goes on if nobody is missing. */
  #rebalance(nowMs: number): void {
    const before = this.#state
    if (before === 'PreparingRebalance') {
      this.#tryComplete(nowMs)
      return
    }
    if (before === 'CompletingRebalance') this.#cancelSyncs()
    this.#unsynced.clear()
    this.#barrier?.cancel()
    this.#state = 'PreparingRebalance'
    const limitMs = this.#longestRebalanceMs()
    if (before === 'Empty') {
      const delayMs = Math.min(this.#options.initialRebalanceDelayMs, limitMs)
      this.#waitInitially(delayMs, limitMs - delayMs, nowMs)
      return
    }
    this.#barrier = this.#options.timers.at(nowMs + limitMs, (firedMs) => this.#complete(firedMs))
    this.#tryComplete(nowMs)
  }

  #waitInitially(delayMs: number, remainingMs: number, nowMs: number): void {
    this.#initialRemainingMs = remainingMs
    this.#arrived = false
    this.#barrier = this.#options.timers.at(nowMs + delayMs, (firedMs) => {
      if (this.#arrived && remainingMs > 0) {
        const nextMs = Math.min(this.#options.initialRebalanceDelayMs, remainingMs)
        this.#waitInitially(nextMs, remainingMs - nextMs, firedMs)
      } else {
        this.#complete(firedMs)
      }
    })
  }

  #longestRebalanceMs(): number {
    let longest = 0
    for (const member of this.#members.values()) longest = Math.max(longest, member.rebalanceTimeoutMs)
    return longest
  }

  #tryComplete(nowMs: number): void {
    if (this.#state !== 'PreparingRebalance' || this.#initialRemainingMs >= 0 || this.#pending.size > 0) return
    for (const member of this.#members.values()) if (member.joining === null) return
    this.#complete(nowMs)
  }

  #complete(nowMs: number): void {
    this.#barrier?.cancel()
    this.#barrier = null
    this.#initialRemainingMs = -1
    for (const member of [...this.#members.values()]) if (member.joining === null) this.#drop(member)
    this.#generation += 1
    if (this.#members.size === 0) {
      this.#state = 'Empty'
      this.#protocolName = null
      this.#leader = null
      return
    }
    if (this.#leader === null || !this.#members.has(this.#leader)) {
      this.#leader = this.#members.keys().next().value!
    }
    this.#protocolName = this.#vote()
    this.#state = 'CompletingRebalance'
    this.#unsynced.clear()
    const joined = [...this.#members.values()]
    for (const member of joined) {
      this.#unsynced.add(member.id)
      member.isNew = false
      member.assignment = nothing
      this.#touch(member, nowMs)
    }
    this.#barrier = this.#options.timers.at(nowMs + this.#longestRebalanceMs(), (firedMs) =>
      this.#dropUnsynced(firedMs),
    )
    for (const member of joined) {
      const answer = member.joining!
      member.joining = null
      answer(this.#joined(member))
    }
  }

  /** Each member votes for its first strategy that all share; most votes win, the earlier offered on a tie. */
  #vote(): string {
    const members = [...this.#members.values()]
    const votes = new Map<string, number>()
    for (const member of members) {
      const choice = member.protocols.find((offer) => members.every((other) => offersProtocol(other, offer.name)))
      if (choice !== undefined) votes.set(choice.name, (votes.get(choice.name) ?? 0) + 1)
    }
    let best = ''
    let most = 0
    for (const [name, count] of votes) if (count > most) [best, most] = [name, count]
    return best
  }

  #joined(member: Member): JoinOutcome {
    const leads = member.id === this.#leader
    return {
      errorCode: ErrorCode.NONE,
      generation: this.#generation,
      protocolType: this.#protocolType,
      protocolName: this.#protocolName,
      leader: this.#leader ?? '',
      memberId: member.id,
      members: leads
        ? [...this.#members.values()].map((other) => ({ memberId: other.id, metadata: this.#metadataOf(other) }))
        : [],
    }
  }

  #assign(input: SyncInput, nowMs: number): void {
    for (const { memberId, assignment } of input.assignments) {
      const member = this.#members.get(memberId)
      if (member !== undefined) member.assignment = new Uint8Array(assignment)
    }
    this.#state = 'Stable'
    for (const member of this.#members.values()) {
      const answer = member.syncing
      if (answer === null) continue
      member.syncing = null
      this.#touch(member, nowMs)
      answer(this.#synced(member))
    }
  }

  #synced(member: Member): SyncOutcome {
    return {
      errorCode: ErrorCode.NONE,
      protocolType: this.#protocolType,
      protocolName: this.#protocolName,
      assignment: member.assignment,
    }
  }

  #cancelSyncs(): void {
    for (const member of this.#members.values()) {
      const answer = member.syncing
      member.syncing = null
      member.assignment = nothing
      answer?.({
        errorCode: ErrorCode.REBALANCE_IN_PROGRESS,
        protocolType: null,
        protocolName: null,
        assignment: nothing,
      })
    }
  }

  #dropUnsynced(nowMs: number): void {
    this.#barrier = null
    if (this.#unsynced.size === 0) return
    for (const id of this.#unsynced) {
      const member = this.#members.get(id)
      if (member !== undefined) this.#drop(member)
    }
    this.#unsynced.clear()
    this.#rebalance(nowMs)
  }

  #forgetPending(memberId: string, nowMs: number): void {
    this.#pending.delete(memberId)
    this.#tryComplete(nowMs)
  }

  /** Sign of life. */
  #touch(member: Member, nowMs: number): void {
    this.#setExpiry(member, nowMs + member.sessionTimeoutMs)
  }

  #setExpiry(member: Member, atMs: number): void {
    member.expiresAtMs = atMs
    // One timer per member: when it fires too early it is set anew, so that a heartbeat costs nothing.
    if (member.expiry !== null && member.expiry.atMs <= atMs) return
    member.expiry?.cancel()
    member.expiry = this.#options.timers.at(atMs, (firedMs) => this.#expired(member, firedMs))
  }

  #expired(member: Member, nowMs: number): void {
    member.expiry = null
    if (this.#members.get(member.id) !== member) return
    if (nowMs < member.expiresAtMs) {
      this.#setExpiry(member, member.expiresAtMs)
      return
    }
    const waits = !member.isNew && (member.joining !== null || member.syncing !== null)
    if (waits) {
      this.#setExpiry(member, nowMs + member.sessionTimeoutMs)
      return
    }
    this.#remove(member, nowMs)
  }

  /** Takes a member out and lets the others rebalance. */
  #remove(member: Member, nowMs: number): void {
    this.#drop(member)
    this.#rebalance(nowMs)
  }

  /** Takes a member out; a waiting request of it is answered. */
  #drop(member: Member): void {
    member.expiry?.cancel()
    this.#members.delete(member.id)
    this.#unsynced.delete(member.id)
    if (this.#leader === member.id) this.#leader = this.#members.keys().next().value ?? null
    member.joining?.({
      errorCode: ErrorCode.UNKNOWN_MEMBER_ID,
      generation: -1,
      protocolType: null,
      protocolName: null,
      leader: '',
      memberId: member.id,
      members: [],
    })
    member.syncing?.({
      errorCode: ErrorCode.UNKNOWN_MEMBER_ID,
      protocolType: null,
      protocolName: null,
      assignment: nothing,
    })
    member.joining = null
    member.syncing = null
  }
}

function offersProtocol(member: Member, name: string): boolean {
  return member.protocols.some((offer) => offer.name === name)
}

/** The bytes arrive as views of a frame; a group outlives it. */
function copyOf(protocols: readonly OfferedProtocol[]): readonly OfferedProtocol[] {
  return protocols.map(({ name, metadata }) => ({ name, metadata: new Uint8Array(metadata) }))
}
