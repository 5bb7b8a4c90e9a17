/** `ottla pause` and `ottla resume`: stands a service's partitions still on every member, until it is resumed. */
import type { Command } from 'commander'
import { addDeskOptions, withDesk } from './desk.ts'
import { addOutputOption, type OutputFormat, printJson, printLine, UsageError, wholeNumber } from './output.ts'

interface PauseFlags {
  readonly topic?: string
  readonly partition?: number
  readonly reason?: string
  readonly dryRun?: boolean
  readonly output: OutputFormat
}

export function addPauseCommands(program: Command): void {
  const pause = program
    .command('pause')
    .description('stand a service still: running handlers finish, nothing starts, over restarts too')
    .argument('<service>')
    .requiredOption('--reason <text>', 'why; whoever looks later wants to know')
  addPlace(addDeskOptions(addOutputOption(pause))).action((service: string) => change(pause, service, 'pause'))
  const resume = program
    .command('resume')
    .description('let partitions go on that pause or the dead-letter brake stopped')
    .argument('<service>')
  addPlace(addDeskOptions(addOutputOption(resume))).action((service: string) => change(resume, service, 'resume'))
}

function addPlace(command: Command): Command {
  return command
    .option('--topic <name>', 'only partitions of this topic')
    .option('--partition <number>', 'only this one', wholeNumber('--partition', { min: 0, max: 1e6 }))
    .option('--dry-run', 'say what would be asked, ask nothing')
}

async function change(command: Command, service: string, what: 'pause' | 'resume'): Promise<void> {
  const { topic = null, partition = null, reason = '', output, dryRun = false } = command.opts<PauseFlags>()
  if (partition !== null && topic === null) throw new UsageError('--partition needs --topic')
  await withDesk(command, service, async (desk) => {
    if (dryRun) {
      const place = placeOf(service, { topic, partition })
      if (output === 'json') return printJson({ service, topic, partition, dryRun, would: what })
      await printLine(`would ${what} ${place}`)
      const lifted = desk.pauses.filter((other) => covers(other, { topic, partition }))
      if (what === 'resume' && lifted.length === 0) await printLine('no pause stands there; the dead-letter brake may')
      return
    }
    if (what === 'pause') await desk.pause({ topic, partition, reason })
    else await desk.resume({ topic, partition })
    const place = placeOf(service, { topic, partition })
    if (output === 'json')
      return printJson({ service, topic, partition, state: what === 'pause' ? 'paused' : 'resumed' })
    await printLine(`${place} ${what === 'pause' ? 'stands still' : 'goes on'}`)
    for (const other of desk.pauses) {
      if (what === 'resume' && covers(other, { topic, partition })) {
        await printLine(`still paused: ${other.topic ?? 'every topic'} ${other.partition ?? ''} (${other.reason})`)
      }
    }
  })
}

function placeOf(service: string, { topic, partition }: Place): string {
  return `${service}${topic === null ? '' : ` ${topic}`}${partition === null ? '' : `-${partition}`}`
}

interface Place {
  readonly topic: string | null
  readonly partition: number | null
}

/** Does one pause concern partitions that another place names? */
function covers(pause: Place, place: Place): boolean {
  if (pause.topic !== null && place.topic !== null && pause.topic !== place.topic) return false
  return pause.partition === null || place.partition === null || pause.partition === place.partition
}
