/**
 * An outage behind a named breaker, then one of everything, over the real protocol, on any Kafka, with a rebalance while
 * the breaker is open. Names are of this run alone, so that a shared cluster can be used.
 */
import assert from 'node:assert/strict'
import { z } from 'zod'
import { kafka } from '../../src/adapters/kafka/transport.ts'
import { systemClock } from '../../src/adapters/system/clock.ts'
import { renderMetrics } from '../../src/adapters/telemetry/prometheus.ts'
import { topic } from '../../src/contract/topic.ts'
import { balances, type Ending } from '../../src/core/ledger.ts'
import { RunningApp } from '../../src/runtime/app.ts'
import { Breaker, breakerSettings } from '../../src/runtime/breaker.ts'
import { service } from '../../src/runtime/service.ts'

const quiet = { debug() {}, info() {}, warn() {}, error() {} }
const count = 200

async function until(condition: () => boolean, what: string | (() => string), maxMs = 90_000): Promise<void> {
  const endMs = performance.now() + maxMs
  while (!condition()) {
    if (performance.now() > endMs) throw new Error(`waited in vain for: ${typeof what === 'string' ? what : what()}`)
    await new Promise((done) => setTimeout(done, 5))
  }
}

/** While something is away partitions stand, nothing is given up, and all is handled in order when it is back. */
export async function outagesAreWaitedFor(bootstrapServers: string): Promise<void> {
  const run = Date.now().toString(36)
  const Orders = topic(`breaker-orders-${run}`, {
    key: 'id',
    partitions: 4,
    events: { Placed: z.object({ id: z.string(), n: z.int() }) },
  })
  const machine = () => ({
    clock: systemClock,
    log: quiet,
    random: Math.random,
    instance: `test-${Math.random()}`,
  })
  const down = { webhook: true, everything: false }
  const handled = new Map<string, number[]>()
  const running = new Set<string>()
  let overlaps = 0
  let calls = 0
  const members: { readonly app: RunningApp; readonly webhook: Breaker; readonly changes: string[] }[] = []
  await using _ = {
    async [Symbol.asyncDispose]() {
      for (const { app } of members) await app[Symbol.asyncDispose]()
    },
  }
  /** One member: a process has its own breaker. */
  const open = async () => {
    const options = { minimumCalls: 4, windowCalls: 10, openFor: 200, openForMax: 200 }
    const webhook = new Breaker('webhook', breakerSettings('webhook', options), machine())
    const changes: string[] = []
    webhook.subscribe(({ to }) => changes.push(to))
    const worker = service(`breaking-${run}`).on(Orders.Placed, async ({ id, n }, { signal }) => {
      if (running.has(id)) overlaps++
      running.add(id)
      try {
        await webhook.call(
          async () => {
            calls++
            await new Promise((done) => setTimeout(done, 1))
            if (down.webhook) throw new Error('503')
          },
          { signal },
        )
        if (down.everything) throw new Error('disk full')
        handled.set(id, [...(handled.get(id) ?? []), n])
      } finally {
        running.delete(id)
      }
    })
    const app = await new RunningApp(
      {
        transport: kafka({
          bootstrapServers,
          embedded: true,
          consumer: { heartbeatIntervalMs: 50, sessionTimeoutMs: 6_000, fetchMaxWaitMs: 50 },
        }),
        services: [worker],
        drainTimeout: 2_000,
        concurrency: 8,
        durability: 'single',
      },
      machine(),
    ).start()
    const member = { app, webhook, changes }
    members.push(member)
    return member
  }
  const sum = (ending: Ending) =>
    members.reduce((all, { app }) => all + app.ledger().reduce((total, row) => total + row.ended[ending], 0), 0)
  const standing = (name: string) =>
    members.flatMap(({ app }) => app.ledger()).filter((row) => row.standing === `breaker ${name}`).length

  const first = await open()
  for (let n = 0; n < count; n++) await first.app.publish(Orders.Placed({ id: `key-${n % 20}`, n }))
  await until(() => standing('webhook') === 4, 'all partitions stand')
  assert.match(await renderMetrics(first.app, { openMetrics: false }), /ottla_partition_standing\{.*\} 1/)
  assert.deepEqual(first.changes[0], 'open')

  const second = await open()
  await until(
    () => second.webhook.state !== 'closed' && standing('webhook') === 4,
    () =>
      `the new member finds out: ${JSON.stringify([second.changes, members.map(({ app }) => app.ledger().map((row) => [row.partition, row.state, row.standing, row.open]))])}`,
  )
  const before = { calls, probes: first.webhook.counts.changes.open + second.webhook.counts.changes.open }
  await until(
    () => first.webhook.counts.changes.open + second.webhook.counts.changes.open >= before.probes + 8,
    'eight probes fail',
  )
  assert.ok(calls - before.calls <= 12, `${calls - before.calls} calls for eight probes`)
  assert.deepEqual([sum('handled'), sum('deadLettered')], [0, 0])

  down.webhook = false
  await until(() => sum('handled') === count, 'all handled')
  assert.ok(first.changes.includes('half-open') && first.webhook.state === 'closed')

  // Now all of the handler fails, for many keys: the service's own breaker, in each member.
  down.everything = true
  const more = Array.from({ length: 2 * count }, (_, n) => Orders.Placed({ id: `other-${n % (count + 50)}`, n }))
  await Promise.all(more.map((message) => first.app.publish(message)))
  await until(() => standing(`breaking-${run}`) === 4, 'all partitions stand for the own breaker')
  const opened = () => members.reduce((all, { app }) => all + app.breakers()[0]!.counts.changes.open, 0)
  await until(() => opened() >= 4, 'probes fail')
  down.everything = false
  await until(() => sum('handled') === 3 * count, 'all handled once more')

  for (const { app } of members) await app[Symbol.asyncDispose]()
  for (const { app } of members) for (const row of app.ledger()) assert.ok(balances(row) && row.open === 0)
  assert.deepEqual([sum('deadLettered'), overlaps], [0, 0])
  for (const [id, order] of handled) {
    assert.deepEqual(
      order,
      order.toSorted((a, b) => a - b),
      `order of ${id}`,
    )
  }
}
