/** Lines 11 and 12: how long it takes until something happens. Wall time for the broker, CPU time for imports. */
import { existsSync } from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { root } from './library.ts'
import { runNode } from './processes.ts'
import { bootFloorMs, bootGoalMs, importFloorMs, importGoalMs } from './scoreboard.ts'
import { type Spread, spread, type Verdict } from './statistics.ts'

export interface StartRun {
  readonly library: string
  readonly rounds: number
  readonly say: (text: string) => void
}

export interface BootReport {
  /** From spawn to the first record accepted, a Node that does nothing included. */
  readonly wallMs: Spread
  readonly bareNodeMs: Spread
  readonly cpuMs: Spread
  readonly rssMiB: Spread
  readonly floorMs: number
  readonly goalMs: number
  readonly verdict: Verdict
  readonly reachesGoal: boolean
}

export async function runBoot({ library, rounds, say }: StartRun): Promise<BootReport> {
  const wallMs: number[] = []
  const bareNodeMs: number[] = []
  const cpuMs: number[] = []
  const rssMiB: number[] = []
  for (let round = 0; round < rounds; round++) {
    bareNodeMs.push((await runNode(['-e', 'console.log(1)'])).wallMs)
    const ended = await runNode([path.join(import.meta.dirname, 'first-produce.mjs'), library])
    const told = JSON.parse(ended.lastLine) as { cpuMs: number; rssMiB: number }
    wallMs.push(ended.wallMs)
    cpuMs.push(told.cpuMs)
    rssMiB.push(told.rssMiB)
    say(`round ${round + 1}: ${ended.wallMs.toFixed(0)} ms`)
  }
  const wall = spread(wallMs)
  return {
    wallMs: wall,
    bareNodeMs: spread(bareNodeMs),
    cpuMs: spread(cpuMs),
    rssMiB: spread(rssMiB),
    floorMs: bootFloorMs,
    goalMs: bootGoalMs,
    // Neighbours only ever make it slower: the quickest round proves what is possible.
    verdict: wall.median <= bootFloorMs ? 'holds' : wall.min <= bootFloorMs ? 'loud' : 'fails',
    reachesGoal: wall.median <= bootGoalMs,
  }
}

export interface ImportReport {
  readonly name: string
  /** Over a bare Node, of the same round. */
  readonly cpuMs: Spread
  readonly wallMs: Spread
  readonly floorMs: number | null
  readonly verdict: Verdict | null
  readonly reachesGoal: boolean | null
}

export async function runImports({ library, rounds, say }: StartRun): Promise<readonly ImportReport[]> {
  const url = (file: string) => pathToFileURL(file).href
  const built = (door: string) => url(path.join(library, door))
  const peer = (name: string) =>
    existsSync(path.join(import.meta.dirname, 'node_modules', name)) ? [{ name, at: name, isOurs: false }] : []
  const modules = [
    { name: 'ottla', at: built('index.js'), isOurs: true },
    { name: 'ottla/kafka', at: built('kafka.js'), isOurs: true },
    { name: 'ottla/contract', at: built('contract/index.js'), isOurs: true },
    // What a service has; the floor is one door's.
    { name: 'ottla and ottla/kafka', at: `${built('index.js')} ${built('kafka.js')}`, isOurs: false },
    { name: 'ottla/kafka, from source', at: url(path.join(root, 'src/kafka.ts')), isOurs: false },
    ...peer('kafkajs'),
    ...peer('@platformatic/kafka'),
  ]
  const cost = async (at: string): Promise<{ cpuMs: number; wallMs: number }> => {
    const imports =
      at === ''
        ? ''
        : at
            .split(' ')
            .map((one) => `await import(${JSON.stringify(one)});`)
            .join('')
    const measure = 'const {user,system}=process.cpuUsage();console.log((user+system)/1000);process.exit(0)'
    const ended = await runNode(['--input-type=module', '-e', `${imports}${measure}`])
    return { cpuMs: Number(ended.lastLine), wallMs: ended.wallMs }
  }
  const over = new Map(modules.map(({ name }) => [name, { cpuMs: [] as number[], wallMs: [] as number[] }]))
  for (let round = 0; round < rounds; round++) {
    const bare = await cost('')
    for (const { name, at } of round % 2 === 0 ? modules : [...modules].reverse()) {
      const one = await cost(at)
      over.get(name)?.cpuMs.push(one.cpuMs - bare.cpuMs)
      over.get(name)?.wallMs.push(one.wallMs - bare.wallMs)
    }
    say(`round ${round + 1} of ${rounds}`)
  }
  return modules.map(({ name, isOurs }) => {
    const cpu = spread(over.get(name)?.cpuMs ?? [])
    return {
      name,
      cpuMs: cpu,
      wallMs: spread(over.get(name)?.wallMs ?? []),
      floorMs: isOurs ? importFloorMs : null,
      verdict: !isOurs ? null : cpu.median <= importFloorMs ? 'holds' : cpu.min <= importFloorMs ? 'loud' : 'fails',
      reachesGoal: isOurs ? cpu.median <= importGoalMs : null,
    }
  })
}
