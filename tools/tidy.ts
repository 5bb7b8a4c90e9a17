/** Checks arrows, purity and habits over the whole repository: `npm run tidy`, about a second. */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { tidy } from './tidy-rules.ts'

const root = path.resolve(import.meta.dirname, '..')

// What git tracks and what is about to be added; without what is ignored.
const listed = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
  cwd: root,
  encoding: 'utf8',
  maxBuffer: 64 * 1024 * 1024,
})
const files = new Map<string, string>()
for (const file of new Set(listed.split('\0'))) {
  const full = path.join(root, file)
  // Fixtures are bytes captured elsewhere; a file deleted but not yet committed is still listed.
  if (file === '' || file.startsWith('test/fixtures/') || !existsSync(full)) continue
  const bytes = readFileSync(full)
  if (!bytes.subarray(0, 8192).includes(0)) files.set(file, bytes.toString('utf8'))
}

const findings = tidy(files)
for (const { file, line, message } of findings) console.log(`${file}:${line} ${message}`)
console.log(`tidy: ${files.size} files, ${findings.length === 0 ? 'nothing to say' : `${findings.length} findings`}`)
process.exitCode = findings.length === 0 ? 0 : 1
