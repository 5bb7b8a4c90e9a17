/** Starts node's own test runner over a list of files and returns what it counted. Its output goes straight through. */
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { TestCounts } from './test-counts.ts'

export interface NodeTestRun extends TestCounts {
  /** Exit code of node, 1 when it died of a signal. */
  readonly code: number
}

export interface NodeTestOptions {
  readonly root: string
  readonly files: readonly string[]
  /** All files in one process: for tests that touch nothing outside. Otherwise one process per file, one at a time. */
  readonly oneProcess: boolean
  /** A single test that takes longer is failed. */
  readonly timeoutMs: number
  readonly env?: Readonly<Record<string, string>>
}

/**
 * The node that runs the tests: the one running this, which under `npm run` is the pinned one of node_modules, and the
 * pinned one when this was started by a node older than the `engines` of package.json.
 */
export function projectNode(root: string): string {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  if (major > 22 || (major === 22 && minor >= 22)) return process.execPath
  const pinned = path.join(root, 'node_modules', '.bin', 'node')
  return existsSync(pinned) ? pinned : process.execPath
}

/** Runs the files to their end. Never throws because of a failing test: `code` says it. */
export async function runNodeTests(options: NodeTestOptions): Promise<NodeTestRun> {
  if (options.files.length === 0) return { code: 0, passed: 0, failed: 0, skipped: 0 }
  const scratch = mkdtempSync(path.join(tmpdir(), 'ottla-counts-'))
  const countsFile = path.join(scratch, 'counts.jsonl')
  try {
    const isolation = options.oneProcess ? [isolationFlag('none')] : [isolationFlag('process'), '--test-concurrency=1']
    const code = await new Promise<number>((resolve, reject) => {
      const child = spawn(
        projectNode(options.root),
        [
          '--test',
          ...isolation,
          `--test-timeout=${options.timeoutMs}`,
          '--conditions=@ottla/source',
          '--disable-warning=ExperimentalWarning',
          '--test-reporter=spec',
          '--test-reporter-destination=stdout',
          `--test-reporter=${path.join(options.root, 'tools/test-counts.ts')}`,
          `--test-reporter-destination=${countsFile}`,
          ...options.files,
        ],
        {
          cwd: options.root,
          stdio: ['ignore', 'inherit', 'inherit'],
          // A run inside a run (our own test of this file) must not report to the outer one.
          env: { ...process.env, NODE_TEST_CONTEXT: undefined, ...options.env },
        },
      )
      child.on('error', reject)
      child.on('exit', (exitCode) => resolve(exitCode ?? 1))
    })
    return { code, ...readCounts(countsFile) }
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

/** Node 22 calls it experimental. */
function isolationFlag(mode: 'none' | 'process'): string {
  return `${Number.parseInt(process.versions.node, 10) < 24 ? '--experimental-test-isolation' : '--test-isolation'}=${mode}`
}

function readCounts(file: string): TestCounts {
  const none: TestCounts = { passed: 0, failed: 0, skipped: 0 }
  if (!existsSync(file)) return none
  const last = readFileSync(file, 'utf8').trim().split('\n').at(-1)
  return last ? (JSON.parse(last) as TestCounts) : none
}
