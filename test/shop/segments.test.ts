/** One run of the shop as Apache Kafka stored it: what the Java classes read in the bytes, we read too. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { decodeCheckpoint } from '../../src/adapters/kafka/checkpoint.ts'
import { type RecordBatch, readBatches } from '../../src/wire/record-batch.ts'

interface Capture {
  readonly segments: Readonly<Record<string, { readonly java: readonly string[]; readonly bytes: string }>>
}

const file = new URL('../fixtures/shop/segments-4.3.1.json', import.meta.url)
const { segments } = JSON.parse(readFileSync(file, 'utf8')) as Capture
const text = (bytes: Uint8Array | null): string => Buffer.from(bytes ?? []).toString()

/** The batches and records of a segment, in the words of `DumpLogSegments`. */
function* inJavasWords(bytes: Uint8Array, withData: boolean): Generator<string> {
  for (const batch of readBatches(bytes)) {
    yield batchWords(batch)
    for (let index = 0; index < batch.count; index++) yield recordWords(batch, index, withData)
  }
}

function batchWords(batch: RecordBatch): string {
  return [
    `baseOffset: ${batch.baseOffset} lastOffset: ${batch.nextPosition - 1} count: ${batch.count}`,
    `baseSequence: ${batch.baseSequence} producerId: ${batch.producerId} producerEpoch: ${batch.producerEpoch}`,
    `partitionLeaderEpoch: ${batch.leaderEpoch} isTransactional: ${batch.isTransactional} isControl: ${batch.isControl}`,
  ].join(' ')
}

function recordWords(batch: RecordBatch, index: number, withData: boolean): string {
  const key = batch.key(index)
  const value = batch.value(index)
  const words = [
    `offset: ${batch.offset(index)} CreateTime: ${batch.timestampMs(index)}`,
    `keySize: ${key?.byteLength ?? -1} valueSize: ${value?.byteLength ?? -1}`,
    `headerKeys: [${batch
      .headers(index)
      .map((header) => header.key)
      .join(',')}]`,
  ]
  if (withData) words.push(`key: ${text(key)} payload: ${text(value)}`)
  return words.join(' ')
}

/** Java's line without the words that we do not compare. */
function trimmed(line: string, withData: boolean): string {
  if (line.startsWith('baseOffset:')) {
    return line.replace(/ lastSequence: -?\d+/, '').replace(/ deleteHorizonMs: .* isvalid: true$/, '')
  }
  const record = line.replace(/^\| /, '').replace(/ sequence: -?\d+/, '')
  return withData ? record : record.replace(/ key: .*/s, '')
}

for (const [partition, { java, bytes }] of Object.entries(segments)) {
  const withData = !partition.startsWith('__')
  test(`${partition} reads as the Java classes read it`, () => {
    const ours = [...inJavasWords(Buffer.from(bytes, 'base64'), withData)]
    assert.ok(ours.length >= 2)
    assert.deepEqual(
      ours,
      java.map((line) => trimmed(line, withData)),
    )
  })
}

const lines = Object.values(segments).flatMap(({ java }) => java)

test('the capture holds the order, its reservation, and the progress of both services', () => {
  for (const part of ['"sku":"pen"', '"group":"inventory"', '"group":"notification"']) {
    assert.ok(
      lines.some((line) => line.includes(part)),
      part,
    )
  }
  for (const group of ['inventory', 'notification']) {
    assert.ok(
      lines.some((line) => line.includes(`"group":"${group}"`) && line.includes('"offset":1,')),
      `${group} committed behind the one record it handled`,
    )
  }
})

test('checkpoints come back from the offsets topic as they were written', () => {
  const metadata = /"offset":(\d+),"leaderEpoch":(\d+),"metadata":"(o1\.[^"]+)".*"topicId":"([^"]+)"/
  const found = lines.flatMap((line) => [metadata.exec(line)].filter((match) => match !== null))
  assert.ok(found.length > 0)
  for (const [, offset, leaderEpoch, written, topicId] of found) {
    const facts = { offset: Number(offset), leaderEpoch: Number(leaderEpoch), metadata: written!, topicId: topicId! }
    assert.deepEqual(decodeCheckpoint({ ...facts, logEnd: 1 }), { finished: [], strikes: 1, attempts: [] })
  }
})
