/**
 * The package as users get it: packed, installed into an empty folder, imported, compiled against.
 *
 * Everything happens in a copy of the tree, so that the working copy keeps its `dist` and its package.json.
 */
import assert from 'node:assert/strict'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { run, runOk } from '../live/command.ts'

const root = path.resolve(import.meta.dirname, '../..')
const tsc = path.join(root, 'node_modules/typescript/bin/tsc')
const doors = ['ottla', 'ottla/contract', 'ottla/kafka', 'ottla/postgres', 'ottla/testing', 'ottla/broker']

const work = mkdtempSync(path.join(tmpdir(), 'ottla-pack-'))
const consumer = path.join(work, 'consumer')
/** Paths inside the tarball. */
let packed: string[] = []

before(async () => {
  const copy = path.join(work, 'copy')
  mkdirSync(copy)
  for (const name of [
    'src',
    'tools',
    'package.json',
    'tsconfig.json',
    'tsconfig.build.json',
    'LICENSE',
    'README.md',
    'CHANGELOG.md',
  ]) {
    if (existsSync(path.join(root, name))) cpSync(path.join(root, name), path.join(copy, name), { recursive: true })
  }
  symlinkSync(path.join(root, 'node_modules'), path.join(copy, 'node_modules'))
  const said = await runOk('npm', ['pack', '--json', '--loglevel=error', '--pack-destination', work], {
    cwd: copy,
    timeoutMs: 120_000,
  })
  const listing = JSON.parse(said.slice(said.indexOf('['))) as [{ filename: string; files: { path: string }[] }]
  packed = listing[0].files.map((file) => file.path)
  mkdirSync(consumer)
  writeFileSync(path.join(consumer, 'package.json'), '{ "name": "consumer", "private": true, "type": "module" }\n')
  const install = ['install', '--prefer-offline', '--no-audit', '--no-fund', path.join(work, listing[0].filename)]
  await runOk('npm', install, { cwd: consumer, timeoutMs: 120_000 })
})

after(() => rmSync(work, { recursive: true, force: true }))

/** Runs a script as the consumer and returns what it printed. */
const script = (code: string, ...flags: string[]) =>
  runOk(process.execPath, [...flags, '--input-type=module', '--eval', code], { cwd: consumer })

test('the package holds what it needs to run and nothing else', () => {
  const strangers = packed.filter(
    (file) => !/^(dist\/.+\.(js|d\.ts)|package\.json|README\.md|LICENSE|CHANGELOG\.md)$/.test(file),
  )
  assert.deepEqual(strangers, [])
  assert.deepEqual(
    packed.filter((file) => /\.test\./.test(file)),
    [],
  )
})

test('installing it brings commander, snappy with LZ4, and nothing else', async () => {
  const tree = JSON.parse(await runOk('npm', ['ls', '--all', '--json'], { cwd: consumer })) as {
    dependencies: Record<string, { dependencies?: Record<string, { version?: string }> }>
  }
  assert.deepEqual(Object.keys(tree.dependencies), ['ottla'])
  // Optional peers that are not there are listed too, without a version.
  const brought = Object.entries(tree.dependencies['ottla']?.dependencies ?? {}).filter(([, { version }]) => version)
  assert.deepEqual(
    brought.map(([name]) => name),
    ['@platformatic/wasm-utils', 'commander'],
  )
})

for (const door of doors) {
  test(`${door} imports, with names in it`, async () => {
    const names = await script(`console.log(Object.keys(await import('${door}')).join(' '))`)
    assert.match(names, /\w/)
    assert.doesNotMatch(names, /\bdefault\b/)
  })
}

test('nothing but the doors can be imported', async () => {
  const closed = ['ottla/core/ledger.js', 'ottla/core', 'ottla/dist/index.js', 'ottla/package.json', 'ottla/wire']
  const codes = await script(
    `for (const name of ${JSON.stringify(closed)}) await import(name).then(() => console.log(name, 'open'), (e) => console.log(e.code))`,
  )
  assert.deepEqual(
    codes.trim().split('\n'),
    closed.map(() => 'ERR_PACKAGE_PATH_NOT_EXPORTED'),
  )
})

test('ottla/contract loads without one module of Node', async () => {
  writeFileSync(
    path.join(consumer, 'browser.mjs'),
    `import { isBuiltin, registerHooks } from 'node:module'
registerHooks({ resolve(specifier, context, next) {
  if (isBuiltin(specifier) && context.parentURL?.includes('/node_modules/')) throw new Error('wants ' + specifier)
  return next(specifier, context)
} })\n`,
  )
  const names = await script(
    "console.log(Object.keys(await import('ottla/contract')).includes('topic'))",
    '--import',
    './browser.mjs',
  )
  assert.equal(names.trim(), 'true')
  // The same hook stops a door that does need Node: the test can fail.
  const kafka = await run(
    process.execPath,
    ['--import', './browser.mjs', '--input-type=module', '--eval', "await import('ottla/kafka')"],
    { cwd: consumer },
  )
  assert.match(kafka.stderr, /wants node:/)
})

test('the command is installed and says its version', async () => {
  const { version } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as { version: string }
  const bin = path.join(consumer, 'node_modules/.bin/ottla')
  assert.equal((await runOk(process.execPath, [bin, '--version'], { cwd: consumer })).trim(), version)
})

interface Compilation {
  readonly name: string
  readonly source: string
  /** Ambient types of the project. */
  readonly types: readonly string[]
  /** The platform beside the language. */
  readonly lib: readonly string[]
}

async function compile(project: Compilation): Promise<{ code: number; said: string }> {
  const folder = path.join(consumer, project.name)
  mkdirSync(folder)
  writeFileSync(path.join(folder, 'main.ts'), project.source)
  writeFileSync(
    path.join(folder, 'tsconfig.json'),
    JSON.stringify({
      compilerOptions: {
        strict: true,
        exactOptionalPropertyTypes: true,
        skipLibCheck: false,
        noEmit: true,
        target: 'es2024',
        lib: ['es2024', 'esnext.disposable', ...project.lib],
        module: 'nodenext',
        types: project.types,
        typeRoots: [path.join(root, 'node_modules/@types')],
      },
      files: ['main.ts'],
    }),
  )
  const modules = path.join(folder, 'node_modules')
  mkdirSync(modules)
  for (const name of ['zod', '@types']) symlinkSync(path.join(root, 'node_modules', name), path.join(modules, name))
  const result = await run(process.execPath, [tsc, '-p', folder], { cwd: folder })
  return { code: result.code, said: result.stdout }
}

const contract = `import { topic } from 'ottla/contract'
import { z } from 'zod'
export const Orders = topic('orders', {
  key: 'orderId',
  events: { OrderPlaced: z.object({ orderId: z.string(), quantity: z.int() }) },
})
`

test('a project without any types of Node compiles against ottla/contract', async () => {
  const source = `${contract}Orders.OrderPlaced({ orderId: '1', quantity: 2 })\n`
  assert.deepEqual(await compile({ name: 'browser', source, types: [], lib: ['dom'] }), { code: 0, said: '' })
})

test('a project compiles against every door, library types checked too', async () => {
  const source = `${contract.replace('ottla/contract', 'ottla')}
${doors.map((door, index) => `import * as door${index} from '${door}'`).join('\n')}
export const all = [${doors.map((_, index) => `door${index}`).join(', ')}]
import { service } from 'ottla'
export const inventory = service('inventory', { emits: [Orders] }).on(Orders.OrderPlaced, async (order) => {
  const quantity: number = order.quantity
  void quantity
})
`
  assert.deepEqual(await compile({ name: 'service', source, types: ['node'], lib: [] }), { code: 0, said: '' })
})

test('a mistake in such a project is found', async () => {
  const source = `${contract}Orders.OrderPlaced({ orderId: 1, quantity: 2 })\n`
  const { code, said } = await compile({ name: 'mistaken', source, types: [], lib: ['dom'] })
  assert.notEqual(code, 0)
  assert.match(said, /main\.ts\(7,/)
})
