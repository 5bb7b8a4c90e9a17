/** The live components themselves: what every other live test relies on. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { findProgram, runOk } from './command.ts'
import { controlledCluster, type SecureKafkaFacts } from './kafka-cluster.ts'

const kafka = process.env['OTTLA_LIVE_KAFKA']
const control = process.env['OTTLA_LIVE_CONTROL']
const secure = process.env['OTTLA_LIVE_KAFKA_SECURE']
const kcat = findProgram('kcat')

const noKcat = kcat === null ? 'no kcat on PATH' : false

test('three brokers answer kcat', { skip: kafka === undefined ? 'OTTLA_LIVE_KAFKA is not set' : noKcat }, async () => {
  const listing = await runOk('kcat', ['-b', kafka as string, '-L'])
  assert.match(listing, /3 brokers:/)
})

test('a killed broker comes back on its port with its data', {
  skip: control === undefined ? 'OTTLA_LIVE_CONTROL is not set' : noKcat,
}, async () => {
  const cluster = controlledCluster(control as string)
  const before = cluster.nodes.find(({ id }) => id === 3)
  await cluster.kill(3)
  await cluster.start(3)
  const after = cluster.nodes.find(({ id }) => id === 3)
  assert.equal(after?.port, before?.port)
  assert.notEqual(after?.pid, before?.pid)
  assert.match(await runOk('kcat', ['-b', `127.0.0.1:${after?.port}`, '-L']), /broker 3 at/)
})

test('the secured broker accepts PLAIN over TLS and a client certificate', {
  skip: secure === undefined ? 'OTTLA_LIVE_KAFKA_SECURE is not set' : noKcat,
}, async () => {
  const facts = JSON.parse(secure as string) as SecureKafkaFacts
  const tls = ['-X', `ssl.ca.location=${facts.caFile}`]
  const sasl = [
    ...['-X', 'security.protocol=SASL_SSL', '-X', 'sasl.mechanism=PLAIN'],
    ...['-X', `sasl.username=${facts.plain.username}`, '-X', `sasl.password=${facts.plain.password}`],
  ]
  assert.match(await runOk('kcat', ['-b', facts.bootstrapServers, '-L', ...tls, ...sasl]), /1 brokers:/)
  const mutual = [
    ...['-X', 'security.protocol=ssl'],
    ...['-X', `ssl.certificate.location=${facts.mtls.certFile}`, '-X', `ssl.key.location=${facts.mtls.keyFile}`],
  ]
  assert.match(await runOk('kcat', ['-b', facts.mtls.bootstrapServers, '-L', ...tls, ...mutual]), /1 brokers:/)
})
