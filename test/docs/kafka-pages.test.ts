/**
 * The pages about the Kafka client say what is so: their TypeScript compiles, page by page in the order of reading, and
 * their tables name every option with the default it has.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { describe, test } from 'node:test'
import { sizeBytes } from '../../src/contract/duration.ts'
import { resolveClientOptions } from '../../src/kafka/options.ts'
import { resolveProducerOptions } from '../../src/kafka/producer.ts'

const root = path.resolve(import.meta.dirname, '../..')
const require = createRequire(import.meta.url)
const read = (file: string): string => readFileSync(path.join(root, file), 'utf8')

/** All blocks of a page as one module: a page defines what it goes on using, and may import a thing again. */
function moduleOf(page: string): string {
  const blocks = [...read(page).matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map((match) => match[1] as string)
  assert.ok(blocks.length > 0, `${page} has no TypeScript`)
  const lines = blocks.join('\n').split('\n')
  const isImport = (line: string): boolean => line.startsWith('import ')
  const imports = new Set(lines.filter(isImport))
  return [...imports, ...lines.filter((line) => !isImport(line)), 'export {}', ''].join('\n')
}

test('the TypeScript of the pages compiles', () => {
  // Inside of the repository, so that `ottla/kafka` means this package.
  mkdirSync(path.join(root, '.cache'), { recursive: true })
  const folder = mkdtempSync(path.join(root, '.cache/pages-'))
  try {
    copyFileSync(path.join(root, 'examples/plain-kafka/each-record.ts'), path.join(folder, 'each-record.ts'))
    const pages = ['docs/kafka.md', 'docs/from-kafkajs.md']
    const files = pages.map((page) => path.join(folder, path.basename(page).replace('.md', '.ts')))
    for (const [index, page] of pages.entries()) writeFileSync(files[index] as string, moduleOf(page))
    const config = path.join(folder, 'tsconfig.json')
    writeFileSync(config, JSON.stringify({ extends: path.join(root, 'tsconfig.json'), files, include: [] }))
    const manifest = require.resolve('typescript/package.json')
    const { bin } = JSON.parse(readFileSync(manifest, 'utf8')) as { bin: { tsc: string } }
    const tsc = path.join(path.dirname(manifest), bin.tsc)
    const { stdout, error } = spawnSync(process.execPath, [tsc, '-p', config, '--pretty', 'false'], {
      cwd: root,
      encoding: 'utf8',
    })
    if (error) throw error
    // What stands elsewhere in the tree is not this test's business.
    assert.deepEqual(
      stdout.split('\n').filter((line) => line.includes(path.basename(folder))),
      [],
    )
  } finally {
    rmSync(folder, { recursive: true })
  }
})

/** The members of an interface, as its source has them. */
function membersOf(file: string, name: string): string[] {
  const body = new RegExp(`^export interface ${name} \\{\\n([\\s\\S]*?)^\\}$`, 'm').exec(read(file))?.[1]
  assert.ok(body, `${file} has no ${name}`)
  return [...body.matchAll(/^ {2}readonly (\w+)\??:/gm)].map((match) => match[1] as string)
}

/** The rows of a table of `docs/kafka.md`, by the heading of its first column: option and default. */
function tableOf(heading: string): Map<string, string> {
  const lines = read('docs/kafka.md').split('\n')
  const at = lines.findIndex((line) => line.startsWith(`| ${heading} |`))
  assert.ok(at >= 0, `no table of ${heading}`)
  const rows = new Map<string, string>()
  for (const line of lines.slice(at + 2)) {
    const match = /^\| `(\w+)` \| ([^|]*) \|/.exec(line)
    if (match === null) break
    rows.set(match[1] as string, (match[2] as string).trim())
  }
  return rows
}

/** A number as the page writes it; null when the default is told in words. */
function numberOf(text: string): number | null {
  if (/^\d+ [KMG]iB$/.test(text)) return sizeBytes(text.replace(' ', '') as '1MiB', 'page')
  return /^[\d ]+$/.test(text) ? Number(text.replaceAll(' ', '')) : null
}

describe('the tables of options', () => {
  const client = resolveClientOptions({ bootstrapServers: 'localhost:9092' })
  const tables: [string, string, string, Readonly<Record<string, unknown>> | null][] = [
    ['option of `KafkaClient`', 'src/kafka/options.ts', 'ClientOptions', { ...client }],
    ['option of `tls`', 'src/kafka/options.ts', 'TlsOptions', null],
    ['option of `producer()`', 'src/kafka/producer.ts', 'ProducerOptions', { ...resolveProducerOptions({}, client) }],
    ['option of `consumer()`', 'src/kafka/consumer.ts', 'ConsumerOptions', null],
  ]
  for (const [heading, file, name, resolved] of tables) {
    test(`every option of ${name} is told, and no other`, () => {
      assert.deepEqual([...tableOf(heading).keys()].sort(), membersOf(file, name).sort())
    })
    if (resolved === null) continue
    test(`the numbers among the defaults of ${name} are those it has`, () => {
      const numbers = [...tableOf(heading)].flatMap(([option, text]) => {
        const number = numberOf(text)
        return number === null ? [] : [[option, number] as const]
      })
      assert.ok(numbers.length >= 7)
      assert.deepEqual(
        numbers,
        numbers.map(([option]) => [option, resolved[option]]),
      )
    })
  }
  test('the numbers among the defaults of ConsumerOptions are those its comments tell', () => {
    const source = read('src/kafka/consumer.ts')
    for (const [option, text] of tableOf('option of `consumer()`')) {
      if (numberOf(text) === null) continue
      const comment =
        new RegExp(`/\\*\\*((?:(?!\\*/)[\\s\\S])*)\\*/\\n {2}readonly ${option}\\?:`).exec(source)?.[1] ?? ''
      assert.match(comment, new RegExp(`(Default )?${text}\\b`), option)
    }
  })
})

test('every call of the admin is named on the page', () => {
  const page = read('docs/kafka.md')
  const calls = [...read('src/kafka/admin.ts').matchAll(/^ {2}(?:async )?([a-z]\w+)\(/gm)].map(
    (match) => match[1] as string,
  )
  assert.ok(calls.length > 15)
  assert.deepEqual(
    calls.filter((call) => call !== 'constructor' && !page.includes(`\`${call}\``)),
    [],
  )
})

test('the codes the pages name exist, and links lead somewhere', async () => {
  const { errorTable } = await import('../../src/contract/errors.ts')
  const { existsSync } = await import('node:fs')
  for (const page of ['docs/kafka.md', 'docs/from-kafkajs.md']) {
    const text = read(page)
    for (const [code] of text.matchAll(/OTTLA_[A-Z_]+[A-Z]/g)) assert.ok(code in errorTable, `${page}: ${code}`)
    for (const [, target] of text.matchAll(/\]\(([^)#]+)(?:#[^)]*)?\)/g)) {
      assert.ok(existsSync(path.join(root, 'docs', target as string)), `${page}: ${target}`)
    }
  }
})
