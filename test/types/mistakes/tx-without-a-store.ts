// says: Property 'query' does not exist on type 'Mistake<"This service has no store, so there is no transaction. Write service(name, { store })">'
import { service } from '../../../src/runtime/service.ts'
import { Orders } from '../contracts.ts'
import { postgres } from '../wiring.ts'

// right
service('a', { store: postgres }).on(Orders.OrderErased, async (orderId, { tx }) => {
  await tx.query('delete', [orderId])
})

// wrong
service('b').on(Orders.OrderErased, async (orderId, { tx }) => {
  await tx.query('delete', [orderId])
})
