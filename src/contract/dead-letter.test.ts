import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { malformedHeaders } from '../testing/malformed-headers.ts'
import { isLetterHeader, readDeadLetter } from './dead-letter.ts'
import { header } from './envelope.ts'

const int32 = (value: number) => {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setInt32(0, value)
  return bytes
}
const int64 = (value: bigint) => {
  const bytes = new Uint8Array(8)
  new DataView(bytes.buffer).setBigInt64(0, value)
  return bytes
}

describe('letters of each family', () => {
  test('ours', () => {
    const facts = readDeadLetter([
      header('ottla-origin', 'orders/abc/3/17'),
      header('ottla-attempts', '5'),
      header('ottla-error', 'TypeError'),
      header('ottla-failed-at', '2026-01-02T03:04:05.678Z'),
      header('ottla-redrives', '2'),
      header('__dlq.errors.group', 'inventory'),
      header('__dlq.errors.message', 'no such customer'),
    ])
    assert.deepEqual(facts, {
      family: 'ottla',
      origin: { topic: 'orders', topicId: 'abc', partition: 3, position: 17 },
      group: 'inventory',
      cause: 'TypeError',
      message: 'no such customer',
      attempts: 5,
      failedAtMs: Date.parse('2026-01-02T03:04:05.678Z'),
      redrives: 2,
      bad: 0,
    })
  })

  test("Kafka's share groups", () => {
    const facts = readDeadLetter([
      header('__dlq.errors.topic', 'orders'),
      header('__dlq.errors.partition', '3'),
      header('__dlq.errors.offset', '17'),
      header('__dlq.errors.delivery.count', '4'),
    ])
    assert.equal(facts.family, 'kafka')
    assert.deepEqual(facts.origin, { topic: 'orders', topicId: null, partition: 3, position: 17 })
    assert.equal(facts.attempts, 4)
  })

  test("Spring's, whose numbers are big-endian", () => {
    const facts = readDeadLetter([
      header('kafka_dlt-original-topic', 'orders'),
      { key: 'kafka_dlt-original-partition', value: int32(3) },
      { key: 'kafka_dlt-original-offset', value: int64(17n) },
      { key: 'retry_topic-attempts', value: int32(2) },
      header('kafka_dlt-exception-fqcn', 'org.springframework.kafka.listener.ListenerExecutionFailedException'),
      header('kafka_dlt-exception-cause-fqcn', 'java.lang.IllegalStateException'),
    ])
    assert.equal(facts.family, 'spring')
    assert.deepEqual(facts.origin, { topic: 'orders', topicId: null, partition: 3, position: 17 })
    assert.equal(facts.attempts, 2)
    assert.equal(facts.cause, 'java.lang.IllegalStateException')
  })

  test("Connect's", () => {
    const facts = readDeadLetter([
      header('__connect.errors.topic', 'orders'),
      header('__connect.errors.partition', '3'),
      header('__connect.errors.offset', '17'),
      header('__connect.errors.connector.name', 'sink'),
      header('__connect.errors.exception.class.name', 'org.apache.kafka.connect.errors.DataException'),
    ])
    assert.equal(facts.family, 'connect')
    assert.equal(facts.group, 'sink')
    assert.equal(facts.origin?.position, 17)
  })
})

test('a redrive takes off what a dead letter adds, and nothing of the record itself', () => {
  for (const key of ['ottla-origin', 'ottla-redrives', '__dlq.errors.stack', 'kafka_dlt-original-topic']) {
    assert.equal(isLetterHeader(key), true, key)
  }
  for (const key of ['ce_id', 'ce_source', 'traceparent', 'content-type', 'ottla-edited', 'tenant']) {
    assert.equal(isLetterHeader(key), false, key)
  }
})

test('500 malformed letters are read without an error, and no malformed value is believed', () => {
  const corpus = malformedHeaders()
  assert.equal(corpus.length, 500)
  assert.equal(new Set(corpus.map(({ what }) => what)).size, 500)
  let bad = 0
  for (const { what, headers } of corpus) {
    const facts = readDeadLetter(headers)
    if (facts.bad > 0) bad++
    const { origin, attempts } = facts
    if (origin !== null) {
      assert.match(origin.topic, /^[A-Za-z0-9._-]{1,249}$/, what)
      assert.ok(Number.isSafeInteger(origin.position) && origin.position >= 0, what)
      assert.ok(Number.isSafeInteger(origin.partition) && origin.partition >= 0, what)
    }
    assert.ok(attempts === null || Number.isSafeInteger(attempts), what)
    assert.ok(facts.redrives >= 0 && Number.isSafeInteger(facts.redrives), what)
  }
  assert.ok(bad >= 250, `only ${bad} of the corpus were noticed`)
})
