// says: Property 'OrderCancelled' is missing in type '{ OrderPlaced:

import { z } from 'zod'
import { topic } from '../../../src/contract/index.ts'

// right
topic('a', {
  key: { OrderPlaced: (e) => e.orderId, OrderCancelled: (e) => e.id },
  events: { OrderPlaced: z.object({ orderId: z.string() }), OrderCancelled: z.object({ id: z.string() }) },
})

// wrong
topic('b', {
  key: { OrderPlaced: (e) => e.orderId },
  events: { OrderPlaced: z.object({ orderId: z.string() }), OrderCancelled: z.object({ id: z.string() }) },
})
