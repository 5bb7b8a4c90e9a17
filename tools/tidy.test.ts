import assert from 'node:assert/strict'
import { test } from 'node:test'
import { maskSource } from './source-mask.ts'
import { tidy } from './tidy-rules.ts'

const header = '/** What it is for. */\n'

/** What the rules say about a tree of one planted file (and others it needs). */
function said(file: string, body: string, others: Record<string, string> = {}): string[] {
  const tree = new Map(Object.entries({ ...others, [file]: `${header}${body}` }))
  return tidy(tree)
    .filter((finding) => finding.file === file)
    .map(({ line, message }) => `${line} ${message}`)
}

/** One planted breach per rule: file, body, and what must be said about its second line. */
const breaches: readonly (readonly [string, string, RegExp])[] = [
  ['src/contract/a.ts', "import { b } from '../core/b.ts'", /contract may not import core/],
  ['src/core/a.ts', "import { b } from '../runtime/b.ts'", /core may not import runtime/],
  ['src/runtime/a.ts', "import { b } from '../adapters/postgres/b.ts'", /runtime may not import adapters\/postgres/],
  ['src/runtime/a.ts', "import { b } from '../wire/b.ts'", /runtime may not import wire/],
  ['src/wire/a.ts', "import { b } from '../kafka/b.ts'", /wire may not import kafka/],
  ['src/kafka/a.ts', "import { b } from '../runtime/b.ts'", /kafka may not import runtime/],
  ['src/kafka/machine/a.ts', "import { b } from '../io/b.ts'", /kafka\/machine may not import kafka\/io/],
  ['src/broker/a.ts', "import { b } from '../kafka/machine/b.ts'", /broker may not import kafka\/machine/],
  ['src/broker/a.ts', "import { b } from '../core/b.ts'", /broker may not import core/],
  [
    'src/adapters/postgres/a.ts',
    "import { b } from '../kafka/b.ts'",
    /adapters\/postgres may not import adapters\/kafka/,
  ],
  ['src/adapters/kafka/a.ts', "import { b } from '../../testing/b.ts'", /adapters\/kafka may not import testing/],
  ['src/testing/a.ts', "import { b } from '../cli/b.ts'", /testing may not import cli/],
  ['src/core/a.ts', "export { b } from '../runtime/b.ts'", /core may not import runtime/],
  ['src/core/a.ts', "export type B = import('../runtime/b.ts').B", /core may not import runtime/],
  ['src/core/a.ts', "const b = import('../runtime/b.ts')", /core may not import runtime/],
  ['src/core/a.ts', "import '../runtime/b.ts'", /core may not import runtime/],
  ['src/core/a.ts', "import { z } from 'zod'", /core may not import zod/],
  ['src/adapters/postgres/a.ts', "import type { Pool } from 'pg'", /adapters\/postgres may not import pg/],
  ['src/core/a.ts', "import { b } from '../index.ts'", /imports the door src\/index\.ts/],
  ['src/cli/a.ts', "import { b } from '../kafka.ts'", /imports the door src\/kafka\.ts/],
  ['src/core/a.ts', "import { b } from '../../tools/b.ts'", /leaves src/],
  ['src/core/a.ts', "import { b } from './b.test.ts'", /imports a test/],
  ['src/broker/index.ts', 'export const a = 1', /a barrel inside the library/],
  ['src/elsewhere/a.ts', 'export const a = 1', /stands in no room/],
  ['src/loose.ts', 'export const a = 1', /stands in no room/],

  ['src/kafka.ts', "export * from './kafka/client.ts'", /a door only says/],
  ['src/kafka.ts', 'export const a = 1', /a door only says/],
  ['src/kafka.ts', "import './kafka/client.ts'", /a door only says/],

  ['src/contract/a.ts', "import { randomUUID } from 'node:crypto'", /contract may not import node:crypto/],
  ['src/wire/a.ts', "import { gzipSync } from 'node:zlib'", /wire may not import node:zlib/],
  ['src/kafka/a.ts', "import { connect } from 'node:net'", /kafka may not import node:net/],
  ['src/kafka/machine/a.ts', "import { connect } from 'node:tls'", /kafka\/machine may not import node:tls/],
  ['src/runtime/a.ts', "import { readFile } from 'node:fs/promises'", /runtime may not import node:fs\/promises/],
  ['src/runtime/a.ts', "import { createServer } from 'node:http'", /runtime may not import node:http/],

  ['src/core/a.ts', 'export const f = async () => {}', /core is pure: async/],
  ['src/core/a.ts', 'export async function f() {}', /core is pure: async/],
  ['src/core/a.ts', 'export class A { async f() {} }', /core is pure: async/],
  ['src/kafka/machine/a.ts', 'await ready', /kafka\/machine is pure: await/],
  ['src/core/a.ts', 'const p = new Promise(() => {})', /core is pure: a promise/],
  ['src/core/a.ts', 'const now = Date.now()', /core is pure: the clock/],
  ['src/core/a.ts', 'const now = new Date()', /core is pure: the clock/],
  ['src/core/a.ts', 'const now = new Date', /core is pure: the clock/],
  ['src/core/a.ts', 'const now = performance.now()', /core is pure: the clock/],
  ['src/core/a.ts', 'const r = Math.random()', /core is pure: randomness/],
  ['src/core/a.ts', 'setTimeout(f, 1)', /core is pure: a timer/],
  ['src/core/a.ts', 'queueMicrotask(f)', /core is pure: a timer/],
  ['src/contract/a.ts', 'const e = process.env', /contract is pure: process/],
  ['src/contract/a.ts', "const b = Buffer.from('a')", /contract is pure: Buffer/],
  ['src/contract/a.ts', 'export type B = Buffer | null', /contract is pure: Buffer/],
  ['src/wire/a.ts', 'const r = Math.random()', /wire is pure: randomness/],
  // biome-ignore lint/suspicious/noTemplateCurlyInString: the planted source holds the template.
  ['src/core/a.ts', 'const s = `at ${Date.now()}`', /core is pure: the clock/],

  ['src/core/string-utils.ts', 'export const a = 1', /the name says nothing/],
  ['src/core/a.ts', 'export default 1', /named exports only/],
  ['src/core/a.ts', ['// TO', 'DO later'].join(''), /leftover/],
  ['src/core/a.ts', ['// FIX', 'ME'].join(''), /leftover/],
  ['test/a.test.ts', "test('a', { skip: true }, () => {})", /a skip without a reason/],
  ['test/a.test.ts', "test.skip('a', () => {})", /a skip without a reason/],
  ['test/a.test.ts', 't.skip()', /a skip without a reason/],
  ['test/a.test.ts', "test.only('a', () => {})", /only and todo/],
  ['examples/shop/a.ts', "import { b } from '../../src/core/b.ts'", /an example uses public doors only/],
  ['src/broker/a.ts', 'await using listener = open()', /Node 22 does not know/],
  ['src/broker/a.ts', 'const stack = new AsyncDisposableStack()', /Node 22 does not know/],
  ['docs/a.md', ['npm config set registry https://registry.npm', 'js.org'].join(''), /names a package registry/],
  ['package-lock.json', '"resolved": "https://mirror.example/a.tgz"', /the lockfile holds an address/],
]

for (const [file, body, message] of breaches) {
  test(`tidy finds \`${body}\` in ${file}`, () => {
    const lines = said(file, body)
    assert.ok(
      lines.some((line) => message.test(line)),
      `said: ${lines.join('; ') || 'nothing'}`,
    )
    assert.equal(lines.length, 1)
  })
}

test('tidy finds a second file of the broker that opens sockets', () => {
  const one = "import { createServer } from 'node:net'\n"
  const tree = new Map([
    ['src/broker/listener.ts', header + one],
    ['src/broker/other.ts', header + one],
  ])
  assert.deepEqual(
    tidy(tree).map(({ file }) => file),
    ['src/broker/other.ts'],
  )
})

test('tidy finds a missing header', () => {
  const tree = new Map([['src/core/a.ts', 'export const a = 1\n']])
  assert.match(tidy(tree)[0]?.message ?? '', /block comment/)
})

test('tidy says the line of a finding', () => {
  assert.deepEqual(said('src/core/a.ts', '\n\nconst r = Math.random()'), [
    '4 core is pure: randomness has no place here',
  ])
})

/** What looks like a breach and is none. */
const innocents: readonly (readonly [string, string])[] = [
  ['src/core/a.ts', "import { b } from '../contract/b.ts'\nimport { c } from './c.ts'"],
  ['src/adapters/kafka/a.ts', "import { b } from '../../kafka/io/b.ts'\nimport { c } from '../../wire/c.ts'"],
  ['src/broker/a.ts', "import { b } from '../wire/b.ts'\nimport { c } from '../contract/c.ts'"],
  ['src/core/a.ts', '// await Date.now() and Math.random() in a sentence'],
  ['src/core/a.ts', "throw new Error('await a timer: setTimeout(f), process.env')"],
  ['src/core/a.ts', 'const s = `import { a } from "../runtime/a.ts"`'],
  ['src/core/a.ts', 'const iso = new Date(timeMs).toISOString()\nconst ms = Date.parse(text)'],
  ['src/core/a.ts', 'const r = /[/"]await x/g\nconst q = a / b / c\nconst w = x.process.y'],
  ['src/core/a.ts', 'export const random = 1\nexport interface A { async: boolean; await: string }'],
  ['src/contract/a.ts', 'export interface Schema { validate(value: unknown): unknown | Promise<unknown> }'],
  ['src/wire/a.ts', 'const b = Buffer.from(bytes)'],
  ['src/core/a.test.ts', "import { b } from '../runtime/b.ts'\nconst r = Math.random()\nawait r"],
  ['src/kafka.ts', "export { a, type B } from './kafka/a.ts'\nexport type { C } from './kafka/c.ts'"],
  ['test/a.test.ts', "test('a', { skip: 'no Java' }, () => {})\nt.skip('no Java')"],
  ['src/broker/a.test.ts', 'await using broker = await open()'],
  ['examples/shop/a.ts', "import { app } from 'ottla'\nimport { kafka } from 'ottla/kafka'"],
  ['package-lock.json', '"resolved": "examples/shop"'],
]

for (const [file, body] of innocents) {
  test(`tidy lets \`${body.replaceAll('\n', ' ⏎ ')}\` stand in ${file}`, () => {
    assert.deepEqual(said(file, body), [])
  })
}

test('masking keeps every position and blanks comments and strings', () => {
  const source = 'const a = "b" // c\nconst d = /"/.test(e) /* f */ / 2\n'
  const { code, text } = maskSource(source)
  assert.equal(code.length, source.length)
  assert.equal(code, 'const a = " "     \nconst d = /  .test(e)         / 2\n')
  assert.equal(text, 'const a = "b"     \nconst d = /"/.test(e)         / 2\n')
})

test('masking goes on with code inside a template and after it', () => {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: the masked source holds the template.
  const { code } = maskSource('f(`a ${g({ h: `i ${j} k` })} l`, m)')
  // biome-ignore lint/suspicious/noTemplateCurlyInString: as above.
  assert.equal(code, 'f(`  ${g({ h: `  ${j}  ` })}  `, m)')
})
