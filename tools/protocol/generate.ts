/**
 * Writes `src/wire/messages.gen.ts` from the message definitions inside a kafka-clients jar.
 *
 *   node tools/protocol/generate.ts <kafka-clients.jar> [--check]
 *
 * The definitions are facts of the protocol: names, types, versions, tags, defaults, nullability. One line of the table
 * holds one message, its fields in wire order; the grammar is described in `src/wire/schema.ts`, which reads it.
 * `--check` writes nothing and fails when the committed file differs.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { aliases } from './aliases.ts'
import { type FieldDefinition, type MessageDefinition, readDefinitions, readLibraryVersion } from './definitions.ts'

const target = new URL('../../src/wire/messages.gen.ts', import.meta.url)

/** Data schemas the client and the broker need besides requests, responses and headers. */
const dataSchemas = new Set([
  'ConsumerProtocolSubscription',
  'ConsumerProtocolAssignment',
  'ControlRecordTypeSchema',
  'EndTxnMarker',
  'RequestHeader',
  'ResponseHeader',
])

interface Range {
  readonly from: number
  readonly to: number
}

const none: Range = { from: 1, to: 0 }

/** `3`, `3-5`, `3+` or `none`. */
function parseRange(text: string | undefined): Range {
  if (text === undefined || text === 'none') return none
  const match = /^(\d+)(?:-(\d+)|(\+))?$/.exec(text)
  if (match === null) throw new Error(`not a version range: ${text}`)
  const from = Number(match[1])
  return { from, to: match[3] === '+' ? 32767 : match[2] === undefined ? from : Number(match[2]) }
}

function clip(range: Range, by: Range): Range {
  const clipped = { from: Math.max(range.from, by.from), to: Math.min(range.to, by.to) }
  return clipped.from > clipped.to ? none : clipped
}

const isEmpty = (range: Range): boolean => range.from > range.to
const isSame = (a: Range, b: Range): boolean => a.from === b.from && a.to === b.to

/** `3-5`, or `3` for one version. */
const show = (range: Range): string => (range.from === range.to ? `${range.from}` : `${range.from}-${range.to}`)

const primitives: Readonly<Record<string, string>> = {
  bool: 'boolean',
  int8: 'number',
  int16: 'number',
  uint16: 'number',
  int32: 'number',
  uint32: 'number',
  int64: 'number',
  float64: 'number',
  uuid: 'string',
  string: 'string',
  bytes: 'Uint8Array',
  records: 'Uint8Array',
}

function camelCase(name: string): string {
  return name.charAt(0).toLowerCase() + name.slice(1)
}

interface Output {
  readonly line: string
  readonly interfaces: readonly string[]
  readonly names: readonly string[]
}

function generateMessage(message: MessageDefinition): Output {
  const valid = parseRange(message.validVersions)
  const versions = { from: valid.from, to: message.latestVersionUnstable === true ? valid.to - 1 : valid.to }
  const flexible = clip(parseRange(message.flexibleVersions), versions)
  const common = new Map((message.commonStructs ?? []).map((struct) => [struct.name, struct]))
  const interfaces = new Map<string, string>()
  const names: string[] = []

  const emitStruct = (typeName: string, fields: readonly FieldDefinition[], within: Range): string => {
    const parts: string[] = []
    const members: string[] = []
    for (const field of fields) {
      const present = clip(parseRange(field.versions), within)
      if (isEmpty(present)) continue
      const name = aliases[`${message.name}.${field.name}`] ?? camelCase(field.name)
      names.push(`${message.name}.${name}`)
      const depth = field.type.startsWith('[]') ? 1 : 0
      const base = field.type.slice(depth * 2)
      const primitive = primitives[base]
      let text = `${name}:${'[]'.repeat(depth)}${primitive === undefined ? '' : base}`
      let memberType = primitive
      let nested = ''
      if (primitive === undefined) {
        const own = field.fields ?? common.get(base)?.fields
        if (own === undefined) throw new Error(`${message.name}.${field.name}: no such struct: ${base}`)
        memberType = `${message.name}${base}`
        nested = `{${emitStruct(memberType, own, present)}}`
      }
      if (!isSame(present, within)) text += `@${show(present)}`
      const nullable = clip(parseRange(field.nullableVersions), present)
      if (!isEmpty(nullable)) text += isSame(nullable, present) ? '?' : `?${show(nullable)}`
      if (field.tag !== undefined) {
        if (!isSame(clip(parseRange(field.taggedVersions), present), present)) {
          throw new Error(`${message.name}.${field.name}: tagged in some versions only`)
        }
        text += `#${field.tag}`
      }
      if (field.ignorable === true) text += '~'
      if (field.flexibleVersions !== undefined) {
        if (field.flexibleVersions !== 'none') throw new Error(`${message.name}.${field.name}: flexibleVersions`)
        text += '!'
      }
      const given = field.default === undefined ? '' : String(field.default)
      if (given !== '' && given !== '0' && given !== 'false') {
        if (!/^(null|true|-?\d+|0x[0-9a-fA-F]+)$/.test(given)) throw new Error(`${field.name}: default ${given}`)
        // The largest int64 means "no limit"; it is held as the largest safe integer (see `Reader.int64`).
        const limit = given === '9223372036854775807' ? Number.MAX_SAFE_INTEGER : Number(given)
        text += `=${given === 'null' || given === 'true' ? given : limit}`
      }
      parts.push(text + nested)
      const list = depth === 1 ? `readonly ${memberType}[]` : memberType
      const orNull = !isEmpty(nullable) || base === 'records' ? ' | null' : ''
      members.push(`  readonly ${name}: ${list}${orNull}`)
    }
    const body = `export interface ${typeName} {\n${members.join('\n')}\n}`
    const before = interfaces.get(typeName)
    if (before !== undefined && before !== body) throw new Error(`two structs are called ${typeName}`)
    interfaces.set(typeName, body)
    return parts.join(' ')
  }

  const fields = emitStruct(message.name, message.fields ?? [], versions)
  const key = message.apiKey === undefined ? '-' : `${message.apiKey}`
  const head = `${key} ${show(versions)} ${isEmpty(flexible) ? '-' : show(flexible)}`
  return { line: `  ${message.name}: '${head} ${fields}',`, interfaces: [...interfaces.values()], names }
}

function generate(jarPath: string): { readonly text: string; readonly names: readonly string[] } {
  const messages = readDefinitions(jarPath).filter(
    (message) =>
      message.validVersions !== 'none' &&
      (message.type === 'request' || message.type === 'response' || dataSchemas.has(message.name)),
  )
  const outputs = messages.map(generateMessage)
  const requests = messages
    .filter((message) => message.type === 'request')
    .map((message) => ({ key: message.apiKey ?? -1, api: message.name.slice(0, -'Request'.length) }))
    .sort((a, b) => a.key - b.key)
  const data = messages.filter((message) => message.type === 'data' || message.type === 'header')
  const text = [
    `// Generated by tools/protocol/generate.ts from the message definitions of kafka-clients ${readLibraryVersion(jarPath)}. Not edited by hand.`,
    '',
    '/** One line per message: API key, versions, flexible versions, fields in wire order. Read by `schema.ts`. */',
    'export const table = {',
    ...outputs.map((output) => output.line),
    '} as const satisfies Record<string, string>',
    '',
    '/** API keys by name. */',
    'export const Api = {',
    ...requests.map(({ key, api }) => `  ${api}: ${key},`),
    '} as const',
    '',
    '/** The request of each API, by key. */',
    'export interface Requests {',
    ...requests.map(({ key, api }) => `  ${key}: ${api}Request`),
    '}',
    '',
    '/** The response of each API, by key. */',
    'export interface Responses {',
    ...requests.map(({ key, api }) => `  ${key}: ${api}Response`),
    '}',
    '',
    '/** Messages that are neither request nor response. */',
    'export interface DataMessages {',
    ...data.map((message) => `  ${message.name}: ${message.name}`),
    '}',
    '',
    outputs.flatMap((output) => output.interfaces).join('\n\n'),
    '',
  ].join('\n')
  return { text, names: outputs.flatMap((output) => output.names) }
}

/** Field names of a generated file, as `Message.name`. */
function namesOf(text: string): Set<string> {
  const names = new Set<string>()
  for (const [, message, line] of text.matchAll(/^ {2}(\w+): '(?:-|\d+) [\d-]+ [\d-]+ (.*)',$/gm)) {
    for (const [, name] of (line ?? '').matchAll(/(\w+):/g)) names.add(`${message}.${name}`)
  }
  return names
}

const [jarPath, mode] = process.argv.slice(2)
if (jarPath === undefined || (mode !== undefined && mode !== '--check')) {
  process.stderr.write('usage: generate.ts <kafka-clients.jar> [--check]\n')
  process.exit(2)
}
const { text, names } = generate(jarPath)
const committed = existsSync(target) ? readFileSync(target, 'utf8') : ''
const lost = [...namesOf(committed)].filter((name) => !new Set(names).has(name))
if (lost.length > 0) {
  process.stderr.write(
    `these names would be lost; add them to aliases.ts or accept by deleting the file:\n${lost.join('\n')}\n`,
  )
  process.exit(1)
}
if (mode === '--check') {
  if (text !== committed) {
    process.stderr.write('src/wire/messages.gen.ts differs from what this jar gives\n')
    process.exit(1)
  }
} else {
  writeFileSync(target, text)
}
