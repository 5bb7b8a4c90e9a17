/** `ottla doctor` on the embedded broker: what it says, how it says it, and its exit code. */
import assert from 'node:assert/strict'
import path from 'node:path'
import { test } from 'node:test'
import { run } from '../../test/live/command.ts'
import { startBroker } from '../broker/embedded.ts'
import { KafkaClient } from '../kafka/client.ts'
import { examine } from './doctor/facts.ts'
import { type Finding, judge } from './doctor/judge.ts'

const main = path.resolve(import.meta.dirname, 'main.ts')
const hourMs = 3_600_000

test('doctor says what is wrong and what to do, and fails when something does', async () => {
  await using broker = await startBroker({ nodes: 3, autoCreateTopics: true })
  await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
  const admin = client.admin()
  const safe = { partitions: 1, replicas: 3, configs: { 'min.insync.replicas': '2' } }
  const made = await admin.createTopics([
    {
      topic: 'orders',
      partitions: 2,
      replicas: 3,
      configs: { 'min.insync.replicas': '2', 'retention.ms': `${hourMs}` },
    },
    { topic: 'dlq.billing', ...safe },
    { topic: 'thin', partitions: 1, replicas: 1 },
  ])
  assert.deepEqual(
    made.map(({ error }) => error?.message),
    [undefined, undefined, undefined],
  )
  const producer = client.producer()
  // Partition 0: three records too old, two about to be, one young. Partition 1: two records from tomorrow.
  for (const [partition, ageMs] of [
    ...[3, 2, 1.5, 0.9, 0.85, 0].map((hours) => [0, hours * hourMs] as const),
    ...[0, 1].map(() => [1, -24 * hourMs] as const),
  ] as const) {
    await producer.send({ topic: 'orders', partition, value: 'x', timestampMs: Date.now() - ageMs })
  }
  await admin.alterOffsets(await admin.planOffsets('billing', [{ topic: 'orders', to: { offset: 1 } }]))

  const ottla = (...args: string[]) =>
    run(process.execPath, [main, 'doctor', ...args, '-b', broker.bootstrapServers], { env: { DATABASE_URL: '' } })
  const { code, stdout, stderr } = await ottla('--service', 'billing', '-o', 'json')
  assert.equal(code, 1, stderr)
  const told = JSON.parse(stdout) as { healthy: boolean; summary: Record<string, number>; findings: Finding[] }
  assert.equal(told.healthy, false)
  assert.deepEqual(
    told.findings
      .filter(({ status }) => status !== 'ok')
      .map(({ check, status, subject }) => `${status} ${check} ${subject}`),
    [
      'warn auto-create cluster',
      'skipped offsets-topic topic __consumer_offsets',
      'fail retention group billing',
      'fail dead-letters topic dlq.billing',
      'warn dead-letters topic dlq.billing',
      'fail control topic ottla.control.billing',
      'skipped rights topic orders',
      'skipped rights topic dlq.billing',
      'skipped clock controller',
      'warn clock topic orders',
      'skipped store database',
    ],
  )
  const of = (check: string) => told.findings.find((each) => each.check === check)
  assert.match(of('retention')?.what ?? '', /orders: 2 records not handled yet are older than the retention/)
  assert.equal(of('control')?.todo?.startsWith('ottla topics create ottla.control.billing -p 1'), true)
  assert.equal(told.summary['fail'], 3)

  // What it says is done, and then it is content; the commands it names are the ones that exist.
  const mend = [
    ...told.findings.flatMap(
      ({ todo }) => /^ottla (topics (?:alter|create) .*?)(?:, or .*)?$/.exec(todo ?? '')?.[1] ?? [],
    ),
  ]
  assert.equal(mend.length, 3)
  for (const line of mend) {
    const done = await run(process.execPath, [main, ...line.split(' '), '-b', broker.bootstrapServers])
    assert.equal(done.code, 0, done.stderr)
  }
  await admin.alterOffsets(await admin.planOffsets('billing', [{ topic: 'orders', to: 'latest' }]))
  const text = await ottla('--service', 'billing')
  assert.equal(text.code, 0, text.stdout)
  assert.match(text.stdout, /^ok {6}retention {5}no group is near the end of a retention$/m)
  assert.match(text.stdout, /^warn {4}auto-create {3}cluster: .*\n {22}-> Set it to false/m)
  assert.match(text.stderr, /^\d+ ok, 2 warnings, 0 failed, \d skipped$/m)
  assert.doesNotMatch(text.stdout, /thin/, 'only what concerns the service')
})

test('with nothing named everything is looked at, and an unreachable cluster is exit code 69', async () => {
  await using broker = await startBroker({ nodes: 3 })
  await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
  await client.admin().createTopics([
    { topic: 'thin', partitions: 1, replicas: 1 },
    { topic: 'shop.dlq.mail', partitions: 1, replicas: 3, configs: { 'min.insync.replicas': '2' } },
  ])
  const findings = judge(await examine(client, { services: [], groups: [], topics: [] }, null))
  const failed = findings.filter(({ status }) => status === 'fail')
  assert.deepEqual(
    failed.map(({ check, subject }) => `${check} ${subject}`),
    ['replication topic thin', 'dead-letters topic shop.dlq.mail'],
  )
  const away = await run(process.execPath, [main, 'doctor', '-b', '127.0.0.1:1'], { env: { DATABASE_URL: '' } })
  assert.equal(away.code, 69)
  assert.match(away.stderr, /^error: .*127\.0\.0\.1:1/)
})
