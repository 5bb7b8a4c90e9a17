/** The table against what Apache Kafka's own classes say of themselves: same fields, types, tags and header versions. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { isApiKey, isFlexible, schemaOf, versionRange } from '../../src/wire/protocol.ts'
import { type Field, type FieldType, within } from '../../src/wire/schema.ts'

const fixture = readFileSync(new URL('../fixtures/wire/layouts-4.3.1.txt', import.meta.url), 'utf8')

const typeNames: Readonly<Record<Exclude<FieldType, 'struct'>, string>> = {
  bool: 'BOOLEAN',
  int8: 'INT8',
  int16: 'INT16',
  uint16: 'UINT16',
  int32: 'INT32',
  uint32: 'UINT32',
  int64: 'INT64',
  float64: 'FLOAT64',
  uuid: 'UUID',
  string: 'STRING',
  bytes: 'BYTES',
  records: 'RECORDS',
}
const prefixed: readonly FieldType[] = ['string', 'bytes', 'records']

function layoutOf(fields: readonly Field[], version: number, flexible: boolean): string {
  const present = fields.filter((field) => within(field.versions, version))
  const parts = present.filter((field) => field.tag === null).map((field) => fieldLayout(field, version, flexible))
  if (flexible) {
    const tagged = present
      .filter((field) => field.tag !== null)
      .sort((a, b) => (a.tag ?? 0) - (b.tag ?? 0))
      .map((field) => `${field.tag}=${fieldLayout(field, version, flexible)}`)
    parts.push(`TAGS(${tagged.join(',')})`)
  }
  return `{${parts.join(',')}}`
}

function fieldLayout(field: Field, version: number, flexible: boolean): string {
  const compact = flexible && !field.neverCompact ? 'COMPACT_' : ''
  const orNull = within(field.nullable, version)
  const nullable = !field.array && (orNull || field.type === 'records') ? 'NULLABLE_' : ''
  const element =
    field.type === 'struct'
      ? layoutOf(field.fields, version, flexible)
      : prefixed.includes(field.type)
        ? `${compact}${nullable}${typeNames[field.type]}`
        : typeNames[field.type]
  return `${field.name.toLowerCase()}:${field.array ? `${compact}ARRAY${orNull ? '?' : ''}<${element}>` : element}`
}

/** Reflection spells names in snake case, and takes two `records` fields for never null where null is allowed. */
function comparable(layout: string): string {
  return layout
    .replace(/([a-z0-9_]+):/g, (_, name: string) => `${name.replaceAll('_', '')}:`)
    .replaceAll('COMPACT_RECORDS', 'COMPACT_NULLABLE_RECORDS')
}

interface Row {
  readonly key: number
  readonly kind: 'req' | 'res'
  readonly version: number
  readonly header: number
  readonly name: string
  readonly layout: string
}

const rows: readonly Row[] = fixture
  .split('\n')
  .filter((line) => line !== '' && !line.startsWith('#'))
  .flatMap((line) => {
    const [key, kind, versions, header, name, layout] = line.split(' ')
    const [from, to = from] = (versions ?? '').split('-').map(Number)
    assert.ok(from !== undefined && to !== undefined && name !== undefined && layout !== undefined)
    assert.ok(kind === 'req' || kind === 'res')
    return Array.from({ length: to - from + 1 }, (_, i) => ({
      key: Number(key),
      kind,
      version: from + i,
      header: Number(header?.slice(1)),
      name,
      layout,
    }))
  })

test('every version of every message has the layout that the Java classes have', () => {
  assert.equal(rows.length, 556)
  for (const row of rows) {
    const schema = schemaOf(`${row.name}${row.kind === 'req' ? 'Request' : 'Response'}`)
    if (row.name === 'InitProducerId' && row.version === 6) continue
    const label = `${schema.name} v${row.version}`
    assert.equal(schema.apiKey, row.key, label)
    assert.ok(within(schema.versions, row.version), `${label} is in the table`)
    const flexible = within(schema.flexible, row.version)
    assert.equal(layoutOf(schema.fields, row.version, flexible), comparable(row.layout), label)
  }
})

test('every version of every message has the header that the Java classes have', () => {
  for (const row of rows) {
    if (!isApiKey(row.key) || row.version > versionRange(row.key).max) continue
    const flexible = isFlexible(row.key, row.version)
    const expected = row.kind === 'req' ? (flexible ? 2 : 1) : flexible && row.name !== 'ApiVersions' ? 1 : 0
    assert.equal(row.header, expected, `${row.name} ${row.kind} v${row.version}`)
  }
})

test('the table has no version on the broker listener that the Java classes lack', () => {
  const known = new Set(rows.map((row) => `${row.key} ${row.version}`))
  for (const key of new Set(rows.map((row) => row.key))) {
    const { min, max } = versionRange(key)
    for (let version = min; version <= max; version++) assert.ok(known.has(`${key} ${version}`), `${key} v${version}`)
  }
})
