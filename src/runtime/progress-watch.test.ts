import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import type { OttlaError } from '../contract/errors.ts'
import { topic } from '../contract/topic.ts'
import { ManualClock } from '../testing/manual-clock.ts'
import { MemoryLog, memoryTransport } from '../testing/memory-transport.ts'
import { RunningApp } from './app.ts'
import { alarm } from './channels.ts'
import { service } from './service.ts'

const Orders = topic('orders', {
  key: 'id',
  partitions: 1,
  events: { Placed: z.object({ id: z.string(), n: z.int() }) },
})
const quiet = { debug() {}, info() {}, warn() {}, error() {} }

type Handle = (n: number) => Promise<void>

/** An app with one service whose handlers may take a minute, and the alarms it gives. */
async function start(handle: Handle) {
  const clock = new ManualClock()
  const transport = memoryTransport(new MemoryLog({ nowMs: () => clock.wallMs() }))
  const worker = service('worker').on(Orders.Placed, ({ n }) => handle(n))
  const app = new RunningApp(
    { transport, services: [worker], topics: 'create', drainTimeout: 500 },
    { clock, log: quiet, random: () => 0.5, instance: 'test' },
  )
  const alarms: string[] = []
  const hear = (message: unknown): void => void alarms.push((message as { error: OttlaError }).error.code)
  alarm.subscribe(hear)
  await app.start()
  await clock.rest()
  return {
    app,
    clock,
    alarms,
    transport,
    publish: (n: number) => app.publish(Orders.Placed({ id: `key-${n}`, n })),
    stalled: () => app.health().reasons.filter((reason) => reason.includes('no record has ended')),
    async [Symbol.asyncDispose]() {
      alarm.unsubscribe(hear)
      const closing = app[Symbol.asyncDispose]()
      await clock.pass(120_000)
      await closing
    },
  }
}

test('handlers that come to nothing for too long are an alarm, although records are fetched all the while', async () => {
  let mended = false
  await using started = await start(async () => {
    if (!mended) await new Promise<void>((_, reject) => started.clock.after(59_000, () => reject(new Error('waited'))))
  })
  const { clock, alarms, stalled } = started
  for (let n = 0; n < 3; n++) await started.publish(n)
  await clock.pass(60_000)
  assert.deepEqual(stalled(), [])
  await clock.pass(90_000)
  assert.equal(alarms.filter((code) => code === 'OTTLA_RUNTIME_STALLED').length, 1)
  assert.match(stalled()[0] ?? '', /orders-0/)
  mended = true
  await clock.pass(300_000)
  assert.deepEqual(stalled(), [], 'it is over once records end again')
})

test('nothing to do, slow but steady work, and what stands still for a told reason are no alarm', async () => {
  let slow = false
  await using started = await start(async (n) => {
    if (slow) await new Promise<void>((done) => void started.clock.after(50_000, done))
    if (n === 999) throw new Error('retried')
  })
  const { clock, alarms, app, stalled } = started
  const minutes = async (count: number): Promise<void> => clock.pass(count * 60_000)
  await started.publish(1)
  await minutes(60)
  slow = true
  for (let n = 0; n < 5; n++) {
    await started.publish(n)
    await minutes(1)
  }
  slow = false
  await started.publish(999)
  await minutes(2)
  app.pause('worker')
  await started.publish(2)
  await minutes(60)
  assert.deepEqual(stalled(), [])
  assert.equal(alarms.includes('OTTLA_RUNTIME_STALLED'), false)
  app.resume('worker')
})

test('a log that holds more while nothing comes is an alarm', async () => {
  await using started = await start(async () => undefined)
  const { clock, alarms, stalled } = started
  await started.publish(1)
  await clock.pass(1_000)
  // The reader pauses by itself, and nobody asked for that.
  const [reader] = started.transport.readers
  assert.ok(reader)
  const lag = [{ topic: 'orders', partition: 0, records: 5, seconds: 1 }]
  Object.defineProperty(reader, 'lag', { value: () => lag, configurable: true })
  await clock.pass(60_000)
  assert.deepEqual(stalled(), [])
  await clock.pass(90_000)
  assert.deepEqual(alarms, ['OTTLA_RUNTIME_STALLED'])
  assert.equal(stalled().length, 1)
  lag.length = 0
  await clock.pass(60_000)
  assert.deepEqual(stalled(), [])
})
