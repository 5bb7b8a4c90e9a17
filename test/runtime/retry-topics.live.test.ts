/** Retry topics on Apache Kafka. */
import { test } from 'node:test'
import { failedRecordsComeBack } from './retry-topics-scenario.ts'

const bootstrapServers = process.env['OTTLA_LIVE_KAFKA']
const skip = bootstrapServers === undefined ? 'OTTLA_LIVE_KAFKA is not set' : false

test('failed records wait outside of their partition on Apache Kafka and come back', { skip }, async () => {
  await failedRecordsComeBack(bootstrapServers!)
})
