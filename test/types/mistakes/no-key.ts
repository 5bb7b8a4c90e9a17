// says: Property 'key' is missing in type

import { z } from 'zod'
import { topic } from '../../../src/contract/index.ts'

// right
topic('a', { key: null, events: { OrderPlaced: z.object({ orderId: z.string() }) } })

// wrong
topic('b', { events: { OrderPlaced: z.object({ orderId: z.string() }) } })
