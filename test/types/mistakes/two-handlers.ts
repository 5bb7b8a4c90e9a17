// says: '"Service s already handles orders.OrderPlaced. One service handles an event once"'
import { service } from '../../../src/runtime/service.ts'
import { Orders } from '../contracts.ts'

// right
const once = service('s')
  .on(Orders.OrderPlaced, () => {})
  .on(Orders.OrderCancelled, () => {})

// wrong
once.on(Orders.OrderPlaced, () => {})
