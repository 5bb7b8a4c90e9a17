// says: Type '"orderID"' is not assignable to type '"orderId" | "quantity" |
// says: Did you mean '"orderId"'?

import { z } from 'zod'
import { topic } from '../../../src/contract/index.ts'

// right
topic('a', { key: 'orderId', events: { OrderPlaced: z.object({ orderId: z.string(), quantity: z.int() }) } })

// wrong
topic('b', { key: 'orderID', events: { OrderPlaced: z.object({ orderId: z.string(), quantity: z.int() }) } })
