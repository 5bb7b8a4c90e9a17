// says: is missing the following properties from type 'Message<string, string, unknown>': type, key, data
import { service } from '../../../src/runtime/service.ts'
import { Orders, Stock } from '../contracts.ts'

// right
service('a').on(Orders.OrderErased, (orderId, { emit }) => {
  emit(Stock.StockReserved({ orderId, reservation: 'r' }))
})

// wrong
service('b').on(Orders.OrderErased, (_, { emit }) => {
  emit(Stock.StockReserved)
})
