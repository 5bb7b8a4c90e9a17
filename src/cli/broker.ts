/** `ottla broker`: the embedded Kafka alone, until Ctrl-C. */
import { once } from 'node:events'
import { styleText } from 'node:util'
import type { Command } from 'commander'
import { startBroker } from '../broker/embedded.ts'
import { addOutputOption, type OutputFormat, printJson, printLine, say, UsageError, wholeNumber } from './output.ts'

interface BrokerFlags {
  readonly port: number
  readonly nodes: number
  readonly partitions: number
  readonly topic: readonly string[]
  readonly autoCreateTopics: boolean
  readonly output: OutputFormat
}

export function addBrokerCommand(program: Command): void {
  const command = program
    .command('broker')
    .description('run the embedded Kafka alone: for development and tests')
    .configureHelp({ showGlobalOptions: false })
    .option(
      '--port <number>',
      'port of the first node, 0 for a free one',
      wholeNumber('--port', { min: 0, max: 65_535 }),
      9092,
    )
    .option('--nodes <number>', 'virtual brokers', wholeNumber('--nodes', { min: 1, max: 20 }), 1)
    .option(
      '--partitions <number>',
      'of topics made without a number',
      wholeNumber('--partitions', { min: 1, max: 1_000 }),
      1,
    )
    .option('--topic <name[:partitions]>', 'a topic to start with; may be repeated', collectTopic, [])
    .option('--no-auto-create-topics', 'refuse unknown topics instead of making them')
  addOutputOption(command).action(async () => {
    await runBroker(command.opts<BrokerFlags>())
  })
}

const collectTopic = (value: string, before: readonly string[]): readonly string[] => [...before, value]

async function runBroker(flags: BrokerFlags): Promise<void> {
  // Signals first: one that comes while the broker starts must not be lost.
  const interrupted = Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')])
  const broker = await startBroker({
    port: flags.port,
    nodes: flags.nodes,
    partitionsDefault: flags.partitions,
    autoCreateTopics: flags.autoCreateTopics,
    topics: flags.topic.map(topicOf),
  })
  try {
    if (flags.output === 'json') {
      await printJson({ port: broker.port, bootstrapServers: broker.bootstrapServers, clusterId: broker.clusterId })
    } else {
      for (const line of banner(broker.bootstrapServers, flags.autoCreateTopics)) await printLine(line)
    }
    await interrupted
    say('stopping')
  } finally {
    await broker[Symbol.asyncDispose]()
  }
}

function banner(bootstrapServers: string, autoCreates: boolean): string[] {
  const bold = (text: string) => styleText('bold', text, { stream: process.stdout })
  return [
    `${bold('ottla embedded Kafka')} at ${bold(bootstrapServers)}`,
    '',
    'For development and tests: it keeps everything in memory and forgets it when it stops, has no',
    'authentication, and listens on this machine only. In production use Apache Kafka; the code is the same.',
    '',
    autoCreates ? 'Topics are made when first used.' : 'Unknown topics are refused.',
    `  kcat -b ${bootstrapServers} -L`,
    `  ottla topics create greetings -b ${bootstrapServers}`,
    `  echo 'hello' | ottla produce greetings -b ${bootstrapServers}`,
    `  ottla consume greetings --from-beginning -b ${bootstrapServers}`,
    '',
    'Ctrl-C ends it.',
  ]
}

function topicOf(text: string): { topic: string; partitions?: number } {
  const match = /^([a-zA-Z0-9._-]+)(?::(\d+))?$/.exec(text)
  if (match === null) throw new UsageError(`--topic is name or name:partitions, not '${text}'`)
  return { topic: match[1] as string, ...(match[2] === undefined ? {} : { partitions: Number(match[2]) }) }
}
