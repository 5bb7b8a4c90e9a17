/** What the parent asks of a child process and what the child answers: one JSON each. */
import type { Meter } from './meter.ts'
import type { TallySums } from './workload.ts'

export type ArmName =
  | 'ottla'
  | 'kafkajs'
  | 'platformatic'
  | 'service'
  | 'rawTwin'
  | 'kafkajsTwin'
  | 'platformaticTwin'
  | 'nestjs'
export type Compression = 'none' | 'zstd'
/** `consume`: line 1. `handle`: line 2. `single`, `lone`: line 3. `arrays`: line 4. */
export type Job = 'consume' | 'handle' | 'single' | 'lone' | 'arrays'

export interface Task {
  readonly job: Job
  readonly arm: ArmName
  /** `arm` in one of its other forms, such as `eachMessage`. */
  readonly variant: string
  readonly servers: string
  readonly topic: string
  readonly count: number
  readonly compression: Compression
  /** Records before the clock runs. */
  readonly warmUp: number
  /** `time`: nothing is hooked. `count`: requests and copied bytes are counted, times mean nothing. */
  readonly mode: 'time' | 'count'
  /** Folder of the built library. */
  readonly library: string
}

/** Requests by API key, and what was copied, of one child from its start to its end. */
export interface Counters {
  readonly requests: Readonly<Record<string, number>>
  /** Most requests of one kind that went to one broker in one turn of the event loop. */
  readonly produceInTurnMax: number
  readonly receivedBytes: number
  readonly promises: number
  /** Calls of `setTimeout`. */
  readonly timers: number
  /** By every way JavaScript has to copy bytes; the checksum's own working copy apart. */
  readonly copiedBytes: number
}

export interface Outcome {
  readonly cpuUsPerMessage: number
  readonly messagesPerSecond: number
  readonly rssMiB: number
  readonly sums: TallySums | null
  /** Of lone publishes. */
  readonly p50Ms: number | null
  readonly p99Ms: number | null
  readonly counters: Counters | null
}

/** An arm under measurement. Resolves when all of `task.count` has been handled; the process ends right after. */
export type RunArm = (task: Task, meter: Meter) => Promise<ArmResult>

export interface ArmResult {
  readonly sums?: TallySums
  readonly latenciesMs?: readonly number[]
}
