/** Long outages, in fake time: what is down takes no record with it, and what is broken is still found out. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { PermanentError } from '../contract/errors.ts'
import { topic } from '../contract/topic.ts'
import { balances, type Ending } from '../core/ledger.ts'
import { ManualClock } from '../testing/manual-clock.ts'
import { MemoryLog, memoryTransport } from '../testing/memory-transport.ts'
import { RunningApp } from './app.ts'
import { Breaker, breakerSettings } from './breaker.ts'
import { type AnyService, service } from './service.ts'

const Orders = topic('orders', {
  key: 'id',
  partitions: 4,
  events: { Placed: z.object({ id: z.string(), n: z.int() }) },
})
const quiet = { debug() {}, info() {}, warn() {}, error() {} }
const hourMs = 3_600_000

async function start(services: readonly AnyService[], clock: ManualClock) {
  const log = new MemoryLog({ nowMs: () => clock.wallMs() })
  let dice = 1
  const random = (): number => {
    dice = (dice * 48_271) % 0x7fff_ffff
    return dice / 0x7fff_ffff
  }
  const machine = { clock, log: quiet, random, instance: 'test' }
  const app = new RunningApp(
    { transport: memoryTransport(log), services, topics: 'create', drainTimeout: 500 },
    machine,
  )
  await app.start()
  await clock.rest()
  return {
    app,
    log,
    machine,
    ended: (ending: Ending) => app.ledger().reduce((total, row) => total + row.ended[ending], 0),
    async [Symbol.asyncDispose]() {
      const closing = app[Symbol.asyncDispose]()
      await clock.pass(60_000)
      await closing
      for (const row of app.ledger()) assert.ok(balances(row) && row.open === 0, JSON.stringify(row))
    },
  }
}

test('an hour in which everything fails for an unknown reason gives up no record, and all are handled after it', async () => {
  const clock = new ManualClock()
  let down = true
  let calls = 0
  const worker = service('worker').on(Orders.Placed, async () => {
    calls++
    await Promise.resolve()
    if (down) throw new Error('503')
  })
  await using started = await start([worker], clock)
  for (let n = 0; n < 200; n++) await started.app.publish(Orders.Placed({ id: `key-${n % 40}`, n }))
  await clock.pass(hourMs)
  assert.deepEqual([started.ended('deadLettered'), started.ended('handled')], [0, 0])
  assert.ok(calls < 64 + 300, `${calls} calls in an hour of probes every half minute`)
  down = false
  await clock.pass(60_000)
  assert.deepEqual([started.ended('deadLettered'), started.ended('handled')], [0, 200])
})

test('the same behind a named breaker', async () => {
  const clock = new ManualClock()
  let down = true
  const machine = { clock, random: () => 0.5 }
  const options = { minimumCalls: 4, windowCalls: 10, openFor: '1s', openForMax: '1s' } as const
  const webhook = new Breaker('webhook', breakerSettings('webhook', options), machine)
  const worker = service('worker').on(Orders.Placed, async (_, { signal }) => {
    await webhook.call(
      async () => {
        if (down) throw new Error('503')
      },
      { signal },
    )
  })
  await using started = await start([worker], clock)
  for (let n = 0; n < 100; n++) await started.app.publish(Orders.Placed({ id: `key-${n % 10}`, n }))
  await clock.pass(hourMs)
  assert.deepEqual([started.ended('deadLettered'), started.ended('handled')], [0, 0])
  assert.ok(webhook.counts.changes.open > 1_000)
  assert.equal(started.app.breakers()[0]!.counts.changes.open, 0, "its probes do not open the service's own breaker")
  down = false
  await clock.pass(5_000)
  assert.equal(started.ended('handled'), 100)
})

test('a record that fails by itself does not hold the breaker open: another one is tried, and then it is counted', async () => {
  const clock = new ManualClock()
  let down = true
  let bad = 0
  const worker = service('worker').on(Orders.Placed, async ({ id }) => {
    await Promise.resolve()
    if (id.startsWith('bad')) bad++
    if (down || id.startsWith('bad')) throw new Error('503')
  })
  await using started = await start([worker], clock)
  for (let n = 0; n < 60; n++) await started.app.publish(Orders.Placed({ id: n < 6 ? `bad-${n}` : `key-${n}`, n }))
  await clock.pass(hourMs)
  assert.equal(started.ended('deadLettered'), 0)
  down = false
  await clock.pass(10 * 60_000)
  assert.deepEqual([started.ended('handled'), started.ended('deadLettered')], [54, 6])
  assert.ok(bad >= 6 * 5)
})

test('what is known to be wrong is a dead letter even as a probe', async () => {
  const clock = new ManualClock()
  const worker = service('worker').on(Orders.Placed, async ({ n }) => {
    await Promise.resolve()
    if (n >= 30) throw new PermanentError('never')
    throw new Error('503')
  })
  await using started = await start([worker], clock)
  for (let n = 0; n < 30; n++) await started.app.publish(Orders.Placed({ id: `key-${n}`, n }))
  await clock.pass(60_000)
  for (let n = 30; n < 35; n++) await started.app.publish(Orders.Placed({ id: `key-${n}`, n }))
  await clock.pass(hourMs)
  assert.equal(started.ended('deadLettered'), 5)
})

test('a key whose webhook times out for hours gives its record up after one hour and four more attempts, not after five', async () => {
  const clock = new ManualClock()
  const began = clock.monotonicMs()
  const worker = service('worker').on(Orders.Placed, async ({ id }) => {
    await Promise.resolve()
    if (id === 'dead') throw Object.assign(new Error('webhook'), { code: 'ETIMEDOUT' })
  })
  await using started = await start([worker], clock)
  await started.app.publish(Orders.Placed({ id: 'dead', n: 0 }))
  for (let n = 1; n < 20; n++) await started.app.publish(Orders.Placed({ id: `key-${n}`, n }))
  await clock.pass(hourMs - 60_000)
  assert.deepEqual([started.ended('handled'), started.ended('deadLettered')], [19, 0])
  while (started.ended('deadLettered') === 0) {
    await clock.pass(10_000)
    assert.ok(clock.monotonicMs() - began < hourMs + 5 * 60_000, 'a second hour had begun')
  }
})
