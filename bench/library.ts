/** The library as users get it: compiled, into a folder of this machine's cache. */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import type * as Broker from '../src/broker.ts'
import type * as Ottla from '../src/index.ts'
import type * as Kafka from '../src/kafka.ts'

export const root = path.resolve(import.meta.dirname, '..')

/** Compiles `src` and returns the folder. Throws when the compiler wrote nothing; its complaints are shown. */
export function buildLibrary(): string {
  const folder = path.join(root, '.cache', 'bench-library')
  const { status } = spawnSync('tsc', ['-p', path.join(root, 'tsconfig.build.json'), '--outDir', folder], {
    stdio: ['ignore', process.stderr.fd, process.stderr.fd],
    env: {
      ...process.env,
      PATH: `${path.join(root, 'node_modules/.bin')}${path.delimiter}${process.env['PATH'] ?? ''}`,
    },
  })
  if (!existsSync(path.join(folder, 'kafka.js'))) throw new Error(`the compiler ended with ${status} and wrote nothing`)
  return folder
}

/** The door `ottla/kafka` of that folder. */
export async function kafkaOf(library: string): Promise<typeof Kafka> {
  return import(pathToFileURL(path.join(library, 'kafka.js')).href)
}

/** The door `ottla` of that folder. */
export async function ottlaOf(library: string): Promise<typeof Ottla> {
  return import(pathToFileURL(path.join(library, 'index.js')).href)
}

/** The door `ottla/broker` of that folder. */
export async function brokerOf(library: string): Promise<typeof Broker> {
  return import(pathToFileURL(path.join(library, 'broker.js')).href)
}
