/** What a service redoes after its offsets were changed, on Apache Kafka. */
import { test } from 'node:test'
import { changedOffsetsAreRedoneWhole } from './offset-reset-scenario.ts'

const bootstrapServers = process.env['OTTLA_LIVE_KAFKA']
const skip = bootstrapServers === undefined ? 'OTTLA_LIVE_KAFKA is not set' : false

test('on Apache Kafka too, a change of offsets is redone whole', { skip }, async () => {
  await changedOffsetsAreRedoneWhole(bootstrapServers!)
})
