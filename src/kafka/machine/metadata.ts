/**
 * What we know of the cluster: brokers, topics, and who leads each partition.
 *
 * Knowledge is per partition. A partition without a leader, or a topic that may not be read, is a fact stored beside its
 * healthy neighbours and never an error for them. Two things in it only ever move forward: a partition's leader epoch
 * (an answer from a broker that lags behind must not bring an old leader back), and, when a topic's id changes, the
 * topic itself: it was deleted and made again, so everything known of the old one is forgotten and the change is told.
 *
 * Answers of brokers go in through `update`; the returned changes say what is new.
 */
import type { MetadataResponse } from '../../wire/messages.gen.ts'

export interface BrokerNode {
  readonly id: number
  readonly host: string
  readonly port: number
  readonly rack: string | null
}

export interface PartitionState {
  readonly partition: number
  /** Node id, -1 when there is none right now. */
  readonly leader: number
  readonly leaderEpoch: number
  readonly replicas: readonly number[]
  readonly isr: readonly number[]
  readonly offline: readonly number[]
  /** Kafka's error code for this partition alone; 0 when all is well. */
  readonly error: number
}

export interface TopicState {
  readonly name: string
  /** Kafka's topic id in its text form; all `A` when the cluster does not tell. */
  readonly id: string
  readonly internal: boolean
  /** Kafka's error code for the topic; then `partitions` is what was known before, or empty. */
  readonly error: number
  /** By partition number, without holes. */
  readonly partitions: readonly PartitionState[]
  /** When the cluster last spoke of this topic, on the clock handed to `update`. */
  readonly updatedMs: number
}

/** What an answer changed. All lists are empty when it said nothing new. */
export interface MetadataChanges {
  /** Topics whose facts differ in any way, by name. */
  readonly topics: readonly string[]
  /** Topics deleted and made again: their old offsets mean nothing now. */
  readonly recreated: readonly { readonly topic: string; readonly oldId: string; readonly newId: string }[]
  /** Topics with another number of partitions than before. */
  readonly resized: readonly { readonly topic: string; readonly before: number; readonly now: number }[]
  /** Partitions that moved to another leader, or lost theirs. */
  readonly moved: readonly { readonly topic: string; readonly partition: number; readonly leader: number }[]
  readonly nodesChanged: boolean
}

const zeroId = 'AAAAAAAAAAAAAAAAAAAAAA'

export class MetadataCache {
  #nodes = new Map<number, BrokerNode>()
  #topics = new Map<string, TopicState>()
  #names = new Map<string, string>()
  #controller = -1
  #clusterId: string | null = null

  get clusterId(): string | null {
    return this.#clusterId
  }

  /** Node id, -1 when unknown. */
  get controller(): number {
    return this.#controller
  }

  nodes(): readonly BrokerNode[] {
    return [...this.#nodes.values()]
  }

  node(id: number): BrokerNode | undefined {
    return this.#nodes.get(id)
  }

  topic(name: string): TopicState | undefined {
    return this.#topics.get(name)
  }

  partition(topic: string, partition: number): PartitionState | undefined {
    return this.#topics.get(topic)?.partitions[partition]
  }

  /** The name behind a topic id, when the topic is known. */
  topicName(id: string): string | undefined {
    return this.#names.get(id)
  }

  topics(): readonly TopicState[] {
    return [...this.#topics.values()]
  }

  /** Nobody is interested in this topic any more. */
  forget(topic: string): void {
    const known = this.#topics.get(topic)
    if (known === undefined) return
    this.#topics.delete(topic)
    if (this.#names.get(known.id) === topic) this.#names.delete(known.id)
  }

  /** Takes in an answer to Metadata. `asked` are the topics it was asked for; those not mentioned are left as they are. */
  update(answer: MetadataResponse, nowMs: number): MetadataChanges {
    const changed: string[] = []
    const recreated: { topic: string; oldId: string; newId: string }[] = []
    const resized: { topic: string; before: number; now: number }[] = []
    const moved: { topic: string; partition: number; leader: number }[] = []

    const nodesChanged = this.#updateNodes(answer)
    this.#clusterId = answer.clusterId ?? this.#clusterId
    this.#controller = answer.controllerId

    for (const told of answer.topics) {
      const name = told.name ?? this.#names.get(told.topicId)
      if (name === undefined) continue
      const before = this.#topics.get(name)
      if (told.errorCode !== 0 && told.partitions.length === 0) {
        // An error says nothing about partitions: keep what was known, marked with the error.
        const state: TopicState = {
          name,
          id: before?.id ?? told.topicId,
          internal: told.isInternal,
          error: told.errorCode,
          partitions: before?.partitions ?? [],
          updatedMs: nowMs,
        }
        if (before?.error !== told.errorCode) changed.push(name)
        this.#topics.set(name, state)
        continue
      }
      const isNew =
        before !== undefined && before.id !== zeroId && told.topicId !== zeroId && before.id !== told.topicId
      if (isNew) {
        recreated.push({ topic: name, oldId: before.id, newId: told.topicId })
        this.#names.delete(before.id)
      }
      const old = isNew ? undefined : before
      const partitions: PartitionState[] = []
      let differs = old === undefined || old.error !== told.errorCode || old.id !== told.topicId
      for (const p of [...told.partitions].sort((a, b) => a.partitionIndex - b.partitionIndex)) {
        // A hole in the numbering would make every index lie: such an answer is read up to the hole only.
        if (p.partitionIndex !== partitions.length) break
        const known = old?.partitions[p.partitionIndex]
        if (known !== undefined && known.leaderEpoch > p.leaderEpoch && p.leaderEpoch >= 0) {
          partitions.push(known)
          continue
        }
        const state: PartitionState = {
          partition: p.partitionIndex,
          leader: p.leaderId,
          leaderEpoch: p.leaderEpoch,
          replicas: p.replicaNodes,
          isr: p.isrNodes,
          offline: p.offlineReplicas,
          error: p.errorCode,
        }
        if (known === undefined || !samePartition(known, state)) differs = true
        if (known !== undefined && known.leader !== state.leader)
          moved.push({ topic: name, partition: state.partition, leader: state.leader })
        partitions.push(state)
      }
      if (before !== undefined && before.partitions.length > 0 && before.partitions.length !== partitions.length) {
        resized.push({ topic: name, before: before.partitions.length, now: partitions.length })
        differs = true
      }
      if (differs) changed.push(name)
      if (told.topicId !== zeroId) this.#names.set(told.topicId, name)
      this.#topics.set(name, {
        name,
        id: told.topicId,
        internal: told.isInternal,
        error: told.errorCode,
        partitions,
        updatedMs: nowMs,
      })
    }
    return { topics: changed, recreated, resized, moved, nodesChanged }
  }

  /** A broker told the current leader in an answer of its own: believed when its epoch is newer than ours. */
  learnLeader(topic: string, partition: number, leader: number, leaderEpoch: number): boolean {
    const state = this.#topics.get(topic)
    const known = state?.partitions[partition]
    if (state === undefined || known === undefined || leader < 0 || leaderEpoch <= known.leaderEpoch) return false
    const partitions = [...state.partitions]
    partitions[partition] = { ...known, leader, leaderEpoch, error: 0 }
    this.#topics.set(topic, { ...state, partitions })
    return true
  }

  #updateNodes(answer: MetadataResponse): boolean {
    // An answer without brokers comes from one that is starting up: it knows nothing yet.
    if (answer.brokers.length === 0) return false
    let changed = answer.brokers.length !== this.#nodes.size
    const nodes = new Map<number, BrokerNode>()
    for (const b of answer.brokers) {
      const known = this.#nodes.get(b.nodeId)
      if (known === undefined || known.host !== b.host || known.port !== b.port) changed = true
      nodes.set(b.nodeId, { id: b.nodeId, host: b.host, port: b.port, rack: b.rack })
    }
    this.#nodes = nodes
    return changed
  }
}

function samePartition(a: PartitionState, b: PartitionState): boolean {
  return (
    a.leader === b.leader &&
    a.leaderEpoch === b.leaderEpoch &&
    a.error === b.error &&
    sameNumbers(a.replicas, b.replicas) &&
    sameNumbers(a.isr, b.isr) &&
    sameNumbers(a.offline, b.offline)
  )
}

function sameNumbers(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((value, i) => value === b[i])
}
