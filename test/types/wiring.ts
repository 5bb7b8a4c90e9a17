/**
 * Everything that is wired as it should be: it must compile, and each file of `mistakes/` differs from it by its
 * mistake only.
 */

import type { MessageOf, PayloadOf } from '../../src/contract/index.ts'
import type { App, AppDefinition, NameOf, TestApp, TestAppDefinition } from '../../src/runtime/app-types.ts'
import type { StoreKind, Transport } from '../../src/runtime/ports.ts'
import { type AnyService, type HandlerOf, service } from '../../src/runtime/service.ts'
import { Orders, Payments, Prices, Stock } from './contracts.ts'

/** What the types of a store's transaction may look like. */
export interface Tx {
  query(sql: string, values?: readonly unknown[]): Promise<{ readonly rowCount: number | null }>
}
export const postgres: StoreKind<Tx> = { kind: 'postgres' }

export declare const transport: Transport
export declare function app<const S extends readonly AnyService[]>(definition: AppDefinition<S>): App<NameOf<S[number]>>
export declare function testApp<const S extends readonly AnyService[]>(
  definition: TestAppDefinition<S>,
): Promise<TestApp<NameOf<S[number]>>>

export type OrderPlaced = PayloadOf<typeof Orders.OrderPlaced>
export type StockMessage = MessageOf<typeof Stock>

export const inventory = service('inventory', { store: postgres, emits: [Stock] })
  .on(Orders.OrderPlaced, async (order, { tx, emit }) => {
    const taken = await tx.query('update', [order.sku, order.quantity])
    emit(
      taken.rowCount
        ? Stock.StockReserved({ orderId: order.orderId, reservation: 'r' })
        : Stock.StockRejected({ orderId: order.orderId }),
    )
  })
  .on(Orders.OrderErased, async (orderId, { tx }) => {
    await tx.query('delete', [orderId])
  })

const billingBase = service('billing', { store: postgres, emits: [Payments] })
const charge: HandlerOf<typeof billingBase, typeof Stock.StockReserved> = async (reserved, { tx, emit }) => {
  await tx.query('select', [reserved.reservation])
  emit(Payments.CardCharged({ orderId: reserved.orderId, amount: 1 }), { id: 'mine' })
}
export const billing = billingBase.on(Stock.StockReserved, charge, { timeout: '30s', attempts: 3 })

export const reports = service('reports').onTopic(Orders, {
  OrderPlaced: (order) => {
    order.placedAt satisfies Date | undefined
  },
  OrderCancelled: (order, { log }) => log.info(order.reason),
  OrderErased: (orderId, { message }) => {
    orderId satisfies string
    message.time satisfies Date
  },
})

export const tool = service('tool').subscribe(Prices.PriceChanged, (payload) => {
  payload.anything
})

export async function wired(): Promise<void> {
  await using shop = await app({ transport, services: [inventory, billing, reports] }).start()
  await shop.publish(
    Orders.OrderPlaced({ orderId: '1', customer: 'a@b.cd', sku: 'pen', quantity: 2, placedAt: '2026-01-01T00:00:00Z' }),
  )
  const rows = await shop.transact(inventory, async ({ tx, emit }) => {
    emit(Stock.StockReserved({ orderId: '1', reservation: 'r' }))
    return (await tx.query('insert')).rowCount
  })
  rows satisfies number | null
  await using t = await testApp({ services: [inventory] })
  await t.publish(Orders.OrderErased('1'))
  await t.settled()
  for (const message of t.emitted(Stock)) {
    if (message.type === 'StockReserved') message.data.reservation satisfies string
    else message.data.left satisfies number | undefined
  }
  t.emitted(Stock.StockReserved)[0]?.data.reservation satisfies string | undefined
  Payments.CardDeclined({ order: '1', code: 5 })
  Prices.PriceChanged({ sku: 'pen', cents: 100, currency: 'EUR' })
}
