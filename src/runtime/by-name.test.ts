/** What gives a promise up can be had only by its name, and shows in the ledger as what it is. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { z } from 'zod'
import { systemClock } from '../adapters/system/clock.ts'
import { renderMetrics } from '../adapters/telemetry/prometheus.ts'
import { PermanentError } from '../contract/errors.ts'
import { topic } from '../contract/topic.ts'
import { balances, type Ending } from '../core/ledger.ts'
import { MemoryStore, memory } from '../testing/memory-store.ts'
import { MemoryLog, memoryTransport } from '../testing/memory-transport.ts'
import { untilWithin } from '../testing/until.ts'
import { RunningApp } from './app.ts'
import { type AnyService, type HandlerOptions, service } from './service.ts'
import type { LedgerRow } from './service-loop.ts'
import type { LooseDefinition } from './wiring.ts'

const Orders = topic('orders', {
  key: 'id',
  partitions: 1,
  events: { Placed: z.object({ id: z.string(), n: z.int() }), Moved: z.object({ id: z.string() }) },
})
const quiet = { debug() {}, info() {}, warn() {}, error() {} }

const until = untilWithin(10_000)

async function start(services: readonly AnyService[], more: Partial<LooseDefinition> & { memoryLog?: MemoryLog } = {}) {
  const { memoryLog: log = new MemoryLog(), ...definition } = more
  const transport = memoryTransport(log)
  const app = new RunningApp(
    { transport, services, drainTimeout: 200, topics: 'create', ...definition },
    { clock: systemClock, log: quiet, random: () => 0.001, instance: 'test' },
  )
  await app.start()
  const sum = (of: (row: LedgerRow) => number) => app.ledger().reduce((total, row) => total + of(row), 0)
  return {
    app,
    log,
    transport,
    sum,
    ended: (ending: Ending) => sum((row) => row.ended[ending]),
    dropped: () => Object.assign({}, ...app.ledger().map((row) => row.dropped)) as Record<string, number>,
    metrics: () => renderMetrics(app, { openMetrics: false }),
    async [Symbol.asyncDispose]() {
      await app[Symbol.asyncDispose]()
      for (const row of app.ledger()) assert.ok(balances(row) && row.open === 0, JSON.stringify(row))
    },
  }
}

const dead: RunningApp[] = []
after(() => Promise.all(dead.map((app) => app[Symbol.asyncDispose]())))

test('onFailure: drop drops with its reason, leaves no dead letter, and the books balance', async () => {
  const worker = service('worker').on(
    Orders.Placed,
    ({ n }) => {
      if (n === 0) throw new PermanentError('never')
      if (n === 1) throw new Error('again')
    },
    { onFailure: 'drop', attempts: 2 },
  )
  await using started = await start([worker])
  const { app, log, ended } = started
  for (let n = 0; n < 3; n++) await app.publish(Orders.Placed({ id: `key-${n}`, n }))
  const { headers } = log.records('orders')[0]!
  log.append({ topic: 'orders', partition: 0, key: null, value: Buffer.from('no JSON'), headers })
  await until(() => ended('handled') + ended('dropped') === 4, 'all have ended')
  assert.deepEqual(started.dropped(), { permanent: 1, attemptsExhausted: 1, undecodable: 1 })
  assert.equal(log.records('dlq.worker').length, 0)
  assert.match(await started.metrics(), /ottla_records_ended_total\{.*ending="dropped\.attemptsExhausted"\} 1/)
})

test('retry: forever goes on beyond the attempts under its own name, and a permanent failure ends it', async () => {
  let calls = 0
  const worker = service('worker').on(
    Orders.Placed,
    ({ n }) => {
      if (n === 1) throw new PermanentError('never')
      if (++calls < 9) throw new Error('again')
    },
    { retry: 'forever' },
  )
  await using started = await start([worker])
  await started.app.publish(Orders.Placed({ id: 'a', n: 0 }))
  await started.app.publish(Orders.Placed({ id: 'b', n: 1 }))
  await until(() => started.ended('handled') === 1 && started.ended('deadLettered') === 1, 'both have ended')
  assert.deepEqual([started.sum((row) => row.retries), started.sum((row) => row.retriesForever)], [8, 4])
  const metrics = await started.metrics()
  assert.match(metrics, /ottla_records_retries_forever_total\{.*\} 4/)
  assert.match(metrics, /ottla_handler_attempts_total\{.*outcome="retryForever"\} 4/)
})

test('acknowledge: before-handling stores the checkpoint first, so a crash loses the record and repeats nothing', async () => {
  const log = new MemoryLog()
  const calls: number[] = []
  const low: (number | undefined)[] = []
  const { promise: never } = Promise.withResolvers<void>()
  const worker = service('worker').on(
    Orders.Placed,
    ({ n }) => {
      low.push(log.group('worker').checkpoints.get('orders/0')?.low)
      calls.push(n)
      return n === 1 ? never : undefined
    },
    { acknowledge: 'before-handling' },
  )
  const first = await start([worker], { memoryLog: log })
  dead.push(first.app)
  await first.app.publish(Orders.Placed({ id: 'a', n: 0 }))
  await until(() => first.ended('handled') === 1, 'handled')
  await first.app.publish(Orders.Placed({ id: 'a', n: 1 }))
  await until(() => calls.length === 2, 'begun')
  assert.deepEqual(low, [1, 2], 'each was acknowledged when its handler started')
  first.transport.readers[0]!.kill()
  await using second = await start([worker], { memoryLog: log })
  await second.app.publish(Orders.Placed({ id: 'a', n: 2 }))
  await until(() => second.ended('handled') === 1, 'the next one')
  assert.deepEqual(calls, [0, 1, 2])
  assert.equal(
    second.sum((row) => row.acknowledgedEarly),
    1,
  )
})

test('what fails or is still running after it was acknowledged is dropped by name, and never returned', async () => {
  const { promise: never } = Promise.withResolvers<void>()
  const worker = service('worker').on(
    Orders.Placed,
    ({ n }) => {
      if (n === 0) throw Object.assign(new Error('net'), { code: 'ECONNRESET' })
      return never
    },
    { acknowledge: 'before-handling' },
  )
  const started = await start([worker])
  dead.push(started.app)
  for (let n = 0; n < 2; n++) await started.app.publish(Orders.Placed({ id: `key-${n}`, n }))
  await until(() => started.ended('dropped') === 1 && started.app.stats()[0]!.inFlight === 1, 'one dropped, one runs')
  await started[Symbol.asyncDispose]()
  assert.deepEqual(started.dropped(), { acknowledgedBeforeHandling: 2 })
  assert.equal(started.ended('returned.revoked'), 0)
  assert.match(await started.metrics(), /ottla_records_acknowledged_early_total\{.*\} 2/)
})

test("a service's own classify is asked first, but not about a store that is away", async () => {
  const store = new MemoryStore()
  let calls = 0
  const worker = service('worker', { store: memory }).on(
    Orders.Placed,
    async ({ n }) => {
      calls++
      if (n === 0) throw Object.assign(new Error('net'), { code: 'ECONNRESET' })
      store.away = calls < 4
    },
    { classify: () => 'permanent' },
  )
  await using started = await start([worker], { store })
  await started.app.publish(Orders.Placed({ id: 'a', n: 0 }))
  await until(() => started.ended('deadLettered') === 1, 'a network error that the service calls permanent')
  await started.app.publish(Orders.Placed({ id: 'b', n: 1 }))
  await until(() => started.app.ledger().some(({ standing }) => standing === 'storeAway'), 'the store is away')
  calls = 9
  store.away = false
  await until(() => started.ended('handled') === 1, 'handled')
})

test('what contradicts itself is refused at start', () => {
  const wrong: readonly [HandlerOptions, RegExp][] = [
    [{ retry: 'forever', attempts: 3 }, /no attempts to end after/],
    [{ acknowledge: 'before-handling', attempts: 3 } as never, /tried once and then dropped/],
    [{ onFailure: 'ignore' as never }, /onFailure is ignore/],
    [{ retry: 'always' as never }, /retry is always/],
    [{ acknowledge: 'sometimes' as never }, /acknowledge is sometimes/],
    [{ classify: 'permanent' as never }, /classify is no function/],
  ]
  const open = (options: HandlerOptions, more: object = {}) => {
    const worker = service('worker', more).on(Orders.Placed, () => undefined, options)
    const machine = { clock: systemClock, log: quiet, random: () => 0, instance: 'test' }
    return new RunningApp({ transport: memoryTransport(), store: new MemoryStore(), services: [worker] }, machine)
  }
  for (const [options, said] of wrong) assert.throws(() => open(options), said)
  const early = { acknowledge: 'before-handling' } as never
  assert.throws(() => open(early, { store: memory }), /acknowledges with its transaction/)
})
