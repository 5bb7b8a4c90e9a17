/** A handler's deadline holds until its transaction has ended, and begins no sooner than the handler does. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { systemClock } from '../adapters/system/clock.ts'
import { topic } from '../contract/topic.ts'
import { MemoryStore, memory } from '../testing/memory-store.ts'
import { MemoryLog, memoryTransport } from '../testing/memory-transport.ts'
import { untilWithin } from '../testing/until.ts'
import { RunningApp } from './app.ts'
import { service } from './service.ts'

const Orders = topic('orders', { key: 'id', partitions: 1, events: { Placed: z.object({ id: z.string() }) } })
const quiet = { debug() {}, info() {}, warn() {}, error() {} }
const until = untilWithin(10_000)
const machine = { clock: systemClock, log: quiet, random: () => 0.001, instance: 'test' }

test('a commit that hangs is told at the deadline, and its record is tried again', async () => {
  const store = new MemoryStore()
  const handle = store.handle.bind(store)
  let hung = 0
  store.handle = async (delivery, work) => {
    if (hung++ > 0) return handle(delivery, work)
    await work(undefined as never)
    return new Promise((_, reject) => {
      delivery.signal.addEventListener('abort', () => reject(delivery.signal.reason as Error))
    })
  }
  const worker = service('worker', { store: memory }).on(Orders.Placed, async () => {}, { timeout: '50ms' })
  await using app = new RunningApp(
    { transport: memoryTransport(new MemoryLog()), store, services: [worker], drainTimeout: 100, topics: 'create' },
    machine,
  )
  await app.start()
  await app.publish(Orders.Placed({ id: 'a' }))
  await until(() => app.ledger().some((row) => row.ended.handled === 1), 'the second attempt is stored')
  assert.equal(hung, 2)
})

test('waiting for the acknowledgement before handling is no part of the time a handler has', async () => {
  const transport = memoryTransport(new MemoryLog())
  const reader = transport.reader.bind(transport)
  transport.reader = (options, on) => {
    const opened = reader(options, on)
    const checkpoint = opened.checkpoint.bind(opened)
    opened.checkpoint = async (...args) => {
      await sleep(300)
      return checkpoint(...args)
    }
    return opened
  }
  const worker = service('worker').on(Orders.Placed, async () => sleep(50), {
    acknowledge: 'before-handling',
    timeout: '200ms',
  })
  await using app = new RunningApp({ transport, services: [worker], drainTimeout: 500, topics: 'create' }, machine)
  await app.start()
  await app.publish(Orders.Placed({ id: 'a' }))
  await until(() => app.ledger().some((row) => row.ended.handled + row.ended.dropped === 1), 'it has ended')
  assert.equal(
    app.ledger().reduce((sum, row) => sum + row.ended.handled, 0),
    1,
  )
})

test('a handler that starts after its acknowledgement, with nothing else to do, is watched for its deadline', async () => {
  let aborted = false
  const worker = service('worker').on(
    Orders.Placed,
    async (_, { signal }) => {
      await new Promise<void>((done) => signal.addEventListener('abort', () => done()))
      aborted = true
    },
    { acknowledge: 'before-handling', timeout: '100ms' },
  )
  await using app = new RunningApp(
    { transport: memoryTransport(new MemoryLog()), services: [worker], drainTimeout: 500, topics: 'create' },
    machine,
  )
  await app.start()
  await app.publish(Orders.Placed({ id: 'a' }))
  await until(() => aborted, 'the signal aborts')
})
