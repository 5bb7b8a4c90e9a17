/**
 * A group whose offsets are gone, and records that retention takes away while a service lags, over the real protocol, on
 * any Kafka. Names are of this run alone, so that a shared cluster can be used.
 */
import assert from 'node:assert/strict'
import { z } from 'zod'
import { kafka } from '../../src/adapters/kafka/transport.ts'
import { systemClock } from '../../src/adapters/system/clock.ts'
import type { OttlaError } from '../../src/contract/errors.ts'
import { topic } from '../../src/contract/topic.ts'
import { balances, type Ending } from '../../src/core/ledger.ts'
import { KafkaClient } from '../../src/kafka/client.ts'
import { RunningApp } from '../../src/runtime/app.ts'
import { alarm } from '../../src/runtime/channels.ts'
import { service } from '../../src/runtime/service.ts'
import { MemoryStore, memory } from '../../src/testing/memory-store.ts'

const quiet = { debug() {}, info() {}, warn() {}, error() {} }

async function until(condition: () => boolean, what: string, maxMs = 90_000): Promise<void> {
  const endMs = performance.now() + maxMs
  while (!condition()) {
    if (performance.now() > endMs) throw new Error(`waited in vain for: ${what}`)
    await new Promise((done) => setTimeout(done, 5))
  }
}

/** A vanished place is refused with the choices, `earliest` redoes what the inbox knows, and what expired is counted. */
export async function lostPlacesAreNoticed(bootstrapServers: string): Promise<void> {
  const run = Date.now().toString(36)
  const name = `placed-${run}`
  const Orders = topic(`placed-orders-${run}`, {
    key: 'id',
    partitions: 1,
    events: { Placed: z.object({ id: z.string(), n: z.int() }) },
  })
  const store = new MemoryStore()
  const handled: number[] = []
  let gate: Promise<void> = Promise.resolve()
  const worker = service(name, { store: memory }).on(Orders.Placed, async ({ n }) => {
    await gate
    handled.push(n)
  })
  const alarms: OttlaError[] = []
  const listen = (message: unknown): void => {
    const { service: whose, error } = message as { service: string; error: OttlaError }
    if (whose === name) alarms.push(error)
  }
  alarm.subscribe(listen)
  const apps: RunningApp[] = []
  await using client = new KafkaClient({ bootstrapServers })
  await using _ = {
    async [Symbol.asyncDispose]() {
      alarm.unsubscribe(listen)
      for (const app of apps) await app[Symbol.asyncDispose]()
    },
  }
  const open = async (offsetsVanished?: 'earliest') => {
    const app = new RunningApp(
      {
        transport: kafka({
          bootstrapServers,
          embedded: true,
          consumer: { heartbeatIntervalMs: 50, sessionTimeoutMs: 6_000, fetchMaxWaitMs: 50, fetchMaxBytes: 1_024 },
        }),
        store,
        services: [worker],
        drainTimeout: 1_000,
        durability: 'single',
        ...(offsetsVanished === undefined ? {} : { offsetsVanished }),
      },
      { clock: systemClock, log: quiet, random: () => 0.01, instance: `test-${Math.random()}` },
    )
    apps.push(app)
    return app.start()
  }
  const count = (app: RunningApp, ending: Ending) => app.ledger().reduce((sum, row) => sum + row.ended[ending], 0)
  const told = (code: string) => alarms.filter((error) => error.code === code)

  const first = await open()
  for (let n = 0; n < 3; n++) await first.publish(Orders.Placed({ id: 'a', n }))
  await until(() => count(first, 'handled') === 3, 'handled')
  await first[Symbol.asyncDispose]()
  const [deleted] = await client.admin().deleteGroups([name])
  assert.equal(deleted?.error, undefined)

  const second = await open()
  await until(() => told('OTTLA_RUNTIME_OFFSETS_VANISHED').length === 1, 'the alarm')
  assert.match(
    told('OTTLA_RUNTIME_OFFSETS_VANISHED')[0]!.message,
    /The log holds 0 to 3\. .*offsetsVanished: 'earliest'/,
  )
  await second[Symbol.asyncDispose]()
  assert.equal(handled.length, 3)

  const third = await open('earliest')
  await until(() => count(third, 'duplicate') === 3, 'all are known')
  // It lags behind: more than it takes in at once is published, and retention removes some of that.
  let release: () => void = () => undefined
  gate = new Promise((done) => {
    release = done
  })
  await third.publish(Orders.Placed({ id: 'a', n: 3 }))
  await until(() => third.ledger().some((row) => row.running === 1), 'one runs')
  third.pause(name)
  await until(() => third.ledger().some((row) => row.standing === 'asked'), 'stands')
  const fill = 'x'.repeat(20_000)
  const messages = Array.from({ length: 300 }, (_, n) => Orders.Placed({ id: `key-${n}-${fill}`, n: n + 4 }))
  for (const message of messages) await third.publish(message)
  const [cut] = await client.admin().deleteRecords([{ topic: Orders.name, partition: 0, beforeOffset: 300 }])
  assert.equal(cut?.error, undefined)
  release()
  third.resume(name)
  await until(() => third.lag()[0]?.records === 0 && third.ledger()[0]!.open === 0, 'all that is left is handled')
  const { fetched, expired } = third.ledger()[0]!
  assert.ok(expired > 0, 'some were removed before they were read')
  assert.equal(fetched + expired, 304)
  assert.equal(told('OTTLA_RUNTIME_EXPIRED').length, 1)
  assert.equal(third.health().ready, true)
  await third[Symbol.asyncDispose]()
  for (const app of apps) for (const row of app.ledger()) assert.ok(balances(row) && row.open === 0)
}
