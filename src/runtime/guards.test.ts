import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { systemClock } from '../adapters/system/clock.ts'
import type { OttlaError } from '../contract/errors.ts'
import { topic } from '../contract/topic.ts'
import { MemoryLog, memoryTransport } from '../testing/memory-transport.ts'
import { untilWithin } from '../testing/until.ts'
import { RunningApp } from './app.ts'
import { service } from './service.ts'

const Orders = topic('orders', { key: 'id', partitions: 1, events: { Placed: z.object({ id: z.string() }) } })
const quiet = { debug() {}, info() {}, warn() {}, error() {} }

const until = untilWithin(20_000)

test('a detached failure is reported with its record, what runs is finished, and the process exits with 1', async () => {
  let fault: (error: unknown) => void = () => assert.fail('nobody watches')
  const exited = Promise.withResolvers<number>()
  const said: { readonly text: string; readonly fields: { readonly error: OttlaError } }[] = []
  const log = new MemoryLog()
  const owned = {
    onFault: (listener: (error: unknown) => void) => {
      fault = listener
      return { [Symbol.dispose]: () => undefined }
    },
    exit: (code: number) => exited.resolve(code),
  }
  const finished: string[] = []
  const detached = Promise.withResolvers<void>()
  const slow = Promise.withResolvers<void>()
  const worker = service('worker').on(Orders.Placed, async ({ id }) => {
    if (id === 'guilty') {
      // What Node would tell the process, in the context of what failed.
      setTimeout(() => {
        fault(new Error('not awaited'))
        detached.resolve()
      }, 1)
      return
    }
    await slow.promise
    finished.push(id)
  })
  const app = new RunningApp(
    {
      transport: memoryTransport(log),
      services: [worker],
      guards: true,
      log: { ...quiet, error: (text, fields) => void said.push({ text, fields: fields as never }) },
    },
    { clock: systemClock, log: quiet, random: () => 0, instance: 'test', process: owned },
  )
  await app.start()
  await app.publish(Orders.Placed({ id: 'slow' }))
  const { id } = await app.publish(Orders.Placed({ id: 'guilty' }))
  await detached.promise
  assert.equal(app.health().live, false)
  slow.resolve()
  assert.equal(await exited.promise, 1)
  assert.deepEqual(finished, ['slow'])
  const { error } = said[0]!.fields
  assert.equal(error.code, 'OTTLA_RUNTIME_DETACHED')
  assert.deepEqual(error.details, {
    service: 'worker',
    handler: 'orders.Placed',
    topic: 'orders',
    partition: 0,
    position: 1,
    id,
  })
  assert.match(said[0]!.text, /orders\.Placed of worker did not await/)
  assert.equal(log.group('worker').checkpoints.get('orders/0')?.low, 2, 'the drain committed')
})

test('a handler that ignores its deadline for as long again: alarm, not live, drained, and the owned process exits with 1', async () => {
  for (const guards of [true, false]) {
    const log = new MemoryLog({ releaseMs: 100 })
    const exited: number[] = []
    const said: string[] = []
    const owned = { onFault: () => ({ [Symbol.dispose]: () => undefined }), exit: (code: number) => exited.push(code) }
    const { promise: never } = Promise.withResolvers<void>()
    const handled: string[] = []
    const worker = (stuck: boolean) =>
      service('worker').on(
        Orders.Placed,
        async ({ id }) => {
          if (stuck && id === 'stuck') await never
          handled.push(id)
        },
        { timeout: '100ms' },
      )
    const open = (stuck: boolean) =>
      new RunningApp(
        {
          transport: memoryTransport(log),
          services: [worker(stuck)],
          guards: guards && stuck,
          drainTimeout: 100,
          log: { ...quiet, error: (text) => void said.push(text) },
        },
        { clock: systemClock, log: quiet, random: () => 0, instance: 'test', process: owned },
      ).start()
    const first = await open(true)
    await first.publish(Orders.Placed({ id: 'stuck' }))
    await first.publish(Orders.Placed({ id: 'other' }))
    await until(() => first.health().reasons.includes('the app is stopped'), 'drained')
    const { live, ready, reasons } = first.health()
    assert.deepEqual([live, ready], [false, false])
    assert.ok(reasons.includes('worker: orders.Placed ignores its deadline'), reasons.join())
    assert.ok(said.some((text) => text.includes('orders.Placed has not settled 100 ms after its signal aborted')))
    // Others take over what it held, and handle that record.
    const second = await open(false)
    await until(() => handled.includes('stuck'), 'taken over')
    assert.deepEqual(handled, ['other', 'stuck'])
    await second[Symbol.asyncDispose]()
    assert.deepEqual(exited, guards ? [1] : [])
    await first[Symbol.asyncDispose]()
  }
})

test('guards need a process to own', () => {
  assert.throws(
    () =>
      new RunningApp(
        { transport: memoryTransport(new MemoryLog()), services: [], guards: true },
        { clock: systemClock, log: quiet, random: () => 0, instance: 'test' },
      ),
    (error: OttlaError) => error.code === 'OTTLA_RUNTIME_WIRING',
  )
})

test('a handler that blocks the event loop is named with its duration, in its first turn and after an await', async () => {
  const warnings: { readonly text: string; readonly fields: object }[] = []
  const block = (ms: number) => {
    const endMs = performance.now() + ms
    while (performance.now() < endMs);
  }
  const worker = service('worker').on(Orders.Placed, async ({ id }) => {
    if (id === 'at once') block(1_050)
    else {
      await new Promise((done) => setTimeout(done, 5))
      block(1_300)
    }
  })
  const app = new RunningApp(
    {
      transport: memoryTransport(new MemoryLog()),
      services: [worker],
      log: { ...quiet, warn: (text, fields) => void warnings.push({ text, fields: fields ?? {} }) },
    },
    { clock: systemClock, log: quiet, random: () => 0, instance: 'test' },
  )
  await app.start()
  const handled = () => app.ledger().reduce((sum, row) => sum + row.ended.handled, 0)
  for (const [count, id] of ['at once', 'later'].entries()) {
    await app.publish(Orders.Placed({ id }))
    while (handled() < count + 1) await new Promise((done) => setTimeout(done, 2))
  }
  while (warnings.length < 2) await new Promise((done) => setTimeout(done, 2))
  await app[Symbol.asyncDispose]()
  const [first, second] = warnings
  assert.equal(first!.text, 'a handler blocked the event loop')
  assert.equal((first!.fields as { handler: string }).handler, 'orders.Placed')
  assert.ok((first!.fields as { durationMs: number }).durationMs >= 1_050)
  assert.equal(second!.text, 'the event loop stood still while these handlers were in hand')
  assert.deepEqual((second!.fields as { handlers: string[] }).handlers, ['orders.Placed'])
})
