// says: Argument of type '{ orderId: string; }' is not assignable to parameter of type 'string'
import { Orders } from '../contracts.ts'

// right
Orders.OrderErased('1')

// wrong
Orders.OrderErased({ orderId: '1' })
