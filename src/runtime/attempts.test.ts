/** Failed attempts outlive the process that made them. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { z } from 'zod'
import { systemClock } from '../adapters/system/clock.ts'
import { topic } from '../contract/topic.ts'
import { MemoryLog, memoryTransport } from '../testing/memory-transport.ts'
import { untilWithin } from '../testing/until.ts'
import { RunningApp } from './app.ts'
import { service } from './service.ts'

const Orders = topic('orders', {
  key: 'id',
  partitions: 2,
  events: { Placed: z.object({ id: z.string(), n: z.int() }) },
})
const quiet = { debug() {}, info() {}, warn() {}, error() {} }
/** Those that died in a test, and those that a failed test left. */
const apps: RunningApp[] = []
after(() => Promise.all(apps.map((app) => app[Symbol.asyncDispose]())))

const until = untilWithin(5_000)

async function start(log: MemoryLog, attempts: [string, number][]) {
  const transport = memoryTransport(log)
  const worker = service('worker').on(Orders.Placed, ({ id, n }, { message }) => {
    attempts.push([`${id}${n}`, message.attempt])
    if (id === 'bad') throw new Error('always')
  })
  const app = new RunningApp(
    { transport, services: [worker], drainTimeout: 500 },
    { clock: systemClock, log: quiet, random: () => 0.2, instance: 'test' },
  )
  apps.push(app)
  await app.start()
  return { app, transport }
}

test('a record whose process died between two attempts is not tried from the beginning', async () => {
  const log = new MemoryLog()
  const attempts: [string, number][] = []
  const ofBad = () => attempts.filter(([name]) => name === 'bad0').map(([, attempt]) => attempt)
  let member = await start(log, attempts)
  await member.app.publish(Orders.Placed({ id: 'bad', n: 0 }))
  await member.app.publish(Orders.Placed({ id: 'good', n: 0 }))
  for (const goal of [2, 3, 4]) {
    await until(() => (ofBad().at(-1) ?? 0) >= goal, `attempt ${goal}`)
    member.transport.readers[0]!.kill()
    member = await start(log, attempts)
  }
  await until(() => member.app.ledger().some(({ ended }) => ended.deadLettered === 1), 'given up')
  const seen = ofBad()
  assert.equal(seen.filter((attempt) => attempt === 1).length, 1, `attempts ${seen.join(', ')}`)
  for (let index = 1; index < seen.length; index++) assert.ok(seen[index]! >= seen[index - 1]!, `${seen.join(', ')}`)
  assert.equal(seen.at(-1), 5)
  await member.app[Symbol.asyncDispose]()
})

test('attempts go with a partition to its next member, and leave its checkpoint with their record', async () => {
  const log = new MemoryLog()
  const attempts: [string, number][] = []
  const first = await start(log, attempts)
  await first.app.publish(Orders.Placed({ id: 'bad', n: 0 }))
  await until(() => attempts.length === 3, 'three attempts')
  await first.app[Symbol.asyncDispose]()
  const second = await start(log, attempts)
  await until(() => second.app.ledger().some(({ ended }) => ended.deadLettered === 1), 'given up')
  assert.deepEqual(
    attempts.map(([, attempt]) => attempt),
    [1, 2, 3, 4, 5],
  )
  await second.app[Symbol.asyncDispose]()
  const third = await start(log, attempts)
  await third.app.publish(Orders.Placed({ id: 'bad', n: 1 }))
  await until(() => attempts.length === 6, 'another record')
  assert.deepEqual(attempts.at(-1), ['bad1', 1])
  await third.app[Symbol.asyncDispose]()
})

test('a record that waits for its retry is not blamed for processes that die meanwhile', async () => {
  const log = new MemoryLog()
  const tried: string[] = []
  const begin = async () => {
    const transport = memoryTransport(log)
    const worker = service('worker').on(Orders.Placed, async ({ id, n }) => {
      await Promise.resolve()
      tried.push(`${id}${n}`)
      if (id === 'away') throw Object.assign(new Error('connection refused'), { code: 'ECONNREFUSED' })
    })
    const app = new RunningApp(
      { transport, services: [worker], drainTimeout: 500 },
      { clock: systemClock, log: quiet, random: () => 0.9, instance: 'test' },
    )
    apps.push(app)
    await app.start()
    return { app, transport }
  }
  const strikes = () => [...log.group('worker').checkpoints.values()].map((checkpoint) => checkpoint.strikes)
  let member = await begin()
  await member.app.publish(Orders.Placed({ id: 'away', n: 0 }))
  for (let death = 0; death < 8; death++) {
    const before = tried.length
    await until(() => tried.length > before || death === 0, 'it was tried')
    await until(() => strikes().every((count) => count === 0) && member.app.parked().length === 1, 'it is acquitted')
    member.transport.readers[0]!.kill()
    member = await begin()
  }
  await until(() => member.app.parked().length === 1, 'it waits still')
  const rows = member.app.ledger()
  assert.equal(
    rows.reduce((sum, { ended }) => sum + ended.deadLettered, 0),
    0,
  )
  await member.app[Symbol.asyncDispose]()
})

test('the strike of an owner is on record before its first handler starts', async () => {
  const log = new MemoryLog()
  const strikes: number[] = []
  const begin = async () => {
    const transport = memoryTransport(log)
    const worker = service('worker').on(Orders.Placed, () => {
      // It dies in the first turn of its handler.
      strikes.push(...[...log.group('worker').checkpoints.values()].map((checkpoint) => checkpoint.strikes))
      for (const reader of transport.readers) reader.kill()
    })
    const app = new RunningApp(
      { transport, services: [worker], drainTimeout: 500 },
      { clock: systemClock, log: quiet, random: () => 0.9, instance: 'test' },
    )
    apps.push(app)
    await app.start()
    return app
  }
  const first = await begin()
  await first.publish(Orders.Placed({ id: 'killer', n: 0 }))
  await until(() => strikes.length === 1, 'the first death')
  for (const deaths of [2, 3]) {
    await begin()
    await until(() => strikes.length === deaths, `death ${deaths}`)
  }
  assert.deepEqual(strikes, [1, 2, 3])
})
