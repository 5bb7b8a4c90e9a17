/** The storm for half a minute; the long form is rebalance-storm.soak.test.ts. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { playStorm } from './storm-scenario.ts'

const servers = process.env['OTTLA_LIVE_KAFKA'] ?? ''

test('a rebalance storm for half a minute: everything handled, in order, by one member at a time', {
  skip: servers === '' ? 'OTTLA_LIVE_KAFKA is not set' : false,
  timeout: 240_000,
}, async (context) => {
  const { flaws, figures } = await playStorm(servers, {
    durationMs: 30_000,
    members: 8,
    frozen: 1,
    partitions: 24,
    recordsPerSecond: 150,
    changeMs: 3_000,
    sessionTimeoutMs: 6_000,
    // Twice what the long form allows: other tests run at the same time.
    stallMs: 24_000,
    seed: 1,
  })
  context.diagnostic(JSON.stringify(figures))
  assert.deepEqual(flaws.slice(0, 20), [])
  assert.ok((figures['changes'] ?? 0) > 5 && (figures['freezes'] ?? 0) > 0)
})
