/** Fifty kills with parked and held keys: `node tools/test.ts soak kill-holds`. About five minutes. */
import { test } from 'node:test'
import { killHolds } from './kill-holds-scenario.ts'

const bootstrapServers = process.env['OTTLA_LIVE_KAFKA']
const skip = bootstrapServers === undefined ? 'OTTLA_LIVE_KAFKA is not set' : false

test('fifty kills while keys are parked and held: order, attempts and what is on record as finished stay', {
  skip,
}, async (t) => {
  const say = (line: string) => t.diagnostic(line)
  const sizes = { kills: 50, partitions: 6, keys: 200, recordsPerSecond: 100 }
  await killHolds({ bootstrapServers: bootstrapServers!, ...sizes, say })
})
