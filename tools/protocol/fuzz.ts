/**
 * Throws damaged and random bytes at every decoder of `wire`.
 *
 *   node tools/protocol/fuzz.ts [inputs, default 100000] [seed, default random]
 *
 * The rules: a decoder answers or throws one of its typed errors, nothing else; it takes less than a second; what it
 * allocates is at most four times the input plus 1 MiB (and what a batch may inflate to), both by what the process uses more and by counting the answer.
 * Damage to a valid frame: bits, bytes, lengths and counts of interesting size, overlong varints, cuts, splices, another
 * version. The same seed gives the same inputs; a failure prints what is needed to see it again.
 */
import { pathToFileURL } from 'node:url'
import { getHeapStatistics } from 'node:v8'
import fc from 'fast-check'
import { OttlaError } from '../../src/contract/errors.ts'
import type { CompressionName } from '../../src/wire/compression.ts'
import { table } from '../../src/wire/messages.gen.ts'
import { codecOf, decodeRequestHeader, schemaOf } from '../../src/wire/protocol.ts'
import { Reader } from '../../src/wire/reader.ts'
import { RecordBatchBuilder, readBatches } from '../../src/wire/record-batch.ts'
import { Writer } from '../../src/wire/writer.ts'
import { arbitraryMessage } from '../../test/wire/arbitrary.ts'
import { compression } from '../../test/wire/codecs.ts'

/** A decoder, and a valid input for it to start from. */
export interface Target {
  readonly name: string
  readonly valid: Uint8Array
  /** Error codes it may throw. */
  readonly codes: readonly string[]
  /** It may use so much more: what batches inflate to, the instance that a compressor makes after a trap. */
  readonly extraBytes?: number
  /** Reads everything there is in the bytes. */
  decode(bytes: Uint8Array): unknown
}

/** A broken rule. */
export interface Failure {
  readonly target: string
  readonly what: string
  readonly input: number
  readonly hex: string
}

/** What a run gave. */
export interface Report {
  readonly seed: number
  readonly inputs: number
  readonly accepted: number
  readonly refused: number
  /** The run stops at the first failure. */
  readonly failure: Failure | null
}

export interface FuzzOptions {
  readonly inputs: number
  readonly seed: number
  readonly targets: readonly Target[]
}

const allowanceBytes = 1024 * 1024
const maxInflatedBytes = 64 * 1024
const compressorBytes = 2 * 1024 * 1024
const maxDurationMs = 1000
const malformed = ['OTTLA_WIRE_MALFORMED']
const batchCodes = [...malformed, 'OTTLA_KAFKA_CORRUPT_BATCH', 'OTTLA_KAFKA_MESSAGE_FORMAT', 'OTTLA_KAFKA_COMPRESSION']

/** Numbers that lengths and counts are set to. */
const interesting = [0, -1, -2, 1, 127, 128, 0x7fff, 100_000, 5_000_000, 50_000_000, 0x7fffffff, -0x80000000]

/** A small generator of 32-bit numbers (mulberry32), so that a seed repeats a run. */
function generator(seed: number): (below: number) => number {
  let state = seed | 0
  return (below) => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}

/** Every version of every message, request headers and record batches. `makeReader` is for planting defects. */
export function wireTargets(
  seed: number,
  makeReader: (bytes: Uint8Array) => Reader = (bytes) => new Reader(bytes),
): readonly Target[] {
  const targets: Target[] = []
  for (const name of Object.keys(table)) {
    const schema = schemaOf(name)
    for (let version = schema.versions.min; version <= schema.versions.max; version++) {
      const codec = codecOf(name, version)
      const [value] = fc.sample(arbitraryMessage(schema, version), { numRuns: 1, seed: seed + version })
      const writer = new Writer()
      codec.write(writer, value ?? {})
      targets.push({
        name: `${name} v${version}`,
        valid: writer.finish(),
        codes: malformed,
        decode: (bytes) => codec.read(makeReader(bytes)),
      })
    }
  }
  targets.push({
    name: 'request header',
    valid: Uint8Array.of(0, 3, 0, 12, 0, 0, 0, 1, 0, 2, 111, 107, 1, 0, 1, 9, 1, 0, 0, 0),
    codes: malformed,
    decode: decodeRequestHeader,
  })
  for (const packed of [null, 'gzip', 'snappy', 'lz4', 'zstd'] as const) {
    const batch = sampleBatch(packed)
    const two = new Uint8Array(batch.length * 2)
    two.set(batch)
    two.set(batch, batch.length)
    const add = (what: string, valid: Uint8Array, checked: boolean): void => {
      const name = `record batch, ${what}${packed === null ? '' : `, ${packed}`}`
      targets.push({
        name,
        valid,
        codes: batchCodes,
        extraBytes: 4 * maxInflatedBytes + compressorBytes,
        decode: (bytes) => readAll(bytes, checked),
      })
    }
    add('checked', two, true)
    // Several times, as batches deserve more inputs than a version of a rare message.
    for (let i = 0; i < 10; i++) add('not checked', i % 2 === 0 ? batch : two, false)
    // Two fields must lie together before a count goes far wrong: the last offset allows it, the count claims it.
    for (const count of interesting) {
      const claiming = Uint8Array.from(batch)
      const view = new DataView(claiming.buffer)
      view.setInt32(23, 0x7ffffffe)
      view.setInt32(57, count)
      add(`claiming ${count} records`, claiming, false)
    }
  }
  return targets
}

function sampleBatch(packed: CompressionName | null): Uint8Array {
  const text = (value: string): Uint8Array => new TextEncoder().encode(value)
  const builder = new RecordBatchBuilder()
  builder.append(text('key'), text('value'), [{ key: 'name', value: text('v') }], 1000)
  builder.append(null, text('x'.repeat(100)), [], 5000)
  builder.append(
    text(''),
    null,
    Array.from({ length: 5 }, () => ({ key: 'é', value: null })),
    10 ** 12,
  )
  return builder.build({ compression: packed === null ? null : { name: packed, codec: compression[packed] } })
}

function readAll(bytes: Uint8Array, checked: boolean): unknown {
  const all: unknown[] = []
  const options = { compression, maxInflatedBytes, ...(checked ? {} : { crc32c: false as const }) }
  for (const batch of readBatches(bytes, options)) {
    for (let i = 0; i < batch.count; i++) {
      all.push([batch.offset(i), batch.timestampMs(i), batch.key(i)?.length, batch.value(i)?.length, batch.size(i)])
      all.push(batch.headers(i))
    }
  }
  return all
}

/** One input: what the target takes, damaged; sometimes what another takes, sometimes noise. */
function makeInput(random: (below: number) => number, target: Target, other: Target): Uint8Array {
  const kind = random(20)
  if (kind === 0) return Uint8Array.from({ length: random(300) }, () => random(256))
  let bytes = Uint8Array.from(kind === 1 ? other.valid : target.valid)
  for (let times = random(4); times >= 0; times--) bytes = damage(random, bytes, other.valid)
  return bytes
}

function damage(
  random: (below: number) => number,
  bytes: Uint8Array<ArrayBuffer>,
  other: Uint8Array,
): Uint8Array<ArrayBuffer> {
  if (bytes.length === 0) return Uint8Array.from({ length: random(20) }, () => random(256))
  const at = random(bytes.length)
  const number = interesting[random(interesting.length)] ?? 0
  switch (random(8)) {
    case 0:
      bytes[at]! ^= 1 << random(8)
      return bytes
    case 1:
      bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random(5)] ?? 0
      return bytes
    case 2:
      if (at + 4 <= bytes.length) new DataView(bytes.buffer).setInt32(at, number)
      return bytes
    case 3:
      if (at + 2 <= bytes.length) new DataView(bytes.buffer).setInt16(at, number)
      return bytes
    case 4: {
      const writer = new Writer()
      writer.raw(bytes.subarray(0, at))
      writer.unsignedVarint(number >>> 0)
      writer.raw(bytes.subarray(at + 1))
      return Uint8Array.from(writer.finish())
    }
    case 5:
      return bytes.slice(0, at)
    case 6:
      return Uint8Array.from([...bytes.subarray(0, at), ...other.subarray(random(other.length + 1))])
    default:
      return Uint8Array.from([
        ...bytes.subarray(0, at),
        ...new Array<number>(random(12)).fill(0xff),
        ...bytes.subarray(at),
      ])
  }
}

/** Bytes an answer stands for: slots, objects, characters. Views cost nothing but themselves. */
function weigh(value: unknown): number {
  if (typeof value === 'string') return value.length
  if (typeof value !== 'object' || value === null) return 0
  if (value instanceof Uint8Array) return 16
  if (Array.isArray(value)) return value.reduce<number>((sum, item) => sum + 8 + weigh(item), 16)
  return Object.values(value).reduce<number>((sum, item) => sum + weigh(item), 16)
}

function usedBytes(): number {
  const { used_heap_size: heap, external_memory: external } = getHeapStatistics()
  return heap + external
}

interface Trial {
  readonly accepted: boolean
  readonly what: string | null
}

function attempt(target: Target, bytes: Uint8Array): Trial {
  const limit = 4 * bytes.length + allowanceBytes + (target.extraBytes ?? 0)
  const before = usedBytes()
  const startedMs = performance.now()
  let accepted = false
  let what: string | null = null
  try {
    const answer = target.decode(bytes)
    accepted = true
    if (weigh(answer) > limit) what = `the answer weighs ${weigh(answer)} bytes`
  } catch (error) {
    const isTyped = error instanceof OttlaError && target.codes.includes(error.code)
    if (!isTyped) what = `threw ${error instanceof Error ? `${error.name}: ${error.message}` : String(error)}`
  }
  const tookMs = performance.now() - startedMs
  const grownBytes = usedBytes() - before
  if (what === null && grownBytes > limit) what = `${grownBytes} bytes more in use after ${bytes.length} bytes of input`
  if (what === null && tookMs > maxDurationMs) what = `took ${tookMs.toFixed(0)} ms`
  return { accepted, what }
}

/** Runs until the inputs are used up or a rule is broken. */
export function fuzz({ inputs, seed, targets }: FuzzOptions): Report {
  const random = generator(seed)
  let accepted = 0
  let refused = 0
  for (let input = 0; input < inputs; input++) {
    const target = targets[random(targets.length)]!
    const bytes = makeInput(random, target, targets[random(targets.length)]!)
    let trial = attempt(target, bytes)
    // Compilers and collectors use memory and time too: what is no defect of the decoder does not come back.
    for (let again = 0; again < 3 && trial.what !== null; again++) trial = attempt(target, bytes)
    if (trial.what !== null) {
      const hex = Buffer.from(bytes).toString('hex')
      return {
        seed,
        inputs: input + 1,
        accepted,
        refused,
        failure: { target: target.name, what: trial.what, input, hex },
      }
    }
    if (trial.accepted) accepted++
    else refused++
  }
  return { seed, inputs, accepted, refused, failure: null }
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const inputs = Number(process.argv[2] ?? 100_000)
  const seed = Number(process.argv[3] ?? Math.floor(Math.random() * 0x7fffffff))
  const report = fuzz({ inputs, seed, targets: wireTargets(seed) })
  process.stdout.write(`${JSON.stringify(report, null, 2)}\n`)
  if (report.failure !== null) process.exitCode = 1
}
