import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { postgres } from '../adapters/postgres/store.ts'
import { type OttlaError, PermanentError } from '../contract/errors.ts'
import { topic } from '../contract/topic.ts'
import { service } from '../runtime/service.ts'
import { testApp } from './test-app.ts'

const Orders = topic('orders', {
  key: 'orderId',
  partitions: 4,
  events: { OrderPlaced: z.object({ orderId: z.string(), sku: z.string(), quantity: z.int() }) },
})
const Stock = topic('stock', {
  key: 'orderId',
  partitions: 4,
  events: { StockReserved: z.object({ orderId: z.string() }), StockRejected: z.object({ orderId: z.string() }) },
})
const Mails = topic('mails', {
  key: 'orderId',
  events: { MailSent: z.object({ orderId: z.string(), to: z.string() }) },
})

const silent = { debug() {}, info() {}, warn() {}, error() {} }

const order = (orderId: string, quantity = 1) => Orders.OrderPlaced({ orderId, sku: 'pen', quantity })

test('a cascade over two services without a store settles, and what was emitted can be compared', async () => {
  const stock = service('stock', { emits: [Stock] }).on(Orders.OrderPlaced, ({ orderId, quantity }, { emit }) => {
    emit(quantity > 5 ? Stock.StockRejected({ orderId }) : Stock.StockReserved({ orderId }))
  })
  const mails = service('mails', { emits: [Mails] }).onTopic(Stock, {
    StockReserved: async ({ orderId }, { emit }) => emit(Mails.MailSent({ orderId, to: 'glad' })),
    StockRejected: async ({ orderId }, { emit }) => emit(Mails.MailSent({ orderId, to: 'sorry' })),
  })
  await using t = await testApp({ services: [stock, mails] })
  await t.publish(order('1'))
  await t.publish(order('2', 9))
  await t.settled()
  const byOrder = (a: { key: string | null }, b: { key: string | null }) => String(a.key).localeCompare(String(b.key))
  assert.deepEqual(t.emitted(Stock).toSorted(byOrder), [
    Stock.StockReserved({ orderId: '1' }),
    Stock.StockRejected({ orderId: '2' }),
  ])
  assert.deepEqual(
    t
      .emitted(Mails.MailSent)
      .map(({ data }) => data.to)
      .toSorted(),
    ['glad', 'sorry'],
  )
  assert.deepEqual(t.emitted(Orders), [], 'what the test published was not emitted by a service')
})

test('with PostgreSQL the rows, the inbox and the emitted events are there together, and transact starts a cascade', async () => {
  const orders = service('orders', { store: postgres, emits: [Orders] })
  const inventory = service('inventory', { store: postgres, emits: [Stock] }).on(
    Orders.OrderPlaced,
    async ({ orderId, sku, quantity }, { tx, emit }) => {
      const taken = await tx.query('update stock set free = free - $2 where sku = $1 and free >= $2', [sku, quantity])
      emit(taken.rowCount ? Stock.StockReserved({ orderId }) : Stock.StockRejected({ orderId }))
    },
  )
  await using t = await testApp({
    services: [orders, inventory],
    prepare: async (tx) => {
      await tx.query('create table stock (sku text primary key, free int not null)')
      await tx.query("insert into stock values ('pen', 3)")
    },
  })
  for (const [orderId, quantity] of [
    ['1', 2],
    ['1', 2],
    ['1', 1],
  ] as const) {
    await t.transact(orders, async ({ emit }) => emit(order(orderId, quantity)))
  }
  await t.settled()
  assert.deepEqual(t.emitted(Stock), [
    Stock.StockReserved({ orderId: '1' }),
    Stock.StockRejected({ orderId: '1' }),
    Stock.StockReserved({ orderId: '1' }),
  ])
  assert.equal(t.emitted(Orders).length, 3)
  const free = await t.transact(inventory, async ({ tx }) => (await tx.query('select free from stock')).rows)
  assert.deepEqual(free, [{ free: 0 }])
})

test('a published message with the id of an earlier one is handled once', async () => {
  let calls = 0
  const inventory = service('inventory', { store: postgres }).on(Orders.OrderPlaced, async () => {
    calls++
  })
  await using t = await testApp({ services: [inventory] })
  const { id } = await t.publish(order('1'))
  await t.publish(order('1'), { id })
  await t.settled()
  assert.equal(calls, 1)
  assert.equal(
    t.ledger().reduce((sum, row) => sum + row.ended.duplicate, 0),
    1,
  )
})

test('retries are waited for, a dead letter settles, and the ledger shows both', async () => {
  let failures = 2
  const worker = service('worker').on(Orders.OrderPlaced, ({ quantity }) => {
    if (quantity === 0) throw new PermanentError('nothing ordered')
    if (failures-- > 0) throw new Error('not yet')
  })
  await using t = await testApp({ services: [worker], log: silent })
  await t.publish(order('a'))
  await t.publish(order('b', 0))
  await t.settled()
  const totals = t.ledger().reduce(
    (sum, row) => ({
      handled: sum.handled + row.ended.handled,
      deadLettered: sum.deadLettered + row.ended.deadLettered,
      retries: sum.retries + row.retries,
    }),
    { handled: 0, deadLettered: 0, retries: 0 },
  )
  assert.deepEqual(totals, { handled: 1, deadLettered: 1, retries: 2 })
})

test('settled throws with the list when a key stays parked', async () => {
  const worker = service('worker').on(Orders.OrderPlaced, () => {
    throw Object.assign(new Error('away'), { code: 'ECONNREFUSED' })
  })
  await using t = await testApp({ services: [worker], log: silent, settleMs: 300 })
  await t.publish(order('a'))
  await assert.rejects(t.settled(), (error: OttlaError) => {
    assert.equal(error.code, 'OTTLA_TEST_UNSETTLED')
    assert.match(error.message, /worker: .*orders-\d/)
    return true
  })
})
