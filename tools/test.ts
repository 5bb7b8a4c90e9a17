/**
 * Runs the tests of one tier or several: `node tools/test.ts unit|int|live|soak… [part of a path…]`.
 *
 * Tiers run in the order given and the first that fails ends the run. The output is that of node's own test runner; the
 * last lines say the totals, and what was not run and why.
 */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { runLive } from './live.ts'
import { type NodeTestRun, runNodeTests } from './run-node-tests.ts'
import { importsOf, maskSource } from './source-mask.ts'
import { type Tier, testFiles, tiers } from './test-files.ts'

const root = path.resolve(import.meta.dirname, '..')

const commands: Readonly<Record<Tier, string>> = {
  unit: 'npm run test:unit',
  int: 'npm run test:int',
  live: 'npm run test:live',
  soak: 'npm run soak',
}
const needs: Readonly<Record<Tier, string>> = {
  unit: 'need nothing',
  int: 'use the embedded broker and the embedded PostgreSQL',
  live: 'need Java 17, Maven and PostgreSQL',
  soak: 'need Java 17, Maven and PostgreSQL, and minutes to hours',
}

const args = process.argv.slice(2)
const wanted: Tier[] = []
while (isTier(args[0])) wanted.push(args.shift() as Tier)
if (wanted.length === 0 || args.some((arg) => arg.startsWith('-'))) {
  console.error(`usage: node tools/test.ts ${tiers.join('|')}… [part of a path…]`)
  process.exit(2)
}

let exitCode = 0
const totals = { passed: 0, failed: 0, skipped: 0 }
const notRun: string[] = []
if (args.length > 0 && wanted.every((tier) => testFiles(root, tier, args).length === 0)) {
  console.error(`no ${wanted.join(' or ')} test has ${args.join(' or ')} in its path`)
  process.exit(2)
}
for (const tier of wanted) {
  const files = testFiles(root, tier, args)
  const startMs = performance.now()
  console.log(`\n${tier} tests: ${files.length} files, Node ${process.versions.node}`)
  const run = await runTier(tier, files)
  const seconds = ((performance.now() - startMs) / 1000).toFixed(1)
  console.log(`${tier} tests: ${run.passed} passed, ${run.failed} failed, ${run.skipped} skipped in ${seconds} s`)
  totals.passed += run.passed
  totals.failed += run.failed
  totals.skipped += run.skipped
  exitCode = run.code
  if (exitCode !== 0) break
}
for (const tier of tiers) {
  if (wanted.includes(tier)) continue
  const count = testFiles(root, tier).length
  if (count > 0) notRun.push(`${tier} tests (${count} files): they ${needs[tier]}: ${commands[tier]}`)
}
for (const line of notRun) console.log(`not run: ${line}`)
console.log(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`)
process.exit(exitCode)

async function runTier(tier: Tier, files: readonly string[]): Promise<NodeTestRun> {
  switch (tier) {
    case 'unit': {
      const runnable = files.filter((file) => isRunnable(file))
      for (const file of files) {
        if (!runnable.includes(file)) notRun.push(`${file}: Node ${process.versions.node} does not know \`using\``)
      }
      return runNodeTests({ root, files: runnable, oneProcess: true, timeoutMs: 60_000 })
    }
    case 'int':
      return runNodeTests({ root, files, oneProcess: false, timeoutMs: 180_000 })
    case 'live':
      return runLive({ root, files, timeoutMs: 300_000, demos: args.length === 0, notRun: (why) => notRun.push(why) })
    case 'soak':
      return runLive({ root, files, timeoutMs: 14_400_000, demos: false, notRun: (why) => notRun.push(why) })
    default:
      return tier satisfies never
  }
}

/**
 * Can this Node read the file and all it imports? The library's sources keep to the syntax of the oldest Node of
 * `engines` (tidy checks), its tests and what only tests import need not.
 */
function isRunnable(file: string, seen = new Set<string>()): boolean {
  if (Number.parseInt(process.versions.node, 10) >= 24 || seen.has(file)) return true
  seen.add(file)
  const masked = maskSource(readFileSync(path.join(root, file), 'utf8'))
  if (/(?<![.\w$])using \w+ =/.test(masked.code)) return false
  return importsOf(masked)
    .filter(({ specifier }) => specifier.startsWith('.') && specifier.endsWith('.ts'))
    .every(({ specifier }) => isRunnable(path.posix.join(path.posix.dirname(file), specifier), seen))
}

function isTier(word: string | undefined): word is Tier {
  return tiers.includes(word as Tier)
}
