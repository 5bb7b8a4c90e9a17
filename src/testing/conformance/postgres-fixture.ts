/** Stores on one PostgreSQL database, for the conformance tests: each on a pool of its own that can be cut. */
import pg from 'pg'
import type { ClientShape, PoolShape, PostgresTx } from '../../adapters/postgres/shape.ts'
import { type PostgresOptions, postgres } from '../../adapters/postgres/store.ts'
import type { OpenStore, StoreFixture } from './store.ts'

/**
 * A pool for what the tests themselves ask the database. `end` resolves before the server has closed the connections, so
 * the database may be dropped under them: an error of an idle connection is nothing here, and unheard it would end the
 * process.
 */
export function adminPool(url: string, max = 2): pg.Pool {
  const pool = new pg.Pool({ connectionString: url, max })
  pool.on('error', () => undefined)
  return pool
}

/** A `pg` pool whose connections can be cut, all at once and for good. */
export class CuttablePool implements PoolShape {
  readonly pool: pg.Pool
  readonly options: { readonly max: number }
  readonly #clients = new Set<pg.PoolClient>()
  #cut = false

  constructor(url: string, options: pg.PoolConfig = {}) {
    this.pool = new pg.Pool({ connectionString: url, max: 10, ...options })
    this.options = { max: this.pool.options.max ?? 10 }
    this.pool.on('connect', (client) => void this.#clients.add(client as pg.PoolClient))
    this.pool.on('remove', (client) => void this.#clients.delete(client as pg.PoolClient))
  }

  async connect(): Promise<ClientShape> {
    if (this.#cut) throw Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' })
    return this.pool.connect()
  }

  on(event: 'error', listener: (error: Error) => void): unknown {
    return this.pool.on(event, listener)
  }

  removeListener(event: 'error', listener: (error: Error) => void): unknown {
    return this.pool.removeListener(event, listener)
  }

  /** Destroys the sockets, as a kernel does for a killed process. */
  cut(): void {
    this.#cut = true
    for (const client of this.#clients) {
      const { connection } = client as unknown as { connection: { stream: { destroy(): void } } }
      connection.stream.destroy()
    }
  }

  async end(): Promise<void> {
    await this.pool.end()
  }
}

/** A fixture on an empty database. */
export async function postgresFixture(url: string, leaseMs = 1_000): Promise<StoreFixture<PostgresTx>> {
  const admin = adminPool(url)
  await admin.query('create table version (key text primary key, version int not null); create table other (n int)')
  return {
    leaseMs,
    open: () => openPostgres(url, { relayLeaseMs: leaseMs }),
    async bump(tx, key) {
      const answer = await tx.query(
        `insert into version as v values ($1, 1) on conflict (key) do update set version = v.version + 1 returning version`,
        [key],
      )
      return answer.rows[0]!.version
    },
    async touch(tx) {
      await tx.query('insert into other values (1)')
    },
    async versions() {
      const answer = await admin.query('select key, version from version')
      return new Map(answer.rows.map((row) => [row.key, row.version]))
    },
    [Symbol.asyncDispose]: () => admin.end(),
  }
}

/** A prepared store on a pool of its own. */
export async function openPostgres(
  url: string,
  options: PostgresOptions = {},
  poolOptions: pg.PoolConfig = {},
): Promise<OpenStore<PostgresTx> & { readonly pool: CuttablePool }> {
  const pool = new CuttablePool(url, { max: 20, ...poolOptions })
  const store = postgres(pool, options)
  await store.prepare('apply')
  return {
    store,
    pool,
    kill: async () => pool.cut(),
    [Symbol.asyncDispose]: async () => {
      await store[Symbol.asyncDispose]()
      await pool.end()
    },
  }
}
