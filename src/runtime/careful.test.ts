/** A partition whose owners die: nobody but the culprit is held up for it, and the culprit is found. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { z } from 'zod'
import { systemClock } from '../adapters/system/clock.ts'
import { topic } from '../contract/topic.ts'
import { MemoryLog, MemoryReader, memoryTransport } from '../testing/memory-transport.ts'
import { untilWithin } from '../testing/until.ts'
import { RunningApp } from './app.ts'
import type { Checkpoint, Held } from './ports.ts'
import { service } from './service.ts'

const Orders = topic('orders', {
  key: 'id',
  partitions: 1,
  events: { Placed: z.object({ id: z.string(), n: z.int() }) },
})
const quiet = { debug() {}, info() {}, warn() {}, error() {} }
const apps: RunningApp[] = []
after(() => Promise.all(apps.map((app) => app[Symbol.asyncDispose]())))

const until = untilWithin(5_000)

/** What a handler does with a record: it waits for a passing failure, it ends the process, or it is handled. */
type Deed = 'away' | 'kill' | 'handle'

/** A member whose handlers do as they are told. Killed, it commits nothing any more. */
async function member(log: MemoryLog, deedOf: (id: string) => Deed, handled: string[]) {
  const transport = memoryTransport(log)
  const died = Promise.withResolvers<void>()
  const running = { now: 0, most: 0 }
  const worker = service('worker').on(Orders.Placed, async ({ id, n }) => {
    running.most = Math.max(running.most, ++running.now)
    await new Promise((done) => setImmediate(done))
    running.now--
    switch (deedOf(id)) {
      case 'away':
        throw Object.assign(new Error('connection refused'), { code: 'ECONNREFUSED' })
      case 'kill':
        for (const reader of transport.readers) reader.kill()
        died.resolve()
        await new Promise(() => undefined)
        return
      default:
        handled.push(`${id}${n}`)
    }
  })
  const app = new RunningApp(
    { transport, services: [worker], drainTimeout: 20 },
    { clock: systemClock, log: quiet, random: () => 0.9, instance: 'test' },
  )
  apps.push(app)
  await app.start()
  return { app, died: died.promise, running, kill: () => transport.readers[0]!.kill() }
}

test('a careful partition runs one handler at a time, and a record that waits holds up its key alone', async () => {
  const log = new MemoryLog()
  const handled: string[] = []
  log.create('orders', 1)
  log.group('worker').checkpoints.set('orders/0', { low: 0, finished: [], strikes: 3 })
  const { app, running } = await member(log, (id) => (id === 'away' ? 'away' : 'handle'), handled)
  for (let n = 0; n < 3; n++) {
    for (const id of ['away', 'a', 'b', 'c']) await app.publish(Orders.Placed({ id, n }))
  }
  await until(() => handled.length === 9, 'the other keys')
  assert.equal(app.parked().length, 1)
  assert.equal(running.most, 1)
})

test('a careful attempt does not begin while the group refuses what would put it on record', async (t) => {
  const log = new MemoryLog()
  const handled: string[] = []
  log.create('orders', 1)
  log.group('worker').checkpoints.set('orders/0', { low: 0, finished: [], strikes: 3 })
  let refusals = 0
  const { checkpoint } = MemoryReader.prototype
  t.mock.method(MemoryReader.prototype, 'checkpoint', function (this: MemoryReader, held: Held, to: Checkpoint) {
    if (to.strikes <= 3 || refusals === 3) return checkpoint.call(this, held, to)
    assert.deepEqual(handled, [])
    refusals++
    return Promise.resolve('lost')
  })
  const { app } = await member(log, () => 'handle', handled)
  await app.publish(Orders.Placed({ id: 'a', n: 0 }))
  await until(() => handled.length === 1, 'handled')
  assert.equal(refusals, 3)
})

test('careful mode ends beyond its span, also where no record lies at its end', async () => {
  for (const gap of [0, 5]) {
    const log = new MemoryLog()
    const handled: string[] = []
    log.create('orders', 1)
    const { app: feeder, kill } = await member(log, () => 'away', [])
    kill()
    const publish = (from: number, to: number) =>
      Promise.all(
        Array.from({ length: to - from }, (_, n) => feeder.publish(Orders.Placed({ id: `key-${from + n}`, n }))),
      )
    await publish(0, 998)
    log.gap('orders', 0, gap)
    await publish(998, 1_200)
    log.group('worker').checkpoints.set('orders/0', { low: 0, finished: [], strikes: 3 })
    const { running } = await member(log, () => 'handle', handled)
    await until(() => handled.length === 1_200, `all with a gap of ${gap}`)
    assert.ok(running.most > 1, 'no longer one at a time')
  }
})

test('a record that kills its process is found behind one that waits all the time', async () => {
  const log = new MemoryLog()
  const handled: string[] = []
  const deedOf = (id: string): Deed => (id === 'away' ? 'away' : id === 'killer' ? 'kill' : 'handle')
  let one = await member(log, deedOf, handled)
  const publish = (id: string, n: number) => one.app.publish(Orders.Placed({ id, n }))
  await publish('away', 0)
  await publish('good', 0)
  await until(() => handled.length === 1, 'the good one')
  await publish('killer', 0)
  let deaths = 0
  for (; log.records('dlq.worker').length === 0; deaths++) {
    assert.ok(deaths < 12, 'it kills for ever')
    await Promise.race([one.died, until(() => log.records('dlq.worker').length > 0, 'death or letter')])
    if (log.records('dlq.worker').length > 0) break
    one = await member(log, deedOf, handled)
    // Every life has more to do than the one before: that is no progress of the killer.
    await publish('good', deaths + 1)
  }
  const [letter, ...others] = log.records('dlq.worker')
  assert.equal(others.length, 0)
  assert.ok(Buffer.from(letter!.value!).toString().includes('killer'))
  const error = letter!.headers.find(({ key }) => key === 'ottla-error')!.value
  assert.equal(Buffer.from(error!).toString(), 'ProcessDied')
  await until(() => new Set(handled).size === deaths + 1, 'all good ones')
  assert.deepEqual(
    one.app.parked().map(({ position }) => position),
    [0],
  )
})

test('members that are killed while records wait, between two of their tries or in the middle of one, blame nobody', async () => {
  const log = new MemoryLog()
  const handled: string[] = []
  let one = await member(log, (id) => (id.startsWith('away') ? 'away' : 'handle'), handled)
  for (let life = 0; life < 12; life++) {
    const before = handled.length
    for (const id of [`away${life}`, 'a', 'b']) await one.app.publish(Orders.Placed({ id, n: life }))
    await until(() => handled.length >= before + 2, 'something is handled')
    await until(() => [...log.group('worker').checkpoints.values()].every(({ strikes }) => strikes === 0), 'acquitted')
    one.kill()
    one = await member(log, (id) => (id.startsWith('away') ? 'away' : 'handle'), handled)
  }
  await until(() => one.app.parked().length === 12, 'all that wait')
  assert.equal(log.records('dlq.worker').length, 0)
})
