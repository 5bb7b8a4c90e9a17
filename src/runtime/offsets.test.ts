/** Where a service goes on when its place is gone, and what retention has taken. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { z } from 'zod'
import { systemClock } from '../adapters/system/clock.ts'
import { OttlaError } from '../contract/errors.ts'
import { topic } from '../contract/topic.ts'
import { balances, type Ending } from '../core/ledger.ts'
import { MemoryStore, memory } from '../testing/memory-store.ts'
import { MemoryLog, memoryTransport } from '../testing/memory-transport.ts'
import { untilWithin } from '../testing/until.ts'
import { RunningApp } from './app.ts'
import { alarm } from './channels.ts'
import { type AnyService, service } from './service.ts'
import type { LooseDefinition } from './wiring.ts'

const Orders = topic('orders', {
  key: 'id',
  partitions: 1,
  events: { Placed: z.object({ id: z.string(), n: z.int() }) },
})
const quiet = { debug() {}, info() {}, warn() {}, error() {} }

const until = untilWithin(10_000)

async function start(services: readonly AnyService[], more: Partial<LooseDefinition> & { memoryLog?: MemoryLog } = {}) {
  const { memoryLog: log = new MemoryLog(), ...definition } = more
  const transport = memoryTransport(log)
  const app = new RunningApp(
    { transport, services, drainTimeout: 200, topics: 'create', ...definition },
    { clock: systemClock, log: quiet, random: () => 0.01, instance: 'test' },
  )
  await app.start()
  return {
    app,
    log,
    transport,
    ended: (ending: Ending) => app.ledger().reduce((sum, row) => sum + row.ended[ending], 0),
    expired: () => app.ledger().reduce((sum, row) => sum + row.expired, 0),
    async [Symbol.asyncDispose]() {
      await app[Symbol.asyncDispose]()
      for (const row of app.ledger()) assert.ok(balances(row) && row.open === 0, JSON.stringify(row))
    },
  }
}

const alarms: OttlaError[] = []
const listen = (message: unknown) => alarms.push((message as { error: OttlaError }).error)
alarm.subscribe(listen)
after(() => alarm.unsubscribe(listen))
const told = (code: string) => alarms.filter((error) => error.code === code)

function counting(more: object = { store: memory }) {
  const handled: number[] = []
  const made = service('worker', more).on(Orders.Placed, async ({ n }) => {
    await Promise.resolve()
    handled.push(n)
  })
  return { handled, made }
}

/** A group that has handled three and whose offsets are then forgotten, as a broker does after a week without members. */
async function forgotten() {
  const log = new MemoryLog()
  const store = new MemoryStore()
  const { handled, made } = counting()
  {
    await using first = await start([made], { memoryLog: log, store })
    for (let n = 0; n < 3; n++) await first.app.publish(Orders.Placed({ id: 'a', n }))
    await until(() => first.ended('handled') === 3, 'handled')
  }
  assert.equal(log.group('worker').checkpoints.get('orders/0')?.low, 3)
  log.group('worker').checkpoints.delete('orders/0')
  alarms.length = 0
  return { log, store, handled, made }
}

test('offsets that vanished stand the partition still, and the alarm lists the choices', async () => {
  const { log, store, handled, made } = await forgotten()
  await using second = await start([made], { memoryLog: log, store })
  await until(() => told('OTTLA_RUNTIME_OFFSETS_VANISHED').length === 1, 'alarm')
  const { message } = told('OTTLA_RUNTIME_OFFSETS_VANISHED')[0]!
  assert.match(message, /no offset here any more, although worker has worked here\. The log holds 0 to 3\./)
  assert.match(message, /ottla groups reset-offsets worker.*offsetsVanished: 'earliest'.*'latest'/)
  await second.app.publish(Orders.Placed({ id: 'a', n: 3 }))
  assert.deepEqual(second.app.health().reasons, ['worker: orders-0 stands still: stopped'])
  assert.equal(second.app.resume('worker'), 0, 'resuming is no choice of a place')
  assert.deepEqual([handled, second.ended('handled')], [[0, 1, 2], 0])
  assert.equal(log.group('worker').checkpoints.get('orders/0'), undefined, 'nothing is committed')
})

test("offsetsVanished: 'earliest' redoes what the inbox does not know, 'latest' skips it", async () => {
  for (const [offsetsVanished, endings] of [
    ['earliest', [3, 1]],
    ['latest', [0, 1]],
  ] as const) {
    const { log, store, handled, made } = await forgotten()
    await using second = await start([made], { memoryLog: log, store, offsetsVanished })
    // Only when the place is known is something published: `latest` means the end of then.
    await until(() => log.group('worker').checkpoints.get('orders/0') !== undefined, 'placed')
    await second.app.publish(Orders.Placed({ id: 'a', n: 3 }))
    await until(() => second.ended('handled') === 1, 'the new one')
    assert.deepEqual([second.ended('duplicate'), second.ended('handled')], endings)
    assert.deepEqual(handled, [0, 1, 2, 3])
    assert.equal(told('OTTLA_RUNTIME_OFFSETS_VANISHED').length, 0)
  }
})

test('a service that is new, or has met an empty partition only, begins at the beginning', async () => {
  const log = new MemoryLog()
  const store = new MemoryStore()
  const { handled, made } = counting()
  alarms.length = 0
  for (let turn = 0; turn < 2; turn++) {
    await using first = await start([made], { memoryLog: log, store })
    await until(() => first.app.ledger()[0]?.state === 'running', 'running')
  }
  log.append({ topic: 'orders', partition: 0, key: null, value: null, headers: [] })
  await using second = await start([made], { memoryLog: log, store })
  await second.app.publish(Orders.Placed({ id: 'a', n: 0 }))
  await until(() => handled.length === 1, 'handled')
  assert.deepEqual(alarms, [])
})

test('a place beyond the end of the log stands the partition still, or goes on as the app says', async () => {
  for (const offsetsVanished of [undefined, 'earliest', 'latest'] as const) {
    const log = new MemoryLog()
    log.create('orders', 1)
    const { handled, made } = counting({})
    const key = Buffer.from('a')
    log.group('worker').checkpoints.set('orders/0', { low: 50, finished: [], strikes: 0 })
    alarms.length = 0
    const policy = offsetsVanished === undefined ? {} : { offsetsVanished }
    await using started = await start([made], { memoryLog: log, ...policy })
    if (offsetsVanished === undefined) {
      await until(() => told('OTTLA_RUNTIME_OFFSETS_VANISHED').length === 1, 'alarm')
      assert.match(told('OTTLA_RUNTIME_OFFSETS_VANISHED')[0]!.message, /its place is 50, but the log ends at 0/)
      continue
    }
    await until(() => log.group('worker').checkpoints.get('orders/0')?.low === 0, 'placed anew')
    await started.app.publish(Orders.Placed({ id: key.toString(), n: 0 }))
    await until(() => handled.length === 1, 'handled')
  }
})

test('a log that lost records which were read here stands still, or is read again from where it differs', async () => {
  for (const offsetsVanished of [undefined, 'earliest'] as const) {
    const log = new MemoryLog()
    const { handled, made } = counting()
    alarms.length = 0
    const policy = offsetsVanished === undefined ? {} : { offsetsVanished }
    await using started = await start([made], { memoryLog: log, store: new MemoryStore(), ...policy })
    for (let n = 0; n < 3; n++) await started.app.publish(Orders.Placed({ id: 'a', n }))
    await until(() => started.ended('handled') === 3, 'handled')
    const held = { topic: 'orders', topicId: log.topic('orders')!.id, partition: 0, ownership: 1 }
    const details = { position: 3, divergesAt: 1 }
    started.app.loops[0]!.fault(held, new OttlaError('OTTLA_KAFKA_LOG_TRUNCATED', 'another log', { details }))
    if (offsetsVanished === undefined) {
      assert.match(told('OTTLA_RUNTIME_OFFSETS_VANISHED')[0]!.message, /another log\. .*offsetsVanished/)
      assert.deepEqual(started.app.health().reasons, ['worker: orders-0 stands still: stopped'])
      continue
    }
    await until(() => started.ended('duplicate') === 2, 'read again')
    await started.app.publish(Orders.Placed({ id: 'a', n: 3 }))
    await until(() => handled.length === 4, 'goes on')
    await started.app.loops[0]!.checkpointAll()
    assert.equal(log.group('worker').checkpoints.get('orders/0')?.low, 4)
  }
})

test('what retention takes away is counted: at the start, and while the service lags', async () => {
  const log = new MemoryLog({ batchRecordsMax: 1 })
  log.create('orders', 1)
  const { handled, made } = counting({})
  let release: () => void = () => undefined
  const gate = new Promise<void>((done) => {
    release = done
  })
  const slow = service('slow').on(Orders.Placed, async () => {
    await gate
  })
  {
    await using writer = await start([], { memoryLog: log })
    for (let n = 0; n < 10; n++) {
      const encoded = Orders.Placed({ id: `key-${n}`, n })
      await writer.app.publish(encoded)
    }
  }
  log.group('worker').checkpoints.set('orders/0', { low: 2, finished: [4, 5], strikes: 0 })
  log.expire('orders', 0, 4)
  alarms.length = 0
  {
    await using started = await start([made], { memoryLog: log })
    await until(() => started.ended('handled') === 5, 'the rest')
    assert.deepEqual([started.expired(), started.ended('skipped'), handled], [2, 1, [5, 6, 7, 8, 9]])
    assert.match(told('OTTLA_RUNTIME_EXPIRED')[0]!.message, /retention removed 2 unread records/)
    await until(() => log.group('worker').checkpoints.get('orders/0')?.low === 10, 'committed')
  }
  alarms.length = 0
  await using lagging = await start([slow], { memoryLog: log, concurrency: 1 })
  await until(() => lagging.app.stats()[0]!.inFlight === 1, 'one runs')
  lagging.app.pause('slow')
  await until(() => lagging.app.ledger()[0]!.standing === 'asked', 'stands')
  const read = lagging.app.ledger()[0]!.fetched
  for (let n = 10; n < 20; n++) await lagging.app.publish(Orders.Placed({ id: `key-${n}`, n }))
  log.expire('orders', 0, 15)
  release()
  lagging.app.resume('slow')
  await until(() => lagging.ended('handled') === read + 5, 'what was read and what is left')
  assert.equal(read + 5 + lagging.expired(), 16, 'each of 4 to 19 was handled or is counted')
  assert.equal(told('OTTLA_RUNTIME_EXPIRED').length, 1)
})

test('an inbox that forgets before the topics do refuses to start; a topic that never forgets is an alarm', async () => {
  const dayMs = 86_400_000
  const store = new MemoryStore()
  const { made } = counting()
  store.inboxRetentionMs = 14 * dayMs
  await assert.rejects(start([made], { store }), (error: OttlaError) => {
    assert.equal(error.code, 'OTTLA_STORE_INBOX_RETENTION')
    assert.match(error.message, /worker: orders keeps records for 7 days; the inbox needs 15 days/)
    return true
  })
  store.inboxRetentionMs = 15 * dayMs
  await (await start([made], { store }))[Symbol.asyncDispose]()
  const log = new MemoryLog()
  log.create('orders', 1, { 'retention.ms': '-1' })
  alarms.length = 0
  await (await start([made], { store, memoryLog: log }))[Symbol.asyncDispose]()
  assert.match(told('OTTLA_STORE_INBOX_RETENTION')[0]!.message, /orders keeps records for ever/)
})
