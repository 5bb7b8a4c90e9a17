/** What `ottla doctor` asks a database. Nothing is written. */
import { readMeta, schemaVersion } from '../../adapters/postgres/schema.ts'
import { openPool } from '../pool.ts'
import type { StoreFacts } from './facts.ts'

/** Throws OTTLA_STORE_UNAVAILABLE, OTTLA_CONFIG_INVALID without `pg`. */
export async function storeFacts(url: string, inboxRetentionDays: number): Promise<StoreFacts> {
  await using pool = await openPool(url, 'ottla doctor')
  const client = await pool.connect()
  try {
    const meta = await readMeta(client)
    const beforeMs = Date.now()
    const { rows } = await client.query('select (extract(epoch from clock_timestamp()) * 1000)::float8 as ms')
    const uncertainMs = (Date.now() - beforeMs) / 2
    return {
      version: meta?.version ?? null,
      wanted: schemaVersion,
      clock: { aheadMs: Math.round(Number(rows[0]?.ms) - (beforeMs + uncertainMs)), uncertainMs },
      inboxRetentionDays,
    }
  } finally {
    client.release()
  }
}
