/** What `ottla doctor` sees of Apache Kafka and PostgreSQL: a good service, planted troubles, rights that are lacking. */
import assert from 'node:assert/strict'
import { createSign, randomUUID } from 'node:crypto'
import { test } from 'node:test'
import type { SecureKafkaFacts } from '../../../test/live/kafka-cluster.ts'
import { serviceNames } from '../../contract/names.ts'
import { KafkaClient } from '../../kafka/client.ts'
import { Api } from '../../wire/protocol.ts'
import { examine, type StoreFacts } from './facts.ts'
import { type Finding, judge } from './judge.ts'
import { storeFacts } from './store-facts.ts'

const servers = process.env['OTTLA_LIVE_KAFKA']
const secure = process.env['OTTLA_LIVE_KAFKA_SECURE']
const postgres = process.env['OTTLA_LIVE_POSTGRES']

const spot = ({ check, status, subject }: Finding): string => `${status} ${check} ${subject}`

/** A service with its topics, made as ottla makes them, that has committed half of what there is. */
async function withService(client: KafkaClient, replicas: number) {
  const service = `doctor-${randomUUID().slice(0, 8)}`
  const { group, deadLetters, control } = serviceNames(service)
  const orders = `doctor-orders-${service}`
  const admin = client.admin()
  const least = { 'min.insync.replicas': replicas > 1 ? '2' : '1' }
  const made = await admin.createTopics([
    { topic: orders, partitions: 1, replicas, configs: least },
    {
      topic: deadLetters,
      partitions: 1,
      replicas,
      configs: { ...least, 'retention.ms': '-1', 'retention.bytes': '-1', 'max.message.bytes': '1200000' },
    },
    { topic: control, partitions: 1, replicas, configs: { ...least, 'cleanup.policy': 'compact' } },
  ])
  for (const { error } of made) assert.equal(error, undefined)
  for (let n = 0; n < 4; n++) await client.producer().send({ topic: orders, value: `${n}` })
  await admin.alterOffsets(await admin.planOffsets(group, [{ topic: orders, to: { offset: 2 } }]))
  return {
    service,
    group,
    orders,
    deadLetters,
    control,
    scope: { services: [service], groups: [], topics: [] },
    async [Symbol.asyncDispose]() {
      await admin.deleteGroups([group])
      await admin.deleteTopics([orders, deadLetters, control])
    },
  }
}

test('the doctor finds nothing wrong with a good service on Apache Kafka, and then what was planted', {
  skip: servers === undefined ? 'OTTLA_LIVE_KAFKA is not set' : false,
}, async () => {
  await using client = new KafkaClient({ bootstrapServers: servers as string })
  await using t = await withService(client, 3)
  const { orders, deadLetters, control, group } = t
  const admin = client.admin()
  const good = judge(await examine(client, t.scope, null))
  assert.deepEqual(
    good.filter(({ status }) => status !== 'ok').map(spot),
    ['skipped store database'],
    JSON.stringify(good),
  )
  assert.match(good[0]?.what ?? '', /metadata\.version \d+ \(.*4\.\d\)/)

  const altered = await admin.alterConfigs([
    { resource: { topic: orders }, set: { 'unclean.leader.election.enable': 'true', 'min.insync.replicas': '1' } },
    { resource: { topic: deadLetters }, delete: ['retention.ms'] },
    { resource: { topic: control }, set: { 'cleanup.policy': 'compact,delete', 'min.insync.replicas': '3' } },
  ])
  for (const { error } of altered) assert.equal(error, undefined)
  await admin.deleteRecords([{ topic: orders, partition: 0, beforeOffset: 3 }])
  await client.producer().send({ topic: orders, value: 'later', timestampMs: Date.now() + 600_000 })
  const expected = [
    `fail in-sync topic ${orders}`,
    `warn in-sync topic ${control}`,
    `fail elections topic ${orders}`,
    `fail retention group ${group}`,
    `fail dead-letters topic ${deadLetters}`,
    `fail control topic ${control}`,
    `warn clock topic ${orders}`,
    'skipped store database',
  ].sort()
  // Brokers learn of new settings in their own time.
  const endMs = performance.now() + 20_000
  for (;;) {
    const found = judge(await examine(client, t.scope, null))
      .filter(({ status }) => status !== 'ok')
      .map(spot)
      .sort()
    if (performance.now() > endMs) assert.deepEqual(found, expected)
    if (JSON.stringify(found) === JSON.stringify(expected)) break
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
})

test('the doctor says which rights a principal lacks', {
  skip: secure === undefined ? 'OTTLA_LIVE_KAFKA_SECURE is not set' : false,
}, async () => {
  const facts = JSON.parse(secure as string) as SecureKafkaFacts
  const tls = { ca: facts.caFile }
  await using admin = new KafkaClient({
    bootstrapServers: facts.bootstrapServers,
    tls,
    sasl: { mechanism: 'scram-sha-512', ...facts.scram },
  })
  await using t = await withService(admin, 1)
  const { orders, deadLetters, control, group } = t
  // Nobody's friend: known to the listener for tokens, and allowed what is given here alone.
  const name = `doctor-${randomUUID()}`
  const operations = { read: 3, write: 4, describe: 8, describeConfigs: 10 }
  const resources = { topic: 2, group: 3 }
  const allow = async (type: keyof typeof resources, resource: string, ...wanted: (keyof typeof operations)[]) => {
    const { body } = await admin.cluster.request('any', Api.CreateAcls, {
      creations: wanted.map((operation) => ({
        resourceType: resources[type],
        resourceName: resource,
        resourcePatternType: 3,
        principal: `User:${name}`,
        host: '*',
        operation: operations[operation],
        permissionType: 3,
      })),
    })
    for (const { errorCode } of body.results) assert.equal(errorCode, 0)
  }
  await allow('topic', orders, 'describe', 'describeConfigs')
  await allow('topic', control, 'read')
  await allow('group', group, 'describe')
  const looks = async (): Promise<Finding[]> => {
    await using client = new KafkaClient({
      bootstrapServers: facts.oauth.bootstrapServers,
      tls,
      sasl: { mechanism: 'oauthbearer', token: () => ({ value: tokenOf(name, facts), lifetimeMs: 600_000 }) },
    })
    return [...judge(await examine(client, t.scope, null))]
  }
  const rightsOf = (findings: readonly Finding[]) =>
    findings
      .filter(({ check, status }) => check === 'rights' && status !== 'ok')
      .map(({ subject, what }) => `${subject}: ${what}`)
  const first = await looks()
  assert.deepEqual(rightsOf(first), [
    `topic ${orders}: this principal may not Read`,
    `topic ${deadLetters}: this principal may not even see it`,
    `topic ${control}: this principal may not Write`,
    `group ${group}: this principal may not join it`,
  ])
  const skipped = first.filter(({ status }) => status === 'skipped').map(spot)
  assert.ok(skipped.includes('skipped auto-create cluster'), skipped.join())
  assert.ok(skipped.includes(`skipped control topic ${control}`), skipped.join())
  assert.ok(skipped.includes('skipped clock controller'), skipped.join())

  await allow('topic', orders, 'read')
  await allow('topic', deadLetters, 'read', 'write')
  await allow('topic', control, 'write')
  await allow('group', group, 'read')
  const endMs = performance.now() + 20_000
  let left = rightsOf(await looks())
  while (left.length > 0 && performance.now() < endMs) {
    await new Promise((resolve) => setTimeout(resolve, 200))
    left = rightsOf(await looks())
  }
  assert.deepEqual(left, [])
})

test('the doctor reads clock and schema of a PostgreSQL', {
  skip: postgres === undefined ? 'OTTLA_LIVE_POSTGRES is not set' : false,
}, async () => {
  const facts: StoreFacts = await storeFacts(postgres as string, 30)
  assert.ok('aheadMs' in facts.clock && Math.abs(facts.clock.aheadMs) < 5_000, JSON.stringify(facts.clock))
  assert.equal(facts.inboxRetentionDays, 30)
  assert.ok(facts.version === null || facts.version <= facts.wanted)
  await assert.rejects(storeFacts('postgres://nobody@127.0.0.1:1/none', 30), { code: 'OTTLA_STORE_UNAVAILABLE' })
})

function tokenOf(subject: string, { oauth }: SecureKafkaFacts): string {
  const seconds = Math.floor(Date.now() / 1_000)
  const body = [
    { alg: 'RS256', typ: 'JWT', kid: oauth.keyId },
    { sub: subject, iss: oauth.issuer, aud: oauth.audience, iat: seconds - 60, exp: seconds + 600 },
  ]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .join('.')
  return `${body}.${createSign('RSA-SHA256').update(body).sign(oauth.signingKey, 'base64url')}`
}
