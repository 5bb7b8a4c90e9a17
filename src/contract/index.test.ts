import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { test } from 'node:test'
import * as door from './index.ts'

test('the door and all behind it import nothing but the contract and use what a browser has', () => {
  const seen = new Set<string>()
  const visit = (file: string) => {
    if (seen.has(file)) return
    seen.add(file)
    const source = readFileSync(file, 'utf8').replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '')
    assert.doesNotMatch(source, /\b(Buffer|process|require|setImmediate)[.(]|import\.meta/, file)
    for (const [, specifier] of source.matchAll(/\bfrom '([^']+)'|\bimport\('([^']+)'\)/g)) {
      assert.match(specifier as string, /^\.\/[a-z0-9-]+\.ts$/, `${file} imports ${specifier}`)
      visit(resolve(dirname(file), specifier as string))
    }
  }
  visit(resolve(import.meta.dirname, 'index.ts'))
  assert.ok(seen.size > 10)
})

test('the door opens on what a contract package needs', () => {
  for (const name of ['topic', 'tombstone', 'versioned', 'json', 'OttlaError'] as const) assert.ok(name in door, name)
})
