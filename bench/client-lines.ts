/**
 * Lines 1 to 4: our client and its peers against one node of Apache Kafka.
 *
 * Order of a round: ours, the peers, ours again; every second round the other way round. Peers are compared with the
 * first of ours, and ours with ours: that control says how restless the machine is.
 */
import path from 'node:path'
import { expectedOrders, orders } from './orders.ts'
import { runNode } from './processes.ts'
import { type Arm, type Gate, type Series, taskFor } from './scoreboard.ts'
import { judge, noiseOf, type Spread, spread, type Verdict } from './statistics.ts'
import type { ArmName, Compression, Outcome, Task } from './task.ts'
import type { Topics } from './topics.ts'
import { expectedSums, sameSums, Tally, type TallySums } from './workload.ts'

export interface ClientRun {
  readonly library: string
  readonly servers: string
  readonly topics: Topics
  readonly rounds: number
  /** Of the records of a full run. */
  readonly scale: number
  readonly compression: Compression
  readonly peers: readonly string[]
  /** Folder for CPU profiles of our arm, or null. */
  readonly profileFolder: string | null
  readonly say: (text: string) => void
}

export interface ArmReport {
  readonly arm: string
  readonly cost: Spread
  readonly messagesPerSecond: number | null
  readonly rssMiB: number
  /** Times ours; null for ours. */
  readonly ratio: Spread | null
  readonly floor: number | null
  readonly goal: number | null
  readonly verdict: Verdict | null
  readonly reachesGoal: boolean | null
}

export interface SeriesReport {
  readonly title: string
  readonly unit: string
  readonly count: number
  readonly rounds: number
  readonly compression: Compression
  /** Ours over ours. */
  readonly control: Spread
  readonly arms: readonly ArmReport[]
  readonly gates: readonly (Gate & { readonly holds: boolean })[]
}

/** Arms that need nothing installed. */
const own: ReadonlySet<ArmName> = new Set(['ottla', 'service', 'rawTwin'])

export async function runSeries(series: Series, run: ClientRun): Promise<SeriesReport> {
  const count = Math.max(1000, Math.round((series.count * run.scale) / 500) * 500)
  const { ours } = series
  const filled = await filledTopic(series, run, count)
  const expected = expectedOf(series, count)
  const gates = await countedGates(series, run)
  const peers = series.peers.filter(({ arm, of }) => own.has(arm) || run.peers.includes(of ?? arm))
  const how = { run, count, filled, expected }
  const costs = new Map<Arm | 'control', Outcome[]>()
  for (const arm of [ours, 'control' as const, ...peers]) costs.set(arm, [])
  for (let round = 0; round < run.rounds; round++) {
    const order: (Arm | 'control')[] = [ours, ...peers, 'control']
    if (round % 2 === 1) order.reverse()
    for (const arm of order) {
      const outcome = await runArm(series, arm === 'control' ? ours : arm, { ...how, profileFolder: null })
      costs.get(arm)?.push(outcome)
      const name = arm === 'control' ? 'control' : nameOf(arm)
      run.say(`round ${round + 1}: ${name} ${costOf(series, outcome).toFixed(3)} ${series.unit}`)
    }
  }
  // Being watched costs time, so it is a run of its own.
  if (run.profileFolder !== null) await runArm(series, ours, { ...how, profileFolder: run.profileFolder })
  if (filled !== null) await run.topics.remove(filled)
  const of = (arm: Arm | 'control') => (costs.get(arm) ?? []).map((outcome) => costOf(series, outcome))
  const base = of(ours)
  const control = spread(of('control').map((cost, round) => cost / (base[round] ?? Number.NaN)))
  const noise = noiseOf(control.median)
  // Floors were found at full length and without compression; elsewhere the figures stand for themselves.
  const hasClaims = run.compression === 'none' && run.scale >= 1
  const report = (arm: Arm): ArmReport => {
    const outcomes = costs.get(arm) ?? []
    const cost = of(arm)
    const ratio = arm === ours ? null : spread(cost.map((c, round) => c / (base[round] ?? Number.NaN)))
    const floor = (hasClaims ? arm.floor : undefined) ?? null
    const goal = (hasClaims ? arm.goal : undefined) ?? null
    return {
      arm: nameOf(arm),
      cost: spread(cost),
      messagesPerSecond: series.job === 'lone' ? null : spread(outcomes.map((o) => o.messagesPerSecond)).median,
      rssMiB: spread(outcomes.map((o) => o.rssMiB)).median,
      ratio,
      floor,
      goal,
      verdict: ratio === null || floor === null ? null : judge(ratio.median, floor, noise),
      reachesGoal: ratio === null || goal === null ? null : ratio.median >= goal,
    }
  }
  return {
    title: series.title,
    unit: series.unit,
    count,
    rounds: run.rounds,
    compression: run.compression,
    control,
    arms: [ours, ...peers].map(report),
    gates,
  }
}

function costOf(series: Series, outcome: Outcome): number {
  return series.job === 'lone' ? (outcome.p50Ms ?? Number.NaN) : outcome.cpuUsPerMessage
}

function nameOf({ arm, variant }: Arm): string {
  return `${arm} ${variant}`.trim()
}

/** For jobs that read. */
async function filledTopic({ job }: Series, run: ClientRun, count: number): Promise<string | null> {
  if (job !== 'consume' && job !== 'handle') return null
  const topic = await run.topics.create()
  run.say(`filling ${topic} with ${count} records`)
  const { compression } = run
  await run.topics.fill(topic, count, {
    compression,
    ...(job === 'handle' ? { recordOf: orders(topic, 'uniform') } : {}),
  })
  return topic
}

function expectedOf({ job }: Series, count: number): TallySums | null {
  if (job === 'consume') return expectedSums(count, new Tally())
  return job === 'handle' ? expectedOrders(count) : null
}

async function countedGates(series: Series, run: ClientRun): Promise<SeriesReport['gates']> {
  if (series.gates === undefined || series.counted === undefined || run.compression !== 'none') return []
  const count = series.counted
  const topic = (await filledTopic(series, run, count)) ?? (await run.topics.create())
  const where = { servers: run.servers, topic, library: run.library, count, compression: run.compression }
  const { counters } = await runTask(taskFor(series, series.ours, { ...where, mode: 'count' }), null)
  await run.topics.remove(topic)
  if (counters === null) throw new Error('the child counted nothing')
  return series.gates(counters, count).map((gate) => ({ ...gate, holds: gate.value <= gate.most }))
}

async function runArm(
  series: Series,
  arm: Arm,
  how: {
    readonly run: ClientRun
    readonly count: number
    readonly filled: string | null
    readonly expected: TallySums | null
    readonly profileFolder: string | null
  },
): Promise<Outcome> {
  const { run, count, filled, expected } = how
  const topic = filled ?? (await run.topics.create())
  const where = { servers: run.servers, topic, library: run.library, count, compression: run.compression }
  const outcome = await runTask(taskFor(series, arm, { ...where, mode: 'time' }), how.profileFolder)
  if (expected !== null && (outcome.sums === null || !sameSums(outcome.sums, expected))) {
    throw new Error(`${arm.arm} handled something else: ${JSON.stringify({ expected, got: outcome.sums })}`)
  }
  if (filled === null) {
    await run.topics.verify(topic, count)
    await run.topics.remove(topic)
  }
  return outcome
}

async function runTask(task: Task, profileFolder: string | null): Promise<Outcome> {
  const profile = profileFolder === null ? [] : ['--cpu-prof', `--cpu-prof-dir=${profileFolder}`]
  const child = path.join(import.meta.dirname, 'child.ts')
  const { lastLine } = await runNode([...profile, child, JSON.stringify(task)])
  return JSON.parse(lastLine) as Outcome
}
