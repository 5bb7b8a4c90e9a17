// says: Type 'Date' is not assignable to type 'string'
import { Orders } from '../contracts.ts'

// right
Orders.OrderPlaced({ orderId: '1', customer: 'a@b.cd', sku: 'pen', quantity: 1, placedAt: '2026-01-01T00:00:00Z' })

// wrong
Orders.OrderPlaced({ orderId: '1', customer: 'a@b.cd', sku: 'pen', quantity: 1, placedAt: new Date() })
