/** Ten minutes in which eight members join and leave every three seconds and two are frozen past their session in turn. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { playStorm } from './storm-scenario.ts'

const servers = process.env['OTTLA_LIVE_KAFKA'] ?? ''
const durationMs = 600_000

test('a rebalance storm for ten minutes: everything handled, in order, by one member at a time', {
  skip: servers === '' ? 'OTTLA_LIVE_KAFKA is not set' : false,
  timeout: durationMs + 300_000,
}, async (context) => {
  const { flaws, figures } = await playStorm(servers, {
    durationMs,
    members: 8,
    frozen: 2,
    partitions: 24,
    recordsPerSecond: 150,
    changeMs: 3_000,
    sessionTimeoutMs: 6_000,
    stallMs: 12_000,
    seed: 20_261_122,
    say: (line) => context.diagnostic(line),
  })
  context.diagnostic(JSON.stringify(figures))
  assert.deepEqual(flaws.slice(0, 20), [])
  assert.ok((figures['changes'] ?? 0) > 100 && (figures['freezes'] ?? 0) > 10)
})
