/** Retry topics: order given up by name, and nothing else. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { z } from 'zod'
import { systemClock } from '../adapters/system/clock.ts'
import { OttlaError, PermanentError } from '../contract/errors.ts'
import { topic } from '../contract/topic.ts'
import { balances, type Ending } from '../core/ledger.ts'
import { MemoryStore, memory } from '../testing/memory-store.ts'
import { MemoryLog, memoryTransport } from '../testing/memory-transport.ts'
import { untilWithin } from '../testing/until.ts'
import { RunningApp } from './app.ts'
import { alarm } from './channels.ts'
import { DeadLetterDesk } from './dlq.ts'
import type { Transport } from './ports.ts'
import { type AnyService, service } from './service.ts'
import type { LooseDefinition } from './wiring.ts'

const Orders = topic('orders', {
  key: 'id',
  partitions: 2,
  events: { Placed: z.object({ id: z.string(), n: z.int() }) },
})
const quiet = { debug() {}, info() {}, warn() {}, error() {} }
const unordered = { retry: 'topics', unordered: true, retryDelays: ['40ms', '80ms'] } as const

const until = untilWithin(10_000)

async function start(services: readonly AnyService[], more: Partial<LooseDefinition> & { memoryLog?: MemoryLog } = {}) {
  const { memoryLog: log = new MemoryLog(), ...definition } = more
  const transport = memoryTransport(log)
  const app = new RunningApp(
    { transport, services, drainTimeout: 1_000, topics: 'create', ...definition },
    { clock: systemClock, log: quiet, random: () => 0.01, instance: 'test' },
  )
  await app.start()
  const ended = (ending: Ending, of = '') =>
    app.ledger().reduce((sum, row) => sum + (row.topic.startsWith(of) ? row.ended[ending] : 0), 0)
  return {
    app,
    log,
    transport,
    ended,
    async [Symbol.asyncDispose]() {
      await app[Symbol.asyncDispose]()
      for (const row of app.ledger()) assert.ok(balances(row) && row.open === 0, JSON.stringify(row))
    },
  }
}

const dead: RunningApp[] = []
after(() => Promise.all(dead.map((app) => app[Symbol.asyncDispose]())))

const text = (bytes: Uint8Array | null | undefined) => (bytes ? Buffer.from(bytes).toString() : null)
const headersOf = (record: { readonly headers: readonly { key: string; value: Uint8Array | null }[] }) =>
  new Map(record.headers.map(({ key, value }) => [key, text(value)]))

test('a failed record goes round the retry topics and comes back as it was, and its key does not wait for it', async () => {
  const seen: string[] = []
  const facts: object[] = []
  const worker = service('worker', unordered).on(Orders.Placed, ({ id, n }, { message }) => {
    seen.push(`${id}${n}#${message.attempt}`)
    if (id === 'bad' && n === 0) {
      const { topic, type, key, time, redrive } = message
      facts.push({ topic, type, key, time: time.getTime(), redrive, id: message.id, note: message.headers['note'] })
      if (message.attempt < 3) throw new Error('not yet')
    }
  })
  await using started = await start([worker])
  const { app, log, ended } = started
  await app.publish(Orders.Placed({ id: 'bad', n: 0 }))
  await app.publish(Orders.Placed({ id: 'bad', n: 1 }))
  await until(() => ended('handled') === 2, 'both handled')
  assert.deepEqual(seen, ['bad0#1', 'bad1#1', 'bad0#2', 'bad0#3'])
  assert.equal(new Set(facts.map((each) => JSON.stringify(each))).size, 1, 'the same record each time')
  assert.equal(ended('moved', 'orders'), 1)
  assert.deepEqual([ended('moved', 'retry.worker.40ms'), ended('handled', 'retry.worker.80ms')], [1, 1])
  const [source] = log.records('orders')
  for (const [name, attempts] of [
    ['retry.worker.40ms', '1'],
    ['retry.worker.80ms', '2'],
  ] as const) {
    const [moved] = log.records(name)
    const headers = headersOf(moved!)
    assert.deepEqual([text(moved!.key), text(moved!.value)], [text(source!.key), text(source!.value)])
    assert.match(headers.get('ottla-origin')!, /^orders\/memory-\d+\/\d\/0$/)
    assert.deepEqual(
      [headers.get('ottla-attempts'), headers.get('ottla-error'), headers.get('ottla-timestamp')],
      [attempts, 'Error', String(source!.timestampMs)],
    )
    for (const [key, value] of headersOf(source!)) assert.equal(headers.get(key), value)
  }
})

test('a record waits at least its delay, whatever the clock of the host says, and nothing is fetched meanwhile', async () => {
  const delayMs = 200
  // The log's clock is two hours ahead of the host's, or behind it.
  for (const offMs of [7_200_000, -7_200_000]) {
    const log = new MemoryLog({ nowMs: () => Date.now() + offMs })
    const times = new Map<string, number[]>()
    const worker = service('worker', { ...unordered, retryDelays: [delayMs] }).on(
      Orders.Placed,
      ({ id }, { message }) => {
        times.set(id, [...(times.get(id) ?? []), performance.now()])
        if (message.attempt === 1) throw new Error('once')
      },
    )
    await using started = await start([worker], { memoryLog: log })
    const { app, ended } = started
    // The second one meets a member that knows the time of the log.
    for (const [n, id] of ['a', 'b'].entries()) {
      await app.publish(Orders.Placed({ id, n }))
      await until(() => app.parked().length === 1, `${id} waits at ${offMs}`)
      assert.match(app.parked()[0]!.why, /^due in \d+ ms/)
      await until(() => ended('handled') === n + 1, `${id} is handled`)
      const [first, second] = times.get(id)!
      assert.ok(second! - first! >= delayMs - 2 && second! - first! < 5_000, `waited ${second! - first!} ms`)
    }
  }
})

test('while the first record of a retry partition is not due, no more of it is fetched, and its neighbours flow', async () => {
  const log = new MemoryLog({ batchRecordsMax: 5 })
  const inner = memoryTransport(log)
  let taken = 0
  const transport: Transport = {
    ...inner,
    reader: (options, on) =>
      inner.reader(options, {
        gained: (parts) => on.gained(parts),
        releasing: (parts, deadlineMs) => on.releasing(parts, deadlineMs),
        lost: (parts) => on.lost(parts),
        fault: (where, error) => on.fault(where, error),
        batch: (held, records) => {
          if (held.topic.startsWith('retry.')) taken += records.count
          on.batch(held, records)
        },
      }),
  }
  let late = 0
  const worker = service('worker', { ...unordered, retryDelays: ['700ms'] }).on(
    Orders.Placed,
    ({ id }, { message }) => {
      if (message.attempt > 1) late++
      else if (id === 'bad') throw new Error('once')
    },
  )
  await using started = await start([worker], { memoryLog: log, transport })
  const { app, ended } = started
  for (let n = 0; n < 100; n++) await app.publish(Orders.Placed({ id: 'bad', n }))
  for (let n = 0; n < 20; n++) await app.publish(Orders.Placed({ id: 'good', n }))
  await until(() => ended('handled', 'orders') === 20 && ended('moved') === 100, 'all moved, the good ones handled')
  if (late === 0) assert.ok(taken <= 10, `${taken} records were taken in before the first was due`)
  await until(() => late === 100, 'all came back')
  assert.equal(taken, 100)
})

test('attempts used up end in a dead letter of the source record, and a redrive has it handled', async () => {
  let broken = true
  const attempts: number[] = []
  const handled: string[] = []
  const worker = service('worker', { ...unordered, store: memory }).on(
    Orders.Placed,
    async ({ id, n }, { message }) => {
      attempts.push(message.attempt)
      if (broken) throw new Error('broken')
      handled.push(`${id}${n}${message.redrive ? ' redriven' : ''}`)
    },
  )
  await using started = await start([worker], { store: new MemoryStore() })
  const { app, log, ended } = started
  await app.publish(Orders.Placed({ id: 'a', n: 0 }))
  await until(() => ended('deadLettered') === 1, 'dead letter')
  assert.deepEqual(attempts, [1, 2, 3])
  const [letter] = log.records('dlq.worker')
  const [source] = log.records('orders')
  const headers = headersOf(letter!)
  assert.match(headers.get('ottla-origin')!, /^orders\//)
  assert.deepEqual(
    [headers.get('ottla-attempts'), headers.get('__dlq.errors.topic'), headers.get('ottla-timestamp') ?? null],
    ['3', 'orders', null],
  )
  assert.equal(letter!.timestampMs, source!.timestampMs)
  // Later records of the key are handled: order was given up.
  await app.publish(Orders.Placed({ id: 'a', n: 1 }))
  broken = false
  await until(() => handled.length === 1, 'the follower')
  await using desk = await DeadLetterDesk.open({
    transport: memoryTransport(log),
    service: 'worker',
    clock: systemClock,
    log: quiet,
    by: 'tester',
  })
  const asked = await desk.redrive(await desk.letters(), { reason: 'mended', waitMs: 5_000 })
  assert.deepEqual(asked.outcomes, { handled: 1 })
  assert.deepEqual(handled, ['a1', 'a0 redriven'])
})

test('a failure of a passing kind moves without being counted, a permanent one is a dead letter at once', async () => {
  const attempts: number[] = []
  const worker = service('worker', { ...unordered, retryDelays: ['20ms'] }).on(Orders.Placed, ({ n }, { message }) => {
    attempts.push(message.attempt)
    if (attempts.length < 5) throw Object.assign(new Error('net'), { code: 'ECONNRESET' })
    if (n === 0) throw new PermanentError('never')
  })
  await using started = await start([worker])
  await started.app.publish(Orders.Placed({ id: 'a', n: 0 }))
  await until(() => started.ended('deadLettered') === 1, 'dead letter')
  assert.deepEqual(attempts, [1, 1, 1, 1, 1])
  const counts = started.log.records('retry.worker.20ms').map((record) => headersOf(record).get('ottla-transient'))
  assert.deepEqual(
    counts.map((each) => each!.split('/')[0]),
    ['1', '2', '3', '4'],
  )
  const lasted = counts.map((each) => Number(each!.split('/')[1]))
  assert.ok(lasted[3]! >= 60, `the time that it has lasted travels along: ${lasted}`)
})

test('a crash between the retry topic and the checkpoint repeats the record, and the inbox absorbs that', async () => {
  const log = new MemoryLog()
  const store = new MemoryStore()
  let broken = true
  let effects = 0
  const worker = service('worker', { ...unordered, retryDelays: ['150ms'], store: memory }).on(
    Orders.Placed,
    async (_, { tx }) => {
      if (broken) throw new Error('broken')
      effects++
      tx.set('effect', String(effects))
    },
  )
  const first = await start([worker], { memoryLog: log, store })
  dead.push(first.app)
  // Stored, but the process dies before it is told so.
  const { promise: never } = Promise.withResolvers<void>()
  log.delayAck = ({ topic: name }) => (name.startsWith('retry.') ? never : null)
  await first.app.publish(Orders.Placed({ id: 'a', n: 0 }))
  await until(() => log.records('retry.worker.150ms').length === 1, 'moved')
  first.transport.readers[0]!.kill()
  log.delayAck = () => null
  await using second = await start([worker], { memoryLog: log, store })
  await until(() => log.records('retry.worker.150ms').length === 2, 'moved once more')
  broken = false
  await until(() => second.ended('handled') + second.ended('duplicate') === 2, 'both copies have ended')
  assert.deepEqual([second.ended('handled'), second.ended('duplicate'), effects], [1, 1, 1])
})

test('a retry topic that takes nothing stands the partition still; the record is not lost and its handler is not asked again', async () => {
  const log = new MemoryLog()
  let away = true
  let calls = 0
  const alarms: string[] = []
  const listen = (message: unknown) => alarms.push((message as { error: OttlaError }).error.code)
  alarm.subscribe(listen)
  log.refuse = ({ topic: name }) =>
    away && name.startsWith('retry.') ? new OttlaError('OTTLA_KAFKA_TIMEOUT', 'away') : null
  const worker = service('worker', unordered).on(Orders.Placed, () => {
    if (calls++ === 0) throw new Error('once')
  })
  await using started = await start([worker], { memoryLog: log })
  await started.app.publish(Orders.Placed({ id: 'a', n: 0 }))
  await until(() => started.app.ledger().some(({ standing }) => standing === 'retryTopicsAway'), 'stands')
  await until(() => alarms.includes('OTTLA_RUNTIME_RETRY_TOPICS_AWAY'), 'alarm')
  assert.equal(calls, 1)
  away = false
  await until(() => started.ended('handled') === 1, 'handled')
  assert.deepEqual([calls, started.ended('moved')], [2, 1])
  alarm.unsubscribe(listen)
})

test('a record that strays into a retry topic is a dead letter, and those behind it are handled', async () => {
  const worker = service('worker', unordered).on(Orders.Placed, (_, { message }) => {
    if (message.attempt === 1) throw new Error('once')
  })
  await using started = await start([worker])
  const { log, app, ended } = started
  for (const origin of [null, 'nonsense', 'strangers/x/0/1']) {
    const headers = origin === null ? [] : [{ key: 'ottla-origin', value: Buffer.from(origin) }]
    log.append({ topic: 'retry.worker.40ms', partition: 0, key: null, value: Buffer.from('{}'), headers })
  }
  for (let n = 0; n < 6; n++) await app.publish(Orders.Placed({ id: `key-${n}`, n }))
  await until(() => ended('handled') === 6 && ended('deadLettered') === 3, 'all have ended')
})

test('endless retry keeps moving to the longest delay and says so', async () => {
  let calls = 0
  const worker = service('worker', { ...unordered, retryDelays: ['5ms', '10ms'] }).on(
    Orders.Placed,
    () => {
      if (++calls < 7) throw new Error('again')
    },
    { retry: 'forever' },
  )
  await using started = await start([worker])
  await started.app.publish(Orders.Placed({ id: 'a', n: 0 }))
  await until(() => started.ended('handled') === 1, 'handled')
  assert.equal(calls, 7)
  assert.deepEqual([started.ended('moved'), started.ended('deadLettered')], [6, 0])
  assert.equal(
    started.app.ledger().reduce((sum, row) => sum + row.retriesForever, 0),
    4,
  )
})

test('start-up makes the retry topics, or lists what is wrong with them', async () => {
  const worker = service('worker', unordered).on(Orders.Placed, () => undefined)
  const log = new MemoryLog()
  {
    await using _ = await start([worker], { memoryLog: log })
    const made = log.topic('retry.worker.80ms')!
    assert.equal(made.partitions.length, 2)
    assert.equal(made.configs.get('message.timestamp.type'), 'LogAppendTime')
  }
  log.topic('retry.worker.40ms')!.configs.set('message.timestamp.type', 'CreateTime').set('retention.ms', '1000')
  await assert.rejects(start([worker], { memoryLog: log, topics: 'verify' }), (error: OttlaError) => {
    assert.match(error.message, /retry\.worker\.40ms keeps the writers' time/)
    assert.match(error.message, /retry\.worker\.40ms forgets after 1000 ms/)
    return true
  })
  await assert.rejects(
    start([worker], { topics: 'verify' }),
    /retry\.worker\.40ms, where failed records wait, does not/,
  )
})

test('what types cannot see is refused when it runs', () => {
  const loose = service as (name: string, options: object) => unknown
  const half = [
    { retry: 'topics' },
    { unordered: true },
    { retryDelays: ['1s'] },
    { retry: 'somehow', unordered: true },
  ]
  for (const options of half) assert.throws(() => loose('worker', options), /gives up the order of each key/)
  assert.throws(() => loose('worker', { ...unordered, afterDeadLetter: 'hold' }), /no order that could be held/)
  assert.throws(() => loose('worker', { ...unordered, retryDelays: ['1m', '1s'] }), /must ascend/)
  assert.throws(() => loose('worker', { ...unordered, retryDelays: [] }), /0 delays/)
})
