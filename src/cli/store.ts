/** `ottla store migrate`: brings schema `ottla` to this library's version, or prints the SQL for somebody else to run. */
import { migrationSql, readMeta, schemaVersion } from '../adapters/postgres/schema.ts'
import type { PoolShape } from '../adapters/postgres/shape.ts'
import { postgres } from '../adapters/postgres/store.ts'
import { OttlaError } from '../contract/errors.ts'

export interface StoreMigrateArgs {
  /** Print the SQL instead of running it. Needs no database. */
  readonly print?: boolean
  /** With `print`: leave out the migrations up to this version. Default 0: everything. */
  readonly from?: number
  /** The database. Default: environment `DATABASE_URL`. */
  readonly url?: string
}

/** Runs the command; `say` gets the lines for stdout. Returns the exit code. Throws OTTLA_CONFIG_INVALID and store errors. */
export async function storeMigrate(args: StoreMigrateArgs, say: (text: string) => void): Promise<number> {
  if (args.print) {
    const from = args.from ?? 0
    if (!(Number.isInteger(from) && from >= 0)) {
      throw new OttlaError('OTTLA_CONFIG_INVALID', `from expects a schema version (0 to ${schemaVersion}), got ${from}`)
    }
    const sql = migrationSql(from)
    say(sql === '' ? `-- nothing to do: version ${schemaVersion} is the latest` : sql.trimEnd())
    return 0
  }
  const url = args.url ?? process.env['DATABASE_URL']
  if (!url) {
    throw new OttlaError('OTTLA_CONFIG_INVALID', 'which database? set DATABASE_URL, or use --print to see the SQL')
  }
  const { default: pg } = await import('pg').catch((cause) => {
    throw new OttlaError('OTTLA_CONFIG_INVALID', 'this command needs `pg`: npm install pg, or use --print', { cause })
  })
  const pool = new pg.Pool({ connectionString: url, max: 3, application_name: 'ottla store migrate' })
  try {
    const before = await versionOf(pool)
    await using store = postgres(pool)
    await store.prepare('apply')
    say(
      before === schemaVersion
        ? `schema "ottla" is at version ${schemaVersion} already; the inbox was tidied`
        : `schema "ottla" went from ${before === null ? 'nothing' : `version ${before}`} to version ${schemaVersion}`,
    )
    return 0
  } finally {
    await pool.end()
  }
}

async function versionOf(pool: PoolShape): Promise<number | null> {
  const client = await pool.connect().catch((cause) => {
    throw new OttlaError('OTTLA_STORE_UNAVAILABLE', `the database cannot be reached: ${cause.message}`, { cause })
  })
  try {
    return (await readMeta(client))?.version ?? null
  } finally {
    client.release()
  }
}
