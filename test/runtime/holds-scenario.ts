/**
 * Held keys and redrives over the real protocol, on any Kafka: two members of one service after each other, another
 * group beside it. Names are of this run alone, so that a shared cluster can be used.
 */
import assert from 'node:assert/strict'
import { z } from 'zod'
import { kafka } from '../../src/adapters/kafka/transport.ts'
import { systemClock } from '../../src/adapters/system/clock.ts'
import { deadLetters } from '../../src/adapters/system/dead-letters.ts'
import { PermanentError } from '../../src/contract/errors.ts'
import { topic } from '../../src/contract/topic.ts'
import { RunningApp } from '../../src/runtime/app.ts'
import { service } from '../../src/runtime/service.ts'
import { MemoryStore, memory } from '../../src/testing/memory-store.ts'

const quiet = { debug() {}, info() {}, warn() {}, error() {} }

async function until(condition: () => boolean, what: string, maxMs = 15_000): Promise<void> {
  const endMs = performance.now() + maxMs
  while (!condition()) {
    if (performance.now() > endMs) throw new Error(`waited in vain for: ${what}`)
    await new Promise((done) => setTimeout(done, 5))
  }
}

/** Keys held by one member are released in order by the next, and no other group sees a redrive. */
export async function heldKeysAreRedriven(bootstrapServers: string): Promise<void> {
  const run = Date.now().toString(36)
  const Orders = topic(`held-orders-${run}`, {
    key: 'id',
    partitions: 4,
    events: { Placed: z.object({ id: z.string(), n: z.int() }) },
  })
  const state = { broken: true, handled: [] as string[], other: [] as string[] }
  const worker = service(`worker-${run}`, { store: memory }).on(Orders.Placed, async ({ id, n }) => {
    await Promise.resolve()
    if (state.broken && id.startsWith('bad')) throw new PermanentError('no such customer')
    state.handled.push(`${id}-${n}`)
  })
  const other = service(`other-${run}`).on(Orders.Placed, ({ id, n }) => void state.other.push(`${id}-${n}`))
  const store = new MemoryStore()
  const connect = () => {
    const consumer = { heartbeatIntervalMs: 50, sessionTimeoutMs: 6_000, fetchMaxWaitMs: 50 }
    return kafka({ bootstrapServers, embedded: true, consumer })
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
  await using desk = await deadLetters({ transport, service: `worker-${run}`, log: quiet })
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
}
