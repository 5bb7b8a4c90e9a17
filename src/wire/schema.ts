/**
 * Builds readers and writers from the table, once per message and version.
 *
 * A line of the table is `key versions flexibleVersions field field …`, fields in wire order. A field is
 *
 *     name ':' type ['@' versions] ['?' [nullableVersions]] ['#' tag] ['~'] ['!'] ['=' default] ['{' fields '}']
 *
 * where `type` is `[]` for an array, then a primitive, or nothing for a struct (its fields follow in braces); `~` means
 * ignorable (may be dropped silently when the version lacks it), `!` never compact. Left-out versions are those of the
 * surrounding struct, a left-out default is the type's own (0, false, '', [], a struct of defaults, null for records).
 * `key` and a version range may be `-` for none.
 */
import { malformed } from './malformed.ts'
import { objectBytes, Reader } from './reader.ts'
import { zeroUuid } from './uuid.ts'
import { Writer } from './writer.ts'

export interface VersionRange {
  readonly min: number
  readonly max: number
}

/** The primitive types of the protocol, and `struct`. */
export type FieldType =
  | 'bool'
  | 'int8'
  | 'int16'
  | 'uint16'
  | 'int32'
  | 'uint32'
  | 'int64'
  | 'float64'
  | 'uuid'
  | 'string'
  | 'bytes'
  | 'records'
  | 'struct'

/** One field of the table. */
export interface Field {
  readonly name: string
  readonly type: FieldType
  readonly array: boolean
  readonly versions: VersionRange
  readonly nullable: VersionRange | null
  readonly tag: number | null
  readonly ignorable: boolean
  readonly neverCompact: boolean
  /** As written in the table; null for the type's own. */
  readonly defaultText: string | null
  readonly fields: readonly Field[]
}

/** One message of the table. */
export interface Schema {
  readonly name: string
  readonly apiKey: number | null
  readonly versions: VersionRange
  readonly flexible: VersionRange | null
  readonly fields: readonly Field[]
}

/** Reads and writes one version of one message. */
export interface MessageCodec {
  read(reader: Reader): Struct
  write(writer: Writer, value: Struct): void
}

/** A decoded message; its shape is the interface of the same name in `messages.gen.ts`. */
export type Struct = Readonly<Record<string, unknown>>

type MutableStruct = Record<string, unknown>

export function within(range: VersionRange | null, version: number): boolean {
  return range !== null && version >= range.min && version <= range.max
}

function parseRange(text: string): VersionRange | null {
  if (text === '-') return null
  const [min, max] = text.split('-')
  return { min: Number(min), max: Number(max ?? min) }
}

const fieldPattern = /(\w+):(\[\])?(\w*)(?:@([\d-]+))?(\?[\d-]*)?(?:#(\d+))?(~)?(!)?(?:=([\w-]+))?(\{)?/y

/** Reads a line of the table. */
export function parseSchema(name: string, line: string): Schema {
  const [key = '', versionsText = '', flexibleText = ''] = line.split(' ', 3)
  const versions = parseRange(versionsText)
  if (versions === null) throw new Error(`${name} has no versions`)
  let at = key.length + versionsText.length + flexibleText.length + 3

  const parseFields = (around: VersionRange): Field[] => {
    const fields: Field[] = []
    while (at < line.length && line[at] !== '}') {
      if (line[at] === ' ') at++
      fieldPattern.lastIndex = at
      const match = fieldPattern.exec(line)
      if (match === null) throw new Error(`${name}: no field at ${at}`)
      at = fieldPattern.lastIndex
      const [, fieldName = '', array, type = '', versionText, nullText, tag, ignorable, never, given, brace] = match
      const present = (versionText === undefined ? null : parseRange(versionText)) ?? around
      let fields2: Field[] = []
      if (brace !== undefined) {
        fields2 = parseFields(present)
        at++
      }
      fields.push({
        name: fieldName,
        type: (type === '' ? 'struct' : type) as FieldType,
        array: array !== undefined,
        versions: present,
        nullable: nullText === undefined ? null : nullText === '?' ? present : parseRange(nullText.slice(1)),
        tag: tag === undefined ? null : Number(tag),
        ignorable: ignorable !== undefined,
        neverCompact: never !== undefined,
        defaultText: given ?? null,
        fields: fields2,
      })
    }
    return fields
  }

  const fields = parseFields(versions)
  return { name, apiKey: key === '-' ? null : Number(key), versions, flexible: parseRange(flexibleText), fields }
}

/** A fresh default value of a field. */
export function defaultOf(field: Field): unknown {
  if (field.defaultText === 'null') return null
  if (field.array) return []
  switch (field.type) {
    case 'bool':
      return field.defaultText === 'true'
    case 'int8':
    case 'int16':
    case 'uint16':
    case 'int32':
    case 'uint32':
    case 'int64':
    case 'float64':
      return field.defaultText === null ? 0 : Number(field.defaultText)
    case 'uuid':
      return zeroUuid
    case 'string':
      return ''
    case 'bytes':
      return new Uint8Array(0)
    case 'records':
      return null
    case 'struct':
      return Object.fromEntries(field.fields.map((inner) => [inner.name, defaultOf(inner)]))
    default:
      throw new Error(`no such type: ${field.type satisfies never}`)
  }
}

/** Is this value what the other side assumes when the field is not sent? */
function isDefault(field: Field, value: unknown): boolean {
  if (value === undefined) return true
  if (field.defaultText === 'null' || value === null) return value === null && defaultOf(field) === null
  if (field.array) return (value as readonly unknown[]).length === 0
  if (field.type === 'struct') {
    return field.fields.every((inner) => isDefault(inner, (value as Struct)[inner.name]))
  }
  if (field.type === 'bytes') return (value as Uint8Array).length === 0
  return value === defaultOf(field)
}

interface ValueCodec {
  /** The fewest bytes a value takes. */
  readonly minBytes: number
  read(reader: Reader): unknown
  write(writer: Writer, value: any): void
}

const fixed: Readonly<Partial<Record<FieldType, ValueCodec>>> = {
  bool: { minBytes: 1, read: (reader) => reader.bool(), write: (writer, value) => writer.bool(value) },
  int8: { minBytes: 1, read: (reader) => reader.int8(), write: (writer, value) => writer.int8(value) },
  int16: { minBytes: 2, read: (reader) => reader.int16(), write: (writer, value) => writer.int16(value) },
  uint16: { minBytes: 2, read: (reader) => reader.uint16(), write: (writer, value) => writer.uint16(value) },
  int32: { minBytes: 4, read: (reader) => reader.int32(), write: (writer, value) => writer.int32(value) },
  uint32: { minBytes: 4, read: (reader) => reader.uint32(), write: (writer, value) => writer.uint32(value) },
  int64: { minBytes: 8, read: (reader) => reader.int64(), write: (writer, value) => writer.int64(value) },
  float64: { minBytes: 8, read: (reader) => reader.float64(), write: (writer, value) => writer.float64(value) },
  uuid: { minBytes: 16, read: (reader) => reader.uuid(), write: (writer, value) => writer.uuid(value) },
}

const plainString: ValueCodec = {
  minBytes: 2,
  read: (reader) => reader.string(),
  write: (writer, value) => writer.string(value),
}
const nullableString: ValueCodec = {
  minBytes: 2,
  read: (reader) => reader.nullableString(),
  write: (writer, value) => writer.nullableString(value),
}
const compactString: ValueCodec = {
  minBytes: 1,
  read: (reader) => reader.compactString(),
  write: (writer, value) => writer.compactString(value),
}
const compactNullableString: ValueCodec = {
  minBytes: 1,
  read: (reader) => reader.compactNullableString(),
  write: (writer, value) => writer.compactNullableString(value),
}
const plainBytes: ValueCodec = {
  minBytes: 4,
  read: (reader) => reader.byteString(),
  write: (writer, value) => writer.byteString(value),
}
const nullableBytes: ValueCodec = {
  minBytes: 4,
  read: (reader) => reader.nullableBytes(),
  write: (writer, value) => writer.nullableBytes(value),
}
const compactBytes: ValueCodec = {
  minBytes: 1,
  read: (reader) => reader.compactBytes(),
  write: (writer, value) => writer.compactBytes(value),
}
const compactNullableBytes: ValueCodec = {
  minBytes: 1,
  read: (reader) => reader.compactNullableBytes(),
  write: (writer, value) => writer.compactNullableBytes(value),
}

/** Where a codec is being built: which version, and are lengths compact. */
interface Context {
  readonly version: number
  readonly flexible: boolean
}

/** The codec of one element, ignoring `array`. */
function elementCodec(field: Field, context: Context, nullable: boolean): ValueCodec {
  const ready = fixed[field.type]
  if (ready !== undefined) return ready
  const compact = context.flexible && !field.neverCompact
  if (field.type === 'string') {
    if (compact) return nullable ? compactNullableString : compactString
    return nullable ? nullableString : plainString
  }
  if (field.type === 'struct') {
    const struct = structCodec(field.fields, context)
    return nullable ? nullableStruct(struct) : struct
  }
  // `records` may be null on the wire in every version, whatever the definition says.
  const orNull = nullable || field.type === 'records'
  if (compact) return orNull ? compactNullableBytes : compactBytes
  return orNull ? nullableBytes : plainBytes
}

function nullableStruct(struct: ValueCodec): ValueCodec {
  return {
    minBytes: 1,
    read: (reader) => (reader.int8() < 0 ? null : struct.read(reader)),
    write(writer, value) {
      writer.int8(value === null ? -1 : 1)
      if (value !== null) struct.write(writer, value)
    },
  }
}

function arrayCodec(element: ValueCodec, compact: boolean, nullable: boolean): ValueCodec {
  const { minBytes } = element
  return {
    minBytes: compact ? 1 : 4,
    read(reader) {
      const count = compact ? reader.compactCount(minBytes) : reader.count(minBytes)
      if (count < 0) {
        if (nullable) return null
        throw malformed('null where an array is due')
      }
      const values: unknown[] = []
      for (let i = 0; i < count; i++) values.push(element.read(reader))
      return values
    },
    write(writer, value: readonly unknown[] | null) {
      if (value === null && !nullable) throw malformed('null where an array is due')
      if (compact) writer.unsignedVarint(value === null ? 0 : value.length + 1)
      else writer.int32(value === null ? -1 : value.length)
      if (value === null) return
      for (const item of value) element.write(writer, item)
    },
  }
}

function fieldCodec(field: Field, context: Context): ValueCodec {
  const nullable = within(field.nullable, context.version)
  if (!field.array) return elementCodec(field, context, nullable)
  return arrayCodec(elementCodec(field, context, false), context.flexible && !field.neverCompact, nullable)
}

interface Present {
  readonly field: Field
  readonly codec: ValueCodec
}

function structCodec(fields: readonly Field[], context: Context): ValueCodec {
  const present: Present[] = []
  const tagged: Present[] = []
  const absent: Field[] = []
  for (const field of fields) {
    if (!within(field.versions, context.version)) absent.push(field)
    else (field.tag === null ? present : tagged).push({ field, codec: fieldCodec(field, context) })
  }
  tagged.sort((a, b) => (a.field.tag ?? 0) - (b.field.tag ?? 0))
  const inOrder = fields.map((field) => {
    const codec = present.find((candidate) => candidate.field === field)?.codec
    return { name: field.name, codec, initial: initialOf(field) }
  })
  const minBytes = present.reduce((sum, { codec }) => sum + codec.minBytes, context.flexible ? 1 : 0)

  return {
    minBytes,
    read(reader) {
      reader.charge(objectBytes)
      const struct: MutableStruct = {}
      // In the order of the table, absent fields too, so that all versions give one shape.
      for (const { name, codec, initial } of inOrder)
        struct[name] = codec === undefined ? initial() : codec.read(reader)
      if (context.flexible) readTags(reader, tagged, struct)
      return struct
    },
    write(writer, value: Struct) {
      for (const field of absent) {
        if (!field.ignorable && !isDefault(field, value[field.name])) {
          throw malformed(`version ${context.version} cannot carry ${field.name}`)
        }
      }
      for (const { field, codec } of present) {
        const given = value[field.name]
        const sent = given === undefined ? defaultOf(field) : given
        if (sent === null && !within(field.nullable, context.version) && field.type !== 'records') {
          throw malformed(`${field.name} is null`)
        }
        codec.write(writer, sent)
      }
      if (context.flexible) writeTags(writer, tagged, value)
    },
  }
}

/** Makes the default of a field; what is immutable is made once. */
function initialOf(field: Field): () => unknown {
  const value = defaultOf(field)
  return typeof value === 'object' && value !== null ? () => defaultOf(field) : () => value
}

function readTags(reader: Reader, tagged: readonly Present[], struct: MutableStruct): void {
  let last = -1
  for (let left = reader.unsignedVarint(); left > 0; left--) {
    const tag = reader.unsignedVarint()
    if (tag <= last) throw malformed(`tag ${tag} after tag ${last}`)
    last = tag
    const length = reader.unsignedVarint()
    const start = reader.skip(length)
    const known = tagged.find(({ field }) => field.tag === tag)
    if (known === undefined) continue
    const inner = new Reader(reader.bytes, start, start + length)
    inner.budgetBytes = reader.budgetBytes
    struct[known.field.name] = known.codec.read(inner)
    inner.finish()
    reader.budgetBytes = inner.budgetBytes
  }
}

function writeTags(writer: Writer, tagged: readonly Present[], value: Struct): void {
  const sent = tagged.filter(({ field }) => !isDefault(field, value[field.name]))
  writer.unsignedVarint(sent.length)
  for (const { field, codec } of sent) {
    const inner = new Writer(64)
    codec.write(inner, value[field.name])
    writer.unsignedVarint(field.tag ?? 0)
    writer.unsignedVarint(inner.length)
    writer.raw(inner.finish())
  }
}

/** Builds the codec of one version. */
export function buildCodec(schema: Schema, version: number): MessageCodec {
  const codec = structCodec(schema.fields, { version, flexible: within(schema.flexible, version) })
  return { read: (reader) => codec.read(reader) as Struct, write: (writer, value) => codec.write(writer, value) }
}
