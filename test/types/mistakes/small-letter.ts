// says: "Event names start with a capital letter: write OrderPlaced instead of orderPlaced"

import { z } from 'zod'
import { topic } from '../../../src/contract/index.ts'

// right
topic('a', { key: 'orderId', events: { OrderPlaced: z.object({ orderId: z.string() }) } })

// wrong
topic('b', { key: 'orderId', events: { orderPlaced: z.object({ orderId: z.string() }) } })
