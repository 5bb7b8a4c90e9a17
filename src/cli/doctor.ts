/**
 * `ottla doctor`: looks at a cluster, and a database when one is given, and says what can cost records or standing still.
 *
 * It writes nothing. Exit code 1 when a check fails; warnings do not change it.
 */
import { styleText } from 'node:util'
import type { Command } from 'commander'
import { examine, type StoreFacts } from './doctor/facts.ts'
import { type Finding, judge, type Status } from './doctor/judge.ts'
import { storeFacts } from './doctor/store-facts.ts'
import { withClient } from './open-topic.ts'
import { addOutputOption, type OutputFormat, printable, printJson, printLine, say, wholeNumber } from './output.ts'

interface DoctorFlags {
  readonly service: readonly string[]
  readonly group: readonly string[]
  readonly topic: readonly string[]
  readonly namespace?: string
  readonly databaseUrl?: string
  readonly inboxRetentionDays: number
  readonly output: OutputFormat
}

/** More of one kind are counted, not listed; `-o json` has all. */
const listedMax = 10

export function addDoctorCommand(program: Command): void {
  const doctor = program
    .command('doctor')
    .description('say what in a cluster can cost records or stand a service still')
    .option('--service <name>', 'this service: its group, topics and rights; may be repeated', collect, [])
    .option('--group <name>', 'this group and what it reads; may be repeated', collect, [])
    .option('--topic <name>', 'this topic; may be repeated (default: everything that may be seen)', collect, [])
    .option('--namespace <name>', 'the namespace that the app was given')
    .option('--database-url <url>', 'the store, too (default: environment DATABASE_URL, when it is set)')
    .option(
      '--inbox-retention-days <number>',
      'what the store was given',
      wholeNumber('--inbox-retention-days', { min: 1, max: 36_500 }),
      30,
    )
  addOutputOption(doctor).action(() => runDoctor(doctor))
}

async function runDoctor(command: Command): Promise<void> {
  const flags = command.opts<DoctorFlags>()
  const url = flags.databaseUrl ?? process.env['DATABASE_URL']
  const store: StoreFacts | null =
    url === undefined || url === '' ? null : await storeFacts(url, flags.inboxRetentionDays)
  const { services, groups, topics } = { services: flags.service, groups: flags.group, topics: flags.topic }
  const scope = {
    services,
    groups,
    topics,
    ...(flags.namespace === undefined ? {} : { namespace: flags.namespace }),
  }
  const findings = judge(await withClient(command, (client) => examine(client, scope, store)))
  const count = (status: Status): number => findings.filter((each) => each.status === status).length
  const summary = { ok: count('ok'), warn: count('warn'), fail: count('fail'), skipped: count('skipped') }
  if (flags.output === 'json') await printJson({ healthy: summary.fail === 0, summary, findings })
  else {
    for (const line of textOf(findings)) await printLine(line)
    say(`${summary.ok} ok, ${summary.warn} warnings, ${summary.fail} failed, ${summary.skipped} skipped`)
  }
  if (summary.fail > 0) process.exitCode = 1
}

const colours = { ok: 'green', warn: 'yellow', fail: 'red', skipped: 'gray' } as const satisfies Record<Status, string>

function textOf(findings: readonly Finding[]): string[] {
  const lines: string[] = []
  const seen = new Map<string, number>()
  const kind = ({ check, status }: Finding): string => `${check} ${status}`
  for (const found of findings) {
    const count = (seen.get(kind(found)) ?? 0) + 1
    seen.set(kind(found), count)
    if (count > listedMax) continue
    const { check, subject, status, what, todo } = found
    const word = styleText(colours[status], status.padEnd(7), { stream: process.stdout })
    lines.push(`${word} ${check.padEnd(13)} ${printable(status === 'ok' ? what : `${subject}: ${what}`)}`)
    if (todo !== null) lines.push(`${' '.repeat(22)}-> ${printable(todo)}`)
  }
  for (const [name, count] of seen) {
    if (count > listedMax) lines.push(`and ${count - listedMax} more: ${name}`)
  }
  return lines
}

const collect = (value: string, before: readonly string[]): readonly string[] => [...before, value]
