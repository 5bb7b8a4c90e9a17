/** Which test belongs to which tier: told by the suffix of the file, see ARCHITECTURE.md. */
import { type Dirent, readdirSync } from 'node:fs'
import path from 'node:path'

/**
 * `unit` needs nothing, `int` the embedded broker and the embedded PostgreSQL, `live` Apache Kafka and PostgreSQL,
 * `soak` the same and a long time.
 */
export const tiers = ['unit', 'int', 'live', 'soak'] as const
export type Tier = (typeof tiers)[number]

/** Folders in which tests are looked for. */
const roots = ['src', 'tools', 'test', 'examples']
const ignored = new Set(['node_modules', 'dist', '.cache', 'fixtures'])

/** The tier of a file name, or null when it is no test. */
export function tierOf(fileName: string): Tier | null {
  if (!fileName.endsWith('.test.ts')) return null
  if (fileName.endsWith('.int.test.ts')) return 'int'
  if (fileName.endsWith('.live.test.ts')) return 'live'
  if (fileName.endsWith('.soak.test.ts')) return 'soak'
  return 'unit'
}

/** The test files of a tier under `root`, relative to it and sorted; with filters, those whose path holds one of them. */
export function testFiles(root: string, tier: Tier, filters: readonly string[] = []): string[] {
  const found: string[] = []
  const walk = (folder: string) => {
    let entries: Dirent[]
    try {
      entries = readdirSync(path.join(root, folder), { withFileTypes: true })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
      throw error
    }
    for (const entry of entries) {
      const name = path.posix.join(folder, entry.name)
      if (entry.isDirectory()) {
        if (!ignored.has(entry.name)) walk(name)
      } else if (tierOf(entry.name) === tier) found.push(name)
    }
  }
  for (const folder of roots) walk(folder)
  return found.filter((file) => filters.length === 0 || filters.some((filter) => file.includes(filter))).sort()
}
