/** A record that kills processes in its short form; the whole of it is `process-died.soak.test.ts`. */
import { test } from 'node:test'
import { processDied } from './process-died-scenario.ts'

const bootstrapServers = process.env['OTTLA_LIVE_KAFKA']
const skip = bootstrapServers === undefined ? 'OTTLA_LIVE_KAFKA is not set' : false

test('a record that aborts every process is dead-lettered as ProcessDied, and all else is handled', {
  skip,
}, async (t) => {
  const say = (line: string) => t.diagnostic(line)
  const sizes = { members: 3, partitions: 3, records: 300, keys: 60 }
  await processDied({ bootstrapServers: bootstrapServers!, ...sizes, say })
})
