/** The shop in one process: its ground, its tables, its three services and its HTTP server. */
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { createAdaptorServer } from '@hono/node-server'
import { app, type Log, type Operations, probes } from 'ottla'
import { kafka } from 'ottla/kafka'
import { postgres } from 'ottla/postgres'
import pg from 'pg'
import { type Ground, ground } from './embedded.ts'
import { inventory } from './inventory.ts'
import { mailer } from './mailer.ts'
import { notification } from './notification.ts'
import { orders, ordersHttp } from './orders.ts'

export interface Shop extends AsyncDisposable {
  readonly ground: Ground
  readonly pool: pg.Pool
  /** Where `POST /orders`, `/metrics`, `/readyz` and `/livez` answer. */
  readonly url: string
}

export interface ShopOptions {
  readonly environment: NodeJS.ProcessEnv
  /** Told each order's id and when its request came, by `performance.now()`. */
  readonly onRequest: (orderId: string, atMs: number) => void
  readonly log: Log
  /** True when the shop owns its process: an error that nobody caught closes it and ends the process with 1. */
  readonly guards?: boolean
}

const defaultPort = 3000

/** Opens the shop. Disposing stops taking orders, lets running handlers finish, commits and leaves the groups. */
export async function openShop({ environment, onRequest, log, guards = false }: ShopOptions): Promise<Shop> {
  await using stack = new AsyncDisposableStack()
  const base = stack.use(await ground(environment))
  const pool = new pg.Pool({ connectionString: base.databaseUrl, max: 20 })
  let closing = false
  stack.defer(() => {
    closing = true
    return pool.end()
  })
  // A connection that dies while it rests is replaced by the pool. At the end the server may be quicker than they are.
  pool.on('error', (error) => {
    if (!closing) log.warn('a connection of the pool was lost', { reason: error.message })
  })
  await makeTables(pool)
  const mail = stack.use(mailer(base.smtpUrl))
  const shop = stack.use(
    app({
      name: 'shop',
      transport: kafka(base.kafka),
      store: postgres(pool),
      services: [orders, inventory, notification(mail)],
      topics: 'create',
      schema: 'apply',
      // It must open on whatever cluster it is shown. A shop that sells things leaves this line out.
      durability: 'single',
      drainTimeout: '1s',
      guards,
      log,
    }),
  )
  await shop.start()
  await ready(shop)
  const http = ordersHttp(shop, onRequest)
  const probe = probes(shop)
  for (const path of ['/livez', '/readyz', '/metrics']) http.get(path, (c) => probe(c.req.raw))
  const server = await listen(http.fetch, environment['PORT'])
  // First to be closed: no order is taken that nobody would handle.
  stack.defer(async () => {
    const closed = new Promise((resolve) => server.close(resolve))
    server.closeIdleConnections()
    await Promise.race([closed, once(AbortSignal.timeout(500), 'abort')])
    server.closeAllConnections()
  })
  const kept = stack.move()
  return {
    ground: base,
    pool,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: () => kept.disposeAsync(),
  }
}

async function makeTables(pool: pg.Pool): Promise<void> {
  const schema = await readFile(join(import.meta.dirname, 'schema.sql'), 'utf8')
  // Two shops that start at once would otherwise make the same table at the same moment.
  await pool.query(`begin; select pg_advisory_xact_lock(727483); ${schema} commit;`)
}

/** Listens on the port given, or on 3000, or on a free one when that is taken. */
async function listen(fetch: (request: Request) => Response | Promise<Response>, port?: string): Promise<Server> {
  const server = createAdaptorServer({ fetch }) as Server
  const attempt = async (number: number): Promise<void> => {
    server.listen(number, '127.0.0.1')
    await once(server, 'listening')
  }
  if (port) await attempt(Number(port))
  else {
    await attempt(defaultPort).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EADDRINUSE') throw error
      return attempt(0)
    })
  }
  return server
}

const readyPatienceMs = 30_000

/** Waits until every service has its partitions, so that the first order meets no warming up. */
async function ready(shop: Operations): Promise<void> {
  const deadlineMs = performance.now() + readyPatienceMs
  for (;;) {
    const { ready, reasons } = shop.health()
    if (ready) return
    if (performance.now() > deadlineMs) throw new Error(`the shop is not ready: ${reasons.join('; ')}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
