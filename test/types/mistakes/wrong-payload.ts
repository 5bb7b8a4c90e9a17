// says: Type 'number' is not assignable to type 'string'
import { Orders } from '../contracts.ts'

// right
Orders.OrderCancelled({ orderId: '1', reason: 'late' })

// wrong
Orders.OrderCancelled({ orderId: 1, reason: 'late' })
