/** The contracts that the type tests use: one of each schema library, with and without transforms. */
import { type } from 'arktype'
import * as v from 'valibot'
import { z } from 'zod'
import { tombstone, topic, versioned } from '../../src/contract/index.ts'

export const Orders = topic('orders', {
  key: 'orderId',
  partitions: 12,
  events: {
    OrderPlaced: z.object({
      orderId: z.string(),
      customer: z.email(),
      sku: z.string(),
      quantity: z.int(),
      placedAt: z.iso
        .datetime()
        .transform((text) => new Date(text))
        .optional(),
    }),
    OrderCancelled: z.object({ orderId: z.string(), reason: z.string().default('none given') }),
    OrderErased: tombstone,
  },
})

export const Stock = topic('stock', {
  key: 'orderId',
  events: {
    StockReserved: v.object({ orderId: v.string(), reservation: v.string() }),
    StockRejected: v.object({ orderId: v.string(), left: v.optional(v.number(), 0) }),
  },
})

export const Payments = topic('payments', {
  key: { CardCharged: (event) => event.orderId, CardDeclined: (event) => event.order },
  events: {
    CardCharged: type({ orderId: 'string', amount: 'number' }),
    CardDeclined: type({ order: 'string', 'code?': 'number' }),
  },
})

export const Prices = topic('prices', {
  key: 'sku',
  events: {
    PriceChanged: versioned(z.object({ sku: z.string(), cents: z.int() })).next(
      z.object({ sku: z.string(), cents: z.int(), currency: z.string() }),
      (old) => ({ ...old, currency: 'EUR' }),
    ),
  },
})
