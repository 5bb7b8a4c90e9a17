/** Generated files are what their generators give. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { withoutComments } from '../../tools/protocol/definitions.ts'

const tool = (name: string): string => fileURLToPath(new URL(`../../tools/protocol/${name}`, import.meta.url))

test('the committed WebAssembly module is what the script assembles', () => {
  execFileSync(process.execPath, [tool('crc32c-wasm.ts'), '--check'], { stdio: 'pipe' })
})

test('comments go, text that looks like one stays', () => {
  const text = '// a\n{ "url": "http://x//y", // "b"\n "c\\"// d": 1 }'
  assert.deepEqual(JSON.parse(withoutComments(text)), { url: 'http://x//y', 'c"// d': 1 })
})

const jar = process.env['OTTLA_KAFKA_CLIENTS_JAR']

test('the committed table is what the definitions of the jar give', {
  skip: jar === undefined && 'OTTLA_KAFKA_CLIENTS_JAR is not set',
}, () => {
  assert.ok(jar !== undefined)
  execFileSync(process.execPath, [tool('generate.ts'), jar, '--check'], { stdio: 'pipe' })
})
