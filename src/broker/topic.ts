/**
 * A topic and its partitions: who leads, who is in sync, what is configured, where the records are.
 *
 * All replicas of the virtual cluster share one log: a replica in sync has everything, one that is down has nothing to
 * say. A leader change raises the leader epoch; a partition whose in-sync replicas are all down has leader -1.
 */
import { PartitionLog } from './log.ts'
import { Producers } from './producers.ts'
import type { Slab } from './slab.ts'
import { topicConfigKeys } from './topic-configs.ts'

/** A request parked on a partition. */
export interface Watcher {
  /** Bytes were appended. */
  appended(bytes: number, nowMs: number): void
  /** Leader, topic or node changed: answer with what is true now. */
  changed(nowMs: number): void
}

export class Partition {
  readonly index: number
  readonly log: PartitionLog
  readonly producers = new Producers()
  readonly watchers = new Set<Watcher>()
  readonly replicas: readonly number[]
  inSync: number[]
  leader: number
  leaderEpoch = 0

  constructor(index: number, replicas: readonly number[], live: { readonly nodes: readonly number[]; slab: Slab }) {
    this.index = index
    this.log = new PartitionLog(live.slab)
    this.replicas = replicas
    this.inSync = replicas.filter((node) => live.nodes.includes(node))
    this.leader = this.inSync[0] ?? -1
  }

  /** Makes `node` the leader (-1: nobody). */
  lead(node: number, nowMs: number): void {
    this.leader = node
    this.leaderEpoch += 1
    this.wake(nowMs)
  }

  /** Answers everything parked here. */
  wake(nowMs: number): void {
    for (const watcher of [...this.watchers]) watcher.changed(nowMs)
  }
}

export class Topic {
  readonly name: string
  /** Kafka's topic id in text form: another one when a topic of the same name is made again. */
  readonly id: string
  readonly partitions: Partition[] = []
  /** What was set; the rest has defaults. */
  readonly configs = new Map<string, string>()

  constructor(name: string, id: string) {
    this.name = name
    this.id = id
  }

  get replicationFactor(): number {
    return this.partitions[0]?.replicas.length ?? 0
  }

  /** The value in force. */
  config(name: string): string {
    return this.configs.get(name) ?? topicConfigKeys.get(name)!.default
  }

  number(name: string): number {
    return Number(this.config(name))
  }
}

/** Why Kafka refuses a topic name, or null. */
export function topicNameProblem(name: string): string | null {
  if (name === '') return 'the empty string is not allowed'
  if (name === '.' || name === '..') return `'${name}' is not allowed`
  if (name.length > 249) return 'the length is more than the maximum 249'
  return /^[a-zA-Z0-9._-]+$/.test(name)
    ? null
    : "it contains a character other than ASCII alphanumerics, '.', '_' and '-'"
}
