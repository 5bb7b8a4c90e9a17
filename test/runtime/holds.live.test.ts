/** Held keys and redrives on Apache Kafka. */
import { test } from 'node:test'
import { heldKeysAreRedriven } from './holds-scenario.ts'

const bootstrapServers = process.env['OTTLA_LIVE_KAFKA']
const skip = bootstrapServers === undefined ? 'OTTLA_LIVE_KAFKA is not set' : false

test('held keys are redriven in order on Apache Kafka, and no other group sees it', { skip }, async () => {
  await heldKeysAreRedriven(bootstrapServers!)
})
