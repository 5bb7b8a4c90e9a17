import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { z } from 'zod'
import { OttlaError } from './errors.ts'
import { eventOf, isEvent } from './event.ts'
import { tombstone, versioned } from './schema.ts'
import { isTopic, topic, topicOf } from './topic.ts'

const Orders = topic('orders', {
  key: 'orderId',
  partitions: 12,
  events: {
    OrderPlaced: z.object({ orderId: z.string(), quantity: z.int().default(1) }),
    OrderNumbered: z.object({ orderId: z.union([z.number(), z.bigint()]) }),
    OrderErased: tombstone,
  },
})
const placed = z.object({ orderId: z.string() })

describe('an event', () => {
  test('builds plain data that can be compared', () => {
    const message = Orders.OrderPlaced({ orderId: '1' })
    assert.deepStrictEqual(message, { topic: 'orders', type: 'OrderPlaced', key: '1', data: { orderId: '1' } })
    assert.deepStrictEqual(Object.getOwnPropertySymbols(message), [])
    assert.equal(eventOf(message), Orders.OrderPlaced)
    assert.equal(eventOf({ ...message }), undefined)
  })

  test('sends what it was given, not what the schema made of it', () => {
    assert.deepEqual(Orders.OrderPlaced({ orderId: '1' }).data, { orderId: '1' })
  })

  test('refuses what does not fit, where it is called', () => {
    assert.throws(
      () => Orders.OrderPlaced({ orderId: '1', quantity: 1.5 }),
      (error: unknown) =>
        error instanceof OttlaError &&
        error.code === 'OTTLA_CONTRACT_INVALID' &&
        error.stack?.includes('topic.test.ts') === true,
    )
  })

  test('knows its name, its topic and its version', () => {
    assert.equal(Orders.OrderPlaced.name, 'OrderPlaced')
    assert.equal(Orders.OrderPlaced.topic, 'orders')
    assert.equal(Orders.OrderPlaced.version, 1)
    assert.equal(topicOf(Orders.OrderPlaced), Orders)
    assert.ok(isEvent(Orders.OrderPlaced) && !isEvent(Orders) && !isEvent(() => {}))
    assert.ok(isTopic(Orders) && !isTopic(Orders.OrderPlaced) && !isTopic(null) && !isTopic({}))
  })

  test('that is a tombstone carries its key', () => {
    assert.deepEqual(Orders.OrderErased('7'), { topic: 'orders', type: 'OrderErased', key: '7', data: '7' })
  })
})

describe('a key', () => {
  test('may be a string, a number or a bigint, and is text on the wire', () => {
    assert.equal(Orders.OrderPlaced({ orderId: '' }).key, '')
    assert.equal(Orders.OrderNumbered({ orderId: 7 }).key, '7')
    assert.equal(Orders.OrderNumbered({ orderId: 7n }).key, '7')
  })

  test('comes from one function per event, or from nothing', () => {
    const ByFunction = topic('a', {
      key: { One: (event) => event.id, Two: (event) => `${event.left}/${event.right}` },
      events: {
        One: z.object({ id: z.int() }),
        Two: z.object({ left: z.string(), right: z.string() }),
        Gone: tombstone,
      },
    })
    assert.equal(ByFunction.Two({ left: 'l', right: 'r' }).key, 'l/r')
    assert.equal(ByFunction.Gone('1').key, '1')
    assert.equal(topic('b', { key: null, events: { One: z.object({}) } }).One({}).key, null)
  })

  test('that is missing, half a surrogate or no number is refused', () => {
    const Loose = topic('loose', {
      key: { E: (event) => event.id as string },
      events: { E: z.object({ id: z.any() }) },
    })
    for (const id of [undefined, null, '\ud800', Number.NaN, {}, true]) {
      assert.throws(
        () => Loose.E({ id }),
        (error: unknown) => error instanceof OttlaError && error.code === 'OTTLA_CONTRACT_INVALID',
      )
    }
  })
})

describe('a topic', () => {
  test('is described as data', () => {
    const Prices = topic('prices', {
      key: { PriceChanged: (event) => event.sku },
      types: { PriceChanged: 'com.acme.price-changed' },
      records: { bare: 'PriceChanged' },
      events: {
        PriceChanged: versioned(z.object({ sku: z.string() })).next(z.object({ sku: z.string() }), (old) => old),
      },
    })
    const json = JSON.parse(JSON.stringify([Orders, Prices]))
    assert.equal(json[0].key, 'orderId')
    assert.equal(json[0].partitions, 12)
    assert.equal(json[0].events.OrderErased.schema, null)
    assert.deepEqual(json[0].events.OrderPlaced.schema.required, ['orderId'])
    assert.deepEqual(json[1].key, { PriceChanged: 'function' })
    assert.equal(json[1].bare, 'PriceChanged')
    assert.equal(json[1].partitions, null)
    assert.equal(json[1].events.PriceChanged.version, 2)
    assert.equal(json[1].events.PriceChanged.type, 'com.acme.price-changed')
    assert.equal(json[1].events.PriceChanged.schema.type, 'object')
  })

  test('says which member of a wrong definition is wrong', () => {
    const wrong: [string, object, RegExp][] = [
      ['a b', { key: null, events: { E: placed } }, /a name has 1 to 249/],
      ['a', { key: null, events: {} }, /it has no events/],
      ['a', { events: { E: placed } }, /key is missing/],
      ['a', { key: null, events: { e: placed } }, /event e must start with a capital letter/],
      ['a', { key: null, events: { 'E-1': placed } }, /event E-1 must start/],
      ['a', { key: null, events: { E: { orderId: 'string' } } }, /E is no Standard Schema/],
      ['a', { key: null, partitions: 0, events: { E: placed } }, /partitions is 0/],
      ['a', { key: { F: () => '' }, events: { E: placed } }, /key has no function for E/],
      ['a', { key: 'orderId', events: { E: tombstone, F: tombstone } }, /two tombstones/],
      ['a', { key: null, events: { E: tombstone } }, /a tombstone needs a key/],
      ['a', { key: null, records: { bare: 'F' }, events: { E: placed } }, /records\.bare names F/],
      ['a', { key: 'x', records: { bare: 'E' }, events: { E: tombstone } }, /records\.bare cannot be the tombstone/],
      ['a', { key: null, types: { F: 'x' }, events: { E: placed } }, /types names F/],
      ['a', { key: null, types: { E: 'a.F' }, events: { E: placed, F: placed } }, /two events have the type a\.F/],
      ['a', { key: null, types: { E: 'a b' }, events: { E: placed } }, /type of E must be/],
    ]
    for (const [name, definition, text] of wrong) {
      assert.throws(
        () => topic(name, definition as never),
        (error: unknown) =>
          error instanceof OttlaError && error.code === 'OTTLA_CONTRACT_DEFINITION' && text.test(error.message),
        String(text),
      )
    }
  })
})
