import assert from 'node:assert/strict'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { run } from '../../test/live/command.ts'
import { type EmbeddedBroker, startBroker } from '../broker/embedded.ts'

const main = path.resolve(import.meta.dirname, 'main.ts')
let broker: EmbeddedBroker

before(async () => {
  broker = await startBroker({ nodes: 2 })
})
after(() => broker[Symbol.asyncDispose]())

/** Runs the command against the broker of this file. */
const ottla = (args: readonly string[], input = '') =>
  run(process.execPath, [main, ...args], { input, env: { KAFKA_BOOTSTRAP_SERVERS: broker.bootstrapServers } })

async function lines(args: readonly string[], input = ''): Promise<string[]> {
  const { code, stdout, stderr } = await ottla(args, input)
  assert.equal(code, 0, stderr)
  return stdout.split('\n').filter((line) => line !== '')
}

test('what would be made is checked by the broker and not made', async () => {
  assert.deepEqual(await lines(['topics', 'create', 'dry', '--dry-run']), ['would create topic dry'])
  const [document] = await lines(['topics', 'create', 'dry', '--dry-run', '-o', 'json'])
  assert.deepEqual(JSON.parse(document as string), { topic: 'dry', created: false, dryRun: true })
  assert.ok(!(await lines(['topics', 'list'])).includes('dry'))
  const refused = await ottla(['topics', 'create', 'dry', '--dry-run', '-r', '9'])
  assert.deepEqual([refused.code, refused.stdout], [1, ''])
  assert.match(refused.stderr, /^error: .*INVALID_REPLICATION_FACTOR/)
})

test('settings change one by one, and a dry run says what would change', async () => {
  await lines(['topics', 'create', 'altered', '-p', '2', '-c', 'retention.ms=60000'])
  const change = ['topics', 'alter', 'altered', '-c', 'max.message.bytes=5000', '--delete-config', 'retention.ms']
  change.push('--append', 'cleanup.policy=compact', '-p', '4')
  const said = [
    'max.message.bytes: 1048588 -> 5000',
    'retention.ms: 60000 -> the default',
    'cleanup.policy: delete -> delete,compact',
    'partitions: 2 -> 4',
  ]
  assert.deepEqual(await lines([...change, '--dry-run']), said)
  const settings = () => lines(['topics', 'configs', 'altered'])
  const before = await settings()
  assert.deepEqual(before, ['setting       value  set for', 'retention.ms  60000  this topic'])
  assert.deepEqual(await lines(change), said)
  assert.deepEqual(await settings(), [
    'setting            value           set for',
    'cleanup.policy     delete,compact  this topic',
    'max.message.bytes  5000            this topic',
  ])
  const [document] = await lines(['topics', 'describe', 'altered', '-o', 'json'])
  assert.equal((JSON.parse(document as string) as { partitions: unknown[] }).partitions.length, 4)
  const all = JSON.parse(
    (await lines(['topics', 'configs', 'altered', '--all', '-o', 'json']))[0] as string,
  ) as object[]
  assert.ok(all.length > 10)
})

test('a change that is refused in part changes nothing', async () => {
  await lines(['topics', 'create', 'unaltered', '-p', '4'])
  const half = await ottla(['topics', 'alter', 'unaltered', '-c', 'retention.ms=1000', '-p', '2'])
  assert.equal(half.code, 1)
  assert.match(half.stderr, /^error: .*INVALID_PARTITIONS/)
  const bad = await ottla(['topics', 'alter', 'unaltered', '-c', 'retention.ms=soon'])
  assert.equal(bad.code, 1)
  assert.match(bad.stderr, /^error: .*INVALID_CONFIG.*retention\.ms/)
  assert.deepEqual(await lines(['topics', 'configs', 'unaltered']), [])
})

test('topics are deleted, after a look if wanted, and none when one of them is not there', async () => {
  await lines(['topics', 'create', 'gone-1', '-p', '2'])
  await lines(['topics', 'create', 'gone-2'])
  await lines(['produce', 'gone-1'], 'a\nb\nc\n')
  assert.deepEqual(await lines(['topics', 'delete', 'gone-1', 'gone-2', '--dry-run']), [
    'would delete topic gone-1: 2 partitions, 3 records',
    'would delete topic gone-2: 1 partition, 0 records',
  ])
  assert.equal((await ottla(['topics', 'delete', 'gone-1', 'never-made'])).code, 3)
  assert.deepEqual(await lines(['topics', 'delete', 'gone-1', 'gone-2']), [
    'topic gone-1 deleted',
    'topic gone-2 deleted',
  ])
  const left = await lines(['topics', 'list'])
  assert.ok(!left.includes('gone-1') && !left.includes('gone-2'))
})
