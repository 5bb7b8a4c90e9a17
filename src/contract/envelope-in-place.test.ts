import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type Header, type HeaderVisitor, type RecordView, readHeaders } from './envelope.ts'

const names = [
  'ce_specversion',
  'ce_id',
  'ce_source',
  'ce_type',
  'ce_time',
  'ce_subject',
  'content-type',
  'traceparent',
  'tracestate',
  'x',
]
const trace = '4bf92f3577b34da6a3ce929d0e0e4736'
const texts = [
  '1.0',
  'an-id',
  'shop',
  'orders.Placed',
  '2026-01-02T03:04:05.678Z',
  '2026-02-30T03:04:05.678Z',
  '2026-01-02T03:04:05+01:00',
  'application/json',
  'application/cloudevents+json; charset=utf-8',
  `00-${trace}-00f067aa0ba902b7-01`,
  `00-${trace}-0000000000000000-01`,
  `00-${'0'.repeat(32)}-00f067aa0ba902b7-01`,
  `00-${trace.toUpperCase()}-00f067aa0ba902b7-01`,
  `ff-${trace}-00f067aa0ba902b7-01`,
  `01-${trace}-00f067aa0ba902b7-01-more`,
  `00-${trace}-00f067aa0ba902b7-01-more`,
  'grüße',
  'a\nb',
  '',
]
const value = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(...texts).map((text) => new TextEncoder().encode(text)) },
  { weight: 2, arbitrary: fc.uint8Array({ maxLength: 300 }) },
  { weight: 1, arbitrary: fc.constant(null) },
)
const headers = fc.array(fc.record({ key: fc.constantFrom(...names), value }), { maxLength: 12 })

function viewOf(list: readonly Header[]): RecordView {
  return { topicId: 't', partition: 3, position: 7, timestampMs: 42, key: null, value: null, headers: list }
}

/** The same record in one piece of memory, with something before, between and behind. */
function inPlace(list: readonly Header[]): RecordView {
  const parts = list.flatMap(({ key, value: bytes }) => [new TextEncoder().encode(key), bytes ?? new Uint8Array()])
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length + 1, 1)).fill(0x7a)
  const starts: number[] = []
  let at = 1
  for (const part of parts) {
    all.set(part, at)
    starts.push(at)
    at += part.length + 1
  }
  const eachHeader = (visit: HeaderVisitor): boolean => {
    list.forEach(({ value: bytes }, i) => {
      const [name, from] = [starts[2 * i]!, starts[2 * i + 1]!]
      visit(all, name, name + parts[2 * i]!.length, bytes === null ? -1 : from, from + (bytes?.length ?? 0))
    })
    return true
  }
  return { ...viewOf(list), eachHeader }
}

test('an envelope read in place is the one read from a list of headers', () => {
  fc.assert(
    fc.property(headers, (list) => {
      const told = [viewOf(list), inPlace(list)].map((view) => {
        const { envelope, contentType, structured } = readHeaders(view, () => null)
        const { id, source, type, timeMs, traceparent, tracestate, badHeaders, identified } = envelope
        return { id, source, type, timeMs, traceparent, tracestate, badHeaders, identified, contentType, structured }
      })
      assert.deepEqual(told[1], told[0])
    }),
    { numRuns: 2_000 },
  )
})

test('a good traceparent counts and a bad one is counted as bad', () => {
  for (const [text, good] of [
    [`00-${trace}-00f067aa0ba902b7-01`, true],
    [`01-${trace}-00f067aa0ba902b7-01-more`, true],
    [`00-${trace}-0000000000000000-01`, false],
    [`00-${'0'.repeat(32)}-00f067aa0ba902b7-01`, false],
    [`00-${trace.toUpperCase()}-00f067aa0ba902b7-01`, false],
    [`00-${trace}-00f067aa0ba902b7-0g`, false],
  ] as const) {
    const list = [{ key: 'traceparent', value: new TextEncoder().encode(text) }]
    const { envelope } = readHeaders(inPlace(list), () => null)
    assert.equal(envelope.traceparent, good ? text : null, text)
    assert.equal(envelope.badHeaders, good ? 0 : 1, text)
  }
})
