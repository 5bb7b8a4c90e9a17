/** The inventory service: takes stock for an order, or says why not. */
import { service } from 'ottla'
import { postgres } from 'ottla/postgres'
import { Orders, Stock } from './contracts.ts'

export const inventory = service('inventory', { store: postgres, emits: [Stock] }).on(
  Orders.OrderPlaced,
  async (order, { tx, emit }) => {
    const { orderId, sku, quantity } = order
    const taken = await tx.query('update stock set free = free - $2 where sku = $1 and free >= $2', [sku, quantity])
    if (taken.rowCount === 1) {
      await tx.query('insert into stock_movement (order_id, sku, quantity) values ($1, $2, $3)', [
        orderId,
        sku,
        -quantity,
      ])
      emit(Stock.StockReserved(order))
      return
    }
    const known = await tx.query('select 1 from stock where sku = $1', [sku])
    const reason = known.rowCount === 0 ? 'unknown sku' : 'sold out'
    await tx.query('insert into stock_rejection (order_id, sku, reason) values ($1, $2, $3)', [orderId, sku, reason])
    emit(Stock.StockRejected({ ...order, reason }))
  },
)
