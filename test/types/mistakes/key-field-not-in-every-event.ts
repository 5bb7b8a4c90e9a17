// says: Type '"quantity"' is not assignable to type '"orderId" |

import { z } from 'zod'
import { topic } from '../../../src/contract/index.ts'

// right
topic('a', {
  key: 'orderId',
  events: {
    OrderPlaced: z.object({ orderId: z.string(), quantity: z.int() }),
    OrderCancelled: z.object({ orderId: z.string() }),
  },
})

// wrong
topic('b', {
  key: 'quantity',
  events: {
    OrderPlaced: z.object({ orderId: z.string(), quantity: z.int() }),
    OrderCancelled: z.object({ orderId: z.string() }),
  },
})
