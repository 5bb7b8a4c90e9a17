/** `ottla/postgres`: PostgreSQL as a store. */
export type { PoolShape, PostgresTx } from './adapters/postgres/shape.ts'
export { type PostgresOptions, PostgresStore, postgres } from './adapters/postgres/store.ts'
