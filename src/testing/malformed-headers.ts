/**
 * Headers as nobody should write them: 500 cases, the same on every run. Each known header of each family of dead
 * letters, and of the envelope, with each kind of damage.
 */
import type { Header } from '../contract/envelope.ts'

export interface MalformedCase {
  readonly what: string
  readonly headers: readonly Header[]
}

const names = [
  'ottla-origin',
  'ottla-attempts',
  'ottla-failed-at',
  'ottla-redrives',
  'ottla-error',
  '__dlq.errors.topic',
  '__dlq.errors.partition',
  '__dlq.errors.offset',
  '__dlq.errors.delivery.count',
  'kafka_dlt-original-topic',
  'kafka_dlt-original-partition',
  'kafka_dlt-original-offset',
  'retry_topic-attempts',
  '__connect.errors.topic',
  '__connect.errors.partition',
  '__connect.errors.offset',
  '__connect.errors.exception.class.name',
  'ce_id',
  'ce_time',
  'ce_source',
  'traceparent',
  'tracestate',
  'content-type',
  'ce_specversion',
  'ce_type',
] as const

const text = (value: string): Uint8Array => new TextEncoder().encode(value)

/** Damages, each named: the value that stands where something sane should. */
const damages: readonly (readonly [string, Uint8Array | null])[] = [
  ['no value', null],
  ['empty', new Uint8Array()],
  ['one zero byte', Uint8Array.of(0)],
  ['no UTF-8', Uint8Array.of(0xff, 0xfe, 0xfd)],
  ['a cut character', Uint8Array.of(0xe2, 0x82)],
  ['an overlong form', Uint8Array.of(0xc0, 0xaf)],
  ['a lone surrogate', Uint8Array.of(0xed, 0xa0, 0x80)],
  ['control characters', text('a\u0000b\r\nc')],
  ['very long', text('9'.repeat(100_000))],
  ['a negative number', text('-1')],
  ['beyond safe integers', text('99999999999999999999')],
  ['an exponent', text('1e309')],
  ['blanks', text('   ')],
  ['slashes only', text('////')],
  ['a path upwards', text('../../etc/passwd/0/0')],
  ['three bytes of an integer', Uint8Array.of(0, 0, 1)],
  ['a negative integer', Uint8Array.of(0xff, 0xff, 0xff, 0xff)],
  ['a negative long', Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)],
  ['markup', text('<script>alert(1)</script>')],
  ['a prototype', text('__proto__')],
]

/** The corpus: every name with every damage, beside a neighbour that is sane. */
export function malformedHeaders(): readonly MalformedCase[] {
  return names.flatMap((name, at) =>
    damages.map(([damage, value], index): MalformedCase => {
      const broken: Header = { key: name, value }
      const neighbour: Header = { key: names[(at + index) % names.length]!, value: text('7') }
      // Every third one is repeated: the last of repeated headers counts.
      const headers = index % 3 === 0 ? [{ key: name, value: text('1') }, neighbour, broken] : [broken, neighbour]
      return { what: `${name}: ${damage}`, headers: name === neighbour.key ? [neighbour, broken] : headers }
    }),
  )
}
