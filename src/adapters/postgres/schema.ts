/**
 * Schema `ottla`: its migrations as plain SQL, and the check that library and database fit together.
 *
 * Migrations are numbered and only ever appended. Each leaves the schema usable by the library version before it, so
 * that old and new processes run side by side during a rollout: this library accepts its own version, the one before
 * and the one after.
 */
import { OttlaError } from '../../contract/errors.ts'
import { ourFailure } from './failure.ts'
import type { ClientShape } from './shape.ts'

/** How many shards the outbox has. Fixed in `meta` when the schema is made. */
const shards = 64

/** A step of the schema: from `version - 1` to `version`. */
export interface Migration {
  readonly version: number
  readonly what: string
  readonly sql: string
}

export const migrations: readonly Migration[] = [
  {
    version: 1,
    what: 'outbox, inbox, fence, and who relays which shard',
    sql: `create schema if not exists ottla;

create table ottla.meta (
  only_row boolean primary key default true check (only_row),
  schema_version integer not null,
  shards smallint not null,
  migrated_at timestamptz not null default now()
);
insert into ottla.meta (schema_version, shards) values (1, ${shards});

-- A row that exists is unpublished: the relay deletes what the broker has acknowledged.
-- row_id says in which order the events of a key go out; its sequence must never be cached.
create table ottla.outbox (
  row_id bigint generated always as identity (cache 1) primary key,
  shard smallint not null,
  topic text not null,
  partition integer,
  key bytea,
  value bytea,
  headers bytea not null,
  id text not null,
  type text not null,
  source text not null,
  timestamp_ms bigint,
  created_at timestamptz not null default clock_timestamp()
) with (
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_insert_scale_factor = 0,
  autovacuum_vacuum_insert_threshold = 50000
);

-- bucket follows from the delivery alone, so that every copy of an event meets the same unique index.
create table ottla.inbox (
  bucket integer not null,
  service text not null,
  source text not null,
  id text not null,
  handled_at timestamptz not null default now(),
  primary key (bucket, service, source, id)
) partition by range (bucket);
create table ottla.inbox_rest partition of ottla.inbox default;
create index inbox_rest_handled_at on ottla.inbox_rest (handled_at);

create table ottla.fence (
  service text not null,
  topic_id text not null,
  partition integer not null,
  epoch bigint not null,
  acquired_at timestamptz not null default now(),
  primary key (service, topic_id, partition)
) with (fillfactor = 50);

-- Advisory locks say who is alive; the lease says until when a relay may still be publishing.
create table ottla.relay (
  owner uuid primary key,
  backend_pid integer not null,
  backend_start timestamptz not null,
  lease_until timestamptz not null
) with (fillfactor = 50);
create table ottla.shard (
  shard smallint primary key,
  owner uuid
) with (fillfactor = 50);
insert into ottla.shard (shard) select generate_series(0, ${shards - 1});
`,
  },
]

/** The schema version this library is made for. */
export const schemaVersion = migrations.length

const setVersion = (version: number): string =>
  `update ottla.meta set schema_version = ${version}, migrated_at = now();\n`

/** The SQL from one version (default: nothing there) to the library's. Each migration is one transaction. */
export function migrationSql(fromVersion = 0): string {
  return migrations
    .filter(({ version }) => version > fromVersion)
    .map(
      ({ version, what, sql }) =>
        `-- ottla schema ${version}: ${what}\nbegin;\n${sql}${version === 1 ? '' : setVersion(version)}commit;\n`,
    )
    .join('\n')
}

/** What `meta` says, or null when schema `ottla` is not there. */
export interface Meta {
  readonly version: number
  readonly shards: number
}

export async function readMeta(client: ClientShape): Promise<Meta | null> {
  // Not to_regclass: it may answer from a cache that does not know yet what another process has just committed.
  const there = await client.query(
    `select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
       where n.nspname = 'ottla' and c.relname = 'meta') as there`,
  )
  if (there.rows[0]?.there !== true) return null
  const meta = await client.query('select schema_version, shards from ottla.meta')
  const row = meta.rows[0]
  return row === undefined ? null : { version: Number(row.schema_version), shards: Number(row.shards) }
}

/** Throws OTTLA_STORE_SCHEMA with what to do when library and database do not fit. */
export function checkVersion(meta: Meta | null, library = schemaVersion): Meta {
  const todo = `run \`ottla store migrate\`, or start once with schema: 'apply'`
  if (meta === null) throw new OttlaError('OTTLA_STORE_SCHEMA', `the database has no schema "ottla": ${todo}`)
  const details = { found: meta.version, library }
  if (meta.version < library - 1) {
    throw new OttlaError(
      'OTTLA_STORE_SCHEMA',
      `schema "ottla" is at version ${meta.version}, this library needs ${library} or ${library - 1}: ${todo}`,
      { details },
    )
  }
  if (meta.version > library + 1) {
    throw new OttlaError(
      'OTTLA_STORE_SCHEMA',
      `schema "ottla" is at version ${meta.version}, this library knows ${library} and bears ${library + 1}: upgrade the package`,
      { details },
    )
  }
  return meta
}

/** Advisory lock of whoever migrates: 'ottl', then 1. */
const migrationLock = 'select pg_advisory_xact_lock(1869902956, -1)'

/** Brings the schema to the library's version. Any number of processes may start at once; one does the work. */
export async function applySchema(client: ClientShape): Promise<Meta> {
  try {
    const before = await readMeta(client)
    if (before !== null && before.version >= schemaVersion) return checkVersion(before)
    await client.query('begin')
    try {
      await client.query(migrationLock)
      const found = await readMeta(client)
      for (const { version, sql } of migrations) {
        if (version <= (found?.version ?? 0)) continue
        await client.query(version === 1 ? sql : sql + setVersion(version))
      }
      await client.query('commit')
    } catch (error) {
      await client.query('rollback').catch(() => undefined) // the first error is the one that matters
      throw error
    }
    return checkVersion(await readMeta(client))
  } catch (error) {
    throw ourFailure('schema "ottla" was brought up to date', error)
  }
}

/** Looks only. Throws OTTLA_STORE_SCHEMA. */
export async function verifySchema(client: ClientShape): Promise<Meta> {
  try {
    return checkVersion(await readMeta(client))
  } catch (error) {
    throw ourFailure('schema "ottla" was checked', error)
  }
}
