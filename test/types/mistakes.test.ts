/**
 * Every wiring mistake is told by the compiler as a sentence that says what to do.
 *
 * Each file of `mistakes/` begins with the text that the compiler must say, holds the right form after `// right` and
 * the mistake after `// wrong`. The compiler runs once over all of them.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { after, before, describe, test } from 'node:test'

const here = import.meta.dirname
const root = resolve(here, '../..')
const require = createRequire(import.meta.url)

/** Runs the installed compiler with the repository's options over some files. */
function compile(folder: string, compilerOptions: object, files: readonly string[]): string {
  const config = join(folder, 'tsconfig.json')
  const typeRoots = [join(root, 'node_modules/@types')]
  writeFileSync(
    config,
    JSON.stringify({
      extends: join(root, 'tsconfig.json'),
      compilerOptions: { typeRoots, ...compilerOptions },
      files,
      include: [],
    }),
  )
  const manifest = require.resolve('typescript/package.json')
  const { bin } = JSON.parse(readFileSync(manifest, 'utf8')) as { bin: { tsc: string } }
  const tsc = join(dirname(manifest), bin.tsc)
  const { stdout, stderr, error } = spawnSync(process.execPath, [tsc, '-p', config, '--pretty', 'false'], {
    cwd: root,
    encoding: 'utf8',
  })
  if (error) throw error
  assert.equal(stderr, '')
  return stdout
}

interface Complaint {
  readonly line: number
  readonly text: string
}

/** What the compiler said, by the base name of the file. A complaint's further lines are indented. */
function byFile(output: string): Map<string, Complaint[]> {
  const complaints = new Map<string, Complaint[]>()
  for (const block of output.split(/\n(?=\S)/)) {
    const head = /^(.+?)\((\d+),\d+\): error (TS\d+: [\s\S]*)$/.exec(block.trimEnd())
    if (head === null) {
      assert.equal(block.trim(), '', 'the compiler said something that is no complaint about a file')
      continue
    }
    const [, path, line, text] = head as unknown as [string, string, string, string]
    const file = basename(path)
    complaints.set(file, [...(complaints.get(file) ?? []), { line: Number(line), text }])
  }
  return complaints
}

const files = readdirSync(join(here, 'mistakes')).sort()

describe('a wiring mistake', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ottla-types-'))
  after(() => rmSync(folder, { recursive: true }))
  let said: Map<string, Complaint[]>
  before(() => {
    said = byFile(
      compile(
        folder,
        {},
        files.map((file) => join(here, 'mistakes', file)),
      ),
    )
  })

  test('is looked for in every file, and no other file is complained about', () => {
    assert.ok(files.length >= 30)
    assert.deepEqual([...said.keys()].sort(), files)
  })

  for (const file of files) {
    test(`is told by its sentence: ${file.replace('.ts', '').replaceAll('-', ' ')}`, () => {
      const lines = readFileSync(join(here, 'mistakes', file), 'utf8').split('\n')
      const sentences = lines.filter((line) => line.startsWith('// says: ')).map((line) => line.slice(9))
      const wrong = lines.indexOf('// wrong') + 1
      assert.ok(sentences.length > 0 && wrong > 0 && lines.includes('// right'))
      const complaints = said.get(file) ?? []
      assert.deepEqual(
        complaints.filter(({ line }) => line <= wrong),
        [],
        'the right form must compile',
      )
      const text = complaints.map((complaint) => complaint.text).join('\n')
      for (const sentence of sentences) assert.ok(text.includes(sentence), `expected: ${sentence}\ncompiler: ${text}`)
    })
  }
})

describe('declarations of a contract', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ottla-types-'))
  after(() => rmSync(folder, { recursive: true }))
  let declarations = { contracts: '', wiring: '' }
  before(() => {
    const options = { noEmit: false, declaration: true, emitDeclarationOnly: true, rootDir: root, outDir: folder }
    assert.equal(compile(folder, options, [join(here, 'wiring.ts')]), '')
    declarations = {
      contracts: readFileSync(join(folder, 'test/types/contracts.d.ts'), 'utf8'),
      wiring: readFileSync(join(folder, 'test/types/wiring.d.ts'), 'utf8'),
    }
  })

  test('are free of schema libraries and show payloads', () => {
    const { contracts } = declarations
    assert.doesNotMatch(contracts, /zod|valibot|arktype|Zod/)
    const flat = contracts.replace(/\s+/g, ' ')
    assert.match(
      flat,
      /Payments: import\("[^"]+"\)\.Topic<"payments", \{ CardCharged: \{ orderId: string; amount: number; \};/,
    )
    assert.match(
      flat,
      /StockRejected: import\("[^"]+"\)\.Coded<\{ orderId: string; left\?: number \| undefined; \}, \{ orderId: string; left: number; \}>/,
    )
  })

  test('show of a service its name, its transaction, what it emits and what it handles', () => {
    const flat = declarations.wiring.replace(/\s+/g, ' ').replace(/import\("[^"]+"\)\./g, '')
    assert.match(
      flat,
      /inventory: Service<"inventory", StoreContext<Tx, "stock">, "orders\.OrderErased" \| "orders\.OrderPlaced">|inventory: Service<"inventory", StoreContext<Tx, "stock">, "orders\.OrderPlaced" \| "orders\.OrderErased">/,
    )
  })
})
