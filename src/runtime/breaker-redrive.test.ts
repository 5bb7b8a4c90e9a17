/**
 * Fallback and breaker together with held keys and redrives:
 * - a follower of a held key goes behind its letter; neither handler nor fallback is asked;
 * - a redriven letter is handled like any record: its fallback is asked when it is given up or meets an open breaker;
 * - without a fallback it waits at an open breaker in its lane, uncounted, its command open, its followers behind it.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { systemClock } from '../adapters/system/clock.ts'
import { topic } from '../contract/topic.ts'
import { balances, type Ending } from '../core/ledger.ts'
import { MemoryStore, memory } from '../testing/memory-store.ts'
import { MemoryLog, memoryTransport } from '../testing/memory-transport.ts'
import { untilWithin } from '../testing/until.ts'
import { RunningApp } from './app.ts'
import { Breaker, breakerSettings } from './breaker.ts'
import { DeadLetterDesk } from './dlq.ts'
import { type AnyService, service } from './service.ts'
import type { LedgerRow } from './service-loop.ts'

const Orders = topic('orders', {
  key: 'id',
  partitions: 1,
  events: { Placed: z.object({ id: z.string(), n: z.int() }) },
})
const quiet = { debug() {}, info() {}, warn() {}, error() {} }
const machine = { clock: systemClock, log: quiet, random: () => 0.001, instance: 'test' }
const why = { reason: 'test', perSecond: 10_000, waitMs: 10_000 }

const until = untilWithin(10_000)

async function start(made: AnyService) {
  const log = new MemoryLog()
  const app = new RunningApp(
    {
      transport: memoryTransport(log),
      store: new MemoryStore(),
      services: [made],
      drainTimeout: 500,
      topics: 'create',
    },
    machine,
  )
  await app.start()
  const desk = await DeadLetterDesk.open({
    transport: memoryTransport(log),
    service: 'worker',
    clock: systemClock,
    log: quiet,
    by: 'tester',
  })
  const sum = (of: (row: LedgerRow) => number) => app.ledger().reduce((total, row) => total + of(row), 0)
  return {
    app,
    desk,
    ended: (ending: Ending) => sum((row) => row.ended[ending]),
    fallback: () => sum((row) => row.fallback),
    standing: () => app.ledger().map(({ standing }) => standing),
    publish: async (id: string, from: number, to: number) => {
      for (let n = from; n < to; n++) await app.publish(Orders.Placed({ id, n }))
    },
    async [Symbol.asyncDispose]() {
      await desk[Symbol.asyncDispose]()
      await app[Symbol.asyncDispose]()
      for (const row of app.ledger()) assert.ok(balances(row) && row.open === 0, JSON.stringify(row))
    },
  }
}

const webhook = () =>
  new Breaker(
    'webhook',
    breakerSettings('webhook', { minimumCalls: 2, windowCalls: 4, openFor: 20, openForMax: 20 }),
    machine,
  )

test('followers of a held key ask no fallback; redriven, each letter that fails for good is handled by it, in order', async () => {
  const asked: string[] = []
  const handled: string[] = []
  let mended = false
  const worker = service('worker', { store: memory }).on(
    Orders.Placed,
    async ({ id, n }) => {
      await Promise.resolve()
      if (id === 'bad') throw new Error('broken')
      handled.push(`${id}${n}`)
    },
    {
      attempts: 1,
      fallback: async ({ id, n }, { message }) => {
        asked.push(`${id}${n}`)
        if (!mended) throw new Error('the fallback too')
        handled.push(`${id}${n} by fallback${message.redrive ? ', redriven' : ''}`)
      },
    },
  )
  await using started = await start(worker)
  const { desk, ended, fallback, publish } = started
  await publish('bad', 0, 3)
  await publish('good', 0, 1)
  await until(() => ended('heldInDlq') === 2 && handled.length === 1, 'held')
  assert.deepEqual(asked, ['bad0'], 'asked about the first one only')

  // Once more in vain: the letter stays where it is.
  assert.deepEqual((await desk.redrive(await desk.letters(), why)).outcomes, { failed: 1 })
  assert.deepEqual(asked, ['bad0', 'bad0'])
  mended = true
  assert.deepEqual((await desk.redrive(await desk.letters(), why)).outcomes, { handled: 3 })
  assert.deepEqual(
    handled.slice(1),
    [0, 1, 2].map((n) => `bad${n} by fallback, redriven`),
  )
  assert.equal(fallback(), 3, 'they are handled, with that label')
})

test('a redriven letter waits at an open breaker uncounted, with its followers behind it, and goes on when that closes', async () => {
  const breaker = webhook()
  let down = true
  let broken = true
  const attempts: number[] = []
  const handled: string[] = []
  const worker = service('worker', { store: memory }).on(Orders.Placed, async ({ id, n }, { message, signal }) => {
    if (id !== 'bad') return
    if (broken) throw Object.assign(new Error('wrong'), { name: 'Wrong' })
    attempts.push(message.attempt)
    await breaker.call(
      async () => {
        if (down) throw new Error('503')
      },
      { signal },
    )
    handled.push(`${id}${n}`)
  })
  await using started = await start(worker)
  const { app, desk, ended, publish, standing } = started
  await publish('bad', 0, 2)
  await until(() => ended('deadLettered') === 1 && ended('heldInDlq') === 1, 'held')
  broken = false
  const redriving = desk.redrive(await desk.letters(), why)
  await until(() => standing().includes('breaker webhook'), 'the partition stands for the breaker')
  const opened = breaker.counts.changes.open
  await until(() => breaker.counts.changes.open >= opened + 8, 'more probes fail than there are attempts')
  await publish('bad', 2, 3)
  assert.deepEqual([handled, ended('deadLettered')], [[], 1])
  // Between its probes; while it is one, it is not parked.
  await until(() => app.parked().some(({ why: reason }) => reason === 'breaker webhook'), 'it waits at the breaker')
  down = false
  const { outcomes, open } = await redriving
  assert.deepEqual([outcomes, open], [{ handled: outcomes.handled }, 0])
  await until(() => handled.length === 3, 'the follower that came meanwhile')
  assert.deepEqual(handled, ['bad0', 'bad1', 'bad2'])
  assert.ok(Math.max(...attempts) <= 3, `attempts were counted: ${attempts}`)
})

test('with a fallback a redriven letter that meets an open breaker is handled by it at once', async () => {
  const breaker = webhook()
  let broken = true
  const handled: string[] = []
  const worker = service('worker', { store: memory }).on(
    Orders.Placed,
    async ({ id }, { signal }) => {
      if (broken && id === 'bad') throw new Error('wrong')
      await breaker.call(() => Promise.reject(new Error('503')), { signal })
    },
    {
      attempts: 1,
      fallback: async ({ id, n }, { message }, error) => {
        if (broken && id === 'bad') throw error
        handled.push(`${id}${n}${message.redrive ? ' redriven' : ''}`)
      },
    },
  )
  await using started = await start(worker)
  const { desk, ended, publish, standing } = started
  await publish('bad', 0, 1)
  await until(() => ended('deadLettered') === 1, 'dead letter')
  await publish('good', 0, 4)
  await until(() => handled.length === 4 && breaker.state !== 'closed', 'the breaker is open')
  broken = false
  assert.deepEqual((await desk.redrive(await desk.letters(), why)).outcomes, { handled: 1 })
  assert.deepEqual([handled.at(-1), standing()], ['bad0 redriven', [null]])
})

test("a redrive behind the service's own open breaker waits as everything does, and is done when a probe succeeds", async () => {
  let down = false
  let broken = true
  const handled: string[] = []
  const worker = service('worker', { store: memory }).on(
    Orders.Placed,
    async ({ id, n }) => {
      await Promise.resolve()
      if (down || (broken && id === 'bad')) throw new Error('503')
      handled.push(`${id}${n}`)
    },
    { attempts: 2 },
  )
  await using started = await start(worker)
  const { desk, ended, publish, standing } = started
  await publish('bad', 0, 2)
  await until(() => ended('heldInDlq') === 1, 'held')
  down = true
  for (let n = 0; n < 40; n++) await publish(`key-${n}`, n, n + 1)
  await until(() => standing()[0] === 'breaker worker', 'its own breaker is open')
  const lost = ended('deadLettered')
  broken = false
  const redriving = desk.redrive(
    (await desk.letters()).filter(({ letter }) => Buffer.from(letter.key!).toString() === 'bad'),
    why,
  )
  await new Promise((done) => setTimeout(done, 50))
  assert.ok(!handled.some((each) => each.startsWith('bad')))
  down = false
  assert.deepEqual((await redriving).outcomes, { handled: 2 })
  assert.deepEqual(
    handled.filter((each) => each.startsWith('bad')),
    ['bad0', 'bad1'],
  )
  await until(() => ended('handled') + lost >= 42, 'everything else')
  assert.equal(ended('deadLettered'), lost, 'while it was open, nothing was given up')
})
