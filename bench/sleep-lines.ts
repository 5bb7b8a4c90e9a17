/**
 * Line 5: handlers that wait for something, ordered by key. Wall time over what the sleeps themselves allow, and beside
 * Confluent's Parallel Consumer.
 *
 * Each sleep is as long as it really was: timers fire late on a loud machine, and lateness is nobody's merit.
 */
import path from 'node:path'
import { orders, type Spreading } from './orders.ts'
import type { ParallelConsumer } from './parallel-consumer.ts'
import { runNode } from './processes.ts'
import type { Gate } from './scoreboard.ts'
import { efficiencyOf, proveSleepers, type SleepOutcome, type SleepTask } from './sleeping.ts'
import { type Spread, spread, type Verdict } from './statistics.ts'
import type { Topics } from './topics.ts'

interface Workload {
  readonly title: string
  readonly count: number
  readonly warmUp: number
  readonly concurrency: number
  readonly sleepMs: number
  readonly spreading: Spreading
  /** Efficiency below which the run fails, and the one to reach. */
  readonly floor: number | null
  readonly goal: number | null
  /** Are timers, promises and commits counted, in a run of their own? */
  readonly counted: boolean
  /** How many times our wall time and our CPU the peer takes at least; null: it is not run. */
  readonly peerGoals: { readonly wall: number; readonly cpu: number } | null
}

const workloads: readonly Workload[] = [
  {
    title: '5 ms, 100 at once, 5,000 keys uniform',
    count: 20_000,
    warmUp: 0,
    concurrency: 100,
    sleepMs: 5,
    spreading: 'uniform',
    floor: 0.92,
    goal: 0.96,
    counted: true,
    peerGoals: { wall: 1.25, cpu: 6 },
  },
  {
    title: '5 ms, 100 at once, 1,000 keys Zipf(1.0)',
    count: 20_000,
    warmUp: 0,
    concurrency: 100,
    sleepMs: 5,
    spreading: 'zipf',
    floor: 0.92,
    goal: 0.96,
    counted: false,
    peerGoals: null,
  },
  {
    title: '5 ms, 1,000 at once, 5,000 keys uniform',
    count: 100_000,
    warmUp: 0,
    concurrency: 1_000,
    sleepMs: 5,
    spreading: 'uniform',
    floor: null,
    goal: 0.9,
    counted: false,
    peerGoals: null,
  },
  {
    title: '5 ms, 1,000 at once, 1,000 keys Zipf(1.0)',
    count: 20_000,
    warmUp: 0,
    concurrency: 1_000,
    sleepMs: 5,
    spreading: 'zipf',
    floor: null,
    goal: 0.9,
    counted: false,
    peerGoals: null,
  },
  {
    title: '1 ms, 100 at once, 5,000 keys uniform, warm',
    count: 200_000,
    warmUp: 40_000,
    concurrency: 100,
    sleepMs: 1,
    spreading: 'uniform',
    floor: null,
    goal: null,
    counted: false,
    peerGoals: { wall: 3.5, cpu: 6 },
  },
]

export interface SleepRun {
  readonly library: string
  readonly servers: string
  readonly topics: Topics
  readonly rounds: number
  readonly scale: number
  /** Null: this machine has no Java for it. */
  readonly peer: ParallelConsumer | null
  readonly profileFolder: string | null
  readonly say: (text: string) => void
}

export interface SleepArm {
  readonly wallMs: Spread
  /** What the sleeps allow over the wall time. */
  readonly efficiency: Spread
  readonly cpuUsPerMessage: Spread
  /** How long a sleep really was. */
  readonly meanSleepMs: Spread
}

export interface SleepReport {
  readonly title: string
  readonly count: number
  readonly ours: SleepArm
  readonly floor: number | null
  readonly goal: number | null
  readonly verdict: Verdict | null
  readonly reachesGoal: boolean | null
  /** The peer's over ours, round by round. */
  readonly peer:
    | (SleepArm & {
        /** Ours with the payload left as bytes, as it is here. */
        readonly alike: SleepArm
        readonly wallRatio: Spread
        readonly cpuRatio: Spread
        /** The same over `alike`. */
        readonly alikeWallRatio: Spread
        readonly alikeCpuRatio: Spread
        readonly goals: { readonly wall: number; readonly cpu: number }
      })
    | null
  readonly gates: readonly (Gate & { readonly holds: boolean })[]
}

export async function runSleepers(run: SleepRun): Promise<readonly SleepReport[]> {
  const reports: SleepReport[] = []
  for (const workload of workloads) reports.push(await runWorkload(workload, run))
  return reports
}

async function runWorkload(workload: Workload, run: SleepRun): Promise<SleepReport> {
  const { spreading, concurrency, sleepMs } = workload
  const count = Math.max(2_000, Math.round((workload.count * run.scale) / 1_000) * 1_000)
  const warmUp = Math.round((count * workload.warmUp) / workload.count)
  const topic = await run.topics.create()
  run.say(`${workload.title}: filling ${topic} with ${count} records`)
  await run.topics.fill(topic, count, { compression: 'none', recordOf: orders(topic, spreading) })
  const { servers, library } = run
  const task: SleepTask = {
    servers,
    topic,
    library,
    count,
    warmUp,
    concurrency,
    sleepMs,
    spreading,
    payload: 'order',
    mode: 'time',
  }
  const gates = workload.counted ? gatesOf(await runOurs({ ...task, mode: 'count' }, null), count) : []
  const ours: SleepOutcome[] = []
  const peer: SleepOutcome[] = []
  const alike: SleepOutcome[] = []
  for (let round = 0; round < run.rounds; round++) {
    const arms = [
      async () => ours.push(await runOurs(task, null)),
      async () => {
        if (run.peer === null || workload.peerGoals === null) return
        const { lastLine } = await run.peer.run(task)
        const outcome = JSON.parse(lastLine) as SleepOutcome
        proveSleepers(outcome, task)
        peer.push(outcome)
      },
      async () => {
        if (run.peer === null || workload.peerGoals === null) return
        alike.push(await runOurs({ ...task, payload: 'bytes' }, null))
      },
    ]
    if (round % 2 === 1) arms.reverse()
    for (const arm of arms) await arm()
    const told = { ours: ours[round], peer: peer[round], 'ours, bytes': alike[round] }
    for (const [arm, one] of Object.entries(told)) {
      if (one !== undefined) run.say(`round ${round + 1}, ${arm}: ${describe(one, concurrency)}`)
    }
  }
  if (run.profileFolder !== null) await runOurs(task, run.profileFolder)
  await run.topics.remove(topic)
  return report(workload, { run, count, ours, peer, alike, gates })
}

function report(
  workload: Workload,
  measured: {
    readonly run: SleepRun
    readonly count: number
    readonly ours: readonly SleepOutcome[]
    readonly peer: readonly SleepOutcome[]
    readonly alike: readonly SleepOutcome[]
    readonly gates: SleepReport['gates']
  },
): SleepReport {
  const { concurrency, peerGoals } = workload
  const { run, count, ours, peer, alike, gates } = measured
  const mine = armOf(ours, { concurrency, count })
  const hasClaims = run.scale >= 1
  const floor = hasClaims ? workload.floor : null
  const goal = hasClaims ? workload.goal : null
  const ratio = (to: readonly SleepOutcome[], of: (outcome: SleepOutcome) => number) =>
    spread(peer.map((outcome, round) => of(outcome) / of(to[round] as SleepOutcome)))
  const wallMs = (outcome: SleepOutcome): number => outcome.wallMs
  const cpuUs = (outcome: SleepOutcome): number => outcome.cpuUsPerMessage
  return {
    title: workload.title,
    count,
    ours: mine,
    floor,
    goal,
    // Neighbours only ever make it worse: the best round proves what is possible.
    verdict:
      floor === null
        ? null
        : mine.efficiency.median >= floor
          ? 'holds'
          : mine.efficiency.max >= floor
            ? 'loud'
            : 'fails',
    reachesGoal: goal === null ? null : mine.efficiency.median >= goal,
    peer:
      peer.length === 0 || peerGoals === null
        ? null
        : {
            ...armOf(peer, { concurrency, count }),
            alike: armOf(alike, { concurrency, count }),
            wallRatio: ratio(ours, wallMs),
            cpuRatio: ratio(ours, cpuUs),
            alikeWallRatio: ratio(alike, wallMs),
            alikeCpuRatio: ratio(alike, cpuUs),
            goals: peerGoals,
          },
    gates,
  }
}

function armOf(
  outcomes: readonly SleepOutcome[],
  { concurrency, count }: { readonly concurrency: number; readonly count: number },
): SleepArm {
  return {
    wallMs: spread(outcomes.map(({ wallMs }) => wallMs)),
    efficiency: spread(outcomes.map((outcome) => efficiencyOf(outcome, concurrency))),
    cpuUsPerMessage: spread(outcomes.map(({ cpuUsPerMessage }) => cpuUsPerMessage)),
    meanSleepMs: spread(outcomes.map(({ sleptMs }) => sleptMs / count)),
  }
}

function describe(outcome: SleepOutcome, concurrency: number): string {
  const { wallMs, cpuUsPerMessage } = outcome
  return `${wallMs.toFixed(0)} ms, efficiency ${efficiencyOf(outcome, concurrency).toFixed(3)}, ${cpuUsPerMessage.toFixed(1)} µs CPU`
}

const commitKey = 8

/** The handler sets one timer for each message and makes one promise beside its own. */
function gatesOf({ counters, wallMs }: SleepOutcome, count: number): SleepReport['gates'] {
  if (counters === null) throw new Error('the child counted nothing')
  const commits = counters.requests[commitKey] ?? 0
  const gates: Gate[] = [
    { name: "timers per message, beside the handler's own", value: (counters.timers - count) / count, most: 0.05 },
    { name: "promises per message, the handler's three included", value: counters.promises / count, most: 4.3 },
    {
      name: 'OffsetCommit requests beyond one per 1,000 messages and one per second',
      value: commits - count / 1_000 - wallMs / 1_000,
      most: 5,
    },
  ]
  return gates.map((gate) => ({ ...gate, holds: gate.value <= gate.most }))
}

async function runOurs(task: SleepTask, profileFolder: string | null): Promise<SleepOutcome> {
  const profile = profileFolder === null ? [] : ['--cpu-prof', `--cpu-prof-dir=${profileFolder}`]
  const child = path.join(import.meta.dirname, 'sleep-child.ts')
  const { lastLine } = await runNode([...profile, child, JSON.stringify(task)])
  const outcome = JSON.parse(lastLine) as SleepOutcome
  proveSleepers(outcome, task)
  return outcome
}
