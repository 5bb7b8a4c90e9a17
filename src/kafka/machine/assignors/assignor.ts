/** What an assignor is: the members of a group and the partitions of their topics in, who gets what out. */

/** Partitions of one topic. */
export interface TopicPartitions {
  readonly topic: string
  readonly partitions: readonly number[]
}

/** A member as its subscription describes it. */
export interface GroupMember {
  readonly memberId: string
  /** Static members sort by this before the others. */
  readonly instanceId?: string | null
  readonly topics: readonly string[]
  /** What it held when it asked to join; nothing in the eager protocol. */
  readonly owned?: readonly TopicPartitions[]
  /** The generation in which it held that; -1 or left out when its subscription does not say. */
  readonly generation?: number
  /** What its assignor of the same name had to say besides. */
  readonly userData?: Uint8Array | null
}

/** What one member gets: partitions by topic, in ascending order. */
export type MemberAssignment = ReadonlyMap<string, readonly number[]>

/** Partition counts by topic; a topic that does not exist is absent or 0. */
export type PartitionCounts = ReadonlyMap<string, number>

/** A way to share partitions out. All members of a group must speak a common one, chosen by `name`. */
export interface Assignor {
  readonly name: string
  /**
   * Does it leave with its owner what that owner must give up first? Only then may members keep what they hold while the
   * group shares out again.
   */
  readonly cooperative: boolean
  assign(members: readonly GroupMember[], partitions: PartitionCounts): ReadonlyMap<string, MemberAssignment>
  /** What goes up with a subscription, made from the generation last held; -1 for none. */
  userData?(generation: number): Uint8Array
}

/** Java compares UTF-16 units, as `<` does here. */
export const compareText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)
