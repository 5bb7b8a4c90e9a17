// says: 'orderId' does not exist in type 'Schema<unknown, unknown>'

import { z } from 'zod'
import { topic } from '../../../src/contract/index.ts'

// right
topic('a', { key: null, events: { OrderPlaced: z.object({ orderId: z.string() }) } })

// wrong
topic('b', { key: null, events: { OrderPlaced: { orderId: 'string' } } })
