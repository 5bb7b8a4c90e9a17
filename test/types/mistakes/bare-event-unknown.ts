// says: Type '"OrderPlcaed"' is not assignable to type '"OrderPlaced"'

import { z } from 'zod'
import { topic } from '../../../src/contract/index.ts'

// right
topic('a', { key: null, records: { bare: 'OrderPlaced' }, events: { OrderPlaced: z.object({ orderId: z.string() }) } })

// wrong
topic('b', { key: null, records: { bare: 'OrderPlcaed' }, events: { OrderPlaced: z.object({ orderId: z.string() }) } })
