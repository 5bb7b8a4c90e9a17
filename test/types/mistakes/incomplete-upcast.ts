// says: Property 'currency' is missing in type '{ sku: string; cents: number; }' but required in type '{ sku: string; cents: number; currency: string; }'

import { z } from 'zod'
import { versioned } from '../../../src/contract/index.ts'

// right
const v1 = versioned(z.object({ sku: z.string(), cents: z.int() }))
const v2 = z.object({ sku: z.string(), cents: z.int(), currency: z.string() })
v1.next(v2, (old) => ({ ...old, currency: 'EUR' }))

// wrong
v1.next(v2, (old) => old)
