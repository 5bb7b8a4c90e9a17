/**
 * The memory of records is used again once all records of their batch have ended, and never while somebody may look at it.
 * The log in memory overwrites what it is given back, so every other test of the engine would notice as well.
 */
import assert from 'node:assert/strict'
import { AsyncResource } from 'node:async_hooks'
import { test } from 'node:test'
import { z } from 'zod'
import { systemClock } from '../adapters/system/clock.ts'
import { type Codec, json } from '../contract/codec.ts'
import { OttlaError, PermanentError } from '../contract/errors.ts'
import { topic } from '../contract/topic.ts'
import { balances } from '../core/ledger.ts'
import { MemoryLog, memoryTransport } from '../testing/memory-transport.ts'
import { untilWithin } from '../testing/until.ts'
import { RunningApp } from './app.ts'
import type { AnyService, Received } from './service.ts'
import { service } from './service.ts'

const Placed = z.object({ id: z.string() })
const Orders = topic('orders', { key: 'id', partitions: 1, events: { Placed } })
const quiet = { debug() {}, info() {}, warn() {}, error() {} }
const until = untilWithin(5_000)

/** Keeps every view that it was asked to decode. */
function keeping(copies: boolean): { readonly codec: Codec; readonly views: Uint8Array[] } {
  const views: Uint8Array[] = []
  const codec: Codec = {
    ...json,
    copies,
    decode(bytes) {
      views.push(bytes)
      return json.decode(bytes)
    },
  }
  return { codec, views }
}

/** Runs one service over a log and waits until so many records have ended. */
async function run(worker: AnyService, log: MemoryLog, publish: (app: RunningApp) => Promise<number>): Promise<void> {
  const app = new RunningApp(
    { transport: memoryTransport(log), services: [worker], log: quiet },
    { clock: systemClock, log: quiet, random: () => 0.01, instance: 'test' },
  )
  await app.start()
  const count = await publish(app)
  await until(() => app.ledger().reduce((sum, row) => sum + row.fetched - row.open, 0) === count, 'all have ended')
  for (const row of app.ledger()) assert.ok(balances(row))
  await app[Symbol.asyncDispose]()
}

const texts = (views: readonly Uint8Array[]) => views.map((view) => Buffer.from(view).toString())

test('a batch is given back when its last record has ended, and not before', async () => {
  const { codec, views } = keeping(true)
  const Bytes = topic('bytes', { key: null, partitions: 1, codec, events: { Placed } })
  const first = Promise.withResolvers<void>()
  const second = Promise.withResolvers<void>()
  const worker = service('worker').on(Bytes.Placed, ({ id }) => (id === '1' ? first.promise : second.promise))
  const log = new MemoryLog()
  log.create('bytes', 1)
  await run(worker, log, async (app) => {
    await Promise.all([app.publish(Bytes.Placed({ id: '1' })), app.publish(Bytes.Placed({ id: '2' }))])
    await until(() => views.length === 2, 'both are in hand')
    first.resolve()
    await until(() => app.ledger()[0]!.ended.handled === 1, 'one has ended')
    assert.deepEqual(texts(views), ['{"id":"1"}', '{"id":"2"}'])
    second.resolve()
    return 2
  })
  for (const view of views)
    assert.ok(
      view.every((byte) => byte === 0xee),
      'the log has its memory back',
    )
})

test('a codec made of json does not take over that its payloads are copies', () => {
  assert.equal(json.copies, true)
  assert.equal({ ...json }.copies, undefined)
})

test('a payload that may be a view of its bytes stays what it was', async () => {
  const { codec, views } = keeping(false)
  const Bytes = topic('bytes', { key: null, partitions: 1, codec, events: { Placed } })
  const worker = service('worker').on(Bytes.Placed, () => undefined)
  await run(worker, new MemoryLog(), async (app) => {
    await app.publish(Bytes.Placed({ id: '1' }))
    return 1
  })
  assert.deepEqual(texts(views), ['{"id":"1"}'])
})

test('a message that a handler keeps says the same afterwards', async () => {
  const kept: Received[] = []
  const worker = service('worker').on(Orders.Placed, (_, { message }) => void kept.push(message))
  let id = ''
  await run(worker, new MemoryLog(), async (app) => {
    ;({ id } = await app.publish(Orders.Placed({ id: '7' })))
    return 1
  })
  const [message] = kept
  assert.deepEqual([message?.id, message?.key, message?.headers['ce_type']], [id, '7', 'orders.Placed'])
})

test('a message is not to be had for the first time after its handler has returned', async () => {
  let late: { readonly message: Received } | null = null
  const worker = service('worker').on(Orders.Placed, (_, context) => {
    late = context
  })
  await run(worker, new MemoryLog(), async (app) => {
    await app.publish(Orders.Placed({ id: '1' }))
    return 1
  })
  assert.throws(
    () => late?.message,
    (error: unknown) =>
      error instanceof OttlaError && /message came after the handler of orders\.Placed/.test(error.message),
  )
})

test('what a handler did not await is blamed on its record by id, though the bytes are gone', async () => {
  const blamed: unknown[] = []
  let fault: (error: unknown) => void = () => assert.fail('nobody watches')
  const worker = service('worker').on(Orders.Placed, () => {
    const detached = AsyncResource.bind(() => fault(new Error('not awaited')))
    void until(() => app.ledger()[0]!.ended.handled === 1, 'it has ended').then(detached)
  })
  const exited = Promise.withResolvers<number>()
  const process = {
    onFault(listener: (error: unknown) => void) {
      fault = listener
      return { [Symbol.dispose]: () => undefined }
    },
    exit: exited.resolve,
  }
  const log = { ...quiet, error: (_: string, fields?: object) => void blamed.push((fields as { id?: string }).id) }
  const app = new RunningApp(
    { transport: memoryTransport(new MemoryLog()), services: [worker], guards: true, log },
    { clock: systemClock, log: quiet, random: () => 0.01, instance: 'test', process },
  )
  await app.start()
  const { id } = await app.publish(Orders.Placed({ id: '1' }))
  assert.equal(await exited.promise, 1)
  assert.deepEqual(blamed, [id])
})

test('what failed keeps its bytes, whatever became of the other records of its batch', async () => {
  const { codec, views } = keeping(true)
  const Bytes = topic('bytes', { key: 'id', partitions: 1, codec, events: { Placed } })
  const worker = service('worker').on(Bytes.Placed, ({ id }) => {
    if (id === 'bad') throw new PermanentError('no such order')
  })
  const log = new MemoryLog()
  await run(worker, log, async (app) => {
    await Promise.all(['1', 'bad', '2'].map((id) => app.publish(Bytes.Placed({ id }))))
    return 3
  })
  assert.deepEqual(texts(views), ['{"id":"1"}', '{"id":"bad"}', '{"id":"2"}'])
  const letter = log.topic('dlq.worker')?.partitions.flatMap(({ records }) => records)[0]
  assert.equal(Buffer.from(letter?.value ?? []).toString(), '{"id":"bad"}')
})
