import assert from 'node:assert/strict'
import { test } from 'node:test'
import { embeddedPostgres } from '../testing/embedded-postgres.ts'
import { storeMigrate } from './store.ts'

test('the migrate command says from where to where it went', { timeout: 60_000 }, async () => {
  await using server = await embeddedPostgres()
  const url = await server.createDatabase()
  const lines: string[] = []
  const say = (line: string) => void lines.push(line)
  assert.equal(await storeMigrate({ url }, say), 0)
  assert.equal(await storeMigrate({ url }, say), 0)
  assert.match(lines[0]!, /from nothing to version 1$/)
  assert.match(lines[1]!, /is at version 1 already/)
})
