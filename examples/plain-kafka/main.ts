/** Runs the example on KAFKA_BOOTSTRAP_SERVERS, or on an embedded broker: `node examples/plain-kafka/main.ts`. */
import { startBroker } from 'ottla/broker'
import { payments } from './payments.ts'

const given = process.env['KAFKA_BOOTSTRAP_SERVERS']
await using embedded = given === undefined ? await startBroker() : null
const paid = await payments(given ?? (embedded?.bootstrapServers as string), console.log)
for (const [customer, cents] of paid) console.log(`${customer} paid ${cents} cents`)
