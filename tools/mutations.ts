/**
 * Proves that the tests of failure handling see what they are there for: breaks the sources in named ways, one at a time,
 * and expects tests to fail. Run by hand: `node tools/mutations.ts [part of a name…]`.
 *
 * The tree is not touched: sources and tests are copied to a temporary folder, and each mutation changes one place of the
 * copy and takes it back. A mutation whose text is not found exactly once is an error, so that this list grows stale loudly.
 * First everything runs unbroken: a test that is red anyway proves nothing.
 */
import { spawn } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { projectNode } from './run-node-tests.ts'

interface Mutation {
  /** What it does wrong, as a sentence. */
  readonly name: string
  readonly file: string
  /** Stands exactly once in the file. */
  readonly find: string
  readonly replace: string
  /** Test files of which at least one must fail. */
  readonly tests: readonly string[]
}

const engine = 'src/runtime/engine.test.ts'
const holds = 'src/runtime/holds.test.ts'
const attempts = 'src/runtime/attempts.test.ts'
const careful = 'src/runtime/careful.test.ts'
const released = 'src/runtime/released.test.ts'
const strikesTest = 'src/core/strikes.test.ts'
const partition = 'src/runtime/partition.ts'
const strikes = 'src/core/strikes.ts'

const mutations: readonly Mutation[] = [
  {
    name: 'commit the highest finished position',
    file: partition,
    find: `    const { low, finished } = this.tracker.progress()
`,
    replace: `    const honest = this.tracker.progress()
    const low = honest.finished.at(-1) ?? honest.low
    const finished: readonly number[] = []
`,
    tests: [engine],
  },
  {
    name: 'skip the check of the ledger',
    file: 'src/runtime/service-loop.ts',
    find: 'const wrong = partition.imbalance()',
    replace: 'const wrong = null as string | null',
    tests: [engine],
  },
  {
    name: 'park the record instead of its key',
    file: 'src/core/lanes.ts',
    find: `    const lane = this.#expect(entry, 'running')
    this.#running--
    this.#waiting++
`,
    replace: `    const lane = this.#expect(entry, 'running')
    if (lane.keyed) this.#byKey.delete(lane)
    this.#running--
    this.#waiting++
`,
    tests: ['src/core/lanes.test.ts', engine],
  },
  {
    name: 'put keys into lanes by hash',
    file: partition,
    find: 'return this.retry === null ? key : null',
    replace: 'return key && Uint8Array.of(key.reduce((sum, byte) => sum + byte, 0) % 2)',
    tests: [engine],
  },
  {
    name: 'count a transient failure as an attempt',
    file: 'src/core/outcome.ts',
    find: 'if (lastedMs < policy.transientForMs) {',
    replace: 'if (lastedMs < 0) {',
    tests: ['src/core/outcome.test.ts', engine],
  },
  {
    name: 'drop the map of finished records',
    file: partition,
    find: '      finished,\n      strikes,\n',
    replace: '      finished: [],\n      strikes,\n',
    tests: [engine],
  },
  {
    name: 'honour the map of a topic that was made again',
    file: 'src/adapters/kafka/checkpoint.ts',
    find: `  if (bytes.toString('base64url', 0, 16) !== facts.topicId) return null
`,
    replace: '',
    tests: ['src/adapters/kafka/checkpoint.test.ts'],
  },
  {
    name: 'redrive to the source topic',
    file: 'src/runtime/redrive.ts',
    find: `    redrive.letter = letter
    work.load(`,
    replace: `    redrive.letter = letter
    const { key, value, headers, facts } = letter
    const source = { topic: facts.origin!.topic, partition: null, key, value, headers }
    void this.#parts.surroundings.writer.send(source)
    work.load(`,
    tests: [holds],
  },
  {
    name: 'start the next attempt before the last one has settled',
    file: 'src/runtime/dispatch.ts',
    find: 'const promise = result instanceof Promise ? result : Promise.resolve(result)',
    replace: `const { signal } = work.context!
    const late = new Promise<never>((_, no) => {
      signal.addEventListener('abort', () => no(work.context?.expiry ?? signal.reason), { once: true })
    })
    const promise = Promise.race([result, late])`,
    tests: [engine],
  },
  {
    name: 'count no strikes',
    file: strikes,
    find: 'this.#counted && !leaving ? before + 1 : before',
    replace: 'before',
    tests: [strikesTest, engine, attempts],
  },
  {
    name: 'forget the attempts of a process that dies',
    file: partition,
    find: '    work.counted = work.noted = counted\n',
    replace: '    work.noted = counted\n',
    tests: [attempts],
  },
  {
    name: 'blame a record that waits for the death of its process',
    file: partition,
    find: 'if (ticket >= 0) standing.add(position)',
    replace: 'if (ticket < 0) standing.add(position)',
    tests: [attempts, careful],
  },
  {
    name: 'blame whoever stands first for the death under another one',
    file: strikes,
    find: 'carefulFrom) + 1, suspect: accused }',
    replace: 'carefulFrom) + 1, suspect }',
    tests: [strikesTest, careful],
  },
  {
    name: 'start a handler before the strike of its owner is on record',
    file: partition,
    find: `if (this.state !== 'running' || this.noting) return false`,
    replace: `if (this.state !== 'running') return false`,
    tests: [attempts],
  },
  {
    name: 'brake only for dead letters that are written',
    file: 'src/core/brake.ts',
    find: 'const count = this.#deadLetters + this.#writing',
    replace: 'const count = this.#deadLetters',
    tests: ['src/core/budget.test.ts'],
  },
  {
    name: 'give a batch back while records of it are open',
    file: 'src/runtime/intake.ts',
    find: 'if (--this.#open === 0 && !this.#kept)',
    replace: 'if (--this.#open >= 0 && !this.#kept)',
    tests: [released],
  },
  {
    name: 'give back the bytes of a message that somebody has taken',
    file: 'src/runtime/dispatch.ts',
    find: 'if (work.context?.shown === true) work.fetched?.keep()',
    replace: '',
    tests: [released],
  },
  {
    name: 'give back the bytes of an id that a guard may ask for',
    file: 'src/runtime/context.ts',
    find: 'if (this.#surroundings.guards !== null) this.#envelope.readId()',
    replace: '',
    tests: [released],
  },
  {
    name: 'give back the bytes of a record that failed',
    file: 'src/runtime/intake.ts',
    find: '    this.#kept = true\n',
    replace: '',
    tests: [released],
  },
]

/** A test that waits for what never comes is red too. */
const testTimeoutMs = 30_000
const runTimeoutMs = 600_000
const root = path.resolve(import.meta.dirname, '..')

const wanted = process.argv.slice(2)
const chosen = mutations.filter(({ name }) => wanted.length === 0 || wanted.some((part) => name.includes(part)))
if (chosen.length === 0) {
  console.error(`no mutation has ${wanted.join(' or ')} in its name`)
  process.exit(2)
}

const folder = mkdtempSync(path.join(tmpdir(), 'ottla-mutations-'))
let survivors = 0
try {
  for (const part of ['src', 'package.json', 'tsconfig.json']) {
    cpSync(path.join(root, part), path.join(folder, part), { recursive: true })
  }
  symlinkSync(path.join(root, 'node_modules'), path.join(folder, 'node_modules'))
  const all = [...new Set(chosen.flatMap(({ tests }) => tests))]
  const whole = await runTests(all)
  if (whole.length > 0) {
    console.error(`without any mutation these tests are red:\n${whole.map((name) => `  ${name}`).join('\n')}`)
    process.exit(1)
  }
  console.log(`unbroken: ${all.length} test files are green`)
  for (const mutation of chosen) {
    const red = await seenBy(mutation)
    if (red.length === 0) survivors++
    console.log(`${red.length === 0 ? '✖ SURVIVED' : '✔ seen'}: ${mutation.name}`)
    for (const name of red) console.log(`    ${name}`)
  }
} finally {
  rmSync(folder, { recursive: true, force: true })
}
console.log(`${chosen.length - survivors} of ${chosen.length} mutations were seen`)
process.exit(survivors === 0 ? 0 : 1)

/** The tests that fail under a mutation. */
async function seenBy({ name, file, find, replace, tests }: Mutation): Promise<readonly string[]> {
  const copy = path.join(folder, file)
  const text = readFileSync(copy, 'utf8')
  if (text.split(find).length !== 2) throw new Error(`${name}: its text does not stand exactly once in ${file}`)
  writeFileSync(
    copy,
    text.replace(find, () => replace),
  )
  try {
    return await runTests(tests)
  } finally {
    writeFileSync(copy, text)
  }
}

/** The names of the tests that fail; a file that cannot be run is named by itself. */
function runTests(files: readonly string[]): Promise<readonly string[]> {
  return new Promise((resolve, reject) => {
    const child = spawn(
      projectNode(root),
      [
        '--test',
        `--test-timeout=${testTimeoutMs}`,
        '--test-concurrency=1',
        '--test-force-exit',
        '--conditions=@ottla/source',
        '--disable-warning=ExperimentalWarning',
        '--test-reporter=tap',
        ...files,
      ],
      { cwd: folder, stdio: ['ignore', 'pipe', 'ignore'], env: { ...process.env, NODE_TEST_CONTEXT: undefined } },
    )
    const timer = setTimeout(() => {
      child.kill('SIGKILL')
      reject(new Error(`${files.join(', ')} did not end within ${runTimeoutMs} ms`))
    }, runTimeoutMs)
    let output = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
    child.once('error', reject)
    child.once('close', (code) => {
      clearTimeout(timer)
      const red = [...output.matchAll(/^ *not ok \d+ - (.+)$/gm)].map((match) => match[1] ?? '')
      const names = red.filter((name) => !files.some((file) => name.endsWith(file)))
      if (names.length > 0) resolve(names)
      else resolve(code === 0 ? [] : [...red, `the run ended with ${code}`])
    })
  })
}
