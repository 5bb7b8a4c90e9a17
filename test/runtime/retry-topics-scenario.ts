/**
 * Retry topics over the real protocol, on any Kafka: a member leaves while records wait, the next one goes on. Names are
 * of this run alone, so that a shared cluster can be used.
 */
import assert from 'node:assert/strict'
import { z } from 'zod'
import { kafka } from '../../src/adapters/kafka/transport.ts'
import { systemClock } from '../../src/adapters/system/clock.ts'
import { deadLetters } from '../../src/adapters/system/dead-letters.ts'
import { topic } from '../../src/contract/topic.ts'
import { balances, type Ending } from '../../src/core/ledger.ts'
import { RunningApp } from '../../src/runtime/app.ts'
import { service } from '../../src/runtime/service.ts'
import { MemoryStore, memory } from '../../src/testing/memory-store.ts'

const quiet = { debug() {}, info() {}, warn() {}, error() {} }

async function until(condition: () => boolean, what: string, maxMs = 30_000): Promise<void> {
  const endMs = performance.now() + maxMs
  while (!condition()) {
    if (performance.now() > endMs) throw new Error(`waited in vain for: ${what}`)
    await new Promise((done) => setTimeout(done, 5))
  }
}

/** Failed records wait their delay outside of their partition, over a change of owner, and end as counted. */
export async function failedRecordsComeBack(bootstrapServers: string): Promise<void> {
  const run = Date.now().toString(36)
  const delaysMs = [1_500, 2_000] as const
  const Orders = topic(`retry-orders-${run}`, {
    key: 'id',
    partitions: 4,
    events: { Placed: z.object({ id: z.string(), n: z.int() }) },
  })
  const name = `retrying-${run}`
  const attempts = new Map<string, number[]>()
  const atMs = new Map<string, number[]>()
  const handled: string[] = []
  let mended = false
  const worker = service(name, { store: memory, retry: 'topics', unordered: true, retryDelays: ['1500ms', '2s'] }).on(
    Orders.Placed,
    async ({ id, n }, { message, tx }) => {
      const which = `${id}-${n}`
      attempts.set(which, [...(attempts.get(which) ?? []), message.attempt])
      atMs.set(which, [...(atMs.get(which) ?? []), performance.now()])
      if (id === 'slow' && message.attempt < 3) throw new Error('not yet')
      if (id === 'poison' && !mended) throw new Error('poison')
      tx.set(which, 'done')
      handled.push(which)
    },
  )
  const store = new MemoryStore()
  const connect = () => {
    const consumer = { heartbeatIntervalMs: 50, sessionTimeoutMs: 6_000, fetchMaxWaitMs: 50 }
    return kafka({ bootstrapServers, embedded: true, consumer })
  }
  const open = () =>
    new RunningApp(
      { transport: connect(), store, services: [worker], drainTimeout: 1_000, durability: 'single' },
      { clock: systemClock, log: quiet, random: () => 0.01, instance: `test-${Math.random()}` },
    ).start()
  const count = (app: RunningApp, ending: Ending) => app.ledger().reduce((sum, row) => sum + row.ended[ending], 0)
  const balanced = (app: RunningApp) => {
    for (const row of app.ledger()) assert.ok(balances(row) && row.open === 0, JSON.stringify(row))
  }

  const first = await open()
  for (let n = 0; n < 5; n++) {
    for (const id of ['slow', 'poison', 'good']) await first.publish(Orders.Placed({ id, n }))
  }
  await until(() => count(first, 'moved') >= 10 && handled.length === 5, 'all failed ones have moved')
  assert.ok(handled.every((which) => which.startsWith('good')))
  await first[Symbol.asyncDispose]()
  balanced(first)

  const second = await open()
  await until(() => count(second, 'handled') >= 5 && count(second, 'deadLettered') === 5, 'all have ended')
  for (let n = 0; n < 5; n++) {
    for (const id of ['slow', 'poison']) {
      assert.deepEqual(attempts.get(`${id}-${n}`), [1, 2, 3])
      const times = atMs.get(`${id}-${n}`)!
      // The broker's clock has whole milliseconds.
      for (const [turn, delayMs] of delaysMs.entries()) {
        assert.ok(times[turn + 1]! - times[turn]! >= delayMs - 5, `${id}-${n} waited ${times}`)
      }
    }
  }
  mended = true
  await using transport = connect()
  await using desk = await deadLetters({ transport, service: name, log: quiet })
  const asked = await desk.redrive(await desk.letters(), { reason: 'mended', perSecond: 100 })
  assert.deepEqual(asked, { commands: 5, outcomes: { handled: 5 }, open: 0, stoppedBefore: 0 })
  assert.equal(new Set(handled).size, 15)
  assert.equal(handled.length, 15)
  await second[Symbol.asyncDispose]()
  balanced(second)
}
