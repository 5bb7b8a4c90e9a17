/**
 * The orders service: HTTP in, events out. The order's row and its event commit in one transaction, so an answer of 202
 * means that both are safe, also when Kafka is away.
 */
import { randomUUID } from 'node:crypto'
import { type Context, Hono } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { type App, service } from 'ottla'
import { postgres } from 'ottla/postgres'
import { z } from 'zod'
import { Orders } from './contracts.ts'

export const orders = service('orders', { store: postgres, emits: [Orders] })

/** What `POST /orders` takes. Whoever gives an `orderId` may send the same order again without ordering twice. */
const OrderRequest = z.strictObject({
  orderId: z.string().min(1).max(64).optional(),
  customer: z.email(),
  sku: z.string().min(1).max(64),
  quantity: z.int().min(1).max(10_000),
})

/** The orders service over HTTP. `onRequest` is told each order's id and when its request came, by `performance.now()`. */
export function ordersHttp(shop: App<'orders'>, onRequest: (orderId: string, atMs: number) => void): Hono {
  const http = new Hono()
  http.post('/orders', bodyLimit({ maxSize: 64 * 1024, onError: tooLarge }), async (c) => {
    const atMs = performance.now()
    const body: unknown = await c.req.json().catch(() => undefined)
    if (body === undefined) return badRequest(c, [{ field: '', expected: 'a body of JSON' }])
    const read = OrderRequest.safeParse(body)
    if (!read.success) {
      const issues = read.error.issues.map(({ path, message }) => ({ field: path.join('.'), expected: message }))
      return badRequest(c, issues)
    }
    const order = { ...read.data, orderId: read.data.orderId ?? randomUUID() }
    onRequest(order.orderId, atMs)
    await shop.transact(orders, async ({ tx, emit }) => {
      const inserted = await tx.query(
        'insert into orders (order_id, customer, sku, quantity) values ($1, $2, $3, $4) on conflict do nothing',
        [order.orderId, order.customer, order.sku, order.quantity],
      )
      if (inserted.rowCount === 1) emit(Orders.OrderPlaced(order))
    })
    return c.json({ orderId: order.orderId }, 202)
  })
  http.onError((error, c) => {
    console.error('an order could not be taken:', error.message)
    return c.json({ error: 'the order could not be taken; try again with the same orderId' }, 503)
  })
  return http
}

interface FieldIssue {
  readonly field: string
  readonly expected: string
}

const badRequest = (c: Context, issues: readonly FieldIssue[]): Response =>
  c.json({ error: 'this is no order', issues }, 400)

const tooLarge = (c: Context): Response => c.json({ error: 'an order has at most 64 KiB' }, 413)
