/** Record batches judged by Apache Kafka's classes, both ways; made by `tools/protocol/judge-batches.ts`. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { RecordBatchBuilder, readBatches } from '../../src/wire/record-batch.ts'
import { compression } from './codecs.ts'

/** A record as Java told it; bytes are hex. */
interface Told {
  readonly offset: number
  readonly timestampMs: number
  readonly key: string | null
  readonly value: string | null
  readonly sequence: number
  readonly producerId: number
  readonly transactional: boolean
  readonly headers: readonly (readonly [string, string | null])[]
}

interface Case {
  readonly name: string
  readonly hex: string
  readonly records: readonly Told[]
}

const fixture = JSON.parse(readFileSync(new URL('../fixtures/wire/batches.json', import.meta.url), 'utf8')) as {
  readonly ours: readonly Case[]
  readonly java: readonly Case[]
}

const hex = (bytes: Uint8Array | null): string | null => (bytes === null ? null : Buffer.from(bytes).toString('hex'))
const bytes = (text: string | null): Uint8Array | null => (text === null ? null : Buffer.from(text, 'hex'))

function told(batches: Uint8Array): Told[] {
  const records: Told[] = []
  for (const batch of readBatches(batches, { compression })) {
    for (let i = 0; i < batch.count; i++) {
      records.push({
        offset: batch.offset(i),
        timestampMs: batch.timestampMs(i),
        key: hex(batch.key(i)),
        value: hex(batch.value(i)),
        sequence: batch.baseSequence + i,
        producerId: batch.producerId,
        transactional: batch.isTransactional,
        headers: batch.headers(i).map(({ key, value }) => [Buffer.from(key).toString('hex'), hex(value)]),
      })
    }
  }
  return records
}

for (const { name, hex: batch, records } of [...fixture.java, ...fixture.ours]) {
  test(`what Java read out of a batch is what is read here: ${name}`, () => {
    assert.ok(records.length > 0)
    assert.deepEqual(told(Buffer.from(batch, 'hex')), records)
  })
}

test('all batches of Java that are not compressed are built byte for byte', () => {
  const plain = [...fixture.java.filter(({ name }) => name.startsWith('none')), ...fixture.ours.slice(0, 3)]
  assert.equal(plain.length, 6)
  for (const { name, hex: expected, records } of plain) {
    const first = records[0]!
    const builder = new RecordBatchBuilder(0)
    for (const record of records) {
      const headers = record.headers.map(([key, value]) => ({ key: bytes(key)!.toString(), value: bytes(value) }))
      builder.append(bytes(record.key), bytes(record.value), headers, record.timestampMs)
    }
    const built = builder.build({
      producerId: first.producerId,
      producerEpoch: 3,
      baseSequence: first.sequence,
      transactional: first.transactional,
      baseOffset: first.offset,
    })
    assert.equal(hex(built), expected, name)
  }
})
