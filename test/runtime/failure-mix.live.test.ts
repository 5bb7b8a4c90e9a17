/** The failure mix in its short form; the whole of it is `failure-mix.soak.test.ts`. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { failureMix } from './failure-mix-scenario.ts'

const bootstrapServers = process.env['OTTLA_LIVE_KAFKA']
const skip = bootstrapServers === undefined ? 'OTTLA_LIVE_KAFKA is not set' : false

test('a mix of failures under rebalances loses, doubles and disorders nothing, and its redrive is seen by nobody else', {
  skip,
}, async (t) => {
  const report = await failureMix({
    bootstrapServers: bootstrapServers!,
    records: 3_000,
    keys: 300,
    partitions: 6,
    transientShare: 0.05,
    poisonShare: 0.003,
    rebalanceEveryMs: 1_500,
    capacityRecords: 3_000,
    load: 0.3,
    playMaxMs: 6_000,
    say: (line) => t.diagnostic(line),
  })
  assert.ok(report.rebalances > 0)
  assert.ok(report.deadLettered > 1 && report.held > 1)
})
