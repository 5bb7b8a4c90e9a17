/** What a service keeps while members come and go: handlers run on, nothing is handed back, nothing is handled twice. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { kafka } from '../../src/adapters/kafka/transport.ts'
import { systemClock } from '../../src/adapters/system/clock.ts'
import { startBroker } from '../../src/broker/embedded.ts'
import { topic } from '../../src/contract/topic.ts'
import { balances } from '../../src/core/ledger.ts'
import { RunningApp } from '../../src/runtime/app.ts'
import { service } from '../../src/runtime/service.ts'
import { quiet, until } from './stage.ts'

const Orders = topic('orders', {
  key: 'id',
  partitions: 6,
  events: { Placed: z.object({ id: z.string(), n: z.int() }) },
})
const records = 300
const maxMs = 60_000

test('handlers of kept partitions run through rebalances, and only what moves is drained', async () => {
  await using broker = await startBroker({ nodes: 2 })
  const handled = new Map<string, number[]>()
  const open = async (): Promise<RunningApp> => {
    const worker = service('keeper').on(Orders.Placed, async ({ id, n }) => {
      await sleep(20)
      handled.set(id, [...(handled.get(id) ?? []), n])
    })
    return await new RunningApp(
      {
        transport: kafka({
          bootstrapServers: broker.bootstrapServers,
          embedded: true,
          consumer: { heartbeatIntervalMs: 50, fetchMaxWaitMs: 50 },
        }),
        services: [worker],
        drainTimeout: 5_000,
        concurrency: 8,
        durability: 'single',
      },
      { clock: systemClock, log: quiet, random: Math.random, instance: `test-${Math.random()}` },
    ).start()
  }
  const held = (app: RunningApp) => app.ledger().filter(({ state }) => state === 'running')
  const all: RunningApp[] = []
  await using _ = {
    async [Symbol.asyncDispose]() {
      for (const app of all) await app[Symbol.asyncDispose]()
    },
  }
  const first = await open()
  all.push(first)
  await until('the first holds everything', maxMs, () => held(first).length === 6)
  for (let n = 0; n < records; n++) await first.publish(Orders.Placed({ id: `key-${n % 30}`, n }))
  let kept = new Set(held(first).map(({ partition }) => partition))
  for (let round = 0; round < 3; round++) {
    const second = await open()
    all.push(second)
    await until('they share', maxMs, () => held(first).length === 3 && held(second).length === 3)
    const now = new Set(held(first).map(({ partition }) => partition))
    kept = new Set([...kept].filter((partition) => now.has(partition)))
    await second[Symbol.asyncDispose]()
    await until('the first holds everything again', maxMs, () => held(first).length === 6)
  }
  assert.ok(kept.size >= 1, 'some partition has never left')
  const count = (): number => [...handled.values()].reduce((sum, list) => sum + list.length, 0)
  await until('all is handled', maxMs, () => count() >= records)
  assert.equal(count(), records, 'nothing twice')
  for (const [id, list] of handled) {
    assert.deepEqual(
      list,
      list.toSorted((a, b) => a - b),
      `${id} in order`,
    )
  }
  for (const row of all.flatMap((app) => app.ledger())) assert.ok(balances(row))
  for (const row of first.ledger()) {
    if (!kept.has(row.partition)) continue
    assert.equal(row.ended['returned.revoked'] + row.ended['returned.lost'], 0, 'nothing was handed back')
    assert.equal(row.fetched, row.ended.handled + row.open, 'and nothing was fetched again')
  }
})
