/** What the services of the shop agree on: two topics and their events. */
import { topic } from 'ottla'
import { z } from 'zod'

/** What customers order. */
export const Orders = topic('orders', {
  key: 'orderId',
  partitions: 3,
  events: {
    OrderPlaced: z.object({
      orderId: z.string(),
      customer: z.email(),
      sku: z.string(),
      quantity: z.int().min(1),
    }),
  },
})

/** What became of an order's goods. The customer's address travels along, so that nobody has to ask for it. */
export const Stock = topic('stock', {
  key: 'orderId',
  partitions: 3,
  events: {
    StockReserved: z.object({
      orderId: z.string(),
      customer: z.email(),
      sku: z.string(),
      quantity: z.int().min(1),
    }),
    StockRejected: z.object({
      orderId: z.string(),
      customer: z.email(),
      sku: z.string(),
      quantity: z.int().min(1),
      reason: z.enum(['sold out', 'unknown sku']),
    }),
  },
})
