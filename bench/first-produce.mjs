/** Line 11: starts the embedded broker of a built library, publishes one record, and tells what that took. */
import { pathToFileURL } from 'node:url'

const [, , library] = process.argv
const door = (name) => import(pathToFileURL(`${library}/${name}.js`).href)
const [{ startBroker }, { KafkaClient }] = await Promise.all([door('broker'), door('kafka')])
const broker = await startBroker({ topics: ['first'] })
const client = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
const { offset } = await client.producer().send({ topic: 'first', value: 'x' })
if (offset !== 0) throw new Error(`the first record has offset ${offset}`)
const { user, system } = process.cpuUsage()
const told = { cpuMs: (user + system) / 1000, rssMiB: process.memoryUsage.rss() / 1024 / 1024 }
process.stdout.write(`${JSON.stringify(told)}\n`, () => process.exit(0))
