/** Kills with parked and held keys in their short form; the whole of it is `kill-holds.soak.test.ts`. */
import { test } from 'node:test'
import { killHolds } from './kill-holds-scenario.ts'

const bootstrapServers = process.env['OTTLA_LIVE_KAFKA']
const skip = bootstrapServers === undefined ? 'OTTLA_LIVE_KAFKA is not set' : false

test('kills while keys are parked and held: order, attempts and what is on record as finished stay', {
  skip,
}, async (t) => {
  const say = (line: string) => t.diagnostic(line)
  const sizes = { kills: 3, partitions: 3, keys: 40, recordsPerSecond: 60 }
  await killHolds({ bootstrapServers: bootstrapServers!, ...sizes, say })
})
