/**
 * The process that the kill test kills: a shop like the example's, made so that every loss, doubling and disorder shows.
 *
 * Orders are keyed by customer and carry the version of the customer's row, so that order per key can be read off the
 * topic. Movements and rejections have no unique key: what is handled twice leaves two rows. An order sent again with
 * the same id is not ordered again, so that a client that lost an answer can ask once more.
 *
 * Environment: `KAFKA_BOOTSTRAP_SERVERS`, `DATABASE_URL`, `SMTP_URL`, `PORT`, and `OTTLA_KILL_RUN`, a name that keeps the
 * topics and groups of one run apart from those of others.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { app, service, topic } from 'ottla'
import { kafka } from 'ottla/kafka'
import { postgres } from 'ottla/postgres'
import pg from 'pg'
import { z } from 'zod'
import { mailer } from '../../../examples/shop/mailer.ts'

const env = (name: string): string => {
  const value = process.env[name]
  if (value === undefined) throw new Error(`${name} is not set`)
  return value
}

const run = env('OTTLA_KILL_RUN')
const order = z.object({
  orderId: z.string(),
  customer: z.string(),
  version: z.int(),
  sku: z.string(),
  quantity: z.int(),
})
type Order = z.infer<typeof order>

const Orders = topic(`${run}.orders`, { key: 'customer', partitions: 6, events: { OrderPlaced: order } })
const Stock = topic(`${run}.stock`, {
  key: 'customer',
  partitions: 6,
  events: { StockReserved: order, StockRejected: order },
})

const tables = `
create table if not exists customer (customer text primary key, version integer not null);
create table if not exists orders (
  order_id text primary key, customer text not null, version integer not null, sku text not null,
  quantity integer not null, unique (customer, version)
);
create table if not exists stock (sku text primary key, free integer not null check (free >= 0));
create table if not exists stock_movement (order_id text not null, sku text not null, quantity integer not null);
create table if not exists stock_rejection (order_id text not null, sku text not null);
insert into stock (sku, free) select 'sku-' || n, 40 from generate_series(0, 19) n on conflict do nothing;
`

const orders = service('orders', { store: postgres, emits: [Orders] })

const inventory = service('inventory', { store: postgres, emits: [Stock] }).on(
  Orders.OrderPlaced,
  async (placed, { tx, emit }) => {
    const { orderId, sku, quantity } = placed
    const taken = await tx.query('update stock set free = free - $2 where sku = $1 and free >= $2', [sku, quantity])
    if (taken.rowCount === 1) {
      await tx.query('insert into stock_movement values ($1, $2, $3)', [orderId, sku, quantity])
      emit(Stock.StockReserved(placed))
    } else {
      await tx.query('insert into stock_rejection values ($1, $2)', [orderId, sku])
      emit(Stock.StockRejected(placed))
    }
  },
)

const mail = mailer(env('SMTP_URL'))
const notify =
  (subject: string) =>
  async ({ orderId, customer }: Order, { message }: { readonly message: { readonly id: string } }) => {
    await mail.send({
      orderId,
      to: `${customer}@example.com`,
      subject: `${subject} ${orderId}`,
      text: subject,
      messageId: `<${message.id}@kill.example.com>`,
    })
  }
const notification = service('notification', { store: postgres, emits: [] }).onTopic(Stock, {
  StockReserved: notify('reserved'),
  StockRejected: notify('sorry'),
})

const pool = new pg.Pool({ connectionString: env('DATABASE_URL'), max: 20 })
pool.on('error', (error) => console.error(`a connection of the pool was lost: ${error.message}`))
await pool.query(tables)

const shop = await app({
  name: 'kill-shop',
  namespace: run,
  // Dead members are noticed soon, or each kill would cost the default of 45 s.
  transport: kafka({ consumer: { sessionTimeoutMs: 2_000, heartbeatIntervalMs: 500 } }),
  store: postgres(pool),
  services: [orders, inventory, notification],
  topics: 'create',
  schema: 'apply',
}).start()

async function place(body: string): Promise<void> {
  const asked = order.omit({ version: true }).parse(JSON.parse(body))
  await shop.transact(orders, async ({ tx, emit }) => {
    const known = await tx.query('select 1 from orders where order_id = $1', [asked.orderId])
    if (known.rowCount === 1) return
    const { rows } = await tx.query(
      `insert into customer values ($1, 1)
       on conflict (customer) do update set version = customer.version + 1 returning version`,
      [asked.customer],
    )
    const version = Number((rows[0] as { version: unknown }).version)
    await tx.query('insert into orders values ($1, $2, $3, $4, $5)', [
      asked.orderId,
      asked.customer,
      version,
      asked.sku,
      asked.quantity,
    ])
    emit(Orders.OrderPlaced({ ...asked, version }))
  })
}

function answer(request: IncomingMessage, response: ServerResponse): void {
  if (request.url === '/readyz') {
    response.end('ready')
    return
  }
  let body = ''
  request.setEncoding('utf8').on('data', (part: string) => {
    body += part
  })
  request.on('end', () => {
    place(body).then(
      () => response.writeHead(202).end(),
      (error: Error) => response.writeHead(503).end(error.message),
    )
  })
}

createServer(answer).listen(Number(env('PORT')), '127.0.0.1')
process.once('SIGTERM', () => {
  void shop[Symbol.asyncDispose]().then(() => process.exit(0))
})
