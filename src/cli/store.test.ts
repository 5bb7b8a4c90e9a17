import assert from 'node:assert/strict'
import { test } from 'node:test'
import { migrationSql, schemaVersion } from '../adapters/postgres/schema.ts'
import { storeMigrate } from './store.ts'

const run = async (args: Parameters<typeof storeMigrate>[0]) => {
  const lines: string[] = []
  const code = await storeMigrate(args, (line) => void lines.push(line))
  return { code, text: lines.join('\n') }
}

test('--print shows the SQL without a database', async () => {
  assert.deepEqual(await run({ print: true }), { code: 0, text: migrationSql().trimEnd() })
  assert.match((await run({ print: true, from: schemaVersion })).text, /^-- nothing to do/)
})

test('a version that is none is refused', async () => {
  await assert.rejects(run({ print: true, from: -1 }), { code: 'OTTLA_CONFIG_INVALID' })
})

test('a database that cannot be reached is said so', async () => {
  await assert.rejects(run({ url: 'postgres://nobody@127.0.0.1:1/none' }), { code: 'OTTLA_STORE_UNAVAILABLE' })
})
