/**
 * One lane per busy key of a partition.
 *
 * A lane is a queue of records with the same key. Only its head may run; the others wait behind it and hold no slot. A
 * lane exists while it has records, so memory follows those that are open and not the keys ever seen. A record without a
 * key is a lane of its own.
 *
 * Which partition's lane runs next, and how many run at once, is the service loop's business: it takes heads from
 * `next()` while it has slots.
 *
 *                 offer (no such lane)             next()                 settle()
 *     none ──────────────────────────► ready ─────────────────► running ─────────────► next head ready, or gone
 *                                        ▲                         │
 *                 wake()                 │                         │ park()
 *                 └──────────────── waiting ◄──────────────────────┘
 *                                      └──────── take() ──────────►
 *
 * Heads start in the order in which they became ready, with one exception: a lane with a long queue behind it is what all
 * else will wait for in the end, so those take turns with the others and do not line up behind every key there is.
 *
 * The followers of a held key (behind a dead letter) become ready like any other; whoever starts them ends them.
 */
import { hashOf, KeyTable } from './key-table.ts'
import type { OpenCounts } from './ledger.ts'

type LaneState = 'gone' | 'ready' | 'running' | 'waiting'

/** From so many followers on a lane is a long one. */
const longFollowers = 16
const noKey = new Uint8Array(0)

interface Lane {
  key: Uint8Array
  /** Is the key a copy? Else it is a view of the batch of the first record. */
  copied: boolean
  readonly hash: number
  beside: Lane | null
  /** One without a key is in no table: nobody looks for it. */
  readonly keyed: boolean
  state: LaneState
  /** Null when gone. */
  head: LaneEntry | null
  /** Followers, in order. */
  first: LaneEntry | null
  last: LaneEntry | null
  followers: number
}

/** A record in a lane. The links belong to the lanes; subclasses add what they need to know about the record. */
export class LaneEntry {
  /** @internal */
  lane: Lane | null = null
  /** @internal The next one of the lane's followers, or of the ready queue when head. */
  link: LaneEntry | null = null
}

export class Lanes<E extends LaneEntry> {
  readonly #byKey = new KeyTable<Lane>()
  /** Heads that may start, oldest first; linked through `link`. Those of long lanes stand apart. */
  #readyFirst: LaneEntry | null = null
  #readyLast: LaneEntry | null = null
  #longFirst: LaneEntry | null = null
  #longLast: LaneEntry | null = null
  /** Was the last one taken of a long lane? */
  #tookLong = false
  #running = 0
  #ready = 0
  #waiting = 0
  /** Behind a ready or running head. */
  #behind = 0
  /** Behind a waiting head. */
  #parked = 0
  readonly #waitingHeads = new Set<LaneEntry>()

  /** Puts a record in its lane. */
  offer(key: Uint8Array | null, entry: E): void {
    const hash = key === null ? 0 : hashOf(key)
    const lane = key === null ? undefined : this.#byKey.get(key, hash)
    if (lane === undefined) {
      entry.lane = {
        key: key ?? noKey,
        copied: false,
        hash,
        beside: null,
        keyed: key !== null,
        state: 'ready',
        head: entry,
        first: null,
        last: null,
        followers: 0,
      }
      if (key !== null) this.#byKey.add(entry.lane)
      this.#pushReady(entry)
      return
    }
    entry.lane = lane
    if (!lane.copied) {
      // It outlives its first record now, and must not keep the bytes of a whole fetch in memory.
      lane.key = new Uint8Array(lane.key)
      lane.copied = true
    }
    entry.link = null
    if (lane.last === null) lane.first = entry
    else lane.last.link = entry
    lane.last = entry
    lane.followers++
    if (lane.state === 'waiting') this.#parked++
    else this.#behind++
  }

  /** What `next` would take. */
  peek(): E | undefined {
    return ((this.#longIsNext ? this.#longFirst : this.#readyFirst) as E | null) ?? undefined
  }

  /** Takes the oldest head that may start; it counts as running from now on. */
  next(): E | undefined {
    const long = this.#longIsNext
    const entry = long ? this.#longFirst : this.#readyFirst
    if (entry === null) return undefined
    if (long) {
      this.#longFirst = entry.link
      if (this.#longFirst === null) this.#longLast = null
    } else {
      this.#readyFirst = entry.link
      if (this.#readyFirst === null) this.#readyLast = null
    }
    this.#tookLong = long
    entry.link = null
    this.#ready--
    entry.lane!.state = 'running'
    this.#running++
    return entry as E
  }

  /** The running head has ended: its first follower may start. */
  settle(entry: E): void {
    const lane = this.#expect(entry, 'running')
    this.#running--
    entry.lane = null
    const head = lane.first
    if (head === null) {
      this.#rest(lane)
      return
    }
    lane.first = head.link
    if (lane.first === null) lane.last = null
    lane.followers--
    this.#behind--
    lane.head = head
    lane.state = 'ready'
    if (lane.followers < longFollowers) this.#pushReady(head)
    else this.#pushLong(head)
  }

  #rest(lane: Lane): void {
    // What is no longer open must not be kept in memory by what is.
    lane.head = null
    lane.state = 'gone'
    if (lane.keyed) this.#byKey.delete(lane)
  }

  /** The running head failed and waits: it gives its slot back, its followers wait with it. */
  park(entry: E): void {
    const lane = this.#expect(entry, 'running')
    this.#running--
    this.#waiting++
    this.#waitingHeads.add(entry)
    this.#behind -= lane.followers
    this.#parked += lane.followers
    lane.state = 'waiting'
  }

  /** The wait is over: the head may start again. */
  wake(entry: E): void {
    const lane = this.#expect(entry, 'waiting')
    this.#waiting--
    this.#waitingHeads.delete(entry)
    this.#parked -= lane.followers
    this.#behind += lane.followers
    lane.state = 'ready'
    this.#pushReady(entry)
  }

  /** A waiting head starts at once, past those that are ready: the probe of a breaker. It counts as running from now on. */
  take(entry: E): void {
    const lane = this.#expect(entry, 'waiting')
    this.#waiting--
    this.#waitingHeads.delete(entry)
    this.#parked -= lane.followers
    this.#behind += lane.followers
    lane.state = 'running'
    this.#running++
  }

  /** Does this head wait? */
  waits(entry: E): boolean {
    return this.#waitingHeads.has(entry)
  }

  /** Forgets everything, running ones too, and says how many there were. Nothing taken before may be settled after. */
  clear(): number {
    const open = this.open
    this.#byKey.clear()
    this.#waitingHeads.clear()
    this.#readyFirst = this.#readyLast = this.#longFirst = this.#longLast = null
    this.#running = this.#ready = this.#waiting = this.#behind = this.#parked = 0
    return open
  }

  /** May something start? */
  get hasReady(): boolean {
    return this.#readyFirst !== null || this.#longFirst !== null
  }

  get running(): number {
    return this.#running
  }

  /** Heads that wait for their retry. */
  get waiting(): number {
    return this.#waiting
  }

  /** Records that stand still in place: waiting ones and those behind them. */
  get standing(): number {
    return this.#waiting + this.#parked
  }

  get open(): number {
    return this.#running + this.#ready + this.#waiting + this.#behind + this.#parked
  }

  counts(): OpenCounts {
    return {
      running: this.#running,
      queued: this.#ready + this.#behind,
      waiting: this.#waiting,
      parked: this.#parked,
    }
  }

  /** Those that wait, for waking them early, cancelling them, or showing them. */
  waitingEntries(): Iterable<E> {
    return this.#waitingHeads as Iterable<LaneEntry> as Iterable<E>
  }

  /** Those that stand still in place: waiting heads, each with those behind it. */
  *standingEntries(): Iterable<E> {
    for (const head of this.#waitingHeads) {
      yield head as E
      for (let each = head.lane!.first; each !== null; each = each.link) yield each as E
    }
  }

  get #longIsNext(): boolean {
    return this.#longFirst !== null && (!this.#tookLong || this.#readyFirst === null)
  }

  #pushReady(entry: LaneEntry): void {
    entry.link = null
    if (this.#readyLast === null) this.#readyFirst = entry
    else this.#readyLast.link = entry
    this.#readyLast = entry
    this.#ready++
  }

  #pushLong(entry: LaneEntry): void {
    entry.link = null
    if (this.#longLast === null) this.#longFirst = entry
    else this.#longLast.link = entry
    this.#longLast = entry
    this.#ready++
  }

  #expect(entry: LaneEntry, state: LaneState): Lane {
    const lane = entry.lane
    if (lane === null || lane.head !== entry || lane.state !== state) {
      throw new Error(
        `lane entry is ${lane === null ? 'in no lane' : lane.head === entry ? lane.state : 'no head'}, expected ${state}`,
      )
    }
    return lane
  }
}
