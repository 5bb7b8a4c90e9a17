// says: "This service does not declare that it emits to stock. Add the topic to its emits"
import { service } from '../../../src/runtime/service.ts'
import { Orders, Stock } from '../contracts.ts'

// right
service('a', { emits: [Orders, Stock] }).on(Orders.OrderErased, (orderId, { emit }) => {
  emit(orderId ? Stock.StockReserved({ orderId, reservation: 'r' }) : Orders.OrderCancelled({ orderId }))
})

// wrong
service('b', { emits: [Orders] }).on(Orders.OrderErased, (orderId, { emit }) => {
  emit(orderId ? Stock.StockReserved({ orderId, reservation: 'r' }) : Orders.OrderCancelled({ orderId }))
})
