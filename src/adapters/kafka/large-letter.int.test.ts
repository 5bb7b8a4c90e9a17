/** A record as large as its topic takes can be given up: its dead letter is larger than a request usually is. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { startBroker } from '../../broker/embedded.ts'
import { PermanentError } from '../../contract/errors.ts'
import { topic } from '../../contract/topic.ts'
import { RunningApp } from '../../runtime/app.ts'
import { service } from '../../runtime/service.ts'
import { untilWithin } from '../../testing/until.ts'
import { systemClock } from '../system/clock.ts'
import { kafka } from './transport.ts'

const Orders = topic('orders', {
  key: 'id',
  partitions: 1,
  events: { Placed: z.object({ id: z.string(), text: z.string() }) },
})
const quiet = { debug() {}, info() {}, warn() {}, error() {} }

test('a record of nearly 1 MiB that fails for good becomes a dead letter, and the next one is handled', async () => {
  await using broker = await startBroker()
  const worker = service('worker').on(Orders.Placed, ({ id }) => {
    if (id === 'large') throw new PermanentError('never')
  })
  await using app = new RunningApp(
    { transport: kafka({ bootstrapServers: broker.bootstrapServers }), services: [worker], topics: 'create' },
    { clock: systemClock, log: quiet, random: Math.random, instance: 'test' },
  )
  await app.start()
  await app.publish(Orders.Placed({ id: 'large', text: 'x'.repeat(1_047_000) }))
  await app.publish(Orders.Placed({ id: 'small', text: '' }))
  const ended = () => app.ledger().map((row) => row.ended)
  await untilWithin(10_000)(() => ended().some((row) => row.deadLettered + row.handled === 2), 'both have ended')
  assert.deepEqual(
    ended().map(({ deadLettered, handled }) => ({ deadLettered, handled })),
    [{ deadLettered: 1, handled: 1 }],
  )
})
