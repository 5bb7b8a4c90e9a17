// says: Object literal may only specify known properties, and 'why' does not exist in type '{ orderId: string; reason?: string | undefined; }'
import { Orders } from '../contracts.ts'

// right
Orders.OrderCancelled({ orderId: '1' })

// wrong
Orders.OrderCancelled({ orderId: '1', why: 'late' })
