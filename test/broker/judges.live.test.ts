/**
 * Apache Kafka's own tools against the embedded broker. `OTTLA_LIVE_JARS` names the folder of their jars; without it
 * everything here is skipped.
 */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { type EmbeddedBroker, startBroker } from '../../src/broker.ts'
import { ForeignTool, installed } from './foreign-tool.ts'

const jars = process.env['OTTLA_LIVE_JARS'] ?? ''
const skip = reason()
const options = { skip, timeout: 180_000 }
const records = 100_000

function reason(): string | false {
  if (jars === '') return 'OTTLA_LIVE_JARS is not set'
  if (!existsSync(jars)) return `OTTLA_LIVE_JARS: there is no folder ${jars}`
  return installed('java', ['-version']) ? false : 'java is not installed'
}

function java(mainClass: string, args: readonly string[]): ForeignTool {
  const classpath = readdirSync(jars)
    .filter((name) => name.endsWith('.jar'))
    .map((name) => path.join(jars, name))
    .join(':')
  const jvm = [
    '-Xmx256m',
    '-XX:+UseSerialGC',
    '-XX:TieredStopAtLevel=1',
    '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn',
  ]
  return new ForeignTool('java', [...jvm, '-cp', classpath, `org.apache.kafka.tools.${mainClass}`, ...args])
}

async function tool(mainClass: string, broker: EmbeddedBroker, args: readonly string[], input = '') {
  await using running = java(mainClass, ['--bootstrap-server', broker.bootstrapServers, ...args])
  return await running.end(input).output()
}

/** One line per record, as ConsoleConsumer prints it with everything switched on. */
function described(broker: EmbeddedBroker, topic: string): string[] {
  const text = (bytes: Uint8Array | null): string => (bytes === null ? 'null' : Buffer.from(bytes).toString())
  return broker.records(topic).map((record) => {
    const headers = record.headers.map(({ key, value }) => `${key}:${text(value)}`).join(',') || 'NO_HEADERS'
    return [
      `CreateTime:${record.timestampMs}`,
      `Partition:${record.partition}`,
      `Offset:${record.offset}`,
      headers,
      text(record.key),
      text(record.value),
    ].join('\t')
  })
}

/** A hash over lines in the order of partition and offset. */
function hashOf(lines: readonly string[]): string {
  const place = (line: string) =>
    line
      .match(/Partition:(\d+)\tOffset:(\d+)/)!
      .slice(1)
      .map(Number)
  const sorted = lines.map((line) => ({ line, at: place(line) }))
  sorted.sort((a, b) => a.at[0]! - b.at[0]! || a.at[1]! - b.at[1]!)
  const hash = createHash('sha256')
  for (const { line } of sorted) hash.update(line).update('\n')
  return hash.digest('hex')
}

test('TopicCommand creates, describes, grows, changes and deletes topics', options, async () => {
  await using broker = await startBroker({ nodes: 3 })
  await tool('TopicCommand', broker, [
    ...['--create', '--topic', 't', '--partitions', '4', '--replication-factor', '3'],
    ...['--config', 'retention.ms=1000'],
  ])
  const lines = (await tool('TopicCommand', broker, ['--describe', '--topic', 't'])).join('\n')
  assert.match(lines, /PartitionCount: 4\tReplicationFactor: 3\tConfigs: retention.ms=1000/)
  assert.match(lines, /Partition: 0\tLeader: 1\tReplicas: 1,2,3\tIsr: 1,2,3/)
  await tool('TopicCommand', broker, ['--alter', '--topic', 't', '--partitions', '6'])
  assert.match((await tool('TopicCommand', broker, ['--describe', '--topic', 't'])).join('\n'), /PartitionCount: 6/)
  assert.deepEqual(await tool('TopicCommand', broker, ['--list']), ['t'])
  await tool('TopicCommand', broker, ['--delete', '--topic', 't'])
  assert.deepEqual(broker.topics(), [])
})

for (const codec of ['none', 'snappy', 'lz4', 'zstd']) {
  test(
    `100,000 records of ConsoleProducer (${codec}): the broker and ConsoleConsumer have the same hash`,
    options,
    async () => {
      await using broker = await startBroker({ nodes: 3, topics: [{ topic: 't', partitions: 6 }] })
      const sent: string[] = []
      for (let index = 0; index < records; index++) {
        sent.push(`a:${index},b:${index % 7},a:again\tkey${index % 1000}\tvalue ${index} ${'x'.repeat(index % 60)}`)
      }
      await tool(
        'ConsoleProducer',
        broker,
        [
          ...['--topic', 't', '--compression-codec', codec],
          ...['--reader-property', 'parse.key=true', '--reader-property', 'parse.headers=true'],
        ],
        `${sent.join('\n')}\n`,
      )
      const got = await tool('consumer.ConsoleConsumer', broker, [
        ...['--topic', 't', '--from-beginning', '--max-messages', String(records)],
        ...['timestamp', 'partition', 'offset', 'headers', 'key', 'value'].flatMap((what) => [
          '--formatter-property',
          `print.${what}=true`,
        ]),
      ])
      assert.equal(got.length, records)
      const withoutPlace = (line: string): string => line.split('\t').slice(3).join('\t')
      assert.deepEqual(got.map(withoutPlace).sort(), [...sent].sort())
      assert.equal(hashOf(described(broker, 't')), hashOf(got))
    },
  )
}

interface Acked {
  readonly partition: number
  readonly offset: number
  readonly key: string | null
  readonly value: string
}

test(
  '100,000 records of VerifiableProducer reach two VerifiableConsumers, one of them killed half way',
  options,
  async (t) => {
    await using broker = await startBroker({ nodes: 3, topics: [{ topic: 't', partitions: 6 }] })
    const bootstrap = ['--bootstrap-server', broker.bootstrapServers]
    const consumer = (): ForeignTool =>
      java('VerifiableConsumer', [
        ...[...bootstrap, '--topic', 't', '--group-id', 'g', '--verbose'],
        ...['--session-timeout', '6000', '--reset-policy', 'earliest'],
      ])
    await using first = consumer()
    await using second = consumer()
    const has = (event: string) => (lines: readonly string[]) =>
      lines.some((line) => line.includes(`"name":"${event}"`))
    await first.until('it got partitions', has('partitions_assigned'))
    await second.until('it got partitions', has('partitions_assigned'))
    await using producer = java('VerifiableProducer', [
      ...[...bootstrap, '--topic', 't', '--max-messages', String(records), '--throughput', '25000'],
      ...['--repeating-keys', '500', '--message-create-time', '1700000000000'],
    ])
    await second.until('half of its share was read', (lines) => lines.length > records / 4)
    second.kill('SIGKILL')
    const acked = parsed(await producer.output(), 'producer_send_success') as readonly Acked[]
    assert.equal(acked.length, records)

    const place = ({ partition, offset, key, value }: Acked): string => `${partition} ${offset} ${key} ${value}`
    const stored = broker
      .records('t')
      .map(({ partition, offset, key, value }) =>
        place({ partition, offset, key: key && Buffer.from(key).toString(), value: Buffer.from(value!).toString() }),
      )
    assert.deepEqual([...stored].sort(), acked.map(place).sort())

    const seen = new Set<string>()
    const look = (lines: readonly string[]): void => {
      for (const record of parsed(lines, 'record_data') as readonly Acked[]) seen.add(place(record))
    }
    let looked = 0
    await first.until('everything was committed', (lines) => {
      looked = lines.length
      return broker.committed('g').reduce((sum, { offset }) => sum + offset, 0) === records
    })
    look(first.lines.slice(0, looked))
    const byFirst = seen.size
    look(second.lines)
    assert.ok(byFirst < records, 'the killed consumer had read nothing')
    assert.deepEqual([...seen].sort(), [...stored].sort())
    assert.equal(broker.group('g')!.members.length, 1)
    t.diagnostic(`${byFirst} records by the survivor, ${second.lines.length} lines of the killed one`)

    const described = (await tool('consumer.group.ConsumerGroupCommand', broker, ['--describe', '--group', 'g'])).join(
      '\n',
    )
    for (const { topic, partition, offset } of broker.committed('g')) {
      assert.match(described, new RegExp(`g +${topic} +${partition} +${offset} +${offset} +0 +`))
    }
  },
)

/** The lines of a verifiable tool that report this event. */
function parsed(lines: readonly string[], event: string): readonly unknown[] {
  return lines.filter((line) => line.includes(`"name":"${event}"`)).map((line) => JSON.parse(line))
}

test('ConsumerGroupCommand lists, describes, resets, deletes offsets and groups', options, async () => {
  await using broker = await startBroker({ nodes: 2, topics: [{ topic: 't', partitions: 2 }] })
  const groups = async (...args: string[]): Promise<string> =>
    (await tool('consumer.group.ConsumerGroupCommand', broker, args)).join('\n')
  await tool('VerifiableProducer', broker, ['--topic', 't', '--max-messages', '100'])
  await using member = java('VerifiableConsumer', [
    ...['--bootstrap-server', broker.bootstrapServers, '--topic', 't', '--group-id', 'g'],
  ])
  await member.until(
    'it had committed',
    () => broker.committed('g').reduce((sum, { offset }) => sum + offset, 0) === 100,
  )
  assert.match(await groups('--list', '--state'), /g +Stable/)
  assert.match(await groups('--describe', '--group', 'g', '--members', '--verbose'), / 2 .* t:0,1 /)
  assert.match(await groups('--describe', '--group', 'g', '--state'), /range +Stable +1/)
  member.kill('SIGTERM')
  await member.until('it had left', () => broker.group('g')!.state === 'Empty')
  await groups('--reset-offsets', '--group', 'g', '--topic', 't', '--to-earliest', '--execute')
  assert.deepEqual(new Set(broker.committed('g').map(({ offset }) => offset)), new Set([0]))
  await groups('--delete-offsets', '--group', 'g', '--topic', 't')
  assert.deepEqual(broker.committed('g'), [])
  await groups('--delete', '--group', 'g')
  assert.equal(broker.group('g'), undefined)
})

test('GetOffsetShell finds start, end, times and the highest timestamp', options, async () => {
  await using broker = await startBroker({ nodes: 3, topics: [{ topic: 't', partitions: 1 }] })
  await tool('VerifiableProducer', broker, [
    ...['--topic', 't', '--max-messages', '50', '--message-create-time', '1700000000000'],
  ])
  const offsets = (time: string) => tool('GetOffsetShell', broker, ['--topic', 't', '--time', time])
  assert.deepEqual(await offsets('earliest'), ['t:0:0'])
  assert.deepEqual(await offsets('latest'), ['t:0:50'])
  assert.deepEqual(await offsets('1700000000000'), ['t:0:0'])
  const [highest] = await offsets('max-timestamp')
  assert.match(highest!, /^t:0:\d+$/)
})
