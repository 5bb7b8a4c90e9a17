/** Lost places on Apache Kafka. */
import { test } from 'node:test'
import { lostPlacesAreNoticed } from './lost-places-scenario.ts'

const bootstrapServers = process.env['OTTLA_LIVE_KAFKA']
const skip = bootstrapServers === undefined ? 'OTTLA_LIVE_KAFKA is not set' : false

test('a vanished place and expired records are noticed on Apache Kafka', { skip }, async () => {
  await lostPlacesAreNoticed(bootstrapServers!)
})
