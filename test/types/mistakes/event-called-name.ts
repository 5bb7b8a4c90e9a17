// says: "Event names start with a capital letter: write Name instead of name"

import { z } from 'zod'
import { topic } from '../../../src/contract/index.ts'

// right
topic('a', { key: 'orderId', events: { Name: z.object({ orderId: z.string() }) } })

// wrong
topic('b', { key: 'orderId', events: { name: z.object({ orderId: z.string() }) } })
