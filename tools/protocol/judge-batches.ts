/**
 * Lets Apache Kafka's classes read batches of ours and make batches for us, for `test/fixtures/wire/batches.json`.
 *
 *   node tools/protocol/judge-batches.ts <directory of Kafka's jars>
 *
 * The file holds what Java read out of our bytes, and the bytes that Java made of records. Tests then need no Java.
 */
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { CompressionName } from '../../src/wire/compression.ts'
import { RecordBatchBuilder, type RecordHeader } from '../../src/wire/record-batch.ts'
import { compression as codecs } from '../../test/wire/codecs.ts'

const target = new URL('../../test/fixtures/wire/batches.json', import.meta.url)
const program = fileURLToPath(new URL('java/Batches.java', import.meta.url))

const text = (value: string): Uint8Array => new TextEncoder().encode(value)
const timestampMs = 1_760_000_000_000

interface Given {
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: readonly RecordHeader[]
  readonly timestampMs: number
}

const plain = (i: number): Given => ({
  key: text(`key-${i}`),
  value: text(`value ${i}`),
  headers: [],
  timestampMs: timestampMs + i,
})
const odd: readonly Given[] = [
  { key: null, value: null, headers: [], timestampMs },
  { key: text(''), value: text(''), headers: [{ key: '', value: null }], timestampMs: timestampMs - 1 },
  {
    key: text('ключ'),
    value: new Uint8Array(3_000).map((_, i) => i),
    headers: [
      { key: 'twice', value: text('1') },
      { key: 'twice', value: text('2') },
      { key: 'имя заголовка', value: text('') },
      { key: 'n'.repeat(200), value: new Uint8Array(70) },
    ],
    timestampMs: timestampMs + 3_000_000_000,
  },
  { key: new Uint8Array(64), value: new Uint8Array(63), headers: [], timestampMs: 0 },
]

const cases: readonly {
  readonly name: string
  readonly records: readonly Given[]
  readonly codec: CompressionName | null
}[] = [
  { name: 'one record', records: [plain(0)], codec: null },
  { name: '130 records', records: Array.from({ length: 130 }, (_, i) => plain(i)), codec: null },
  { name: 'odd records', records: odd, codec: null },
  { name: 'odd records, gzip', records: odd, codec: 'gzip' },
  { name: 'odd records, zstd', records: odd, codec: 'zstd' },
  { name: 'odd records, snappy', records: odd, codec: 'snappy' },
  { name: 'odd records, lz4', records: odd, codec: 'lz4' },
]

const jars = process.argv[2]
if (jars === undefined) {
  process.stderr.write("usage: judge-batches.ts <directory of Kafka's jars>\n")
  process.exit(2)
}
const java = (mode: string, input: string): string[] =>
  execFileSync('java', ['-cp', `${jars}/*`, program, mode], { input, encoding: 'utf8', maxBuffer: 1 << 26 })
    .trim()
    .split('\n')

const hexes = cases.map(({ records, codec }) => {
  const builder = new RecordBatchBuilder()
  for (const record of records) builder.append(record.key, record.value, record.headers, record.timestampMs)
  const compression = codec === null ? null : { name: codec, codec: codecs[codec] }
  const batch = builder.build({
    producerId: 4711,
    producerEpoch: 3,
    baseSequence: 17,
    transactional: true,
    compression,
  })
  return Buffer.from(batch).toString('hex')
})
const readings = java('read', `${hexes.join('\n')}\n`)
const ours = cases.map(({ name }, i) => `{"name":"${name}","hex":"${hexes[i]}","records":${readings[i]}}`)
writeFileSync(target, `{"ours":[\n${ours.join(',\n')}\n],"java":[\n${java('write', '').join(',\n')}\n]}\n`)
