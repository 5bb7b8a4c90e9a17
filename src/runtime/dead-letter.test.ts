import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readHeaders, readOrigin } from '../contract/envelope.ts'
import { OttlaError } from '../contract/errors.ts'
import { deadLetter } from './dead-letter.ts'
import type { Header } from './ports.ts'

const bytes = (text: string) => Buffer.from(text)
const text = (value: Uint8Array | null | undefined) => (value ? Buffer.from(value).toString() : undefined)

function letterOf(more: {
  readonly headers?: readonly Header[]
  readonly value?: Uint8Array | null
  readonly error?: unknown
  readonly maxRecordBytes?: number
}) {
  const record = {
    topicId: 'AAAAAAAAAAAAAAAAAAAAAQ',
    partition: 3,
    position: 17,
    timestampMs: 1_000,
    key: bytes('k'),
    value: more.value === undefined ? bytes('v') : more.value,
    headers: more.headers ?? [],
  }
  const letter = deadLetter({
    topic: 'dlq.worker',
    service: 'worker',
    held: { topic: 'orders', topicId: record.topicId, partition: 3, ownership: 1 },
    envelope: readHeaders(record, () => null).envelope,
    cause: 'attemptsExhausted',
    error: more.error ?? new TypeError('x is undefined'),
    attempts: 5,
    failedAtMs: 5_000,
    maxRecordBytes: more.maxRecordBytes ?? 1_000_000,
  })
  return { letter, headers: new Map(letter.headers.map(({ key, value }) => [key, text(value)])) }
}

test("a dead letter carries Kafka's names and ours, and an origin that can be read back", () => {
  const { letter, headers } = letterOf({})
  assert.equal(letter.partition, null)
  assert.deepEqual(readOrigin(headers.get('ottla-origin')!), {
    topic: 'orders',
    topicId: 'AAAAAAAAAAAAAAAAAAAAAQ',
    partition: 3,
    position: 17,
  })
  assert.equal(headers.get('ottla-error'), 'TypeError')
  assert.equal(headers.get('ottla-failed-at'), '1970-01-01T00:00:05.000Z')
  assert.equal(headers.get('__dlq.errors.delivery.count'), '5')
  assert.match(headers.get('__dlq.errors.stack')!, /dead-letter\.test/)
})

test('a record without an envelope gets its identity written down', () => {
  assert.equal(letterOf({}).headers.get('ce_id'), 'urn:kafka:AAAAAAAAAAAAAAAAAAAAAQ:3:17')
})

test('what an earlier dead letter of the same record said is replaced, foreign headers stay', () => {
  const { letter, headers } = letterOf({
    headers: [
      { key: 'ottla-error', value: bytes('Old') },
      { key: '__dlq.errors.message', value: bytes('old') },
      { key: 'x-tenant', value: bytes('7') },
      { key: 'x-empty', value: null },
    ],
  })
  assert.equal(letter.headers.filter(({ key }) => key === 'ottla-error').length, 1)
  assert.equal(headers.get('__dlq.errors.message'), 'x is undefined')
  assert.equal(headers.get('x-tenant'), '7')
  assert.equal(letter.headers.find(({ key }) => key === 'x-empty')?.value, null)
})

test('when headers do not fit, the stack goes first, then the message, then the other extras; bytes and origin stay', () => {
  const value = Buffer.alloc(10_000)
  const sizes = [200_000, 10_900, 10_700, 10_300].map((maxRecordBytes) => {
    const { letter, headers } = letterOf({ value, maxRecordBytes })
    assert.equal(letter.value, value)
    assert.ok(headers.has('ottla-origin') && headers.has('ottla-error'))
    return [...headers.keys()].filter((key) => key.startsWith('__dlq.')).map((key) => key.slice('__dlq.errors.'.length))
  })
  assert.ok(sizes[0]!.includes('stack'))
  for (let step = 1; step < sizes.length; step++) {
    assert.ok(!sizes[step]!.includes('stack'))
    assert.ok(sizes[step]!.length <= sizes[step - 1]!.length)
    assert.deepEqual(sizes[step], sizes[0]!.slice(0, sizes[step]!.length))
  }
  assert.deepEqual(sizes[3], [])
})

test('long messages and thrown things that are no errors are taken as they come', () => {
  const long = letterOf({ error: new OttlaError('OTTLA_CONTRACT_CODEC', 'ä'.repeat(10_000)) }).headers
  assert.equal(long.get('ottla-error'), 'OTTLA_CONTRACT_CODEC')
  assert.ok(Buffer.byteLength(long.get('__dlq.errors.message')!) <= 4_096)
  assert.ok(!long.get('__dlq.errors.message')!.includes('�'))
  assert.equal(letterOf({ error: { password: 'secret' } }).headers.get('__dlq.errors.message'), 'not an Error: object')
})
