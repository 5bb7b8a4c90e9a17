/**
 * The package.json that users get is not the one we work with: `npm pack` puts the first in place for as long as it packs.
 *
 * Left out are the Node binaries we develop with (as optional dependencies they would land on every user's disk),
 * workspaces, scripts, development dependencies and the `@ottla/source` condition, whose files are not published.
 *
 * `prepack` runs `node tools/published-manifest.ts write`, `postpack` the same with `restore`.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

interface Manifest {
  [name: string]: unknown
  readonly exports: Readonly<Record<string, Readonly<Record<string, string>>>>
}

const notPublished = ['workspaces', 'scripts', 'devDependencies', 'optionalDependencies']

/** What users get, made from what we work with. */
export function publishedManifest(manifest: Manifest): Manifest {
  const kept = Object.fromEntries(Object.entries(manifest).filter(([name]) => !notPublished.includes(name)))
  const exports = Object.fromEntries(
    Object.entries(manifest.exports).map(([door, conditions]) => [
      door,
      Object.fromEntries(Object.entries(conditions).filter(([condition]) => condition !== '@ottla/source')),
    ]),
  )
  return { ...kept, exports }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const root = path.resolve(import.meta.dirname, '..')
  const manifestFile = path.join(root, 'package.json')
  const savedFile = path.join(root, '.cache', 'package.json.saved')
  switch (process.argv[2]) {
    case 'write': {
      const text = readFileSync(manifestFile, 'utf8')
      mkdirSync(path.dirname(savedFile), { recursive: true })
      // After an interrupted pack the saved one is the true one.
      if (!existsSync(savedFile)) writeFileSync(savedFile, text)
      writeFileSync(manifestFile, `${JSON.stringify(publishedManifest(JSON.parse(text)), null, 2)}\n`)
      break
    }
    case 'restore':
      if (existsSync(savedFile)) renameSync(savedFile, manifestFile)
      break
    default:
      console.error('usage: node tools/published-manifest.ts write|restore')
      process.exitCode = 2
  }
}
