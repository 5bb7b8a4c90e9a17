/** Held keys and redrives over the real protocol: an embedded broker, two members of one service, another group. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { kafka } from '../adapters/kafka/transport.ts'
import { systemClock } from '../adapters/system/clock.ts'
import { deadLetters } from '../adapters/system/dead-letters.ts'
import { startBroker } from '../broker/embedded.ts'
import { PermanentError } from '../contract/errors.ts'
import { topic } from '../contract/topic.ts'
import { MemoryStore, memory } from '../testing/memory-store.ts'
import { RunningApp } from './app.ts'
import { service } from './service.ts'

const Orders = topic('orders', {
  key: 'id',
  partitions: 4,
  events: { Placed: z.object({ id: z.string(), n: z.int() }) },
})
const quiet = { debug() {}, info() {}, warn() {}, error() {} }

async function until(condition: () => boolean, what: string, maxMs = 15_000): Promise<void> {
  const endMs = performance.now() + maxMs
  while (!condition()) {
    if (performance.now() > endMs) throw new Error(`waited in vain for: ${what}`)
    await new Promise((done) => setTimeout(done, 5))
  }
}

test('keys held by one member are released in order by the next, and no other group sees a redrive', async () => {
  await using broker = await startBroker({ nodes: 2 })
  const state = { broken: true, handled: [] as string[], other: [] as string[] }
  const worker = service('worker', { store: memory }).on(Orders.Placed, async ({ id, n }) => {
    await Promise.resolve()
    if (state.broken && id.startsWith('bad')) throw new PermanentError('no such customer')
    state.handled.push(`${id}-${n}`)
  })
  const other = service('other').on(Orders.Placed, ({ id, n }) => void state.other.push(`${id}-${n}`))
  const store = new MemoryStore()
  const connect = () => {
    const consumer = { heartbeatIntervalMs: 50, sessionTimeoutMs: 5_000, fetchMaxWaitMs: 50 }
    return kafka({ bootstrapServers: broker.bootstrapServers, embedded: true, consumer })
  }
  const open = (services: readonly (typeof worker | typeof other)[]) =>
    new RunningApp(
      { transport: connect(), store, services, drainTimeout: 1_000 },
      { clock: systemClock, log: quiet, random: () => 0.01, instance: `test-${Math.random()}` },
    ).start()
  const count = (app: RunningApp, ending: 'heldInDlq' | 'handled' | 'deadLettered') =>
    app.ledger().reduce((sum, row) => sum + row.ended[ending], 0)

  const first = await open([worker, other])
  for (let n = 0; n < 4; n++) {
    for (const id of ['bad-a', 'bad-b', 'good']) await first.publish(Orders.Placed({ id, n }))
  }
  await until(() => count(first, 'heldInDlq') === 6 && state.other.length === 12, 'held')
  assert.equal(count(first, 'deadLettered'), 2)
  await first[Symbol.asyncDispose]()

  await using second = await open([worker, other])
  for (const id of ['bad-a', 'bad-b']) await second.publish(Orders.Placed({ id, n: 4 }))
  await until(() => count(second, 'heldInDlq') === 2, 'still held after a restart')
  state.broken = false
  await using transport = connect()
  await using desk = await deadLetters({ transport, service: 'worker', log: quiet })
  const letters = await desk.letters()
  assert.equal(letters.length, 10)
  const asked = await desk.redrive(letters, { reason: 'mended', perSecond: 100 })
  assert.deepEqual(asked, { commands: 2, outcomes: { handled: 10 }, open: 0, stoppedBefore: 0 })
  for (const id of ['bad-a', 'bad-b']) {
    assert.deepEqual(
      state.handled.filter((each) => each.startsWith(id)),
      [0, 1, 2, 3, 4].map((n) => `${id}-${n}`),
    )
  }
  assert.deepEqual(await desk.letters(), [])
  await second.publish(Orders.Placed({ id: 'bad-a', n: 5 }))
  await until(() => state.handled.at(-1) === 'bad-a-5' && state.other.length === 15, 'flows again')
  assert.equal(state.other.length, 15, 'the other group saw each event once')
})
