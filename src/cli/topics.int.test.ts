import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { findProgram, run, runOk } from '../../test/live/command.ts'
import { type EmbeddedBroker, startBroker } from '../broker/embedded.ts'

const main = path.resolve(import.meta.dirname, 'main.ts')
const scratch = mkdtempSync(path.join(tmpdir(), 'ottla-cli-'))
let broker: EmbeddedBroker

before(async () => {
  broker = await startBroker({ nodes: 2 })
})
after(async () => {
  await broker[Symbol.asyncDispose]()
  rmSync(scratch, { recursive: true, force: true })
})

/** Runs the command against the broker of this file. */
const ottla = (args: readonly string[], input = '') =>
  run(process.execPath, [main, ...args], {
    input,
    env: { KAFKA_BOOTSTRAP_SERVERS: broker.bootstrapServers },
    timeoutMs: 30_000,
  })

async function lines(args: readonly string[], input = ''): Promise<string[]> {
  const { code, stdout, stderr } = await ottla(args, input)
  assert.equal(code, 0, stderr)
  return stdout.split('\n').filter((line) => line !== '')
}

test('topics are created, listed and described', async () => {
  const create = ['topics', 'create', 'described', '-p', '3', '-r', '2', '-c', 'retention.ms=60000']
  assert.deepEqual(await lines(create), ['topic described created'])
  assert.ok((await lines(['topics', 'list'])).includes('described'))
  const [document] = await lines(['topics', 'describe', 'described', '-o', 'json'])
  const described = JSON.parse(document as string) as {
    topic: string
    partitions: { replicas: number[]; leader: number }[]
    configs: Record<string, string>
  }
  assert.equal(described.topic, 'described')
  assert.deepEqual(
    described.partitions.map(({ replicas, leader }) => [replicas.length, leader > 0]),
    [
      [2, true],
      [2, true],
      [2, true],
    ],
  )
  assert.equal(described.configs['retention.ms'], '60000')
  const text = await lines(['topics', 'describe', 'described'])
  assert.match(text[0] as string, /^described {2}id \S+ {2}3 partitions, 2 replicas$/)
  assert.match(text[1] as string, /^partition {2}leader {2}replicas {2}in sync$/)
})

test('creating a topic twice fails with the name Kafka gives it, unless that is meant', async () => {
  await lines(['topics', 'create', 'twice'])
  const again = await ottla(['topics', 'create', 'twice'])
  assert.equal(again.code, 1)
  assert.match(again.stderr, /^error: .*TOPIC_ALREADY_EXISTS/)
  assert.deepEqual(await lines(['topics', 'create', 'twice', '--if-not-exists']), ['topic twice is there already'])
})

test('what produce writes consume reads, with keys, headers and partitions', async () => {
  await lines(['topics', 'create', 'greetings', '-p', '3'])
  const produced = await ottla(
    ['produce', 'greetings', '-K', ':', '-H', 'lang=en'],
    'a:hello\nb:good day\na:bye\nno key\n\n',
  )
  assert.equal(produced.code, 0, produced.stderr)
  assert.equal(produced.stderr, '5 records stored in greetings\n')
  const read = await lines(['consume', 'greetings', '--from-beginning', '-e', '-o', 'json'])
  const records = read.map(
    (line) =>
      JSON.parse(line) as { partition: number; offset: number; key: string | null; value: string; headers: string[][] },
  )
  assert.deepEqual(records.map(({ key, value }) => `${key}:${value}`).sort(), [
    'a:bye',
    'a:hello',
    'b:good day',
    'null:',
    'null:no key',
  ])
  assert.deepEqual(records[0]?.headers, [['lang', 'en']])
  const ofA = records.filter(({ key }) => key === 'a')
  assert.deepEqual(
    ofA.map(({ value }) => value),
    ['hello', 'bye'],
  )
  const text = await lines(['consume', 'greetings', '--from-beginning', '-e', '-K', '='])
  assert.ok(text.includes('b=good day'))
})

test('batches go compressed as -z says', async () => {
  await lines(['topics', 'create', 'packed'])
  for (const codec of ['snappy', 'lz4']) {
    const produced = await ottla(['produce', 'packed', '-z', codec], `${codec}\n`.repeat(100))
    assert.equal(produced.code, 0, produced.stderr)
  }
  const read = await lines(['consume', 'packed', '--from-beginning', '-e'])
  assert.equal(read.length, 200)
  const unknown = await ottla(['produce', 'packed', '-z', 'rar'], '')
  assert.equal(unknown.code, 2)
  assert.match(unknown.stderr, /gzip, snappy, lz4, zstd/)
})

test('consume stops after a count, and without complaint when its reader goes', async () => {
  await lines(['topics', 'create', 'many'])
  await lines(['produce', 'many'], 'line\n'.repeat(20_000))
  assert.equal((await lines(['consume', 'many', '--from-beginning', '-c', '5'])).length, 5)
  const piped = await run(
    '/bin/bash',
    ['-c', `"${process.execPath}" "${main}" consume many --from-beginning -e | head -n 1; echo "$\{PIPESTATUS[0]}"`],
    { env: { KAFKA_BOOTSTRAP_SERVERS: broker.bootstrapServers } },
  )
  assert.deepEqual([piped.stdout, piped.stderr], ['line\n0\n', ''])
})

test('values that are no text come through unchanged, and as base64 in JSON', async () => {
  await lines(['topics', 'create', 'bytes'])
  const { KafkaClient } = await import('../kafka/client.ts')
  await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
  await client.producer().send({ topic: 'bytes', value: Uint8Array.of(0xff, 0xfe) })
  const [document] = await lines(['consume', 'bytes', '--from-beginning', '-e', '-o', 'json'])
  assert.deepEqual((JSON.parse(document as string) as { value: unknown }).value, { base64: '//4=' })
})

test('an empty topic is at its end at once', async () => {
  await lines(['topics', 'create', 'empty', '-p', '2'])
  assert.deepEqual(await lines(['consume', 'empty', '--from-beginning', '-e']), [])
})

test('a topic that does not exist is exit code 3 and a sentence that helps', async () => {
  for (const args of [
    ['consume', 'nowhere', '-e'],
    ['produce', 'nowhere'],
    ['topics', 'describe', 'nowhere'],
  ]) {
    const { code, stdout, stderr } = await ottla(args, 'x\n')
    assert.deepEqual([code, stdout], [3, ''], stderr)
    assert.match(stderr, /^error: there is no topic 'nowhere'/)
  }
})

test('a broker that cannot be reached is exit code 69, with the code of the error and no stack', async () => {
  const { code, stderr } = await ottla(['topics', 'list', '-b', '127.0.0.1:1'])
  assert.equal(code, 69)
  assert.match(stderr, /^error: .*127\.0\.0\.1:1.*\nOTTLA_KAFKA_/)
  assert.doesNotMatch(stderr, /\n\s+at /)
})

test('wrong usage is exit code 2', async () => {
  for (const args of [
    ['topics', 'create'],
    ['topics', 'alter', 'x'],
    ['topics', 'alter', 'x', '-c', 'a=1', '--delete-config', 'a'],
    ['consume', 'x', '-o', 'yaml'],
    ['produce', 'x', '-H', 'no-value'],
    ['topics', 'list', '--security-protocol', 'SASL_SSL'],
    ['nonsense'],
  ]) {
    const { code, stdout } = await ottla(args)
    assert.deepEqual([code, stdout], [2, ''], args.join(' '))
  }
})

test('store migrate --print prints the SQL and needs no database', async () => {
  const printed = (await lines(['store', 'migrate', '--print'])).join('\n')
  assert.match(printed, /create schema if not exists ottla/)
})

test('kcat reads what ottla produce wrote', {
  skip: findProgram('kcat') === null ? 'no kcat on PATH' : false,
}, async () => {
  await lines(['topics', 'create', 'judged', '-p', '2'])
  await lines(['produce', 'judged', '-K', ':'], 'k:1\nk:2\nl:3\n')
  const read = await runOk('kcat', ['-b', broker.bootstrapServers, '-C', '-t', 'judged', '-e', '-q', '-f', '%k:%s\n'])
  assert.deepEqual(read.trim().split('\n').sort(), ['k:1', 'k:2', 'l:3'])
})
