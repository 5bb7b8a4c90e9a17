/** Opens a database for a command. */
import type { ClientShape, PoolShape } from '../adapters/postgres/shape.ts'
import { OttlaError } from '../contract/errors.ts'

/** A few connections to one database; closed when disposed. */
export interface CommandPool extends AsyncDisposable {
  readonly pool: PoolShape
  /** Throws OTTLA_STORE_UNAVAILABLE. */
  connect(): Promise<ClientShape & { release(): void }>
}

/** Connects nothing yet. Throws OTTLA_CONFIG_INVALID when `pg` is not installed. */
export async function openPool(url: string, applicationName: string): Promise<CommandPool> {
  const { default: pg } = await import('pg').catch((cause) => {
    throw new OttlaError('OTTLA_CONFIG_INVALID', 'this command needs `pg`: npm install pg', { cause })
  })
  const pool = new pg.Pool({ connectionString: url, max: 3, application_name: applicationName })
  return {
    pool,
    connect: () =>
      pool.connect().catch((cause: Error) => {
        throw new OttlaError('OTTLA_STORE_UNAVAILABLE', `the database cannot be reached: ${cause.message}`, { cause })
      }),
    [Symbol.asyncDispose]: () => pool.end(),
  }
}
