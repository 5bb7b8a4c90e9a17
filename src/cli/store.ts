/** `ottla store migrate`: brings schema `ottla` to this library's version, or prints the SQL for somebody else to run. */
import { migrationSql, readMeta, schemaVersion } from '../adapters/postgres/schema.ts'
import { postgres } from '../adapters/postgres/store.ts'
import { OttlaError } from '../contract/errors.ts'
import { type CommandPool, openPool } from './pool.ts'

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
  await using opened = await openPool(url, 'ottla store migrate')
  const { pool } = opened
  const before = await versionOf(opened)
  await using store = postgres(pool)
  await store.prepare('apply')
  say(
    before === schemaVersion
      ? `schema "ottla" is at version ${schemaVersion} already; the inbox was tidied`
      : `schema "ottla" went from ${before === null ? 'nothing' : `version ${before}`} to version ${schemaVersion}`,
  )
  return 0
}

async function versionOf(opened: CommandPool): Promise<number | null> {
  const client = await opened.connect()
  try {
    return (await readMeta(client))?.version ?? null
  } finally {
    client.release()
  }
}
