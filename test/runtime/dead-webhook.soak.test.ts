/**
 * A customer's webhook that is dead for minutes under full load: `node tools/test.ts soak dead-webhook`;
 * `OTTLA_DEAD_MINUTES=60` for an hour, of which ten seconds a minute are at full load.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { deadWebhook } from './dead-webhook-scenario.ts'

const bootstrapServers = process.env['OTTLA_LIVE_KAFKA']
const skip = bootstrapServers === undefined ? 'OTTLA_LIVE_KAFKA is not set' : false
const minutes = Number(process.env['OTTLA_DEAD_MINUTES'] ?? 3)
const ratioMin = 0.9

test(`a key that times out for ${minutes} minutes costs the others nothing`, { skip }, async (t) => {
  const report = await deadWebhook({
    bootstrapServers: bootstrapServers!,
    keys: 5_000,
    partitions: 12,
    deadMs: minutes * 60_000,
    wellMs: Math.min(minutes * 30_000, 240_000),
    timeoutMs: 1_000,
    deadRecords: 800,
    say: (line) => t.diagnostic(line),
  })
  const ratio = report.deadPerSecond / report.wellPerSecond
  t.diagnostic(`throughput of the other keys: ${ratio.toFixed(3)} of what it is without a dead one`)
  assert.ok(ratio >= ratioMin, `${ratio}`)
})
