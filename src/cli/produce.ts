/** `ottla produce TOPIC`: a record for every line of stdin. */
import { createInterface } from 'node:readline'
import { type Command, Option } from 'commander'
import type { ProducerOptions, ProducerRecord } from '../kafka/producer.ts'
import { existingTopic, withClient } from './open-topic.ts'
import { addOutputOption, type OutputFormat, printJson, say, UsageError, wholeNumber } from './output.ts'

interface ProduceFlags {
  readonly keySeparator?: string
  readonly header: readonly { readonly key: string; readonly value: string }[]
  readonly partition?: number
  readonly compression: NonNullable<ProducerOptions['compression']>
  readonly output: OutputFormat
}

/** Lines sent and not yet answered; the rest of stdin waits. */
const inFlightMax = 1_000

export function addProduceCommand(program: Command): void {
  const command = program
    .command('produce')
    .description('publish a record for every line of stdin')
    .argument('<topic>')
    .option('-K, --key-separator <text>', 'lines are key, text, value; a line without it has no key')
    .option('-H, --header <name=value>', 'a header for every record; may be repeated', collectHeader, [])
    .option('-p, --partition <number>', 'instead of the one the key chooses', wholeNumber('-p', { min: 0, max: 1e6 }))
    .addOption(
      new Option('-z, --compression <name>', 'how batches are compressed')
        .choices(['none', 'gzip', 'snappy', 'lz4', 'zstd'])
        .default('none'),
    )
  addOutputOption(command).action((topic: string) => produce(command, topic))
}

async function produce(command: Command, topic: string): Promise<void> {
  const flags = command.opts<ProduceFlags>()
  if (flags.keySeparator === '') throw new UsageError('-K needs at least one character')
  await withClient(command, async (client) => {
    await existingTopic(client, topic)
    const producer = client.producer({ compression: flags.compression })
    const inFlight = new Set<Promise<void>>()
    let published = 0
    let failure: { readonly error: unknown } | null = null
    const send = async (record: ProducerRecord): Promise<void> => {
      const stored = await producer.send(record)
      published += 1
      if (flags.output === 'json') await printJson({ topic, ...stored })
    }
    for await (const line of createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY })) {
      const sent: Promise<void> = send(recordOf(topic, line, flags))
        .catch((error: unknown) => {
          failure ??= { error }
        })
        .finally(() => inFlight.delete(sent))
      inFlight.add(sent)
      if (inFlight.size >= inFlightMax) await Promise.race(inFlight)
      if (failure !== null) break
    }
    await Promise.all(inFlight)
    say(`${published} record${published === 1 ? '' : 's'} stored in ${topic}`)
    const failed = failure as { readonly error: unknown } | null
    if (failed !== null) throw failed.error
  })
}

/** What a line means. */
function recordOf(topic: string, line: string, flags: ProduceFlags): ProducerRecord {
  const at = flags.keySeparator === undefined ? -1 : line.indexOf(flags.keySeparator)
  return {
    topic,
    partition: flags.partition ?? null,
    key: at < 0 ? null : line.slice(0, at),
    value: at < 0 ? line : line.slice(at + (flags.keySeparator as string).length),
    headers: flags.header,
  }
}

function collectHeader(value: string, before: ProduceFlags['header']): ProduceFlags['header'] {
  const at = value.indexOf('=')
  if (at < 1) throw new UsageError(`-H is name=value, not '${value}'`)
  return [...before, { key: value.slice(0, at), value: value.slice(at + 1) }]
}
