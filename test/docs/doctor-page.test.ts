/** The page about the doctor names every check, and no other. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'

const root = path.resolve(import.meta.dirname, '../..')

test('the page names every check of the doctor', () => {
  const source = readFileSync(path.join(root, 'src/cli/doctor/judge.ts'), 'utf8')
  const names = /export type CheckName =\n((?: {2}\| '[a-z-]+'\n)+)/.exec(source)?.[1] ?? ''
  const checks = [...names.matchAll(/'([a-z-]+)'/g)].map((match) => match[1] as string)
  assert.ok(checks.length >= 12)
  const page = readFileSync(path.join(root, 'docs/doctor.md'), 'utf8')
  const told = [...page.matchAll(/^\| `([a-z-]+)` \|/gm)].map((match) => match[1] as string)
  assert.deepEqual(told, checks)
})
