import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { groupsAreLookedAfter } from '../../test/kafka/groups-command.ts'
import { runOk } from '../../test/live/command.ts'
import type { SecureKafkaFacts } from '../../test/live/kafka-cluster.ts'

const main = path.resolve(import.meta.dirname, 'main.ts')
const kafka = process.env['OTTLA_LIVE_KAFKA']
const secure = process.env['OTTLA_LIVE_KAFKA_SECURE']

/** Creates a topic, writes to it, reads it back and describes it, with the flags of a connection. */
async function roundTrip(flags: readonly string[], replicas: number): Promise<void> {
  const ottla = (args: readonly string[], input = '') => runOk(process.execPath, [main, ...args, ...flags], { input })
  const topic = `cli-${randomUUID()}`
  await ottla(['topics', 'create', topic, '-p', '3'])
  assert.ok((await ottla(['topics', 'list'])).split('\n').includes(topic))
  const described = JSON.parse(await ottla(['topics', 'describe', topic, '-o', 'json'])) as {
    partitions: { replicas: number[] }[]
  }
  assert.deepEqual(
    described.partitions.map((partition) => partition.replicas.length),
    [replicas, replicas, replicas],
  )
  await ottla(['produce', topic, '-K', ':'], 'a:1\nb:2\na:3\n')
  const read = await ottla(['consume', topic, '--from-beginning', '-e', '-K', ':'])
  assert.deepEqual(read.trim().split('\n').sort(), ['a:1', 'a:3', 'b:2'])
}

test(
  'topics, produce and consume work the same on Apache Kafka',
  { skip: kafka === undefined ? 'OTTLA_LIVE_KAFKA is not set' : false },
  () => roundTrip(['-b', kafka as string], 3),
)

test(
  'groups are listed, described, moved after a look, and deleted on Apache Kafka',
  { skip: kafka === undefined ? 'OTTLA_LIVE_KAFKA is not set' : false },
  () => groupsAreLookedAfter(kafka as string),
)

test('topics, produce and consume work over SASL_SSL and with a client certificate', {
  skip: secure === undefined ? 'OTTLA_LIVE_KAFKA_SECURE is not set' : false,
}, async () => {
  const facts = JSON.parse(secure as string) as SecureKafkaFacts
  const folder = await mkdtemp(path.join(tmpdir(), 'ottla-cli-'))
  try {
    const passwordFile = path.join(folder, 'password')
    for (const [mechanism, { username, password }] of [
      ['SCRAM-SHA-512', facts.scram],
      ['PLAIN', facts.plain],
    ] as const) {
      writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 })
      await roundTrip(
        [
          ...['-b', facts.bootstrapServers, '--security-protocol', 'SASL_SSL', '--ca-file', facts.caFile],
          ...['--sasl-mechanism', mechanism, '--sasl-username', username, '--sasl-password-file', passwordFile],
        ],
        1,
      )
    }
    const { bootstrapServers, certFile, keyFile } = facts.mtls
    const tls = [
      '--security-protocol',
      'SSL',
      '--ca-file',
      facts.caFile,
      '--cert-file',
      certFile,
      '--key-file',
      keyFile,
    ]
    await roundTrip(['-b', bootstrapServers, ...tls], 1)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})
