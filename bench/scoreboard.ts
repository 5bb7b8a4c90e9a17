/**
 * The lines: what is measured beside what, and where the floors and goals are.
 *
 * A ratio says how many times our cost a peer's cost is. A floor is a gate: below it the run fails. A goal is reported.
 */
import type { ArmName, Compression, Counters, Job, Task } from './task.ts'

export interface Arm {
  readonly arm: ArmName
  readonly variant: string
  /** The client it is made with, when that is not `arm` itself. */
  readonly of?: string
  /** How many times ours it must cost at least, and should. Left out: no claim. */
  readonly floor?: number
  readonly goal?: number
}

/** What must hold exactly, whatever the machine does. */
export interface Gate {
  readonly name: string
  readonly value: number
  readonly most: number
}

export interface Series {
  readonly job: Job
  readonly title: string
  readonly unit: 'µs CPU per message' | 'ms, p50'
  /** Records of a full run. */
  readonly count: number
  /** Share of them before the clock runs. */
  readonly warmUp: number
  readonly ours: Arm
  readonly peers: readonly Arm[]
  readonly gates?: (counters: Counters, count: number) => readonly Gate[]
  /** Records of the run in which counters are on. */
  readonly counted?: number
}

const mebibyte = 1024 * 1024
const fetchKey = 1
const produceKey = 0
const commitKey = 8

const client: Arm = { arm: 'ottla', variant: '' }
const service: Arm = { arm: 'service', variant: 'everything on' }

/** Lines that need Apache Kafka. */
export const clientLines: Readonly<Record<number, readonly Series[]>> = {
  1: [
    {
      job: 'consume',
      title: 'raw consume: batches of 100 records of about 420 bytes, key and value looked at, checksums verified',
      unit: 'µs CPU per message',
      count: 2_000_000,
      warmUp: 0.2,
      ours: client,
      peers: [
        { arm: 'platformatic', variant: 'data', floor: 2, goal: 3 },
        { arm: 'kafkajs', variant: 'eachBatch', floor: 2.5, goal: 3.5 },
      ],
      counted: 200_000,
      gates: ({ requests, receivedBytes, copiedBytes }) => {
        const fetches = requests[fetchKey] ?? 0
        return [
          // The one that finds the end, and the one cut short by it.
          { name: 'Fetch requests beyond one per MiB', value: fetches - Math.ceil(receivedBytes / mebibyte), most: 2 },
          { name: 'KiB copied per fetched MiB', value: copiedBytes / 1024 / (receivedBytes / mebibyte), most: 64 },
        ]
      },
    },
  ],
  2: [
    {
      job: 'handle',
      title:
        'everything on: envelope, zod, lanes (64 at once, 5,000 keys), ledger, checkpoints, metrics, guards, async handler',
      unit: 'µs CPU per message',
      count: 400_000,
      warmUp: 0.2,
      ours: service,
      peers: [
        { arm: 'kafkajsTwin', variant: 'eachMessage, JSON.parse', of: 'kafkajs', floor: 1 / 0.6, goal: 1 / 0.45 },
        { arm: 'platformaticTwin', variant: 'data, JSON.parse', of: 'platformatic', goal: 1 / 0.55 },
        { arm: 'nestjs', variant: 'kafka transport, zod', goal: 8 },
        { arm: 'rawTwin', variant: 'JSON.parse, zod', floor: 1 / 1.35, goal: 1 / 1.25 },
        { arm: 'rawTwin', variant: 'JSON.parse, zod, each batch given back' },
        { arm: 'service', variant: 'arktype instead of zod' },
        { arm: 'service', variant: 'no guards' },
        { arm: 'service', variant: 'synchronous handler, no guards' },
      ],
      counted: 50_000,
      gates: ({ requests, promises, timers }, count) => [
        {
          name: 'OffsetCommit requests per 1,000 messages',
          value: ((requests[commitKey] ?? 0) * 1000) / count,
          most: 1.1,
        },
        { name: 'timers per 1,000 messages', value: (timers * 1000) / count, most: 50 },
        { name: "promises per message, the handler's own included", value: promises / count, most: 2.2 },
      ],
    },
  ],
  3: [
    {
      job: 'single',
      title: 'publish one event at a time, 1,000 in flight: check, JSON, send',
      unit: 'µs CPU per message',
      count: 300_000,
      warmUp: 0.2,
      ours: client,
      peers: [
        { arm: 'platformatic', variant: 'send', floor: 12, goal: 18 },
        { arm: 'kafkajs', variant: 'send' },
      ],
      counted: 50_000,
      gates: ({ requests, produceInTurnMax }, count) => [
        { name: 'Produce requests to a broker in one turn, at most', value: produceInTurnMax, most: 1 },
        { name: 'Produce requests per 1,000 messages', value: ((requests[produceKey] ?? 0) * 1000) / count, most: 1.1 },
      ],
    },
    {
      job: 'lone',
      title: 'one event at a time, each awaited, with the defaults',
      unit: 'ms, p50',
      count: 5_000,
      warmUp: 0.2,
      ours: client,
      peers: [
        { arm: 'platformatic', variant: 'send', floor: 1, goal: 1 / 0.75 },
        // What ours does anyway: costs the broker more, and so the one who waits for it.
        { arm: 'platformatic', variant: 'idempotent' },
        { arm: 'kafkajs', variant: 'send' },
      ],
    },
  ],
  4: [
    {
      job: 'arrays',
      title: 'publish arrays of 100, idempotent, acks of all replicas, headers that differ',
      unit: 'µs CPU per message',
      count: 300_000,
      warmUp: 0.2,
      ours: client,
      peers: [
        { arm: 'platformatic', variant: '5 in flight', floor: 3, goal: 4.5 },
        { arm: 'kafkajs', variant: '1 in flight', goal: 12 },
      ],
      counted: 50_000,
      gates: ({ requests, produceInTurnMax }, count) => [
        { name: 'Produce requests to a broker in one turn, at most', value: produceInTurnMax, most: 1 },
        { name: 'Produce requests per 1,000 messages', value: ((requests[produceKey] ?? 0) * 1000) / count, most: 10 },
      ],
    },
  ],
}

export const allLines: readonly number[] = [1, 2, 3, 4, 5, 11, 12]

/** Line 11, milliseconds from the start of the process to the first record accepted. */
export const bootFloorMs = 200
export const bootGoalMs = 120
/** Line 12, milliseconds of CPU over a Node that imports nothing. */
export const importFloorMs = 60
export const importGoalMs = 30

/** What `series` means for one arm. `count` is a multiple of 500, so that warm-up and arrays come out even. */
export function taskFor(
  series: Series,
  arm: { readonly arm: ArmName; readonly variant: string },
  where: Pick<Task, 'servers' | 'topic' | 'library'> & {
    readonly count: number
    readonly compression: Compression
    readonly mode: Task['mode']
  },
): Task {
  return { job: series.job, arm: arm.arm, variant: arm.variant, ...where, warmUp: where.count * series.warmUp }
}
