/**
 * The shop once: one order, and then every trace it must have left. Answers with what is not as it should be, so an
 * empty list means that all is well.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { isDeepStrictEqual } from 'node:util'
import { type Mailed, mailed } from './mailer.ts'
import { messageId } from './notification.ts'
import type { Shop } from './shop.ts'
import type { Published } from './steps.ts'

/** One thing looked at. */
export interface Check {
  readonly what: string
  readonly expected: unknown
  readonly found: unknown
}

const order = { customer: 'ada@example.com', sku: 'pen', quantity: 2 }
const betweenLooksMs = 50

/** Places one order over HTTP and looks until everything is as it should be, for `patienceMs` at most. */
export async function demo(shop: Shop, patienceMs = 20_000): Promise<readonly Check[]> {
  const published: Published[] = []
  const mails: Mailed[] = []
  const onPublished = (message: unknown): void => void published.push(message as Published)
  const onMailed = (message: unknown): void => void mails.push(message as Mailed)
  subscribe('ottla:record.published', onPublished)
  subscribe(mailed.name, onMailed)
  try {
    const freeBefore = await free(shop)
    const response = await fetch(`${shop.url}/orders`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(order),
    })
    const { orderId } = (await response.json()) as { orderId: string }
    const deadlineMs = performance.now() + patienceMs
    for (;;) {
      const checks = [
        { what: 'answer', expected: 202, found: response.status },
        ...(await traces(shop, { orderId, freeBefore, published, mails })),
      ]
      const allWell = checks.every(({ expected, found }) => isDeepStrictEqual(expected, found))
      if (allWell || performance.now() > deadlineMs) return checks
      await new Promise((resolve) => setTimeout(resolve, betweenLooksMs))
    }
  } finally {
    unsubscribe('ottla:record.published', onPublished)
    unsubscribe(mailed.name, onMailed)
  }
}

interface Seen {
  readonly orderId: string
  readonly freeBefore: number
  readonly published: readonly Published[]
  readonly mails: readonly Mailed[]
}

async function traces(shop: Shop, { orderId, freeBefore, published, mails }: Seen): Promise<readonly Check[]> {
  const { pool, ground } = shop
  const rows = async (sql: string, values: readonly unknown[] = []): Promise<unknown[]> =>
    (await pool.query(sql, values as unknown[])).rows
  const ours = published.filter(({ key }) => key === orderId)
  const idOf = (type: string): string => ours.find((one) => one.type === type)?.id ?? `(no ${type} was published)`
  const [placed, reserved] = [idOf('orders.OrderPlaced'), idOf('stock.StockReserved')]
  const mail = { to: order.customer, subject: `Your order ${orderId}`, messageId: messageId(reserved) }
  return [
    {
      what: 'order row',
      expected: [{ order_id: orderId, ...order }],
      found: await rows('select order_id, customer, sku, quantity from orders where order_id = $1', [orderId]),
    },
    { what: 'stock row', expected: freeBefore - order.quantity, found: await free(shop) },
    {
      what: 'stock movement',
      expected: [{ sku: order.sku, quantity: -order.quantity }],
      found: await rows('select sku, quantity from stock_movement where order_id = $1', [orderId]),
    },
    {
      what: 'events published',
      expected: ['orders.OrderPlaced', 'stock.StockReserved'],
      found: ours.map(({ type }) => type),
    },
    {
      what: 'rows in the outbox',
      expected: [],
      found: await rows('select id, type from ottla.outbox order by row_id'),
    },
    {
      what: 'inbox rows',
      expected: [
        { service: 'inventory', id: placed },
        { service: 'notification', id: reserved },
      ],
      found: await rows('select service, id from ottla.inbox where id = any($1) order by service', [
        [placed, reserved],
      ]),
    },
    {
      what: 'mail',
      expected: [mail],
      found:
        ground.sink === null
          ? mails
              .filter((one) => one.orderId === orderId)
              .map(({ to, subject, messageId }) => ({ to, subject, messageId }))
          : ground.sink.mails
              .filter(({ headers }) => headers.get('subject')?.includes(orderId))
              .map(({ to, headers }) => ({
                to: to.join(', '),
                subject: headers.get('subject'),
                messageId: headers.get('message-id'),
              })),
    },
  ]
}

async function free({ pool }: Shop): Promise<number> {
  const { rows } = await pool.query<{ free: number }>('select free from stock where sku = $1', [order.sku])
  return rows[0]?.free ?? Number.NaN
}
