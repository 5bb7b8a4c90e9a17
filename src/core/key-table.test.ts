import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { hashOf, type Keyed, KeyTable } from './key-table.ts'

interface Entry extends Keyed {
  readonly name: string
}

const bytes = (name: string) => Buffer.from(name)
/** `hash`: of all the same where collisions are wanted. */
const entry = (name: string, hash = hashOf(bytes(name))): Entry => ({ key: bytes(name), hash, beside: null, name })

test('it is a map, whatever comes and goes and however many share a hash', () => {
  const steps = fc.array(fc.tuple(fc.boolean(), fc.nat(1_500)), { maxLength: 4_000 })
  fc.assert(
    fc.property(steps, fc.constantFrom(null, 7, -1), (all, same) => {
      const table = new KeyTable<Entry>()
      const model = new Map<string, Entry>()
      for (const [adds, n] of all) {
        const name = `key-${n}`
        const made = entry(name, same ?? undefined)
        const found = table.get(made.key, made.hash)
        assert.equal(found, model.get(name))
        if (adds && found === undefined) {
          table.add(made)
          model.set(name, made)
        } else if (!adds && found !== undefined) {
          table.delete(found)
          model.delete(name)
        }
        assert.equal(table.size, model.size)
      }
      for (const [name, made] of model) assert.equal(table.get(bytes(name), made.hash), made)
    }),
    { numRuns: 30 },
  )
})

test('keys that differ in one byte, or only in length, are different ones', () => {
  const table = new KeyTable<Entry>()
  for (const name of ['', 'a', 'b', 'aa', 'ab', 'a\u0000']) table.add(entry(name, 1))
  for (const name of ['', 'a', 'b', 'aa', 'ab', 'a\u0000']) assert.equal(table.get(bytes(name), 1)?.name, name)
  assert.equal(table.get(bytes('ba'), 1), undefined)
})

test('nearly equal keys spread over the buckets', () => {
  const used = new Set<number>()
  for (let n = 0; n < 256; n++) used.add(hashOf(bytes(`customer-${n}`)) & 255)
  // A fair throw of 256 into 256 fills about 162.
  assert.ok(used.size > 130, `${used.size}`)
})
