import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { z } from 'zod'
import { OttlaError } from '../contract/errors.ts'
import { topic } from '../contract/topic.ts'
import type { StoreKind } from './ports.ts'
import { service } from './service.ts'

const A = z.object({ id: z.string() })
const Orders = topic('orders', { key: 'id', events: { Placed: A, Cancelled: A } })
const Stock = topic('stock', { key: 'id', events: { Reserved: A } })
const postgres: StoreKind<{ query(sql: string): void }> = { kind: 'postgres' }
const wiring = (text: RegExp) => (error: unknown) =>
  error instanceof OttlaError && error.code === 'OTTLA_RUNTIME_WIRING' && text.test(error.message)

describe('a service', () => {
  test('tells the engine its handlers by topic and event', () => {
    const handler = () => {}
    const inventory = service('inventory', { store: postgres, emits: [Stock] })
      .on(Orders.Placed, handler, { timeout: '30s', attempts: 2 })
      .on(Stock.Reserved, handler)
    const { name, storeKind, emits, subscriptions } = inventory['~definition']
    assert.equal(name, 'inventory')
    assert.equal(storeKind, 'postgres')
    assert.deepEqual([...(emits ?? [])], [['stock', Stock]])
    assert.deepEqual([...subscriptions.keys()], ['orders', 'stock'])
    const orders = subscriptions.get('orders')
    assert.equal(orders?.topic, Orders)
    assert.deepEqual(orders?.handlers.get('Placed'), {
      event: Orders.Placed,
      handler,
      options: { timeout: '30s', attempts: 2 },
    })
    assert.equal(orders?.handlers.has('Cancelled'), false)
  })

  test('without a store and without emits says so', () => {
    const { storeKind, emits } = service('a')['~definition']
    assert.equal(storeKind, null)
    assert.equal(emits, undefined)
    assert.equal(service('b', { emits: [] })['~definition'].emits?.size, 0)
  })

  test('keeps a handler that is added in a statement', () => {
    const late = service('late')
    late.on(Orders.Placed, () => {})
    assert.equal(late['~definition'].subscriptions.get('orders')?.handlers.size, 1)
  })

  test('handles every event of a topic with onTopic', () => {
    const all = service('all').onTopic(Orders, { Placed: () => {}, Cancelled: () => {} })
    assert.deepEqual(
      [...(all['~definition'].subscriptions.get('orders')?.handlers.keys() ?? [])],
      ['Placed', 'Cancelled'],
    )
    assert.throws(
      () => service('b').onTopic(Orders, { Placed: () => {} } as never),
      wiring(/lacks a handler for Cancelled/),
    )
  })

  test('handles an event once, also when the types were not watching', () => {
    const once = service('s')
    once.on(Orders.Placed, () => {})
    assert.throws(
      () => once.on(Orders.Placed, () => {}),
      wiring(/already handles orders\.Placed\. One service handles an event once/),
    )
    assert.throws(() => once.onTopic(Orders, { Placed: () => {}, Cancelled: () => {} }), wiring(/already handles/))
  })

  test('takes an event known only at run time through subscribe', () => {
    const tool = service('tool')
    for (const event of Orders.events) tool.subscribe(event, () => {})
    assert.equal(tool['~definition'].subscriptions.get('orders')?.handlers.size, 2)
  })

  test('refuses what is no event, no topic, no handler, no kind of store', () => {
    assert.throws(() => service('a').on(Orders as never, () => {}), wiring(/on was given the topic orders; onTopic/))
    assert.throws(() => service('a').on({} as never, () => {}), wiring(/no event of a topic/))
    assert.throws(() => service('a').onTopic({} as never, {}), wiring(/no topic/))
    assert.throws(
      () => service('a').on(Orders.Placed, undefined as never),
      wiring(/handler of orders\.Placed is no function/),
    )
    assert.throws(() => service('a', { store: {} as never }), wiring(/no kind of store/))
    assert.throws(() => service('a', { emits: [Orders.Placed as never] }), wiring(/no topic/))
    assert.throws(() => service('Not a name'), OttlaError)
  })

  test('refuses two topics of one name', () => {
    const Twin = topic('orders', { key: 'id', events: { Other: A } })
    assert.throws(
      () =>
        service('a')
          .on(Orders.Placed, () => {})
          .on(Twin.Other, () => {}),
      wiring(/both called orders/),
    )
  })
})
