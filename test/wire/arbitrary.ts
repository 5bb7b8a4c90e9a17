/** Arbitrary values of every message, for properties and for fuzzing: what fast-check needs to know of the table. */
import fc from 'fast-check'
import { type Field, type Schema, within } from '../../src/wire/schema.ts'
import { uuidText } from '../../src/wire/uuid.ts'

const short = fc.oneof(
  fc.string({ maxLength: 12 }),
  fc.constantFrom('orders', 'ключ', '𝄞', 'é', 'a'.repeat(43), 'ü'.repeat(70), '\ufeffbom'),
)
const bytes = fc.uint8Array({ maxLength: 12 })
const uuid = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((raw) => uuidText(raw, 0))

function arbitraryElement(field: Field, version: number): fc.Arbitrary<unknown> {
  switch (field.type) {
    case 'bool':
      return fc.boolean()
    case 'int8':
      return fc.integer({ min: -128, max: 127 })
    case 'int16':
      return fc.integer({ min: -32768, max: 32767 })
    case 'uint16':
      return fc.integer({ min: 0, max: 65535 })
    case 'int32':
      return fc.integer()
    case 'uint32':
      return fc.integer({ min: 0, max: 0xffffffff })
    case 'int64':
      return fc.maxSafeInteger()
    case 'float64':
      return fc.double({ noNaN: true })
    case 'uuid':
      return uuid
    case 'string':
      return short
    case 'bytes':
    case 'records':
      return bytes
    case 'struct':
      return arbitraryStruct(field.fields, version)
    default:
      throw new Error(`no such type: ${field.type satisfies never}`)
  }
}

function arbitraryField(field: Field, version: number): fc.Arbitrary<unknown> {
  const element = arbitraryElement(field, version)
  const value = field.array ? fc.array(element, { maxLength: 3 }) : element
  const nullable = within(field.nullable, version) || (field.type === 'records' && !field.array)
  return nullable ? fc.option(value, { nil: null, freq: 3 }) : value
}

function arbitraryStruct(fields: readonly Field[], version: number): fc.Arbitrary<Record<string, unknown>> {
  const present = fields.filter((field) => within(field.versions, version))
  return fc.record(Object.fromEntries(present.map((field) => [field.name, arbitraryField(field, version)])))
}

/** Values of one version of a message: every field the version has, and no other. */
export function arbitraryMessage(schema: Schema, version: number): fc.Arbitrary<Record<string, unknown>> {
  return arbitraryStruct(schema.fields, version)
}
