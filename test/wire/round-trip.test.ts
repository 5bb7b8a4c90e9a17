/** Whatever is written is read back, for every version of every message of the table. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { table } from '../../src/wire/messages.gen.ts'
import { codecOf, schemaOf } from '../../src/wire/protocol.ts'
import { Reader } from '../../src/wire/reader.ts'
import { defaultOf, type Field, type Struct, within } from '../../src/wire/schema.ts'
import { Writer } from '../../src/wire/writer.ts'
import { arbitraryMessage } from './arbitrary.ts'

const messages = Object.keys(table).map(schemaOf)

function encode(name: string, version: number, value: Struct): Uint8Array {
  const writer = new Writer()
  codecOf(name, version).write(writer, value)
  return writer.finish()
}

function decode(name: string, version: number, bytes: Uint8Array): Struct {
  const reader = new Reader(bytes)
  const value = codecOf(name, version).read(reader)
  reader.finish()
  return value
}

/** The value as a reader gives it: fields that the version lacks are there with their default. */
function completed(fields: readonly Field[], version: number, value: Struct): Struct {
  return Object.fromEntries(
    fields.map((field) => {
      const given = value[field.name]
      if (!within(field.versions, version)) return [field.name, defaultOf(field)]
      if (field.type !== 'struct' || given === null) return [field.name, given]
      if (!field.array) return [field.name, completed(field.fields, version, given as Struct)]
      return [field.name, (given as readonly Struct[]).map((item) => completed(field.fields, version, item))]
    }),
  )
}

test('a value of any version of any message is read as it was written', () => {
  for (const schema of messages) {
    for (let version = schema.versions.min; version <= schema.versions.max; version++) {
      fc.assert(
        fc.property(arbitraryMessage(schema, version), (value) => {
          const back = decode(schema.name, version, encode(schema.name, version, value))
          assert.deepEqual(back, completed(schema.fields, version, value), `${schema.name} v${version}`)
        }),
        { numRuns: 8 },
      )
    }
  }
})

test('a message of which nothing is given is written as its defaults', () => {
  for (const schema of messages) {
    for (let version = schema.versions.min; version <= schema.versions.max; version++) {
      const back = decode(schema.name, version, encode(schema.name, version, {}))
      const defaults = Object.fromEntries(schema.fields.map((field) => [field.name, defaultOf(field)]))
      assert.deepEqual(back, defaults, `${schema.name} v${version}`)
    }
  }
})

test('all versions of a message give objects of one shape', () => {
  for (const schema of messages) {
    for (let version = schema.versions.min; version <= schema.versions.max; version++) {
      const keys = Object.keys(decode(schema.name, version, encode(schema.name, version, {})))
      assert.deepEqual(
        keys,
        schema.fields.map((field) => field.name),
        `${schema.name} v${version}`,
      )
    }
  }
})
