import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { z } from 'zod'
import { type Codec, json } from './codec.ts'
import { type Header, header, type RecordView } from './envelope.ts'
import { OttlaError } from './errors.ts'
import type { Message } from './event.ts'
import { decodeRecord, type EncodedMessage, encodeMessage } from './message.ts'
import { tombstone } from './schema.ts'
import { encodeUtf8 } from './text.ts'
import { topic } from './topic.ts'

const Orders = topic('orders', {
  key: 'orderId',
  partitions: 12,
  types: { OrderRenamed: 'com.acme.renamed' },
  events: {
    OrderPlaced: z.object({
      orderId: z.string(),
      quantity: z.int().default(1),
      at: z.iso
        .datetime()
        .transform((text) => new Date(text))
        .optional(),
    }),
    OrderRenamed: z.object({ orderId: z.string() }),
    OrderErased: tombstone,
  },
})
const Foreign = topic('foreign', {
  key: null,
  records: { bare: 'Line' },
  events: { Line: z.object({ text: z.string() }), Other: z.object({}) },
})
const all = { has: () => true }
const options = { id: 'id-1', source: 'shop', timeMs: Date.UTC(2026, 0, 1) }
const asRecord = (encoded: Pick<EncodedMessage, 'key' | 'value' | 'headers'>): RecordView => ({
  topicId: 'dGVzdC10b3BpYy1pZC0xMg',
  partition: 0,
  position: 5,
  timestampMs: 1000,
  ...encoded,
})
const text = (bytes: Uint8Array | null) => (bytes === null ? null : new TextDecoder().decode(bytes))
const pairs = (headers: readonly Header[]) => headers.map(({ key, value }) => [key, text(value)])
const binary = (type: string, value: string | null, ...more: Header[]): RecordView =>
  asRecord({
    key: encodeUtf8('1'),
    value: value === null ? null : encodeUtf8(value),
    headers: [
      header('ce_specversion', '1.0'),
      header('ce_id', 'i'),
      header('ce_source', 's'),
      header('ce_type', type),
      ...more,
    ],
  })

describe('a message on its way out', () => {
  test('becomes CloudEvents in binary mode', () => {
    const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'
    const encoded = encodeMessage(Orders.OrderPlaced({ orderId: 'ä1' }), {
      ...options,
      traceparent,
      tracestate: 'a=1',
      headers: [header('ottla-redrives', '1')],
    })
    assert.deepEqual(pairs(encoded.headers), [
      ['ce_specversion', '1.0'],
      ['ce_id', 'id-1'],
      ['ce_type', 'orders.OrderPlaced'],
      ['ce_source', 'shop'],
      ['ce_time', '2026-01-01T00:00:00.000Z'],
      ['ce_subject', 'ä1'],
      ['content-type', 'application/json'],
      ['traceparent', traceparent],
      ['tracestate', 'a=1'],
      ['ottla-redrives', '1'],
    ])
    assert.equal(text(encoded.value), '{"orderId":"ä1"}')
    assert.equal(text(encoded.key), 'ä1')
    const { topic, partition, partitions, timestampMs, id, type, source } = encoded
    assert.deepEqual(
      { topic, partition, partitions, timestampMs, id, type, source },
      {
        topic: 'orders',
        partition: null,
        partitions: 12,
        timestampMs: options.timeMs,
        id: 'id-1',
        type: 'orders.OrderPlaced',
        source: 'shop',
      },
    )
  })

  test('that is a tombstone has a null value and no content type', () => {
    const encoded = encodeMessage(Orders.OrderErased('7'), options)
    assert.equal(encoded.value, null)
    assert.equal(text(encoded.key), '7')
    assert.ok(!encoded.headers.some(({ key }) => key === 'content-type'))
  })

  test('without a key has no subject', () => {
    const encoded = encodeMessage(Foreign.Line({ text: 'x' }), options)
    assert.equal(encoded.key, null)
    assert.equal(encoded.partitions, null)
    assert.ok(!encoded.headers.some(({ key }) => key === 'ce_subject'))
  })

  test('carries the time of its own publishing', () => {
    const times = [1, 2, 1].map((timeMs) => {
      const { headers } = encodeMessage(Orders.OrderErased('7'), { ...options, timeMs })
      return text(headers.find(({ key }) => key === 'ce_time')?.value ?? null)
    })
    assert.deepEqual(times, ['1970-01-01T00:00:00.001Z', '1970-01-01T00:00:00.002Z', '1970-01-01T00:00:00.001Z'])
  })

  test('written out by hand is found by its topic and checked', () => {
    const topics = new Map([['orders', Orders]])
    const byHand: Message = { topic: 'orders', type: 'OrderPlaced', key: '1', data: { orderId: '1' } }
    assert.equal(encodeMessage(byHand, options, topics).type, 'orders.OrderPlaced')
    const code = (wanted: string) => (error: unknown) => error instanceof OttlaError && error.code === wanted
    assert.throws(() => encodeMessage(byHand, options), code('OTTLA_CONTRACT_DEFINITION'))
    assert.throws(
      () => encodeMessage({ ...byHand, type: 'Nothing' }, options, topics),
      code('OTTLA_CONTRACT_DEFINITION'),
    )
    assert.throws(() => encodeMessage({ ...byHand, data: {} }, options, topics), code('OTTLA_CONTRACT_INVALID'))
    assert.throws(() => encodeMessage({ ...byHand, key: '2' }, options, topics), code('OTTLA_CONTRACT_INVALID'))
    assert.throws(() => encodeMessage(undefined as never, options, topics), code('OTTLA_CONTRACT_DEFINITION'))
  })

  test('is refused with an id or a source outside the grammar', () => {
    for (const bad of ['', 'x'.repeat(257), 'a\nb', '\ud800']) {
      assert.throws(() => encodeMessage(Orders.OrderErased('7'), { ...options, id: bad }), OttlaError)
      assert.throws(() => encodeMessage(Orders.OrderErased('7'), { ...options, source: bad }), OttlaError)
    }
  })
})

describe('a record on its way in', () => {
  test('comes back as the output of its schema', () => {
    const message = Orders.OrderPlaced({ orderId: '1', at: '2026-01-01T00:00:00Z' })
    const decoded = decodeRecord(Orders, asRecord(encodeMessage(message, options)), all)
    assert.equal(decoded.kind, 'event')
    assert.ok(decoded.kind === 'event')
    assert.equal(decoded.event, Orders.OrderPlaced)
    assert.deepEqual(decoded.payload, { orderId: '1', quantity: 1, at: new Date('2026-01-01T00:00:00Z') })
    assert.deepEqual([decoded.envelope.id, decoded.envelope.source], ['id-1', 'shop'])
    assert.equal(decoded.envelope.timeMs, options.timeMs)
  })

  test('is known by the type the contract gives it', () => {
    const encoded = encodeMessage(Orders.OrderRenamed({ orderId: '1' }), options)
    assert.equal(encoded.type, 'com.acme.renamed')
    const decoded = decodeRecord(Orders, asRecord(encoded), all)
    assert.ok(decoded.kind === 'event' && decoded.event === Orders.OrderRenamed)
    assert.equal(decodeRecord(Orders, binary('orders.OrderRenamed', '{}'), all).kind, 'unknownType')
  })

  test('of an unknown type is not looked at', () => {
    const decoded = decodeRecord(Orders, binary('orders.Later', 'not even json'), all)
    assert.ok(decoded.kind === 'unknownType')
    assert.equal(decoded.type, 'orders.Later')
    const bare = decodeRecord(Orders, asRecord({ key: null, value: encodeUtf8('{}'), headers: [] }), all)
    assert.ok(bare.kind === 'unknownType' && bare.type === null)
  })

  test('that nobody handles is not parsed', () => {
    const handled = new Map([['OrderRenamed', 1]])
    const decoded = decodeRecord(Orders, binary('orders.OrderPlaced', 'not even json'), handled)
    assert.ok(decoded.kind === 'noHandler')
    assert.equal(decoded.event, Orders.OrderPlaced)
  })

  test('that will never be its event is invalid, with the reason', () => {
    const cases: [RecordView, string, RegExp][] = [
      [binary('orders.OrderPlaced', '{'), 'OTTLA_CONTRACT_CODEC', /no JSON/],
      [binary('orders.OrderPlaced', '{}'), 'OTTLA_CONTRACT_INVALID', /orderId/],
      [
        binary('orders.OrderPlaced', '{}', header('content-type', 'application/avro')),
        'OTTLA_CONTRACT_CODEC',
        /application\/avro; application\/json is expected/,
      ],
      [binary('orders.OrderErased', '{}'), 'OTTLA_CONTRACT_CODEC', /is a tombstone, but it has a value/],
      [asRecord({ key: null, value: null, headers: [] }), 'OTTLA_CONTRACT_CODEC', /it has no key/],
      [asRecord({ key: Uint8Array.of(0xff), value: null, headers: [] }), 'OTTLA_CONTRACT_CODEC', /no valid UTF-8/],
    ]
    for (const [record, code, reason] of cases) {
      const decoded = decodeRecord(Orders, record, all)
      assert.ok(decoded.kind === 'invalid', String(reason))
      assert.equal(decoded.error.code, code)
      assert.match(decoded.error.message, reason)
    }
  })

  test('with a null value is the tombstone, whatever its headers say', () => {
    for (const record of [
      binary('orders.OrderPlaced', null),
      asRecord({ key: encodeUtf8('1'), value: null, headers: [] }),
    ]) {
      const decoded = decodeRecord(Orders, record, all)
      assert.ok(decoded.kind === 'event' && decoded.event === Orders.OrderErased)
      assert.equal(decoded.payload, '1')
    }
    const none = decodeRecord(Foreign, asRecord({ key: encodeUtf8('1'), value: null, headers: [] }), all)
    assert.ok(none.kind === 'noHandler' && none.event === null)
    assert.equal(decodeRecord(Orders, binary('orders.OrderErased', null), new Map()).kind, 'noHandler')
  })

  test('without an envelope is the bare event of a topic that declares one', () => {
    const decoded = decodeRecord(Foreign, asRecord({ key: null, value: encodeUtf8('{"text":"x"}'), headers: [] }), all)
    assert.ok(decoded.kind === 'event' && decoded.event === Foreign.Line)
    assert.equal(decoded.envelope.id, 'urn:kafka:dGVzdC10b3BpYy1pZC0xMg:0:5')
    assert.equal(decodeRecord(Foreign, binary('foreign.Other', '{}'), all).kind, 'event')
    assert.equal(decodeRecord(Foreign, binary('foreign.Nothing', '{}'), all).kind, 'unknownType')
  })

  test('in structured mode is read too', () => {
    const structured = (event: object | string) =>
      asRecord({
        key: encodeUtf8('1'),
        value: encodeUtf8(typeof event === 'string' ? event : JSON.stringify(event)),
        headers: [header('content-type', 'application/cloudevents+json')],
      })
    const event = { specversion: '1.0', id: 'i', source: 's', type: 'orders.OrderPlaced', data: { orderId: '1' } }
    const decoded = decodeRecord(Orders, structured(event), all)
    assert.ok(decoded.kind === 'event')
    assert.deepEqual(decoded.payload, { orderId: '1', quantity: 1 })
    assert.equal(decoded.envelope.id, 'i')
    const bytes = { ...event, data: undefined, data_base64: btoa('{"orderId":"2"}') }
    const fromBytes = decodeRecord(Orders, structured(bytes), all)
    assert.ok(fromBytes.kind === 'event')
    assert.deepEqual(fromBytes.payload, { orderId: '2', quantity: 1 })
    assert.equal(decodeRecord(Orders, structured({ ...event, type: 'orders.Later' }), all).kind, 'unknownType')
    assert.equal(decodeRecord(Orders, structured(event), new Map()).kind, 'noHandler')
    assert.equal(decodeRecord(Orders, structured({ ...event, data: undefined }), all).kind, 'invalid')
    const erased = decodeRecord(Orders, structured({ ...event, type: 'orders.OrderErased', data: undefined }), all)
    assert.ok(erased.kind === 'event' && erased.payload === '1')
    for (const broken of ['{', '[]', '{}']) assert.equal(decodeRecord(Orders, structured(broken), all).kind, 'invalid')
  })

  test('that needs a schema first says which, and a codec that fails proves the bytes wrong', async () => {
    const known = new Set<string>()
    const codec: Codec = {
      ...json,
      missing: (bytes) => (known.has(String(bytes[0])) ? null : String(bytes[0])),
      prepare: async (ids) => {
        for (const id of ids) known.add(id)
      },
      decode: (bytes) => {
        if (bytes.length === 1) throw new RangeError('too short')
        return json.decode(bytes.subarray(1))
      },
    }
    const Coded = topic('coded', { key: null, codec, events: { E: z.object({}) } })
    const record = (...bytes: number[]) => ({ ...binary('coded.E', ''), value: Uint8Array.from(bytes) })
    const first = decodeRecord(Coded, record(7, 0x7b, 0x7d), all)
    assert.ok(first.kind === 'unprepared')
    assert.equal(first.schemaId, '7')
    await first.codec.prepare([first.schemaId])
    assert.equal(decodeRecord(Coded, record(7, 0x7b, 0x7d), all).kind, 'event')
    const failed = decodeRecord(Coded, record(7), all)
    assert.ok(failed.kind === 'invalid' && failed.error.code === 'OTTLA_CONTRACT_CODEC')
  })
})
