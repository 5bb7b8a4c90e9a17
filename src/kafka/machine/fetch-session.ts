/**
 * What one broker remembers of our fetches, so that each request names only what changed (KIP-227).
 *
 * ```
 *            ask all, (0, 0)              answered with an id
 *  none ─────────────────────► asked ─────────────────────────► open (id, n)
 *   ▲ ▲                          │                                │      ▲
 *   │ └── answered with id 0 ────┘        ask differences, (id, n) │      │ answered, n + 1
 *   │     (no place, or no sessions)                              ▼      │
 *   │                                                         asked (id, n)
 *   │◄── FETCH_SESSION_ID_NOT_FOUND ─────────────────────────────┤
 *   │                                                             │ answer lost, another epoch, another id, topic ids
 *   │                    ask all, (id, 0): ends the old one       ▼ refused, or it speaks of what was never asked
 *   └──────────────────────────────◄───────────────────────── doubtful (id)
 *
 *  open ──close──► none: (id, -1), nothing asked
 * ```
 *
 * The broker and we count along: an epoch is used once, so after a lost answer both cannot know whether the other side
 * has moved on, and everything is told anew. A session names topics either by id or by name, from its first request to
 * its last. A partition left out of a request is still in the session: it must be forgotten by name, and one whose topic
 * was made again is forgotten under its old id and named under its new one.
 */
import { ErrorCode } from '../../wire/error-codes.ts'
import type { FetchItem } from './fetch-planner.ts'

/** A partition that leaves a session, under the id it had in it. */
export interface ForgottenPartition {
  readonly topic: string
  readonly topicId: string
  readonly partition: number
}

/** The part of a Fetch request that the session decides. */
export interface SessionRequest {
  /** 0 asks for a new session. */
  readonly sessionId: number
  /** 0 tells everything anew, -1 ends the session. */
  readonly sessionEpoch: number
  /** Partitions to be named: all, or those that are new or differ. */
  readonly items: readonly FetchItem[]
  readonly forgotten: readonly ForgottenPartition[]
  readonly isFull: boolean
}

/** What the session sees of an answer. */
export interface SessionAnswer {
  readonly errorCode: number
  readonly sessionId: number
  /** How many of the partitions asked for the answer speaks of. */
  readonly told: number
  /** Partitions in it that were not asked for. */
  readonly strangers: number
}

/**
 * `good`: use it. `again`: the broker has no such session any more; ask anew at once, nothing has failed. `error`: what
 * `errorCode` says has nothing to do with the session.
 */
export type SessionVerdict = 'good' | 'again' | 'error'

type State =
  | { readonly kind: 'none' }
  | { readonly kind: 'open'; readonly id: number; readonly epoch: number }
  | { readonly kind: 'doubtful'; readonly id: number }

const none: State = { kind: 'none' }
const epochMax = 0x7fff_ffff
const sessionErrors: ReadonlySet<number> = new Set([
  ErrorCode.FETCH_SESSION_ID_NOT_FOUND,
  ErrorCode.INVALID_FETCH_SESSION_EPOCH,
  ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR,
])

const keyOf = (item: FetchItem): string => `${item.held.topic}\0${item.held.partition}`

export class FetchSession {
  #state: State = none
  /** Partitions of the session, as last told. Believed by the broker once it has answered. */
  #known = new Map<string, FetchItem>()
  #byId = true
  #asked: SessionRequest | null = null

  /** The next request for these partitions. `byId`: topics are named by their ids. One request at a time. */
  begin(items: readonly FetchItem[], byId: boolean): SessionRequest {
    // An answer that never came leaves us in doubt about what the broker believes.
    if (this.#asked !== null) this.lost()
    if (this.#state.kind === 'open' && byId !== this.#byId) this.#state = { kind: 'doubtful', id: this.#state.id }
    this.#byId = byId
    const asked = this.#state.kind === 'open' ? this.#differences(this.#state, items) : this.#everything(items)
    this.#asked = asked
    return asked
  }

  /** Takes the answer to the request begun last. */
  answered(answer: SessionAnswer): SessionVerdict {
    const asked = this.#asked
    this.#asked = null
    if (asked === null) return 'error'
    const { errorCode, sessionId, told, strangers } = answer
    if (errorCode !== 0) {
      const isOurs = sessionErrors.has(errorCode)
      // A refusal of the request that told everything anew is not about what either side remembers.
      const isGone = errorCode === ErrorCode.FETCH_SESSION_ID_NOT_FOUND || asked.isFull
      this.#state = isGone || asked.sessionId === 0 ? none : { kind: 'doubtful', id: asked.sessionId }
      return isOurs && asked.sessionId !== 0 ? 'again' : 'error'
    }
    if (asked.isFull) {
      // Fewer than asked: a broker that throttles answers a full fetch with nothing at all.
      const isWhole = told === asked.items.length && strangers === 0
      if (sessionId <= 0) this.#state = none
      else this.#state = isWhole ? { kind: 'open', id: sessionId, epoch: 1 } : { kind: 'doubtful', id: sessionId }
      return 'good'
    }
    if (sessionId === 0) {
      // Ended by the broker.
      this.#state = none
      return 'good'
    }
    const isSame = sessionId === asked.sessionId && strangers === 0
    const epoch = asked.sessionEpoch === epochMax ? 1 : asked.sessionEpoch + 1
    this.#state = isSame ? { kind: 'open', id: asked.sessionId, epoch } : { kind: 'doubtful', id: asked.sessionId }
    return 'good'
  }

  /** No answer came, or one that could not be read. */
  lost(): void {
    const asked = this.#asked
    this.#asked = null
    if (asked === null) return
    const id = asked.sessionId
    this.#state = id === 0 ? none : { kind: 'doubtful', id }
  }

  /** Ends the session: what to send for that, without waiting for an answer; null when there is none to end. */
  close(): { readonly sessionId: number; readonly sessionEpoch: number } | null {
    const state = this.#state
    this.#state = none
    this.#known.clear()
    return state.kind === 'open' ? { sessionId: state.id, sessionEpoch: -1 } : null
  }

  /** Did this session name topics by id? */
  get byId(): boolean {
    return this.#byId
  }

  #everything(items: readonly FetchItem[]): SessionRequest {
    this.#known = new Map(items.map((item) => [keyOf(item), item]))
    const sessionId = this.#state.kind === 'doubtful' ? this.#state.id : 0
    return { sessionId, sessionEpoch: 0, items, forgotten: [], isFull: true }
  }

  #differences(state: { readonly id: number; readonly epoch: number }, items: readonly FetchItem[]): SessionRequest {
    const named: FetchItem[] = []
    const forgotten: ForgottenPartition[] = []
    const wanted = new Set<string>()
    for (const item of items) {
      const key = keyOf(item)
      wanted.add(key)
      const known = this.#known.get(key)
      if (known !== undefined && isSame(known, item)) continue
      if (known !== undefined && this.#byId && known.held.topicId !== item.held.topicId) forgotten.push(partOf(known))
      this.#known.set(key, item)
      named.push(item)
    }
    if (wanted.size < this.#known.size) {
      for (const [key, item] of this.#known) {
        if (wanted.has(key)) continue
        forgotten.push(partOf(item))
        this.#known.delete(key)
      }
    }
    return { sessionId: state.id, sessionEpoch: state.epoch, items: named, forgotten, isFull: false }
  }
}

function partOf({ held }: FetchItem): ForgottenPartition {
  return { topic: held.topic, topicId: held.topicId, partition: held.partition }
}

function isSame(a: FetchItem, b: FetchItem): boolean {
  return (
    a.position === b.position &&
    a.leaderEpoch === b.leaderEpoch &&
    a.lastEpoch === b.lastEpoch &&
    a.held.topicId === b.held.topicId
  )
}
