/** Schema libraries are accepted by shape: what each one infers is what producer and handler see. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { OttlaError, type PayloadOf } from '../../src/contract/index.ts'
import { Orders, Payments, Stock } from './contracts.ts'

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false

test('valibot: the producer may leave out what has a default, the handler finds it', () => {
  true satisfies Same<PayloadOf<typeof Stock.StockRejected>, { orderId: string; left: number }>
  true satisfies Same<Parameters<typeof Stock.StockRejected>, [payload: { orderId: string; left?: number | undefined }]>
  assert.deepEqual(Stock.StockRejected({ orderId: '1' }), {
    topic: 'stock',
    type: 'StockRejected',
    key: '1',
    data: { orderId: '1' },
  })
  // @ts-expect-error: a number is no order id
  assert.throws(() => Stock.StockRejected({ orderId: 1 }), OttlaError)
})

test('arktype: definitions written as text become types', () => {
  true satisfies Same<PayloadOf<typeof Payments.CardDeclined>, { order: string; code?: number }>
  assert.equal(Payments.CardDeclined({ order: '7', code: 5 }).key, '7')
  // @ts-expect-error: the code is a number
  assert.throws(() => Payments.CardDeclined({ order: '7', code: 'five' }), OttlaError)
})

test('zod: the wire form of a transform is what the producer passes', () => {
  true satisfies Same<PayloadOf<typeof Orders.OrderPlaced>['placedAt'], Date | undefined>
  const message = Orders.OrderPlaced({
    orderId: '1',
    customer: 'a@b.cd',
    sku: 'pen',
    quantity: 1,
    placedAt: '2026-01-01T00:00:00Z',
  })
  assert.equal(message.data.placedAt, '2026-01-01T00:00:00Z')
})
