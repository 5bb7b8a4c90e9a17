/** The message definitions inside a kafka-clients jar, as parsed JSON: the facts the table is generated from. */
import { readFileSync } from 'node:fs'
import { readZip } from './zip.ts'

export interface FieldDefinition {
  readonly name: string
  readonly type: string
  readonly versions: string
  readonly nullableVersions?: string
  readonly flexibleVersions?: string
  readonly taggedVersions?: string
  readonly tag?: number
  readonly default?: string | number | boolean
  readonly ignorable?: boolean
  readonly fields?: readonly FieldDefinition[]
}

export interface MessageDefinition {
  readonly name: string
  readonly type: 'request' | 'response' | 'header' | 'data'
  readonly apiKey?: number
  readonly validVersions: string
  readonly flexibleVersions?: string
  readonly latestVersionUnstable?: boolean
  readonly commonStructs?: readonly FieldDefinition[]
  readonly fields?: readonly FieldDefinition[]
}

/** Removes `//` comments that stand outside strings. */
export function withoutComments(text: string): string {
  return text.replace(/"(?:[^"\\]|\\.)*"|\/\/[^\n]*/g, (part) => (part.startsWith('"') ? part : ''))
}

/** Every definition of the jar, sorted by name. */
export function readDefinitions(jarPath: string): readonly MessageDefinition[] {
  const entries = readZip(readFileSync(jarPath), (name) => /^common\/message\/.*\.json$/.test(name))
  if (entries.size === 0) throw new Error(`${jarPath} holds no common/message/*.json`)
  return [...entries.values()]
    .map((bytes) => JSON.parse(withoutComments(bytes.toString('utf8'))) as MessageDefinition)
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** The version of the library by its own properties file. */
export function readLibraryVersion(jarPath: string): string {
  const entries = readZip(readFileSync(jarPath), (name) => name === 'kafka/kafka-version.properties')
  const version = /^version=(.+)$/m.exec(entries.get('kafka/kafka-version.properties')?.toString('utf8') ?? '')?.[1]
  if (version === undefined) throw new Error(`${jarPath} does not say its version`)
  return version.trim()
}
