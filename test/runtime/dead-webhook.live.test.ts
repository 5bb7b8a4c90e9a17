/** A customer's dead webhook in its short form; the whole of it is `dead-webhook.soak.test.ts`. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { deadWebhook } from './dead-webhook-scenario.ts'

const bootstrapServers = process.env['OTTLA_LIVE_KAFKA']
const skip = bootstrapServers === undefined ? 'OTTLA_LIVE_KAFKA is not set' : false

test('a key whose calls time out waits, and the others go on', { skip }, async (t) => {
  const report = await deadWebhook({
    bootstrapServers: bootstrapServers!,
    keys: 500,
    partitions: 4,
    deadMs: 4_000,
    wellMs: 2_000,
    timeoutMs: 100,
    deadRecords: 40,
    say: (line) => t.diagnostic(line),
  })
  // A machine shared with other tests: only that nothing stands still. The soak compares the speeds.
  assert.ok(report.deadPerSecond > 0.3 * report.wellPerSecond)
})
