/**
 * Kafka's cooperative-sticky assignor: balanced, with as little moving as balance allows, and nothing handed to a new
 * owner before the old one has given it up.
 *
 * 1. Who holds what is read from the subscriptions. Of two that claim the same partition the later generation is right;
 *    in the same generation neither is.
 * 2. All subscribe alike: each member keeps what it holds up to its quota (a `remainder` of members one more), and the
 *    rest goes round. They do not: see `SharedUnevenly`.
 * 3. A partition that would go from a living holder to somebody else goes to nobody in this round. Its holder sees that
 *    it is missing, gives it up and joins again; the next round hands it out.
 *
 * Equal to `org.apache.kafka.clients.consumer.CooperativeStickyAssignor` for members without racks, down to which member
 * has one more, so that Java members and ours may lead in turn without anything moving;
 * `test/fixtures/kafka/cooperative-sticky-assignor.json.gz` holds vectors made by the Java class. Differences, where
 * Java does harm: a claim on a partition that does not exist any more counts for nothing (there it can put another
 * partition into two hands); nobody gets a topic without subscribing to it (there a member without topics, or with claims
 * from generations gone by, can); and the latest generation is that of the members at hand, not the latest this process
 * ever saw.
 */
import {
  type Assignor,
  compareText,
  type GroupMember,
  type MemberAssignment,
  type PartitionCounts,
} from './assignor.ts'
import { inJavaOrder, JavaHashSet, javaPartitionHash, javaStringHash } from './java-hash.ts'

/** One partition; there is one object for each, so that they can be compared by identity. */
interface Part {
  readonly topic: string
  readonly partition: number
  readonly hash: number
}

/** A member while sharing out. */
interface Member {
  readonly id: string
  /** Topics that exist, each once. */
  readonly topics: ReadonlySet<string>
  readonly generation: number
  /** The generation by its field in the subscription alone; -1 where that is missing. */
  readonly statedGeneration: number
  readonly claims: readonly Part[]
  /** What it holds undisputed, and later what it gets. */
  readonly parts: Set<Part>
}

interface Claims {
  readonly members: readonly Member[]
  /** Claimed by two in the same generation. */
  readonly disputed: ReadonlySet<Part>
}

const none = -1

export const cooperativeStickyAssignor: Assignor = {
  name: 'cooperative-sticky',
  cooperative: true,

  assign(members, partitions) {
    const topics = partsByTopic(members, partitions)
    const claims = readClaims(members, topics)
    const moving = subscribeAlike(members)
      ? shareEvenly(claims, topics)
      : new SharedUnevenly(claims.members, topics).movingAfterSharing()
    const result = new Map<string, MemberAssignment>()
    for (const member of claims.members) {
      for (const part of moving) member.parts.delete(part)
      result.set(member.id, byTopic(member.parts))
    }
    return result
  },

  userData(generation) {
    const bytes = new Uint8Array(4)
    new DataView(bytes.buffer).setInt32(0, generation)
    return bytes
  },
}

/** All partitions that somebody wants, by topic. */
function partsByTopic(members: readonly GroupMember[], counts: PartitionCounts): ReadonlyMap<string, readonly Part[]> {
  const topics = new Map<string, readonly Part[]>()
  for (const topic of new Set(members.flatMap((member) => member.topics))) {
    const count = counts.get(topic) ?? 0
    if (count === 0) continue
    const topicHash = javaStringHash(topic)
    topics.set(
      topic,
      Array.from({ length: count }, (_, partition) => ({
        topic,
        partition,
        hash: javaPartitionHash(topicHash, partition),
      })),
    )
  }
  return topics
}

function byTopic(parts: Iterable<Part>): MemberAssignment {
  const result = new Map<string, number[]>()
  for (const { topic, partition } of parts) {
    const list = result.get(topic)
    if (list === undefined) result.set(topic, [partition])
    else list.push(partition)
  }
  for (const list of result.values()) list.sort((a, b) => a - b)
  return result
}

/** Older members say their generation in the assignor's own bytes. */
function generationOf(member: GroupMember): number {
  const { generation = none, userData } = member
  if (generation >= 0) return generation
  if (userData === undefined || userData === null || userData.length < 4) return none
  return new DataView(userData.buffer, userData.byteOffset, userData.byteLength).getInt32(0)
}

function readClaims(given: readonly GroupMember[], topics: ReadonlyMap<string, readonly Part[]>): Claims {
  const byId = new Map(given.map((member) => [member.memberId, member]))
  const members: Member[] = []
  const holders = new Map<Part, Member>()
  const disputed = new Set<Part>()
  for (const id of inJavaOrder(given.map(({ memberId }) => memberId))) {
    const from = byId.get(id)
    if (from === undefined) continue
    const member: Member = {
      id,
      topics: new Set(from.topics.filter((topic) => topics.has(topic))),
      generation: generationOf(from),
      statedGeneration: Math.max(none, from.generation ?? none),
      claims: (from.owned ?? []).flatMap(({ topic, partitions }) =>
        partitions.flatMap((partition) => topics.get(topic)?.[partition] ?? []),
      ),
      parts: new Set(),
    }
    members.push(member)
    for (const part of member.claims) {
      const other = holders.get(part)
      if (other === undefined) member.parts.add(part)
      else if (member.generation < other.statedGeneration) continue
      else {
        other.parts.delete(part)
        if (member.generation === other.statedGeneration) disputed.add(part)
        else member.parts.add(part)
      }
      holders.set(part, member)
    }
  }
  return { members, disputed }
}

function subscribeAlike(members: readonly GroupMember[]): boolean {
  const first = new Set(members.find(({ topics }) => topics.length > 0)?.topics)
  return members.every(({ topics }) => topics.length === first.size && topics.every((topic) => first.has(topic)))
}

/** Everybody wants the same topics. Fills `parts`; returns what would change hands. */
function shareEvenly({ members, disputed }: Claims, topics: ReadonlyMap<string, readonly Part[]>): ReadonlySet<Part> {
  const all = [...topics.keys()].sort(compareText).flatMap((topic) => topics.get(topic) ?? [])
  const least = Math.floor(all.length / members.length)
  const most = Math.ceil(all.length / members.length)
  const remainder = all.length % members.length
  const free = new Set(all)
  const givenUpBy = new Map<Part, Member>()
  /** Members with fewer than `least`, and those with exactly that many who may get one more. */
  const hungry: Member[] = []
  let content: Member[] = []
  let full = 0
  for (const member of members) {
    const held = [...member.parts]
      .filter((part) => !disputed.has(part))
      .sort((a, b) => a.partition - b.partition || compareText(a.topic, b.topic))
    let keep = held.length
    if (held.length < least) hungry.push(member)
    else if (held.length >= most && full < remainder) {
      keep = most
      if (++full === remainder) content = []
    } else {
      keep = least
      if (full < remainder) content.push(member)
    }
    member.parts.clear()
    for (const part of held.slice(0, keep)) {
      member.parts.add(part)
      free.delete(part)
    }
    for (const part of held.slice(keep)) givenUpBy.set(part, member)
  }
  const byId = (a: Member, b: Member): number => compareText(a.id, b.id)
  hungry.sort(byId)
  content.sort(byId)
  const moving = new Set<Part>()
  let turn = 0
  for (const part of free) {
    if (turn >= hungry.length) turn = 0
    const member = hungry.length > 0 ? hungry[turn] : content.shift()
    if (member === undefined) throw new Error('more partitions than members may take')
    member.parts.add(part)
    const before = givenUpBy.get(part)
    if ((before !== undefined && before !== member) || disputed.has(part)) moving.add(part)
    if (hungry.length === 0) continue
    if (member.parts.size < least) turn++
    else {
      hungry.splice(turn, 1)
      content.push(member)
    }
  }
  return moving
}

/** Which partitions of a topic went from whom to whom while balancing. */
class Moves {
  /** topic → "from\0to" → partitions */
  readonly #byTopic = new Map<string, Map<string, JavaHashSet<Part>>>()
  readonly #byPart = new Map<Part, { readonly from: Member; readonly to: Member }>()

  add(part: Part, from: Member, to: Member): void {
    const before = this.#byPart.get(part)
    if (before === undefined) this.#put(part, from, to)
    else {
      this.#take(part, before.from, before.to)
      if (before.from !== to) this.#put(part, before.from, to)
    }
  }

  /**
   * Instead of moving a partition from A to B when another of its topic came from B to A before: that other one, back.
   */
  better(part: Part, from: Member, to: Member): Part {
    const origin = this.#byPart.get(part)?.from ?? from
    return this.#byTopic.get(part.topic)?.get(`${to.id}\0${origin.id}`)?.first() ?? part
  }

  #put(part: Part, from: Member, to: Member): void {
    this.#byPart.set(part, { from, to })
    let pairs = this.#byTopic.get(part.topic)
    if (pairs === undefined) {
      pairs = new Map()
      this.#byTopic.set(part.topic, pairs)
    }
    const pair = `${from.id}\0${to.id}`
    const set = pairs.get(pair) ?? new JavaHashSet<Part>()
    set.add(part)
    pairs.set(pair, set)
  }

  #take(part: Part, from: Member, to: Member): void {
    this.#byPart.delete(part)
    const pairs = this.#byTopic.get(part.topic)
    const pair = `${from.id}\0${to.id}`
    const set = pairs?.get(pair)
    set?.delete(part)
    if (set?.size === 0) pairs?.delete(pair)
  }
}

/**
 * Members want different topics: what is free goes, topic with the fewest takers first, to the poorest who wants it; then
 * partitions move from richer to poorer members as long as the difference is more than one. When that made nothing
 * better, it is undone.
 */
class SharedUnevenly {
  readonly #members: readonly Member[]
  readonly #topics: ReadonlyMap<string, readonly Part[]>
  readonly #takers = new Map<string, Member[]>()
  readonly #holder = new Map<Part, Member>()
  /** Members whose holdings can still change, poorest first, then by id. */
  readonly #sorted: Member[]
  readonly #moves = new Moves()

  constructor(members: readonly Member[], topics: ReadonlyMap<string, readonly Part[]>) {
    this.#members = members
    this.#topics = topics
    for (const topic of topics.keys()) {
      this.#takers.set(
        topic,
        members.filter((member) => member.topics.has(topic)),
      )
    }
    this.#sorted = [...members]
  }

  /** Shares out, and tells what would go from one living holder to somebody else. */
  movingAfterSharing(): ReadonlySet<Part> {
    this.#share()
    const givenUp = new Set<Part>()
    for (const { claims, parts } of this.#members) for (const part of claims) if (!parts.has(part)) givenUp.add(part)
    const moving = new Set<Part>()
    for (const { claims, parts } of this.#members) {
      const before = new Set(claims)
      for (const part of parts) if (!before.has(part) && givenUp.has(part)) moving.add(part)
    }
    return moving
  }

  #share(): void {
    const earlier = this.#earlierHolders()
    let gaveUp = false
    for (const member of this.#members) {
      for (const part of member.parts) {
        if (member.topics.has(part.topic)) this.#holder.set(part, member)
        else {
          member.parts.delete(part)
          gaveUp = true
        }
      }
    }
    this.#sorted.sort(poorest)
    const fresh = this.#sorted.at(-1)?.parts.size === 0
    const order = [...this.#topics.keys()].sort(
      (a, b) => this.#takersOf(a).length - this.#takersOf(b).length || compareText(a, b),
    )
    const all = order.flatMap((topic) => this.#topics.get(topic) ?? [])
    const free = all.filter((part) => !this.#holder.has(part))
    for (const part of free) this.#give(part)
    const movable = (part: Part): boolean => this.#takersOf(part.topic).length >= 2
    for (const member of this.#members) if (!this.#mayChange(member)) this.#unsort(member)
    const before = this.#members.map(({ parts }) => [...parts])
    const scoreBefore = this.#score()
    if (!gaveUp) this.#balance(free.filter(movable), earlier)
    const moved = this.#balance(all.filter(movable), earlier)
    if (fresh || !moved || this.#score() < scoreBefore) return
    for (const [index, member] of this.#members.entries()) {
      member.parts.clear()
      for (const part of before[index] ?? []) member.parts.add(part)
    }
  }

  /** Claims of generations gone by: where balance has to move something, it goes back there first. */
  #earlierHolders(): ReadonlyMap<Part, Member> {
    const latest = Math.max(none, ...this.#members.map(({ generation }) => generation))
    const earlier = new Map<Part, Member>()
    for (const member of this.#members) {
      if (member.generation >= latest) continue
      for (const part of member.claims) {
        const other = earlier.get(part)
        if (other === undefined || member.generation > other.generation) earlier.set(part, member)
      }
    }
    return earlier
  }

  #takersOf(topic: string): readonly Member[] {
    return this.#takers.get(topic) ?? []
  }

  #give(part: Part): void {
    const member = this.#sorted.find(({ topics }) => topics.has(part.topic))
    if (member === undefined) return
    this.#unsort(member)
    member.parts.add(part)
    this.#holder.set(part, member)
    this.#sort(member)
  }

  #mayChange(member: Member): boolean {
    if (member.parts.size < this.#wantedBy(member)) return true
    for (const { topic } of member.parts) if (this.#takersOf(topic).length >= 2) return true
    return false
  }

  /** How many partitions there are for a member if it had all. */
  #wantedBy(member: Member): number {
    let count = 0
    for (const topic of member.topics) count += this.#topics.get(topic)?.length ?? 0
    return count
  }

  /** Moves as long as that helps. Was anything moved? */
  #balance(parts: readonly Part[], earlier: ReadonlyMap<Part, Member>): boolean {
    let any = false
    for (let moved = true; moved; ) {
      moved = false
      for (const part of parts) {
        if (this.#balanced()) break
        const holder = this.#holder.get(part)
        if (holder === undefined) continue
        const richerThan = (other: Member): boolean => holder.parts.size > other.parts.size + 1
        const back = earlier.get(part)
        const to =
          back?.topics.has(part.topic) && richerThan(back)
            ? back
            : this.#takersOf(part.topic).some(richerThan)
              ? this.#sorted.find(({ topics }) => topics.has(part.topic))
              : undefined
        if (to === undefined) continue
        this.#move(this.#moves.better(part, holder, to), to)
        moved = true
        any = true
      }
    }
    return any
  }

  #move(part: Part, to: Member): void {
    const from = this.#holder.get(part)
    if (from === undefined) return
    this.#unsort(from)
    this.#unsort(to)
    this.#moves.add(part, from, to)
    from.parts.delete(part)
    to.parts.add(part)
    this.#holder.set(part, to)
    this.#sort(to)
    this.#sort(from)
  }

  /** Nobody could have one more from somebody who has two more. */
  #balanced(): boolean {
    const least = this.#sorted[0]?.parts.size ?? 0
    const most = this.#sorted.at(-1)?.parts.size ?? 0
    if (least >= most - 1) return true
    for (const member of this.#sorted) {
      const { size } = member.parts
      if (size === this.#wantedBy(member)) continue
      for (const topic of member.topics) {
        for (const part of this.#topics.get(topic) ?? []) {
          const holder = this.#holder.get(part)
          if (holder !== undefined && holder !== member && size + 1 < holder.parts.size) return false
        }
      }
    }
    return true
  }

  /** How uneven it is: the differences of all pairs. */
  #score(): number {
    const sizes = this.#sorted.map(({ parts }) => parts.size)
    let score = 0
    for (const [index, size] of sizes.entries()) {
      for (const other of sizes.slice(index + 1)) score += Math.abs(size - other)
    }
    return score
  }

  #unsort(member: Member): void {
    const index = this.#sorted.indexOf(member)
    if (index >= 0) this.#sorted.splice(index, 1)
  }

  #sort(member: Member): void {
    let low = 0
    let high = this.#sorted.length
    while (low < high) {
      const middle = (low + high) >>> 1
      const other = this.#sorted[middle]
      if (other !== undefined && poorest(other, member) < 0) low = middle + 1
      else high = middle
    }
    this.#sorted.splice(low, 0, member)
  }
}

const poorest = (a: Member, b: Member): number => a.parts.size - b.parts.size || compareText(a.id, b.id)
