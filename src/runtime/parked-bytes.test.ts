/** What waits behind failures holds memory: other keys get what it leaves, and when it leaves nothing that is said. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { systemClock } from '../adapters/system/clock.ts'
import { encodeMessage } from '../contract/message.ts'
import { topic } from '../contract/topic.ts'
import { MemoryLog, memoryTransport } from '../testing/memory-transport.ts'
import { untilWithin } from '../testing/until.ts'
import { RunningApp } from './app.ts'
import { alarm } from './channels.ts'
import { service } from './service.ts'

const Orders = topic('orders', {
  key: 'id',
  partitions: 1,
  events: { Placed: z.object({ id: z.string(), text: z.string() }) },
})
const quiet = { debug() {}, info() {}, warn() {}, error() {} }
const until = untilWithin(10_000)
/** Of 16 MiB that a partition may hold, so many are ten records. */
const text = 'x'.repeat(100_000)

async function play(parked: number) {
  const log = new MemoryLog({ batchRecordsMax: 10 })
  log.create('orders', 1)
  let count = 0
  const add = (id: string): void => {
    const facts = { id: `event-${count++}`, source: 'test', timeMs: 1 }
    log.append({ ...encodeMessage(Orders.Placed({ id, text }), facts), topic: 'orders', partition: 0 })
  }
  for (let n = 0; n < parked; n++) add('away')
  for (let n = 0; n < 90; n++) add('well')
  const handled = new Set<string>()
  const worker = service('worker').on(Orders.Placed, async ({ id }) => {
    if (id === 'away') throw Object.assign(new Error('away'), { code: 'ECONNREFUSED' })
    // Slower than they are fetched, so that they fill what is left.
    await sleep(2)
    handled.add(id)
  })
  const alarms: string[] = []
  const hear = (message: unknown): void => void alarms.push((message as { error: { code: string } }).error.code)
  alarm.subscribe(hear)
  const app = new RunningApp(
    { transport: memoryTransport(log), services: [worker], drainTimeout: 100, topics: 'create' },
    { clock: systemClock, log: quiet, random: () => 0.99, instance: 'test' },
  )
  await app.start()
  return {
    add,
    handled,
    alarms,
    app,
    async [Symbol.asyncDispose]() {
      alarm.unsubscribe(hear)
      await app[Symbol.asyncDispose]()
    },
  }
}

test('a key that waits with more than half of the bytes leaves the rest to other keys', async () => {
  await using played = await play(90)
  const { handled, add, alarms } = played
  await until(() => handled.has('well'), 'the other key was handled')
  add('late')
  await until(() => handled.has('late'), 'so was one that came later')
  assert.deepEqual(alarms, [])
})

test('a key that waits with all bytes stands its partition still with an alarm', async () => {
  await using played = await play(180)
  await until(() => played.alarms.includes('OTTLA_RUNTIME_PARKED_FULL'), 'the alarm')
  assert.equal(played.handled.size, 0)
})
