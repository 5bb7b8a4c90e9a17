/** One arm in a process of its own: takes a task as JSON on the command line, prints the outcome as its last line. */
import { countFromNowOn } from './counters.ts'
import { Meter } from './meter.ts'
import type { Outcome, RunArm, Task } from './task.ts'

const task = JSON.parse(process.argv[2] ?? '') as Task

async function armOf(name: Task['arm']): Promise<RunArm> {
  switch (name) {
    case 'ottla':
      return (await import('./arms/ottla.ts')).runOttla
    case 'kafkajs':
      return (await import('./arms/kafkajs.ts')).runKafkajs
    case 'platformatic':
      return (await import('./arms/platformatic.ts')).runPlatformatic
    case 'service':
      return (await import('./arms/service.ts')).runService
    case 'rawTwin':
      return (await import('./arms/raw.ts')).runRawTwin
    case 'kafkajsTwin':
      return (await import('./arms/twins.ts')).runKafkajsTwin
    case 'platformaticTwin':
      return (await import('./arms/twins.ts')).runPlatformaticTwin
    case 'nestjs':
      return (await import('./arms/nestjs.ts')).runNestjs
    default:
      name satisfies never
      throw new Error(`no arm ${String(name)}`)
  }
}

const counted = task.mode === 'count' ? countFromNowOn() : null
const run = await armOf(task.arm)
const meter = new Meter(task.warmUp, task.count)
const { sums, latenciesMs } = await run(task, meter)
const sorted = [...(latenciesMs ?? [])].sort((a, b) => a - b)
const quantile = (q: number): number | null => sorted[Math.floor(sorted.length * q)] ?? null
const outcome: Outcome = {
  cpuUsPerMessage: meter.cpuUsPerMessage,
  messagesPerSecond: meter.messagesPerSecond,
  rssMiB: process.memoryUsage.rss() / 1024 / 1024,
  sums: sums ?? null,
  p50Ms: quantile(0.5),
  p99Ms: quantile(0.99),
  counters: counted === null ? null : counted(),
}
// Some clients take seconds to close, and what closing costs is not measured here.
process.stdout.write(`${JSON.stringify(outcome)}\n`, () => process.exit(0))
