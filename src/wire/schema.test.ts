import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Reader } from './reader.ts'
import { buildCodec, parseSchema, type Struct } from './schema.ts'
import { Writer } from './writer.ts'

const malformed = { code: 'OTTLA_WIRE_MALFORMED' }

function encode(line: string, version: number, value: Struct): number[] {
  const writer = new Writer()
  buildCodec(parseSchema('Test', line), version).write(writer, value)
  return [...writer.finish()]
}

function decode(line: string, version: number, bytes: readonly number[]): Struct {
  const reader = new Reader(Uint8Array.from(bytes))
  const value = buildCodec(parseSchema('Test', line), version).read(reader)
  reader.finish()
  return value
}

test('a line of the table is taken apart', () => {
  const schema = parseSchema(
    'Test',
    '7 1-4 3-4 a:[]int32@2-4?3-4~=null b:@1-2{c:string!=null d:bool=true} e:int16#2=-1',
  )
  assert.deepEqual([schema.apiKey, schema.versions, schema.flexible], [7, { min: 1, max: 4 }, { min: 3, max: 4 }])
  const [a, b, e] = schema.fields
  assert.deepEqual(a, {
    name: 'a',
    type: 'int32',
    array: true,
    versions: { min: 2, max: 4 },
    nullable: { min: 3, max: 4 },
    tag: null,
    ignorable: true,
    neverCompact: false,
    defaultText: 'null',
    fields: [],
  })
  assert.equal(b!.type, 'struct')
  assert.deepEqual(b!.versions, { min: 1, max: 2 })
  assert.deepEqual(
    b!.fields.map((field) => [field.name, field.versions, field.neverCompact, field.defaultText]),
    [
      ['c', { min: 1, max: 2 }, true, 'null'],
      ['d', { min: 1, max: 2 }, false, 'true'],
    ],
  )
  assert.deepEqual([e!.tag, e!.defaultText, e!.versions], [2, '-1', { min: 1, max: 4 }])
})

test('a field that the version lacks reads as its default', () => {
  const line = '- 0-1 - a:int8 b:int8@1=5 c:string@1 d:[]int8@1 e:@1{f:bool=true}'
  assert.deepEqual(decode(line, 0, [3]), { a: 3, b: 5, c: '', d: [], e: { f: true } })
})

test('a value that a version cannot carry is refused unless it may be ignored', () => {
  const line = '- 0-1 - a:int8@1=5 b:int8@1~=5 c:[]int8@1 d:@1{e:int8}'
  assert.deepEqual(encode(line, 0, { a: 5, b: 7, c: [], d: { e: 0 } }), [])
  assert.throws(() => encode(line, 0, { a: 6 }), malformed)
  assert.throws(() => encode(line, 0, { c: [1] }), malformed)
  assert.throws(() => encode(line, 0, { d: { e: 1 } }), malformed)
})

test('null is written and read only where a version allows it', () => {
  const line = '- 0-2 2 a:string?1-2 b:[]int8?1-2 c:bytes?1-2'
  const nothing = { a: null, b: null, c: null }
  assert.deepEqual(encode(line, 1, nothing), [255, 255, 255, 255, 255, 255, 255, 255, 255, 255])
  assert.deepEqual(encode(line, 2, nothing), [0, 0, 0, 0])
  assert.deepEqual(decode(line, 2, [0, 0, 0, 0]), nothing)
  for (const name of ['a', 'b', 'c']) assert.throws(() => encode(line, 0, { [name]: null }), malformed, name)
  assert.throws(() => decode(line, 0, [255, 255, 0, 0, 0, 0, 0, 0, 0, 0]), malformed)
  assert.throws(() => decode(line, 0, [0, 0, 255, 255, 255, 255, 0, 0, 0, 0]), malformed)
  assert.throws(() => decode(line, 0, [0, 0, 0, 0, 0, 0, 255, 255, 255, 255]), malformed)
})

test('a struct that may be null has a byte in front', () => {
  const line = '- 0 0 a:?=null{b:int8}'
  assert.deepEqual(encode(line, 0, {}), [255, 0])
  assert.deepEqual(encode(line, 0, { a: { b: 3 } }), [1, 3, 0, 0])
  assert.deepEqual(decode(line, 0, [255, 0]), { a: null })
  assert.deepEqual(decode(line, 0, [1, 3, 0, 0]), { a: { b: 3 } })
})

test('tagged fields are written in the order of their tags, and left out at their default', () => {
  const line = '- 0 0 a:int8#1=4 b:int8#0'
  assert.deepEqual(encode(line, 0, { a: 4, b: 0 }), [0])
  assert.deepEqual(encode(line, 0, { a: 5, b: 6 }), [2, 0, 1, 6, 1, 1, 5])
  assert.deepEqual(decode(line, 0, [0]), { a: 4, b: 0 })
  assert.deepEqual(decode(line, 0, [1, 1, 1, 9]), { a: 9, b: 0 })
})

test('tags that are not known are skipped; those out of order, twice or of a wrong length are refused', () => {
  const line = '- 0 0 a:int8#1'
  assert.deepEqual(decode(line, 0, [2, 1, 1, 9, 7, 3, 1, 2, 3]), { a: 9 })
  assert.throws(() => decode(line, 0, [2, 7, 1, 0, 1, 1, 9]), malformed)
  assert.throws(() => decode(line, 0, [2, 1, 1, 9, 1, 1, 9]), malformed)
  assert.throws(() => decode(line, 0, [1, 1, 2, 9, 9]), malformed)
  assert.throws(() => decode(line, 0, [1, 1, 0]), malformed)
  assert.throws(() => decode(line, 0, [1, 7, 9, 0]), malformed)
})

test('a field that is never compact keeps its plain length in a flexible version', () => {
  assert.deepEqual(encode('- 0 0 a:string?!', 0, { a: 'x' }), [0, 1, 120, 0])
})

test('two answers share no array, struct or buffer', () => {
  const line = '- 0-1 - a:[]int8@1 b:@1{c:[]int8}'
  const codec = buildCodec(parseSchema('Test', line), 0)
  const first = codec.read(new Reader(new Uint8Array(0)))
  const second = codec.read(new Reader(new Uint8Array(0)))
  assert.notEqual(first['a'], second['a'])
  assert.notEqual(first['b'], second['b'])
})

test('tagged fields share the bound of their frame', () => {
  const line = '- 0 0 a:[]int8#0 b:[]int8#1'
  const frame = (counts: readonly number[]): number[] => {
    const writer = new Writer()
    writer.unsignedVarint(counts.length)
    for (const [tag, count] of counts.entries()) {
      const inner = new Writer()
      inner.unsignedVarint(count + 1)
      inner.raw(new Uint8Array(count))
      writer.unsignedVarint(tag)
      writer.unsignedVarint(inner.length)
      writer.raw(inner.finish())
    }
    return [...writer.finish()]
  }
  assert.equal((decode(line, 0, frame([200_000]))['a'] as unknown[]).length, 200_000)
  assert.throws(() => decode(line, 0, frame([200_000, 200_000])), { ...malformed, message: /more memory/ })
})
