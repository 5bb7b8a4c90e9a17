import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import {
  attributeBytes,
  type Header,
  header,
  identityHeaders,
  originText,
  ownHeader,
  type RecordView,
  readHeaders,
  readOrigin,
  readOwnHeaders,
  readStructured,
} from './envelope.ts'
import { encodeUtf8 } from './text.ts'

const noTable = () => null
const recordWith = (headers: readonly Header[]): RecordView => ({
  topicId: 'dGVzdC10b3BpYy1pZC0xMg',
  partition: 3,
  position: 42,
  timestampMs: 1000,
  key: encodeUtf8('k'),
  value: encodeUtf8('{}'),
  headers,
})
const read = (...pairs: [string, string | Uint8Array | null][]) =>
  readHeaders(
    recordWith(pairs.map(([key, value]) => (typeof value === 'string' ? header(key, value) : { key, value }))),
    noTable,
  )
const full: [string, string][] = [
  ['ce_specversion', '1.0'],
  ['ce_id', 'id-1'],
  ['ce_type', 'orders.OrderPlaced'],
  ['ce_source', 'orders'],
  ['ce_time', '2026-01-02T03:04:05.678Z'],
  ['content-type', 'application/json'],
  ['traceparent', '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'],
  ['tracestate', 'vendor=1'],
]

describe('headers of binary mode', () => {
  test('are read when they are as they should be', () => {
    const { envelope, contentType, structured } = read(...full)
    assert.deepEqual(
      [envelope.id, envelope.type, envelope.source, envelope.timeMs, contentType, structured, envelope.badHeaders],
      ['id-1', 'orders.OrderPlaced', 'orders', Date.UTC(2026, 0, 2, 3, 4, 5, 678), 'application/json', false, 0],
    )
    assert.equal(envelope.traceparent, full[6]![1])
    assert.equal(envelope.tracestate, 'vendor=1')
    assert.ok(envelope.identified)
    assert.deepEqual(identityHeaders(envelope), [])
    assert.equal(envelope.keyText, 'k')
    assert.equal(envelope.headers['ce_id'], 'id-1')
  })

  test('that are missing leave the identity of the place, which copies carry on', () => {
    const { envelope } = read()
    assert.equal(envelope.id, 'urn:kafka:dGVzdC10b3BpYy1pZC0xMg:3:42')
    assert.equal(envelope.source, 'urn:kafka:dGVzdC10b3BpYy1pZC0xMg')
    assert.equal(envelope.type, null)
    assert.equal(envelope.timeMs, 1000)
    const copy = readHeaders(recordWith(identityHeaders(envelope)), noTable).envelope
    assert.deepEqual([copy.id, copy.source, copy.badHeaders], [envelope.id, envelope.source, 0])
  })

  test('that repeat are read from the last one, good or bad', () => {
    assert.equal(read(...full, ['ce_id', 'id-2']).envelope.id, 'id-2')
    const { envelope } = read(...full, ['ce_id', ''])
    assert.match(envelope.id, /^urn:kafka:/)
    assert.equal(envelope.badHeaders, 1)
    assert.equal(read(...full, ['ce_id', null]).envelope.badHeaders, 0)
  })

  test('of another version of CloudEvents name no type', () => {
    const { envelope } = read(...full, ['ce_specversion', '0.3'])
    assert.equal(envelope.type, null)
    assert.equal(envelope.badHeaders, 1)
    assert.equal(read(['ce_type', 'orders.OrderPlaced']).envelope.type, null)
  })

  test('that break the grammar count as absent and are counted', () => {
    const bad: [string, string | Uint8Array][] = [
      ['ce_id', 'x'.repeat(257)],
      ['ce_id', 'a\nb'],
      ['ce_id', Uint8Array.of(0xff, 0xfe)],
      ['ce_source', '\u007f'],
      ['ce_type', ''],
      ['ce_time', 'yesterday'],
      ['ce_time', '2026-02-30T00:00:00Z'],
      ['ce_time', '2026-01-01T24:00:00Z'],
      ['ce_time', '2026-02-29T00:00:00.000Z'],
      ['ce_time', '2026-13-01T00:00:00.000Z'],
      ['ce_time', '2026-01-01T00:60:00.000Z'],
      ['ce_time', '2026-01-01T00:00:0x.000Z'],
      ['ce_time', '2026-01-01T00:00:00'],
      ['ce_time', '2026-01-01T00:00:00+24:00'],
      ['content-type', 'json'],
      ['traceparent', '00-00000000000000000000000000000000-00f067aa0ba902b7-01'],
      ['traceparent', '00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01'],
      ['traceparent', 'ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'],
      ['traceparent', '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more'],
      ['traceparent', '00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01'],
      ['tracestate', 'x'.repeat(513)],
      ['tracestate', 'ä=1'],
    ]
    for (const [key, value] of bad) {
      const { envelope, contentType } = read(...full, [key, value])
      assert.equal(envelope.badHeaders, 1, `${key}: ${value}`)
      const seen: Record<string, unknown> = {
        ce_id: envelope.id.startsWith('urn:') ? null : envelope.id,
        ce_source: envelope.source.startsWith('urn:') ? null : envelope.source,
        ce_type: envelope.type,
        ce_time: envelope.timeMs === 1000 ? null : envelope.timeMs,
        'content-type': contentType,
        traceparent: envelope.traceparent,
        tracestate: envelope.tracestate,
      }
      assert.equal(seen[key], null, `${key}: ${value}`)
    }
  })

  test('take every form of time that RFC 3339 has', () => {
    const times = [
      '2026-01-01T00:00:00Z',
      '2026-01-01T01:30:00+01:30',
      '2025-12-31T23:00:00.000-01:00',
      '2026-01-01t00:00:00.000999999z',
    ]
    for (const time of times) assert.equal(read(['ce_time', time]).envelope.timeMs, Date.UTC(2026, 0, 1), time)
    assert.equal(read(['ce_time', '0099-01-01T00:00:00Z']).envelope.timeMs, Date.parse('0099-01-01T00:00:00Z'))
    fc.assert(
      fc.property(fc.date({ min: new Date(0), max: new Date('9999-12-31T00:00:00Z'), noInvalidDate: true }), (date) => {
        assert.equal(read(['ce_time', date.toISOString()]).envelope.timeMs, date.getTime())
      }),
    )
  })

  test('of a later traceparent version may go on after the flags', () => {
    const later = '01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more'
    assert.equal(read(['traceparent', later]).envelope.traceparent, later)
  })

  test('read a content type without its parameters and its capitals', () => {
    assert.equal(read(['content-type', 'Application/JSON; charset=utf-8']).contentType, 'application/json')
    assert.ok(read(['content-type', 'application/cloudevents+json; charset=UTF-8']).structured)
  })

  test('of any bytes never throw and never pollute', () => {
    const key = fc.oneof(
      fc.constantFrom(
        'ce_specversion',
        'ce_id',
        'ce_type',
        'ce_source',
        'ce_time',
        'content-type',
        'traceparent',
        'tracestate',
        '__proto__',
        'ottla-x',
      ),
      fc.string(),
    )
    const value = fc.oneof(fc.constant(null), fc.uint8Array({ maxLength: 600 }), fc.string().map(encodeUtf8))
    fc.assert(
      fc.property(fc.array(fc.record({ key, value })), (headers) => {
        const { envelope } = readHeaders(recordWith(headers), noTable)
        assert.ok(attributeBytes(envelope.id) !== null && attributeBytes(envelope.source) !== null)
        assert.ok(envelope.badHeaders <= 8)
        assert.equal(Object.getPrototypeOf(envelope.headers), null)
        readOwnHeaders(headers)
      }),
      { numRuns: 300 },
    )
  })
})

describe('structured mode', () => {
  const outer = read(['traceparent', full[6]![1]]).envelope
  const event = {
    specversion: '1.0',
    id: 'i',
    type: 't',
    source: 's',
    time: '2026-01-01T00:00:00Z',
    datacontenttype: 'application/json',
  }

  test('is read from its members, with what the headers add', () => {
    const found = readStructured({ ...event, data: { a: 1 } }, outer)
    assert.deepEqual(found?.data, { parsed: { a: 1 } })
    assert.deepEqual([found?.envelope.id, found?.envelope.type, found?.envelope.source], ['i', 't', 's'])
    assert.equal(found?.envelope.traceparent, full[6]![1])
    assert.equal(found?.contentType, 'application/json')
  })

  test('holds bytes in base64', () => {
    assert.deepEqual(readStructured({ ...event, data_base64: 'AQID' }, outer)?.data, { bytes: Uint8Array.of(1, 2, 3) })
    assert.equal(readStructured({ ...event, data_base64: '*' }, outer), null)
    assert.equal(readStructured({ ...event, data_base64: 1 }, outer), null)
    assert.equal(readStructured(event, outer)?.data, null)
  })

  test('is refused when it is no object or of another version, and counts bad members', () => {
    for (const value of [null, 1, 'x', [], {}, { ...event, specversion: '2.0' }]) {
      assert.equal(readStructured(value, outer), null)
    }
    assert.equal(readStructured({ ...event, id: 7, time: 'x' }, outer)?.envelope.badHeaders, 2)
  })
})

describe('our own headers', () => {
  test('are cut to 256 bytes at a character', () => {
    const { key, value } = ownHeader('error', 'ä'.repeat(200))
    assert.equal(key, 'ottla-error')
    assert.equal(new TextDecoder('utf-8', { fatal: true }).decode(value as Uint8Array), 'ä'.repeat(128))
    assert.equal(ownHeader('error', `x${'ä'.repeat(200)}`).value?.length, 255)
    assert.equal(ownHeader('error', 'short').value?.length, 5)
  })

  test('are read strictly: words, the last one, at most 16', () => {
    const { values, bad } = readOwnHeaders([
      header('ottla-attempts', '1'),
      header('ottla-attempts', '2'),
      header('ottla-Upper', 'x'),
      header('ottla-', 'x'),
      header('ottla-error', 'good'),
      header('ottla-error', 'x'.repeat(257)),
      { key: 'ottla-edited', value: null },
      header('other', 'x'),
    ])
    assert.deepEqual([...values], [['attempts', '2']])
    assert.equal(bad, 4)
    const many = Array.from({ length: 20 }, (_, i) => header(`ottla-${String.fromCharCode(97 + i)}`, 'x'))
    assert.deepEqual([readOwnHeaders(many).values.size, readOwnHeaders(many).bad], [16, 4])
  })

  test('name the origin of a copy', () => {
    const origin = { topic: 'orders', topicId: 'dGVzdC10b3BpYy1pZC0xMg', partition: 3, position: 42 }
    assert.deepEqual(readOrigin(originText(origin)), origin)
    for (const bad of ['', 'a/b/c/d', 'a/b/1', 'a/b/-1/2', 'a/b/1/9999999999999999', 'a/b/9999999999/1']) {
      assert.equal(readOrigin(bad), null, bad)
    }
  })
})
