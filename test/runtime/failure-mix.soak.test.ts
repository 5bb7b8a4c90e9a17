/** The whole failure mix: `node tools/test.ts soak failure-mix`. About ten minutes on two cores. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { failureMix } from './failure-mix-scenario.ts'

const bootstrapServers = process.env['OTTLA_LIVE_KAFKA']
const skip = bootstrapServers === undefined ? 'OTTLA_LIVE_KAFKA is not set' : false
const slowdownMax = 2

test('200,000 records of a failure mix at half the capacity, and a rebalance every five seconds', {
  skip,
}, async (t) => {
  const report = await failureMix({
    bootstrapServers: bootstrapServers!,
    records: 200_000,
    keys: 10_000,
    partitions: 12,
    transientShare: 0.05,
    poisonShare: 0.001,
    rebalanceEveryMs: 5_000,
    capacityRecords: 40_000,
    load: 0.5,
    say: (line) => t.diagnostic(line),
  })
  const { without, withFailures } = report
  assert.ok(report.rebalances >= 10)
  assert.ok(
    withFailures.p99Ms <= slowdownMax * without.p99Ms,
    `p99 of keys without a failing record: ${withFailures.p99Ms} ms, without any failures ${without.p99Ms} ms`,
  )
})
