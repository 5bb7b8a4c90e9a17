import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { checkVersion, migrationSql, migrations, schemaVersion } from './schema.ts'

test('schema.sql shows exactly what the migrations run', () => {
  const golden = readFileSync(path.join(import.meta.dirname, 'schema.sql'), 'utf8')
  assert.equal(
    golden,
    migrationSql(),
    'made with: node src/cli/main.ts store migrate --print > src/adapters/postgres/schema.sql. Never change a migration that was released',
  )
})

test('migrations are numbered without a gap', () => {
  assert.deepEqual(
    migrations.map(({ version }) => version),
    Array.from({ length: schemaVersion }, (_, i) => i + 1),
  )
  assert.equal(migrationSql(schemaVersion), '')
})

test('a library bears the schema before its own and the one after, and nothing else', () => {
  for (const version of [6, 7, 8]) assert.equal(checkVersion({ version, shards: 64 }, 7).version, version)
  assert.throws(() => checkVersion({ version: 5, shards: 64 }, 7), {
    code: 'OTTLA_STORE_SCHEMA',
    message: /version 5, this library needs 7 or 6: run `ottla store migrate`/,
  })
  assert.throws(() => checkVersion({ version: 9, shards: 64 }, 7), { message: /upgrade the package/ })
  assert.throws(() => checkVersion(null, 7), { message: /no schema "ottla": run `ottla store migrate`/ })
})
