/** `ottla topics list|create|describe`. */
import type { Command } from 'commander'
import { ErrorCode } from '../wire/error-codes.ts'
import { withClient } from './open-topic.ts'
import {
  addOutputOption,
  NotFoundError,
  type OutputFormat,
  printJson,
  printLine,
  table,
  UsageError,
  wholeNumber,
} from './output.ts'

interface Output {
  readonly output: OutputFormat
}

interface ListFlags extends Output {
  readonly internal?: boolean
}

interface CreateFlags extends Output {
  readonly partitions?: number
  readonly replicationFactor?: number
  readonly config: Readonly<Record<string, string>>
  readonly ifNotExists?: boolean
}

export function addTopicsCommand(program: Command): void {
  const topics = program.command('topics').description('list, create and describe topics')

  const list = topics
    .command('list')
    .description('all topics that may be seen')
    .option('--internal', "Kafka's own topics too")
  addOutputOption(list).action(() => listTopics(list))

  const create = topics
    .command('create')
    .description('make a topic')
    .argument('<topic>')
    .option('-p, --partitions <number>', "default: the broker's", wholeNumber('-p', { min: 1, max: 1_000_000 }))
    .option('-r, --replication-factor <number>', "default: the broker's", wholeNumber('-r', { min: 1, max: 1_000 }))
    .option('-c, --config <name=value>', 'a setting of the topic; may be repeated', collectConfig, {})
    .option('--if-not-exists', 'one that is there already is no error')
  addOutputOption(create).action((topic: string) => createTopic(create, topic))

  const describe = topics
    .command('describe')
    .description('partitions with leaders and replicas, and the configuration')
    .argument('<topic>')
  addOutputOption(describe).action((topic: string) => describeTopic(describe, topic))
}

async function listTopics(command: Command): Promise<void> {
  const flags = command.opts<ListFlags>()
  const shown = await withClient(command, (client) => client.admin().listTopics({ internal: flags.internal === true }))
  if (flags.output === 'json') await printJson(shown)
  else for (const { topic } of shown) await printLine(topic)
}

async function createTopic(command: Command, topic: string): Promise<void> {
  const flags = command.opts<CreateFlags>()
  const [result] = await withClient(command, (client) =>
    client.admin().createTopics([
      {
        topic,
        ...(flags.partitions === undefined ? {} : { partitions: flags.partitions }),
        ...(flags.replicationFactor === undefined ? {} : { replicas: flags.replicationFactor }),
        configs: flags.config,
      },
    ]),
  )
  const there = result?.error?.kafka?.name === 'TOPIC_ALREADY_EXISTS'
  if (result?.error !== undefined && !(there && flags.ifNotExists === true)) throw result.error
  if (flags.output === 'json') await printJson({ topic, created: !there })
  else await printLine(there ? `topic ${topic} is there already` : `topic ${topic} created`)
}

async function describeTopic(command: Command, topic: string): Promise<void> {
  const flags = command.opts<Output>()
  const [found] = await withClient(command, (client) => client.admin().describeTopics([topic]))
  if (found === undefined || found.error?.kafka?.code === ErrorCode.UNKNOWN_TOPIC_OR_PARTITION) {
    throw new NotFoundError(`there is no topic '${topic}'`)
  }
  if (found.error !== undefined) throw found.error
  if (flags.output === 'json') {
    await printJson({
      topic: found.topic,
      id: found.id,
      internal: found.internal,
      partitions: found.partitions.map(({ partition, leader, replicas, isr }) => ({
        partition,
        leader,
        replicas,
        isr,
      })),
      configs: found.configs,
    })
    return
  }
  await printLine(`${found.topic}  id ${found.id}  ${found.partitions.length} partitions, ${found.replicas} replicas`)
  const rows = found.partitions.map(({ partition, leader, replicas, isr }) => [
    String(partition),
    leader < 0 ? 'none' : String(leader),
    replicas.join(','),
    isr.join(','),
  ])
  for (const line of table([['partition', 'leader', 'replicas', 'in sync'], ...rows])) await printLine(line)
  for (const [name, value] of Object.entries(found.configs).sort()) await printLine(`${name}=${value}`)
}

function collectConfig(value: string, before: CreateFlags['config']): CreateFlags['config'] {
  const at = value.indexOf('=')
  if (at < 1) throw new UsageError(`-c is name=value, not '${value}'`)
  return { ...before, [value.slice(0, at)]: value.slice(at + 1) }
}
