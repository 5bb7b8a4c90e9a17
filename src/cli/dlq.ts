/**
 * `ottla dlq list|show|edit|redrive|discard`: looks after the dead letters of a service.
 *
 * Letters are named by their place in the dead-letter topic, `<partition>/<offset>`. Whatever is asked is done by the
 * service itself, for itself alone; its results are shown here and stay in the control topic.
 */
import { readFileSync } from 'node:fs'
import type { Command } from 'commander'
import { showUtf8 } from '../contract/text.ts'
import type { Asked, AskOptions, DeadLetterDesk, OpenLetter } from '../runtime/dlq.ts'
import type { Letter } from '../runtime/letters.ts'
import { addDeskOptions, withDesk } from './desk.ts'
import {
  addOutputOption,
  NotFoundError,
  type OutputFormat,
  printable,
  printJson,
  printLine,
  say,
  table,
  UsageError,
  wholeNumber,
} from './output.ts'

interface Selection {
  readonly cause?: string
  readonly topic?: string
  readonly key?: string
  readonly all?: boolean
  readonly limit?: number
}

interface ListFlags extends Selection {
  readonly letters?: boolean
  readonly output: OutputFormat
}

interface AskFlags extends Selection {
  readonly rate: number
  readonly wait: number
  readonly dryRun?: boolean
  readonly force?: boolean
  readonly reason?: string
  readonly toSource?: boolean
  readonly value?: string
  readonly valueFile?: string
  readonly output: OutputFormat
}

const exitFailed = 1

export function addDlqCommand(program: Command): void {
  const dlq = program.command('dlq').description('look after the dead letters of a service')

  const list = dlq
    .command('list')
    .description('open dead letters by cause, or each of them')
    .argument('<service>')
    .option('--letters', 'each letter instead of the causes')
  addSelection(addDeskOptions(addOutputOption(list))).action((service: string) => listLetters(list, service))

  const show = dlq.command('show').description('one letter with everything').argument('<service>').argument('<letter>')
  addDeskOptions(addOutputOption(show)).action((service: string, place: string) => showLetter(show, service, place))

  const redrive = dlq
    .command('redrive')
    .description('have the service handle letters once more; of a held key all, in order')
    .argument('<service>')
    .argument('[letters...]')
    .option('--force', 'also those that came back too often')
    .option('--to-source', 'write them to their source topic again, for every group that reads it; needs --reason')
    .option('--reason <text>', 'for the audit')
  addAsking(addSelection(addDeskOptions(addOutputOption(redrive)))).action((service: string, places: string[]) =>
    ask(redrive, service, { action: 'redrive', places }),
  )

  const edit = dlq
    .command('edit')
    .description('redrive one letter with another payload; the service checks it against its contract')
    .argument('<service>')
    .argument('<letter>')
    .option('--value <text>', 'the payload')
    .option('--value-file <path>', 'a file that holds it')
    .option('--force', 'even if it came back too often')
    .requiredOption('--reason <text>', 'for the audit')
  addAsking(addDeskOptions(addOutputOption(edit))).action((service: string, place: string) =>
    ask(edit, service, { action: 'edit', places: [place] }),
  )

  const discard = dlq
    .command('discard')
    .description('nobody will handle these letters')
    .argument('<service>')
    .argument('[letters...]')
    .requiredOption('--reason <text>', 'why; it stays in the audit')
  addAsking(addSelection(addDeskOptions(addOutputOption(discard)))).action((service: string, places: string[]) =>
    ask(discard, service, { action: 'discard', places }),
  )
}

function addSelection(command: Command): Command {
  return command
    .option('--cause <name>', 'letters of this cause')
    .option('--topic <name>', 'letters that come from this topic')
    .option('--key <text>', 'letters of this key')
    .option('--all', 'every open letter')
    .option('--limit <number>', 'at most so many', wholeNumber('--limit', { min: 1, max: 1e9 }))
}

function addAsking(command: Command): Command {
  return command
    .option('--rate <number>', 'at most so many a second', wholeNumber('--rate', { min: 1, max: 10_000 }), 10)
    .option('--wait <seconds>', 'how long to wait for results', wholeNumber('--wait', { min: 0, max: 86_400 }), 60)
    .option('--dry-run', 'say what would be asked, ask nothing')
}

async function listLetters(command: Command, service: string): Promise<void> {
  const flags = command.opts<ListFlags>()
  await withDesk(command, service, async (desk) => {
    if (flags.letters !== true && !isSelection(flags)) {
      const groups = await desk.groups()
      if (flags.output === 'json') return printJson(groups)
      if (groups.length === 0) return say(`${service} has no open dead letters`)
      const rows = groups.map(({ cause, count, held, topics, oldestMs }) => {
        return [String(count), cause, String(held), timeText(oldestMs), topics.join(',')]
      })
      for (const line of table([['letters', 'cause', 'held', 'oldest', 'topics'], ...rows])) await printLine(line)
      return
    }
    const letters = select(await desk.letters(), flags)
    if (flags.output === 'json') {
      for (const each of letters) await printJson(entryOf(each))
      return
    }
    const rows = letters.map((each) => {
      const { letter, held } = each
      const { cause, attempts, redrives, failedAtMs } = letter.facts
      const key = letter.key === null ? '' : showUtf8(letter.key)
      const counts = [String(attempts ?? ''), String(redrives)]
      return [
        placeOf(each),
        sourceOf(each),
        cause ?? 'unknown',
        ...counts,
        held ? 'held' : '',
        timeText(failedAtMs),
        key,
      ]
    })
    const heading = ['letter', 'source', 'cause', 'attempts', 'redrives', 'held', 'failed', 'key']
    for (const line of table([heading, ...rows])) await printLine(printable(line))
  })
}

async function showLetter(command: Command, service: string, place: string): Promise<void> {
  const { output } = command.opts<{ output: OutputFormat }>()
  await withDesk(command, service, async (desk) => {
    const found = one(await desk.letters(), place)
    const letter = await desk.read(found)
    if (letter === null) throw new NotFoundError(`there is no open dead letter ${place}`)
    const document = documentOf(found, letter)
    if (output === 'json') return printJson(document)
    for (const [name, value] of Object.entries(document)) {
      if (name === 'headers') {
        for (const [key, text] of document.headers) await printLine(printable(`header ${key}: ${text ?? '(null)'}`))
      } else await printLine(printable(`${name}: ${value === null ? '(none)' : String(value)}`))
    }
  })
}

interface Asking {
  readonly action: 'redrive' | 'edit' | 'discard'
  readonly places: readonly string[]
}

async function ask(command: Command, service: string, { action, places }: Asking): Promise<void> {
  const flags = command.opts<AskFlags>()
  if (places.length === 0 && !isSelection(flags)) {
    throw new UsageError(`say which letters: by their place, by --cause, --topic or --key, or --all`)
  }
  if (flags.toSource === true && flags.reason === undefined) {
    throw new UsageError('--to-source has every group see the letters again: say why with --reason')
  }
  const edited = action === 'edit' ? payloadOf(flags) : undefined
  await withDesk(command, service, async (desk) => {
    const open = await desk.letters()
    const letters = places.length === 0 ? select(open, flags) : places.map((place) => one(open, place))
    if (letters.length === 0) throw new NotFoundError('no open letter is meant by that')
    if (flags.toSource === true) return toSource(desk, letters, flags)
    if (flags.dryRun === true) return dryRun(desk, letters, { action, output: flags.output })
    const options: AskOptions = {
      reason: flags.reason ?? action,
      perSecond: flags.rate,
      waitMs: flags.wait * 1_000,
      ...(flags.force === true ? { force: true } : {}),
      ...(edited === undefined ? {} : { edited }),
    }
    const asked = await (action === 'discard' ? desk.discard(letters, options) : desk.redrive(letters, options))
    await tell(asked, flags.output)
  })
}

/** Not this service alone: everybody who reads the source topic. Who that is comes first. */
async function toSource(desk: DeadLetterDesk, letters: readonly OpenLetter[], flags: AskFlags): Promise<void> {
  const dry = flags.dryRun === true
  const groups = await desk.groupsOf(letters)
  if (flags.output === 'json' && dry) return printJson({ action: 'toSource', letters: letters.length, groups })
  for (const [topic, names] of Object.entries(groups)) {
    const seen = names.length === 0 ? 'no group that may be seen reads it' : `seen again by ${names.join(', ')}`
    if (dry) await printLine(printable(`${topic}: ${seen}`))
    else say(printable(`${topic}: ${seen}`))
  }
  if (dry) return printLine(`would write ${letters.length} letters`)
  const done = await desk.toSource(letters, {
    reason: flags.reason!,
    perSecond: flags.rate,
    ...(flags.force === true ? { force: true } : {}),
  })
  const { sent, refused } = done
  if (flags.output === 'json') await printJson(done)
  else {
    await printLine(`${sent} sentToSource`)
    if (refused.held > 0) say(`${refused.held} of held keys were left: redrive those without --to-source`)
    if (refused.loop > 0) say(`${refused.loop} came back too often; --force insists`)
    if (refused.missing > 0) say(`${refused.missing} cannot be told where they came from`)
  }
  if (sent < letters.length) process.exitCode = exitFailed
}

async function dryRun(
  desk: DeadLetterDesk,
  letters: readonly OpenLetter[],
  { action, output }: { readonly action: Asking['action']; readonly output: OutputFormat },
): Promise<void> {
  const asked = action === 'redrive' ? desk.plan(letters) : letters
  for (const each of asked) {
    const { held } = each
    const what = held && action !== 'discard' ? 'its key from the first letter on, in order' : 'this letter'
    if (output === 'json') await printJson({ action, letter: placeOf(each), source: sourceOf(each), held })
    else await printLine(`would ${action} ${placeOf(each)} (${sourceOf(each)}): ${what}`)
  }
}

async function tell(asked: Asked, output: OutputFormat): Promise<void> {
  if (output === 'json') await printJson(asked)
  else {
    for (const [outcome, count] of Object.entries(asked.outcomes)) await printLine(`${count} ${outcome}`)
    if (asked.open > 0) {
      say(`${asked.open} without a result: the owner of the partition does them when there is one`)
    }
    if (asked.stoppedBefore > 0)
      say(`stopped before ${asked.stoppedBefore} more: too many failed. Mend the cause first`)
  }
  const { handled = 0, duplicate = 0, ignored = 0, dropped = 0, discarded = 0 } = asked.outcomes
  const good = handled + duplicate + ignored + dropped + discarded
  const all = Object.values(asked.outcomes).reduce((sum, count) => sum + count, 0)
  if (good < all || asked.open > 0 || asked.stoppedBefore > 0) process.exitCode = exitFailed
}

function isSelection({ all, cause, topic, key }: Selection): boolean {
  return all === true || cause !== undefined || topic !== undefined || key !== undefined
}

function select(letters: readonly OpenLetter[], { cause, topic, key, limit }: Selection): readonly OpenLetter[] {
  const meant = letters.filter(({ letter }) => {
    if (cause !== undefined && (letter.facts.cause ?? 'unknown') !== cause) return false
    if (topic !== undefined && letter.facts.origin?.topic !== topic) return false
    return key === undefined || (letter.key !== null && showUtf8(letter.key) === key)
  })
  return limit === undefined ? meant : meant.slice(0, limit)
}

function one(letters: readonly OpenLetter[], place: string): OpenLetter {
  if (!/^\d+\/\d+$/.test(place)) throw new UsageError(`a letter is <partition>/<offset>, not '${place}'`)
  const found = letters.find((each) => placeOf(each) === place)
  if (found === undefined) throw new NotFoundError(`there is no open dead letter ${place}`)
  return found
}

function payloadOf({ value, valueFile }: AskFlags): Uint8Array {
  if ((value === undefined) === (valueFile === undefined)) {
    throw new UsageError('the new payload is --value or --value-file, one of them')
  }
  return value === undefined ? readFileSync(valueFile!) : Buffer.from(value)
}

/** What a list says of a letter. */
function entryOf(each: OpenLetter) {
  const { letter, held, lastError } = each
  const { cause, message, attempts, redrives, failedAtMs, family, group } = letter.facts
  return {
    letter: placeOf(each),
    source: sourceOf(each),
    cause: cause ?? 'unknown',
    message,
    attempts,
    redrives,
    held,
    lastError,
    failedAt: failedAtMs === null ? null : new Date(failedAtMs).toISOString(),
    family,
    group,
    timestampMs: letter.timestampMs,
    key: textOf(letter.key),
  }
}

/** Everything there is of it. */
function documentOf(each: OpenLetter, letter: Letter) {
  return {
    ...entryOf({ ...each, letter }),
    value: textOf(letter.value),
    headers: letter.headers.map(({ key, value }) => [key, textOf(value)] as const),
  }
}

function placeOf({ letter }: OpenLetter): string {
  return `${letter.partition}/${letter.position}`
}

function sourceOf({ letter: { facts } }: OpenLetter): string {
  return facts.origin === null ? 'unknown' : `${facts.origin.topic}-${facts.origin.partition}@${facts.origin.position}`
}

function textOf(bytes: Uint8Array | null): string | null {
  return bytes === null ? null : showUtf8(bytes)
}

function timeText(ms: number | null): string {
  return ms === null ? '' : new Date(ms).toISOString()
}
