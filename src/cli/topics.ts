/** `ottla topics list|create|describe|alter|configs|delete`: looks after topics. */
import type { Command } from 'commander'
import type { ConfigChange, ConfigEntry } from '../kafka/admin/configs.ts'
import type { Admin } from '../kafka/admin.ts'
import { ErrorCode } from '../wire/error-codes.ts'
import { withClient } from './open-topic.ts'
import {
  addOutputOption,
  NotFoundError,
  type OutputFlags,
  printable,
  printJson,
  printLine,
  say,
  table,
  UsageError,
  wholeNumber,
} from './output.ts'

interface ListFlags extends OutputFlags {
  readonly internal?: boolean
}

interface CreateFlags extends OutputFlags {
  readonly partitions?: number
  readonly replicationFactor?: number
  readonly config: Readonly<Record<string, string>>
  readonly ifNotExists?: boolean
  readonly dryRun?: boolean
}

interface AlterFlags extends OutputFlags {
  readonly partitions?: number
  readonly config: Readonly<Record<string, string>>
  readonly deleteConfig: readonly string[]
  readonly append: Readonly<Record<string, string>>
  readonly subtract: Readonly<Record<string, string>>
  readonly dryRun?: boolean
}

interface ConfigsFlags extends OutputFlags {
  readonly all?: boolean
}

interface DeleteFlags extends OutputFlags {
  readonly dryRun?: boolean
}

const exitFailed = 1

export function addTopicsCommand(program: Command): void {
  const topics = program.command('topics').description('list, create, describe, change and delete topics')

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
    .option('--dry-run', 'have the broker check it, make nothing')
  addOutputOption(create).action((topic: string) => createTopic(create, topic))

  const describe = topics
    .command('describe')
    .description('partitions with leaders and replicas, and the configuration')
    .argument('<topic>')
  addOutputOption(describe).action((topic: string) => describeTopic(describe, topic))

  const alter = topics
    .command('alter')
    .description('change settings one by one, or add partitions')
    .argument('<topic>')
    .option('-c, --config <name=value>', 'a setting; may be repeated', collectConfig, {})
    .option('--delete-config <name>', 'a setting that goes back to its default; may be repeated', collect, [])
    .option('--append <name=word,…>', 'words to add to a setting that is a list', collectConfig, {})
    .option('--subtract <name=word,…>', 'words to take out of one', collectConfig, {})
    .option(
      '-p, --partitions <number>',
      'so many from now on; keys move',
      wholeNumber('-p', { min: 1, max: 1_000_000 }),
    )
    .option('--dry-run', 'have the broker check it, change nothing')
  addOutputOption(alter).action((topic: string) => alterTopic(alter, topic))

  const configs = topics
    .command('configs')
    .description('settings that are not the default, and where they come from')
    .argument('<topic>')
    .option('--all', 'the defaults too')
  addOutputOption(configs).action((topic: string) => showConfigs(configs, topic))

  const remove = topics
    .command('delete')
    .description('delete topics with all their records')
    .argument('<topics...>')
    .option('--dry-run', 'say what would be deleted, delete nothing')
  addOutputOption(remove).action((names: string[]) => deleteTopics(remove, names))
}

async function listTopics(command: Command): Promise<void> {
  const flags = command.opts<ListFlags>()
  const shown = await withClient(command, (client) => client.admin().listTopics({ internal: flags.internal === true }))
  if (flags.output === 'json') await printJson(shown)
  else for (const { topic } of shown) await printLine(topic)
}

async function createTopic(command: Command, topic: string): Promise<void> {
  const flags = command.opts<CreateFlags>()
  const creation = {
    topic,
    ...(flags.partitions === undefined ? {} : { partitions: flags.partitions }),
    ...(flags.replicationFactor === undefined ? {} : { replicas: flags.replicationFactor }),
    configs: flags.config,
  }
  const dryRun = flags.dryRun === true
  const [result] = await withClient(command, (client) =>
    client.admin().createTopics([creation], { validateOnly: dryRun }),
  )
  const there = result?.error?.kafka?.name === 'TOPIC_ALREADY_EXISTS'
  if (result?.error !== undefined && !(there && flags.ifNotExists === true)) throw result.error
  if (flags.output === 'json') await printJson({ topic, created: !there && !dryRun, ...(dryRun ? { dryRun } : {}) })
  else if (there) await printLine(`topic ${topic} is there already`)
  else await printLine(dryRun ? `would create topic ${topic}` : `topic ${topic} created`)
}

async function describeTopic(command: Command, topic: string): Promise<void> {
  const flags = command.opts<OutputFlags>()
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

async function alterTopic(command: Command, topic: string): Promise<void> {
  const flags = command.opts<AlterFlags>()
  const dryRun = flags.dryRun === true
  const change: ConfigChange = {
    resource: { topic },
    set: flags.config,
    delete: flags.deleteConfig,
    append: wordsOf(flags.append),
    subtract: wordsOf(flags.subtract),
  }
  const names = [...Object.keys(flags.config), ...flags.deleteConfig]
  names.push(...Object.keys(flags.append), ...Object.keys(flags.subtract))
  if (names.length === 0 && flags.partitions === undefined) throw new UsageError('say what to change')
  if (new Set(names).size < names.length) throw new UsageError('a setting is named twice')
  await withClient(command, async (client) => {
    const admin = client.admin()
    const before = await existingConfigs(admin, topic)
    const steps: { readonly what: string; readonly from: string | null; readonly to: string | null }[] = []
    const run = async (validateOnly: boolean): Promise<void> => {
      if (names.length > 0) {
        const [result] = await admin.alterConfigs([change], { validateOnly })
        if (result?.error !== undefined) throw result.error
      }
      if (flags.partitions !== undefined) {
        const [result] = await admin.createPartitions([{ topic, partitions: flags.partitions }], { validateOnly })
        if (result?.error !== undefined) throw result.error
      }
    }
    // Both are checked before the first is changed: all or nothing, as far as brokers let us.
    await run(true)
    for (const name of names) {
      const from = before.configs.find((each) => each.name === name)?.value ?? null
      steps.push({ what: name, from, to: valueAfter(change, name, from) })
    }
    if (flags.partitions !== undefined) {
      steps.push({ what: 'partitions', from: String(before.partitions), to: String(flags.partitions) })
    }
    if (!dryRun) await run(false)
    if (flags.output === 'json')
      return printJson({ topic, changed: !dryRun, ...(dryRun ? { dryRun } : {}), changes: steps })
    for (const { what, from, to } of steps) {
      await printLine(printable(`${what}: ${from ?? '(none)'} -> ${to ?? 'the default'}`))
    }
    if (dryRun) say('nothing was changed: --dry-run')
  })
}

/** What a setting will be; null: its default. */
function valueAfter(change: ConfigChange, name: string, from: string | null): string | null {
  const words = (from ?? '').split(',').filter((word) => word !== '')
  const added = change.append?.[name]
  if (added !== undefined) return [...new Set([...words, ...added])].join(',')
  const taken = change.subtract?.[name]
  if (taken !== undefined) return words.filter((word) => !taken.includes(word)).join(',')
  return change.set?.[name] ?? null
}

async function showConfigs(command: Command, topic: string): Promise<void> {
  const flags = command.opts<ConfigsFlags>()
  const { configs } = await withClient(command, (client) => existingConfigs(client.admin(), topic))
  const shown = flags.all === true ? configs : configs.filter(({ source }) => source !== 'default')
  if (flags.output === 'json') return printJson(shown)
  const rows = shown.map(({ name, value, secret, source }) => [
    name,
    secret ? '(secret)' : (value ?? '(none)'),
    placeOf[source],
  ])
  if (rows.length === 0) return say(`${topic} has the defaults of its brokers only; --all shows them`)
  for (const line of table([['setting', 'value', 'set for'], ...rows])) await printLine(printable(line))
}

const placeOf: Readonly<Record<ConfigEntry['source'], string>> = {
  topic: 'this topic',
  broker: 'its broker, while running',
  allBrokers: 'all brokers, while running',
  file: 'its broker, in its file',
  default: 'default',
  other: 'elsewhere',
}

async function deleteTopics(command: Command, names: readonly string[]): Promise<void> {
  const flags = command.opts<DeleteFlags>()
  await withClient(command, async (client) => {
    const admin = client.admin()
    const described = await admin.describeTopics(names)
    const missing = described.find((each) => !each.exists)
    if (missing !== undefined) throw new NotFoundError(`there is no topic '${missing.topic}'; nothing was deleted`)
    if (flags.dryRun === true) {
      for (const { topic, partitions, error } of described) {
        if (error !== undefined) throw error
        const records = await recordsOf(admin, topic, partitions.length)
        if (flags.output === 'json') {
          await printJson({ topic, deleted: false, dryRun: true, partitions: partitions.length, records })
        } else
          await printLine(
            `would delete topic ${topic}: ${count(partitions.length, 'partition')}, ${count(records, 'record')}`,
          )
      }
      return
    }
    for (const { name, error } of await admin.deleteTopics(names)) {
      if (flags.output === 'json') {
        const told = error === undefined ? {} : { error: error.message }
        await printJson({ topic: name, deleted: error === undefined, ...told })
      } else if (error === undefined) await printLine(`topic ${name} deleted`)
      if (error !== undefined) {
        say(`error: ${error.message}`)
        process.exitCode = exitFailed
      }
    }
  })
}

const count = (number: number, what: string): string => `${number} ${what}${number === 1 ? '' : 's'}`

/** From first to last offset: what compaction and transactions left out is counted too. */
async function recordsOf(admin: Admin, topic: string, partitions: number): Promise<number> {
  const places = Array.from({ length: partitions }, (_, partition) => ({ topic, partition }))
  const found = await admin.listOffsets([
    ...places.map((place) => ({ ...place, at: 'earliest' as const })),
    ...places.map((place) => ({ ...place, at: 'latest' as const })),
  ])
  const failed = found.find(({ error }) => error !== undefined)?.error
  if (failed !== undefined) throw failed
  return places.reduce((sum, _, i) => sum + found[partitions + i]!.offset - found[i]!.offset, 0)
}

/** A topic's partitions and settings. Throws NotFoundError when it does not exist, and what the broker complains of. */
async function existingConfigs(
  admin: Admin,
  topic: string,
): Promise<{ readonly partitions: number; readonly configs: readonly ConfigEntry[] }> {
  const [[found], [described]] = await Promise.all([admin.describeTopics([topic]), admin.describeConfigs([{ topic }])])
  if (found?.exists === false) throw new NotFoundError(`there is no topic '${topic}'`)
  const error = found?.error ?? described?.error
  if (error !== undefined) throw error
  return { partitions: found?.partitions.length ?? 0, configs: described?.configs ?? [] }
}

function wordsOf(lists: Readonly<Record<string, string>>): Record<string, readonly string[]> {
  return Object.fromEntries(Object.entries(lists).map(([name, words]) => [name, words.split(',')]))
}

const collect = (value: string, before: readonly string[]): readonly string[] => [...before, value]

function collectConfig(value: string, before: CreateFlags['config']): CreateFlags['config'] {
  const at = value.indexOf('=')
  if (at < 1) throw new UsageError(`a setting is name=value, not '${value}'`)
  return { ...before, [value.slice(0, at)]: value.slice(at + 1) }
}
