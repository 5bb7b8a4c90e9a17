import assert from 'node:assert/strict'
import { createHook } from 'node:async_hooks'
import { after, test } from 'node:test'
import { z } from 'zod'
import { systemClock } from '../adapters/system/clock.ts'
import { OttlaError, PermanentError } from '../contract/errors.ts'
import { encodeMessage } from '../contract/message.ts'
import { tombstone } from '../contract/schema.ts'
import { topic } from '../contract/topic.ts'
import { balances, type Ending, Ledger } from '../core/ledger.ts'
import { MemoryStore, memory } from '../testing/memory-store.ts'
import { MemoryLog, MemoryReader, memoryTransport } from '../testing/memory-transport.ts'
import { untilWithin } from '../testing/until.ts'
import { RunningApp } from './app.ts'
import { alarm, ended as endedChannel } from './channels.ts'
import type { Checkpoint, Held } from './ports.ts'
import type { AnyService } from './service.ts'
import { service } from './service.ts'
import type { LooseDefinition } from './wiring.ts'

const Orders = topic('orders', {
  key: 'id',
  partitions: 4,
  events: { Placed: z.object({ id: z.string(), n: z.int() }), Moved: z.object({ id: z.string() }), Erased: tombstone },
})
const Stock = topic('stock', { key: 'id', partitions: 2, events: { Taken: z.object({ id: z.string(), n: z.int() }) } })

const text = (bytes: Uint8Array | null | undefined) => (bytes ? Buffer.from(bytes).toString() : null)
const quietLog = { debug() {}, info() {}, warn() {}, error() {} }

/** Waits for a condition, with a bound that only a failure meets. */
const until = untilWithin(5_000)

interface Started {
  readonly app: RunningApp
  readonly log: MemoryLog
  readonly transport: ReturnType<typeof memoryTransport>
}

async function start(
  services: readonly AnyService[],
  more: Partial<LooseDefinition> & { log?: never; memoryLog?: MemoryLog; random?: () => number } = {},
): Promise<Started> {
  const { memoryLog = new MemoryLog(), random = () => 0.01, ...definition } = more
  const transport = memoryTransport(memoryLog)
  const app = new RunningApp(
    { transport, services, drainTimeout: 1_000, ...definition },
    { clock: systemClock, log: quietLog, random, instance: 'test' },
  )
  await app.start()
  return { app, log: memoryLog, transport }
}

function ended(app: RunningApp, ending: Ending): number {
  return app.ledger().reduce((sum, row) => sum + row.ended[ending], 0)
}

const open = (app: RunningApp) => app.ledger().reduce((sum, row) => sum + row.open, 0)
const fetched = (app: RunningApp) => app.ledger().reduce((sum, row) => sum + row.fetched, 0)

/** Every app's ledger must balance at its end, and nothing may stay open. */
async function close(...started: Started[]): Promise<void> {
  for (const { app } of started) await app[Symbol.asyncDispose]()
  for (const { app } of started) {
    for (const row of app.ledger()) {
      assert.ok(balances(row), `ledger of ${row.service} ${row.topic}-${row.partition} does not balance`)
      assert.equal(row.open, 0)
    }
  }
}

/** The process dies: nothing is released. What is left of it in this process is put away. */
function crash(started: Started): void {
  started.transport.readers[0]!.kill()
  dead.push(started.app)
}
const dead: RunningApp[] = []
after(() => Promise.all(dead.map((app) => app[Symbol.asyncDispose]())))

test('order per key holds and handlers of one key never overlap, under parallel handlers, retries and transient failures', async () => {
  const running = new Set<string>()
  const seen = new Map<string, number[]>()
  let overlaps = 0
  let most = 0
  const random = seeded(7)
  const worker = service('worker').on(Orders.Placed, async ({ id, n }, { message }) => {
    if (running.has(id)) overlaps++
    running.add(id)
    most = Math.max(most, running.size)
    await new Promise((done) => setTimeout(done, random() * 3))
    running.delete(id)
    const dice = (n * 7 + id.length + message.attempt) % 10
    if (message.attempt < 3 && dice === 0) throw new Error('unknown')
    if (random() < 0.05) throw Object.assign(new Error('net'), { code: 'ECONNRESET' })
    seen.set(id, [...(seen.get(id) ?? []), n])
  })
  const started = await start([worker], { random: () => 0.001 })
  for (let n = 0; n < 600; n++) await started.app.publish(Orders.Placed({ id: `key-${n % 23}`, n }))
  await until(() => ended(started.app, 'handled') === 600, 'all handled', 20_000)
  assert.equal(overlaps, 0)
  assert.ok(most > 4, `only ${most} handlers ran at once`)
  for (const [id, order] of seen)
    assert.deepEqual(
      order,
      order.toSorted((a, b) => a - b),
      `order of ${id}`,
    )
  await close(started)
})

test('a key that waits for its retry lets every other key run', async () => {
  const handled: string[] = []
  const worker = service('worker').on(Orders.Placed, ({ id, n }) => {
    if (id === 'bad') throw Object.assign(new Error('webhook'), { code: 'ETIMEDOUT' })
    handled.push(`${id}${n}`)
  })
  const started = await start([worker], { random: () => 0.999 })
  await started.app.publish(Orders.Placed({ id: 'bad', n: 0 }))
  for (let n = 0; n < 50; n++) await started.app.publish(Orders.Placed({ id: 'good', n }))
  await started.app.publish(Orders.Placed({ id: 'bad', n: 1 }))
  await until(() => handled.length === 50, 'good ones')
  const totals = started.app.ledger().reduce((sum, row) => [sum[0]! + row.waiting, sum[1]! + row.parked], [0, 0])
  assert.deepEqual(totals, [1, 1])
  assert.equal(started.app.parked()[0]?.why, 'retry')
  await close(started)
  assert.equal(ended(started.app, 'returned.revoked'), 2)
})

test('a permanent failure is dead-lettered at once with its bytes, key, headers, timestamp and cause, and its followers run', async () => {
  let attempts = 0
  const handled: number[] = []
  const worker = service('worker').on(Orders.Placed, ({ n }) => {
    if (n === 1) {
      attempts++
      throw new PermanentError('no such customer')
    }
    handled.push(n)
  })
  const started = await start([worker])
  for (const n of [0, 1, 2]) {
    started.log.append(
      encodeMessage(Orders.Placed({ id: 'a', n }), { id: `${n}`, source: 'shop', timeMs: Date.now() - 60_000 }),
    )
  }
  await until(() => handled.length === 2, 'followers')
  await until(() => ended(started.app, 'deadLettered') === 1, 'dead letter')
  assert.equal(attempts, 1)
  const [letter] = started.log.records('dlq.worker')
  const original = started.log.records('orders').find(({ value }) => text(value)?.includes('"n":1'))!
  assert.deepEqual(letter!.value, original.value)
  assert.deepEqual(letter!.key, original.key)
  assert.equal(letter!.timestampMs, original.timestampMs)
  assert.deepEqual(letter!.headers.slice(0, original.headers.length), original.headers)
  const headers = Object.fromEntries(letter!.headers.map(({ key, value }) => [key, text(value)]))
  assert.equal(headers['ottla-error'], 'OTTLA_RUNTIME_PERMANENT')
  assert.equal(headers['ottla-attempts'], '1')
  assert.equal(headers['__dlq.errors.topic'], 'orders')
  assert.equal(headers['__dlq.errors.partition'], String(original.partition))
  assert.equal(headers['__dlq.errors.offset'], String(original.position))
  assert.equal(headers['__dlq.errors.group'], 'worker')
  assert.equal(headers['__dlq.errors.message'], 'no such customer')
  const id = started.log.topic('orders')!.id
  assert.equal(headers['ottla-origin'], `orders/${id}/${original.partition}/${original.position}`)
  await close(started)
})

test('an unknown failure gets five attempts and then goes to the dead letters', async () => {
  const attempts: number[] = []
  const worker = service('worker').on(Orders.Placed, (_order, { message }) => {
    attempts.push(message.attempt)
    throw new Error('bug')
  })
  const started = await start([worker], { random: () => 0.001 })
  await started.app.publish(Orders.Placed({ id: 'a', n: 0 }))
  await until(() => ended(started.app, 'deadLettered') === 1, 'dead letter')
  assert.deepEqual(attempts, [1, 2, 3, 4, 5])
  await close(started)
})

test('undecodable bytes, unknown types and events without a handler each end in their own way', async () => {
  const handled: string[] = []
  const worker = service('worker').on(Orders.Erased, (id) => {
    handled.push(id)
  })
  const both = service('both').on(Orders.Placed, () => undefined)
  const started = await start([worker, both])
  const good = encodeMessage(Orders.Placed({ id: 'a', n: 1 }), { id: '1', source: 'x', timeMs: 0 })
  started.log.append({ ...good, value: Buffer.from('{"id":') })
  started.log.append({
    ...good,
    headers: good.headers.map((each) =>
      each.key === 'ce_type' ? { key: 'ce_type', value: Buffer.from('orders.New') } : each,
    ),
  })
  await started.app.publish(Orders.Erased('gone'))
  await until(() => fetched(started.app) === 6 && open(started.app) === 0, 'all ended')
  assert.deepEqual(handled, ['gone'])
  assert.equal(ended(started.app, 'ignored.unknownType'), 2)
  assert.equal(ended(started.app, 'ignored.noHandler'), 2)
  assert.equal(ended(started.app, 'deadLettered'), 1)
  assert.equal(text(started.log.records('dlq.both')[0]!.value), '{"id":')
  await close(started)
})

test('the dead letters being away stops the partition and loses nothing', async () => {
  const alarms: string[] = []
  const onAlarm = (message: unknown) => alarms.push((message as { error: OttlaError }).error.code)
  alarm.subscribe(onAlarm)
  const handled: number[] = []
  const worker = service('worker').on(Orders.Placed, ({ n }) => {
    if (n === 0) throw new PermanentError('bad')
    handled.push(n)
  })
  const log = new MemoryLog()
  let away = true
  log.refuse = (record) =>
    away && record.topic === 'dlq.worker' ? new OttlaError('OTTLA_KAFKA_CONNECTION', 'away') : null
  const started = await start([worker], { memoryLog: log, random: () => 0.2 })
  await started.app.publish(Orders.Placed({ id: 'a', n: 0 }))
  await until(() => alarms.includes('OTTLA_RUNTIME_DEAD_LETTERS_AWAY'), 'alarm')
  assert.equal(ended(started.app, 'deadLettered'), 0)
  away = false
  await started.app.publish(Orders.Placed({ id: 'a', n: 1 }))
  await until(() => handled.length === 1, 'follower')
  assert.equal(ended(started.app, 'deadLettered'), 1)
  alarm.unsubscribe(onAlarm)
  await close(started)
})

test('a bad deploy leaves at most fifty dead letters per partition, and resume drains', async () => {
  let mended = false
  const worker = service('worker').on(Orders.Placed, () => {
    if (!mended) throw new PermanentError('bad deploy')
  })
  const started = await start([worker])
  for (let n = 0; n < 120; n++) await started.app.publish(Orders.Placed({ id: 'one', n }))
  await until(() => started.app.ledger().some(({ standing }) => standing === 'brake'), 'brake')
  assert.equal(ended(started.app, 'deadLettered'), 50)
  assert.equal(started.log.records('dlq.worker').length, 50)
  mended = true
  assert.equal(started.app.resume('worker'), 1)
  await until(() => open(started.app) === 0 && fetched(started.app) === 120, 'drained')
  // The one that met the brake is handled too: its handler is asked once more.
  assert.equal(ended(started.app, 'deadLettered'), 50)
  assert.equal(ended(started.app, 'handled'), 70)
  await close(started)
})

test('a deadline aborts the signal, refuses late emits, and the next attempt waits until the first has settled', async () => {
  const attempts: string[] = []
  let letGo = () => {}
  let lateEmit: unknown
  const worker = service('worker', { emits: [Stock] }).on(
    Orders.Placed,
    async ({ id }, { message, signal, emit }) => {
      attempts.push(`start ${message.attempt}`)
      if (message.attempt === 1) {
        await new Promise<void>((done) => signal.addEventListener('abort', () => done()))
        attempts.push('aborted')
        await new Promise<void>((done) => {
          letGo = done
        })
        try {
          emit(Stock.Taken({ id, n: 1 }))
        } catch (error) {
          lateEmit = error
        }
        attempts.push('settled')
      }
    },
    { timeout: '1500ms' },
  )
  const started = await start([worker], { random: () => 0.001 })
  await started.app.publish(Orders.Placed({ id: 'a', n: 0 }))
  await until(() => attempts.includes('aborted'), 'abort')
  // Long enough for a retry to be due.
  await new Promise((done) => setTimeout(done, 50))
  assert.deepEqual(attempts, ['start 1', 'aborted'])
  letGo()
  await until(() => ended(started.app, 'handled') === 1, 'second attempt')
  assert.deepEqual(attempts, ['start 1', 'aborted', 'settled', 'start 2'])
  assert.equal((lateEmit as OttlaError).code, 'OTTLA_RUNTIME_DEADLINE')
  assert.equal(started.log.records('stock').length, 0)
  await close(started)
})

test('what a handler emits is stored before its record counts as handled, with ids that a redelivery repeats', async () => {
  const log = new MemoryLog()
  let acknowledge = () => {}
  let hold = true
  log.delayAck = (record) =>
    hold && record.topic === 'stock'
      ? new Promise<void>((done) => {
          acknowledge = done
        })
      : null
  const worker = service('worker', { emits: [Stock] }).on(Orders.Placed, ({ id, n }, { emit }) => {
    emit(Stock.Taken({ id, n }))
  })
  const first = await start([worker], { memoryLog: log })
  await first.app.publish(Orders.Placed({ id: 'a', n: 1 }))
  await until(() => log.records('stock').length === 1, 'stored')
  assert.equal(ended(first.app, 'handled'), 0)
  // The process dies before the acknowledgement: nobody has checkpointed the record.
  crash(first)
  hold = false
  const second = await start([worker], { memoryLog: log })
  await until(() => ended(second.app, 'handled') === 1, 'redelivered')
  const ids = log.records('stock').map(({ headers }) => text(headers.find(({ key }) => key === 'ce_id')!.value))
  assert.equal(ids.length, 2)
  assert.equal(ids[0], ids[1])
  acknowledge()
  await close(second)
})

test('a rebalance finishes what runs, returns the rest, and the next owner redoes nothing that was finished', async () => {
  const log = new MemoryLog({ batchRecordsMax: 10 })
  const byKey = new Map<string, number[]>()
  const worker = () =>
    service('worker').on(Orders.Placed, async ({ id, n }) => {
      await new Promise((done) => setTimeout(done, 1 + (n % 4)))
      byKey.set(id, [...(byKey.get(id) ?? []), n])
    })
  const first = await start([worker()], { memoryLog: log })
  for (let n = 0; n < 400; n++) await first.app.publish(Orders.Placed({ id: `key-${n % 40}`, n }))
  await until(() => ended(first.app, 'handled') > 50, 'some handled')
  const second = await start([worker()], { memoryLog: log })
  await until(() => ended(second.app, 'handled') > 20, 'second works')
  const third = await start([worker()], { memoryLog: log })
  await third.app[Symbol.asyncDispose]()
  await until(
    () => {
      const all = [...byKey.values()].reduce((sum, list) => sum + list.length, 0)
      return all >= 400 && open(first.app) + open(second.app) === 0
    },
    'all handled',
    15_000,
  )
  const all = [...byKey.values()].flat()
  assert.equal(all.length, 400, 'nothing was handled twice across orderly rebalances')
  for (const [id, order] of byKey)
    assert.deepEqual(
      order,
      order.toSorted((a, b) => a - b),
      `order of ${id}`,
    )
  assert.ok(ended(first.app, 'returned.revoked') > 0, 'the first owner returned what it had not begun')
  await close(first, second, third)
})

test('completions of a lost partition change nothing, and the next owner handles the record again', async () => {
  const log = new MemoryLog()
  const releases: (() => void)[] = []
  let calls = 0
  const worker = service('worker').on(Orders.Placed, async (_order, { signal }) => {
    if (++calls > 1) return
    await new Promise<void>((done) => {
      releases.push(done)
      signal.addEventListener('abort', () => calls++)
    })
  })
  const started = await start([worker], { memoryLog: log })
  const outcomes: string[] = []
  const onEnded = (message: unknown) => outcomes.push((message as { outcome: string }).outcome)
  endedChannel.subscribe(onEnded)
  await started.app.publish(Orders.Placed({ id: 'a', n: 0 }))
  await until(() => releases.length === 1, 'running')
  started.transport.readers[0]!.expire()
  await until(() => ended(started.app, 'handled') === 1, 'handled by the next ownership')
  assert.equal(calls, 3, 'the first attempt was told by its signal')
  releases[0]!()
  await until(() => started.app.stats()[0]!.inFlight === 0, 'slot given back')
  endedChannel.unsubscribe(onEnded)
  assert.deepEqual(outcomes, ['handled'])
  assert.equal(ended(started.app, 'handled'), 1)
  assert.equal(ended(started.app, 'returned.lost'), 1)
  await close(started)
})

test('finished work beyond the lowest open record is not redone after a crash', async () => {
  const log = new MemoryLog()
  const handled: number[] = []
  let block = true
  const worker = () =>
    service('worker').on(Orders.Placed, async ({ id, n }) => {
      if (id === 'slow' && block) await new Promise(() => undefined)
      handled.push(n)
    })
  const One = { id: 'slow', n: 0 }
  const first = await start([worker()], { memoryLog: log, drainTimeout: 5 })
  const { partition } = await first.app.publish(Orders.Placed(One))
  let n = 1
  for (let suffix = 0; n <= 5; suffix++) {
    const before = log.records('orders').length
    const sent = await first.app.publish(Orders.Placed({ id: `quick-${suffix}`, n }))
    if (sent.partition === partition) n++
    assert.ok(log.records('orders').length > before)
  }
  await until(() => open(first.app) === 1, 'all but the slow one')
  for (const loop of first.app.loops) await loop.checkpointAll()
  const before = handled.length
  crash(first)
  block = false
  const second = await start([worker()], { memoryLog: log })
  await until(() => ended(second.app, 'handled') === 1, 'the slow one')
  assert.equal(handled.length, before + 1)
  assert.ok(ended(second.app, 'skipped') >= 5)
  await close(second)
})

test('stopping drains: running handlers finish, their work is on record, queued ones are returned', async () => {
  const log = new MemoryLog()
  let finished = 0
  const worker = service('worker').on(Orders.Placed, async () => {
    await new Promise((done) => setTimeout(done, 30))
    finished++
  })
  const started = await start([worker], { memoryLog: log, concurrency: 3 })
  for (let n = 0; n < 20; n++) await started.app.publish(Orders.Placed({ id: `k${n}`, n }))
  await until(() => started.app.stats()[0]!.inFlight === 3, 'three run')
  await started.app[Symbol.asyncDispose]()
  assert.equal(finished, 3)
  assert.equal(ended(started.app, 'handled'), 3)
  assert.equal(ended(started.app, 'returned.revoked'), fetched(started.app) - 3)
  const stored = [...log.group('worker').checkpoints.values()]
  const finishedOnRecord = stored.reduce(
    (sum, { low, finished: ranges }) =>
      sum + low + ranges.reduce((total, edge, index) => total + (index % 2 === 0 ? -edge : edge), 0),
    0,
  )
  assert.equal(finishedOnRecord, 3)
  await close(started)
})

test('with a store, writes, inbox row and emitted events commit together, once', async () => {
  const log = new MemoryLog()
  const store = new MemoryStore()
  let failOnce = true
  const worker = service('worker', { store: memory, emits: [Stock] }).on(
    Orders.Placed,
    async ({ id, n }, { tx, emit }) => {
      tx.set(`order ${id}`, String(Number(tx.get(`order ${id}`) ?? 0) + n))
      emit(Stock.Taken({ id, n }))
      if (failOnce) {
        failOnce = false
        throw new Error('after the writes')
      }
    },
  )
  const started = await start([worker], { memoryLog: log, store, random: () => 0.001 })
  const sent = await started.app.publish(Orders.Placed({ id: 'a', n: 5 }))
  await started.app.publish(Orders.Placed({ id: 'a', n: 5 }), { id: sent.id })
  await until(() => ended(started.app, 'handled') + ended(started.app, 'duplicate') === 2, 'both ended')
  assert.equal(store.rows.get('order a'), '5')
  assert.equal(ended(started.app, 'duplicate'), 1)
  await until(() => log.records('stock').length === 1, 'the outbox is published')
  await close(started)
})

test('a store that is away stops the partition, blames no record, and work goes on when it is back', async () => {
  const store = new MemoryStore()
  const seen: number[] = []
  const worker = service('worker', { store: memory }).on(Orders.Placed, async ({ n }, { message }) => {
    seen.push(n * 10 + message.attempt)
  })
  const started = await start([worker], { store, random: () => 0.05 })
  await started.app.publish(Orders.Placed({ id: 'a', n: 0 }))
  await until(() => seen.length === 1, 'first')
  store.away = true
  await started.app.publish(Orders.Placed({ id: 'a', n: 1 }))
  await until(() => started.app.ledger().some(({ standing }) => standing === 'storeAway'), 'standing')
  assert.ok(started.app.health().reasons.some((reason) => reason.includes('storeAway')))
  store.away = false
  await until(() => ended(started.app, 'handled') === 2, 'both handled')
  assert.deepEqual(seen, [1, 11])
  assert.equal(started.log.records('dlq.worker').length, 0)
  await close(started)
})

test('an owner fenced by another one acquires and confirms again before it goes on', async () => {
  const store = new MemoryStore()
  const seen: number[] = []
  const worker = service('worker', { store: memory }).on(Orders.Placed, async ({ n }) => {
    seen.push(n)
  })
  const started = await start([worker], { store, random: () => 0.001 })
  const { partition } = await started.app.publish(Orders.Placed({ id: 'a', n: 0 }))
  await until(() => seen.length === 1, 'first')
  // Somebody else takes the fence, as a new owner would.
  await store.acquire('worker', started.log.topic('orders')!.id, partition)
  await started.app.publish(Orders.Placed({ id: 'a', n: 1 }))
  await until(() => ended(started.app, 'handled') === 2, 'second')
  assert.deepEqual(seen, [0, 1])
  await close(started)
})

test('no handler starts before the fence is acquired and the group has confirmed', async (t) => {
  const store = new MemoryStore()
  const order: string[] = []
  const gates = { acquire: () => {}, confirm: () => {} }
  const gate = (name: 'acquire' | 'confirm') =>
    new Promise<void>((done) => {
      order.push(name)
      gates[name] = done
    })
  const { acquire, handle } = MemoryStore.prototype
  store.acquire = async (...about) => {
    await gate('acquire')
    return acquire.apply(store, about)
  }
  store.handle = async (...about) => {
    order.push('transaction')
    return handle.apply(store, about)
  }
  const { confirm } = MemoryReader.prototype
  t.mock.method(MemoryReader.prototype, 'confirm', async function (this: MemoryReader, held: Held) {
    await gate('confirm')
    return confirm.call(this, held)
  })
  const One = topic('one', { key: 'id', partitions: 1, events: { Made: z.object({ id: z.string() }) } })
  const worker = service('worker', { store: memory }).on(One.Made, async () => undefined)
  const started = await start([worker], { store })
  await started.app.publish(One.Made({ id: 'a' }))
  await until(() => order.length === 1, 'acquiring')
  gates.acquire()
  await until(() => order.length === 2, 'confirming')
  await new Promise((done) => setImmediate(() => setImmediate(done)))
  assert.deepEqual(order, ['acquire', 'confirm'])
  gates.confirm()
  await until(() => ended(started.app, 'handled') === 1, 'handled')
  assert.deepEqual(order, ['acquire', 'confirm', 'transaction'])
  await close(started)
})

test('no handler starts while the session may have expired', async (t) => {
  let alive = false
  let asked = 0
  const { owns } = MemoryReader.prototype
  t.mock.method(MemoryReader.prototype, 'owns', function (this: MemoryReader, held: Held) {
    asked++
    return alive && owns.call(this, held)
  })
  let handled = 0
  const worker = service('worker').on(Orders.Placed, () => {
    handled++
  })
  const started = await start([worker])
  await started.app.publish(Orders.Placed({ id: 'a', n: 0 }))
  await until(() => asked >= 2, 'asked again')
  assert.equal(handled, 0)
  alive = true
  await until(() => handled === 1, 'handled')
  await close(started)
})

test('a process that dies at one record again and again goes careful, then gives that record up as ProcessDied', async () => {
  const log = new MemoryLog()
  const One = topic('one', { key: 'id', partitions: 1, events: { Made: z.object({ id: z.string() }) } })
  const handled: string[] = []
  const begun: string[] = []
  /** The handler that kills: it never returns, and the test kills the reader for it. */
  const worker = () =>
    service('worker').on(One.Made, async ({ id }) => {
      begun.push(id)
      if (id === 'poison') await new Promise(() => undefined)
      handled.push(id)
    })
  const seed = await start([], { memoryLog: log })
  log.create('one', 1)
  for (const id of ['a', 'poison', 'b', 'c']) await seed.app.publish(One.Made({ id }))
  let deaths = 0
  for (; log.records('dlq.worker').length === 0 && deaths < 12; deaths++) {
    begun.length = 0
    const life = await start([worker()], { memoryLog: log, drainTimeout: 5 })
    await until(() => begun.includes('poison') || log.records('dlq.worker').length > 0, `life ${deaths}`)
    for (const loop of life.app.loops) await loop.checkpointAll()
    if (log.records('dlq.worker').length > 0) {
      await until(() => handled.includes('c'), 'the rest')
      await close(life)
    } else crash(life)
  }
  const [letter] = log.records('dlq.worker')
  const error = letter!.headers.find(({ key }) => key === 'ottla-error')!.value
  assert.equal(text(error), 'ProcessDied')
  assert.ok(text(letter!.value)!.includes('poison'))
  for (const id of ['a', 'b', 'c']) assert.ok(handled.includes(id))
  assert.ok(deaths >= 4, `gave up after ${deaths} lives`)
  await close(seed)
})

test('a partition whose whole allowance was finished by an earlier owner goes on with what comes after', async () => {
  const log = new MemoryLog()
  const One = topic('one', { key: 'id', partitions: 1, events: { Made: z.object({ id: z.string() }) } })
  const seed = await start([], { memoryLog: log })
  log.create('one', 1)
  for (let n = 0; n <= 9_000; n++) void seed.app.publish(One.Made({ id: `key-${n}` }))
  await until(() => log.records('one').length === 9_001, 'published')
  log.group('worker').checkpoints.set('one/0', { low: 0, finished: [1, 9_000], strikes: 0 })
  const gate = Promise.withResolvers<void>()
  const handled: string[] = []
  const worker = service('worker').on(One.Made, async ({ id }) => {
    // Until its allowance of open records is used up.
    if (id === 'key-0') await gate.promise
    handled.push(id)
  })
  const life = await start([worker], { memoryLog: log, concurrency: 1 })
  await until(() => life.app.ledger().some(({ fetched }) => fetched >= 4_096), 'the allowance is used up')
  gate.resolve()
  await until(() => handled.length === 2, 'the last one')
  assert.deepEqual(handled, ['key-0', 'key-9000'])
  await until(() => log.group('worker').checkpoints.get('one/0')?.low === 9_001, 'and that is on record', 5_000)
  await close(life, seed)
})

for (const { busyMs, count, concurrency } of [
  { busyMs: 1, count: 200, concurrency: 64 },
  { busyMs: 20, count: 15, concurrency: 1 },
]) {
  test(`handlers that compute for ${busyMs} ms and never wait give the event loop back, ${concurrency} at once`, async () => {
    const log = new MemoryLog()
    const One = topic('one', { key: 'id', partitions: 1, events: { Made: z.object({ id: z.string() }) } })
    const seed = await start([], { memoryLog: log })
    log.create('one', 1)
    for (let n = 0; n < count; n++) await seed.app.publish(One.Made({ id: `key-${n}` }))
    let turns = 0
    let handled = 0
    const turnsAt: number[] = []
    const worker = service('worker').on(One.Made, async () => {
      for (const untilMs = performance.now() + busyMs; performance.now() < untilMs; );
      turnsAt.push(turns)
      handled++
    })
    let counting = true
    const countTurn = () => {
      turns++
      if (counting) setImmediate(countTurn)
    }
    countTurn()
    const life = await start([worker], { memoryLog: log, concurrency })
    try {
      await until(() => handled === count, 'all')
    } finally {
      counting = false
    }
    assert.ok(turnsAt.at(-1)! - turnsAt[0]! >= 10, `${turnsAt.at(-1)! - turnsAt[0]!} turns of the event loop`)
    await close(life, seed)
  })
}

test('the first progress takes the strike back at once, not at the next interval', async (t) => {
  const { after: later } = systemClock
  t.mock.method(systemClock, 'after', (delayMs: number, callback: () => void) =>
    delayMs >= 1_000 ? { [Symbol.dispose]() {} } : later.call(systemClock, delayMs, callback),
  )
  const stored: string[] = []
  const { checkpoint } = MemoryReader.prototype
  t.mock.method(MemoryReader.prototype, 'checkpoint', function (this: MemoryReader, held: Held, to: Checkpoint) {
    stored.push(`${to.low} strikes ${to.strikes}`)
    return checkpoint.call(this, held, to)
  })
  const One = topic('one', { key: 'id', partitions: 1, events: { Made: z.object({ id: z.string() }) } })
  const gate = Promise.withResolvers<void>()
  const worker = service('worker').on(One.Made, async ({ id }) => {
    if (id === 'slow') await gate.promise
  })
  const started = await start([worker])
  for (const id of ['quick', 'slow']) await started.app.publish(One.Made({ id }))
  try {
    await until(() => stored.includes('1 strikes 0'), 'the strike is taken back', 2_000)
    assert.deepEqual(stored, ['0 strikes 1', '1 strikes 0'])
  } finally {
    gate.resolve()
    t.mock.restoreAll()
    await close(started)
  }
})

test('an emit to an undeclared topic, a foreign store and a twice-named service are told before or when they happen', async () => {
  const errors: unknown[] = []
  const worker = service('worker', { emits: [Stock] }).on(Orders.Placed, (_order, { emit }) => {
    try {
      emit(Orders.Moved({ id: 'x' }) as never)
    } catch (error) {
      errors.push(error)
    }
  })
  const started = await start([worker])
  await started.app.publish(Orders.Placed({ id: 'a', n: 0 }))
  await until(() => errors.length === 1, 'refused')
  assert.equal((errors[0] as OttlaError).code, 'OTTLA_RUNTIME_UNDECLARED_EMIT')
  await close(started)
  await assert.rejects(
    () => start([service('a', { store: memory }), service('a')]),
    (error: OttlaError) =>
      error.code === 'OTTLA_RUNTIME_WIRING' &&
      /Two services/.test(error.message) &&
      /needs a store/.test(error.message),
  )
})

test('missing, small and unsafe topics refuse the start with the whole list', async () => {
  const log = new MemoryLog({ brokers: 3, replicas: 1, minInSync: 1, embedded: false })
  log.create('orders', 2)
  const worker = service('worker', { emits: [Stock] }).on(Orders.Placed, () => undefined)
  await assert.rejects(
    () => start([worker], { memoryLog: log }),
    (error: OttlaError) => {
      assert.equal(error.code, 'OTTLA_RUNTIME_TOPIC')
      for (const part of [/orders has 2 partitions/, /stock does not exist/, /dlq\.worker/, /orders has 1 replicas/]) {
        assert.match(error.message, part)
      }
      return true
    },
  )
})

test('a key that fails for long stops the fetching of its partition with one alarm, and goes on when it is mended', async () => {
  const alarms: string[] = []
  const onAlarm = (message: unknown) => alarms.push((message as { error: OttlaError }).error.code)
  alarm.subscribe(onAlarm)
  const log = new MemoryLog({ batchRecordsMax: 400 })
  log.create('orders', 4)
  let away = true
  const worker = service('worker').on(Orders.Placed, () => {
    if (away) throw Object.assign(new Error('away'), { code: 'ECONNREFUSED' })
  })
  const started = await start([worker], { memoryLog: log, random: () => 0.02 })
  const stuck = () => started.app.ledger().reduce((sum, row) => sum + row.waiting + row.parked, 0)
  for (let n = 0; n < 3_000; n++) log.append({ ...encoded(0), topic: 'orders', partition: 0 })
  await until(() => alarms.includes('OTTLA_RUNTIME_PARKED_FULL'), 'alarm')
  await until(() => stuck() >= 1_000, 'standing')
  assert.ok(fetched(started.app) < 2_000, `${fetched(started.app)} were fetched`)
  away = false
  await until(() => ended(started.app, 'handled') === 3_000, 'mended')
  assert.deepEqual(alarms, ['OTTLA_RUNTIME_PARKED_FULL'])
  alarm.unsubscribe(onAlarm)
  await close(started)
})

test('a paused service starts nothing and a resumed one goes on', async () => {
  let handled = 0
  const worker = service('worker').on(Orders.Placed, () => {
    handled++
  })
  const started = await start([worker])
  await started.app.publish(Orders.Placed({ id: 'a', n: 0 }))
  await until(() => handled === 1, 'first')
  assert.equal(started.app.pause('worker'), 4)
  started.log.append({ ...encoded(1), topic: 'orders', partition: 0 })
  await new Promise((done) => setImmediate(() => setImmediate(done)))
  assert.equal(handled, 1)
  assert.equal(started.app.resume('worker', 'orders', 0), 1)
  await until(() => handled === 2, 'second')
  await close(started)
})

test('budgets pause a partition whose handlers are slow', async () => {
  const log = new MemoryLog({ batchRecordsMax: 500 })
  const worker = service('worker').on(Orders.Placed, () => new Promise<void>(() => undefined), { timeout: '1h' })
  const started = await start([worker], { memoryLog: log, drainTimeout: 50 })
  for (let n = 0; n < 9_000; n++) log.append({ ...encoded(n), topic: 'orders', partition: 0 })
  await until(() => fetched(started.app) >= 4_096, 'budget reached')
  await new Promise((done) => setImmediate(() => setImmediate(done)))
  assert.ok(fetched(started.app) < 5_000, `${fetched(started.app)} were taken in`)
  await started.app[Symbol.asyncDispose]()
})

test('a synchronous handler without emits costs no promise', async () => {
  const log = new MemoryLog({ batchRecordsMax: 1_000 })
  let handled = 0
  let promises = 0
  /** Promises made from one handler to the next within a turn of the event loop, where nobody else runs. */
  let between = 0
  let pairs = 0
  let before: number | null = null
  const hook = createHook({ init: (_id, type) => void (type === 'PROMISE' && promises++) }).enable()
  const worker = service('worker').on(Orders.Placed, () => {
    handled++
    if (before === null) {
      queueMicrotask(() => {
        before = null
      })
    } else if (handled > 2) {
      // Behind the first one stands the checkpoint that takes the strike back, once per ownership.
      between += promises - before
      pairs++
    }
    before = promises
  })
  log.create('orders', 4)
  for (let n = 0; n < 200; n++) log.append({ ...encoded(n), topic: 'orders', partition: 0 })
  const started = await start([worker], { memoryLog: log })
  await until(() => handled === 200, 'handled')
  hook.disable()
  assert.ok(pairs > 50, `only ${pairs} handlers followed another one in their turn`)
  assert.equal(between, 0)
  assert.equal(ended(started.app, 'handled'), 200)
  assert.equal(started.app.stats()[0]!.inFlight, 0)
  await close(started)
})

test('a record that the ledger forgets stops its partition with an alarm, and nothing is committed', async (t) => {
  const alarms: string[] = []
  const onAlarm = (message: unknown) => alarms.push((message as { error: OttlaError }).error.code)
  alarm.subscribe(onAlarm)
  const handled: number[] = []
  const worker = service('worker').on(Orders.Placed, async ({ n }) => {
    handled.push(n)
  })
  const started = await start([worker])
  t.mock.method(Ledger.prototype, 'end', () => undefined, { times: 1 })
  const { partition } = await started.app.publish(Orders.Placed({ id: 'a', n: 0 }))
  await until(() => handled.length === 1, 'handled')
  for (const loop of started.app.loops) await loop.checkpointAll()
  assert.deepEqual(alarms, ['OTTLA_RUNTIME_LEDGER_IMBALANCE'])
  assert.equal(started.app.ledger().find((row) => row.partition === partition)?.state, 'stopped')
  await started.app.publish(Orders.Placed({ id: 'a', n: 1 }))
  await started.app[Symbol.asyncDispose]()
  assert.deepEqual(handled, [0])
  const stored = started.log.group('worker').checkpoints.get(`orders/${partition}`)
  assert.ok(stored === undefined || stored.low === 0, 'the record that nobody accounts for was not committed')
  alarm.unsubscribe(onAlarm)
})

function encoded(n: number) {
  return encodeMessage(Orders.Placed({ id: `k${n}`, n }), { id: String(n), source: 'x', timeMs: Date.now() })
}

function seeded(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}
