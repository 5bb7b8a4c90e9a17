// says: is not assignable to type 'void | Promise<void>'
import { service } from '../../../src/runtime/service.ts'
import { Orders, Stock } from '../contracts.ts'

// right
service('a').on(Orders.OrderErased, (orderId, { emit }) => {
  emit(Stock.StockRejected({ orderId }))
})

// wrong
service('b').on(Orders.OrderErased, (orderId) => Stock.StockRejected({ orderId }))
