/** Outages behind breakers on Apache Kafka. */
import { test } from 'node:test'
import { outagesAreWaitedFor } from './breaker-scenario.ts'

const bootstrapServers = process.env['OTTLA_LIVE_KAFKA']
const skip = bootstrapServers === undefined ? 'OTTLA_LIVE_KAFKA is not set' : false

test('an outage stands partitions still on Apache Kafka, gives nothing up, and is over when it is over', {
  skip,
}, async () => {
  await outagesAreWaitedFor(bootstrapServers!)
})
