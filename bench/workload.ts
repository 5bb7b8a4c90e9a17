/**
 * What is published and consumed: a fixed row of events that parent and children can each make again, and the tally
 * that proves that an arm handled exactly them.
 *
 * A record is about 420 bytes on the wire: a key of 16 bytes, 296 bytes of JSON, two headers (a `traceparent` that
 * differs per record, the content type).
 */
import { crc32 } from 'node:zlib'

export interface OrderEvent {
  readonly orderId: string
  readonly customerId: string
  readonly status: string
  readonly currency: string
  readonly totalCents: number
  readonly placedAt: string
  readonly lines: readonly { readonly sku: string; readonly quantity: number; readonly cents: number }[]
  readonly note: string
}

/** Events repeat after so many. */
export const poolSize = 4096
const valueBytes = 296
export const contentType = 'application/json'
/** Every so manieth record has its value summed; its length and key are looked at in all of them. */
const sampled = 64

function eventAt(index: number): OrderEvent {
  const digits = String(index).padStart(6, '0')
  const event = {
    orderId: `ord-${digits}`,
    customerId: `cust-${String((index * 7919) % 100_000).padStart(5, '0')}`,
    status: 'placed',
    currency: 'EUR',
    totalCents: 10_000 + ((index * 31) % 90_000),
    placedAt: `2026-01-15T10:${String(index % 60).padStart(2, '0')}:00.000Z`,
    lines: [
      { sku: `sku-${digits}`, quantity: 1 + (index % 9), cents: 1000 + (index % 9000) },
      { sku: `sku-${String((index + 17) % poolSize).padStart(6, '0')}`, quantity: 2, cents: 4500 },
    ],
    note: '',
  }
  return { ...event, note: 'n'.repeat(valueBytes - JSON.stringify(event).length) }
}

/** Of record `index`: always the same. */
export interface Workload {
  event(index: number): OrderEvent
  value(index: number): string
  key(index: number): string
  traceparent(index: number): string
}

export function makeWorkload(): Workload {
  const events = Array.from({ length: poolSize }, (_, index) => eventAt(index))
  const values = events.map((event) => JSON.stringify(event))
  const keys = Array.from({ length: poolSize }, (_, index) => `key-${String(index).padStart(12, '0')}`)
  const traces = Array.from({ length: poolSize }, (_, index) => {
    const id = ((index + 1) * 2_654_435_761).toString(16).padStart(16, '0').slice(-16)
    return `00-${id}${id}-${id}-01`
  })
  return {
    event: (index) => events[index % poolSize] as OrderEvent,
    value: (index) => values[index % poolSize] as string,
    key: (index) => keys[index % poolSize] as string,
    traceparent: (index) => traces[index % poolSize] as string,
  }
}

/** The check of line 3: what a compiled schema does with such an event. */
export function isOrder(event: OrderEvent): boolean {
  if (typeof event.orderId !== 'string' || event.orderId.length === 0) return false
  if (typeof event.customerId !== 'string' || typeof event.status !== 'string') return false
  if (typeof event.currency !== 'string' || event.currency.length !== 3) return false
  if (!Number.isInteger(event.totalCents) || event.totalCents < 0) return false
  if (typeof event.placedAt !== 'string' || typeof event.note !== 'string') return false
  if (!Array.isArray(event.lines)) return false
  for (const line of event.lines) {
    if (typeof line.sku !== 'string' || !Number.isInteger(line.quantity) || line.quantity < 1) return false
    if (!Number.isInteger(line.cents)) return false
  }
  return true
}

/** What an arm says that it handled. */
export interface TallySums {
  readonly count: number
  /** Bytes of all values and characters of all keys. */
  readonly lengths: number
  /** `Tally`: of every 64th value, one after another, so that the order counts. `UnorderedTally`: of all, added up. */
  readonly crc: number
  /** Made of the last digits of all keys. */
  readonly keys: number
}

/** Counts records in the order in which they come. */
export class Tally {
  #count = 0
  #lengths = 0
  #crc = 0
  #keys = 0

  get count(): number {
    return this.#count
  }

  take(key: string, value: Uint8Array): void {
    this.#count += 1
    this.#lengths += key.length + value.length
    this.#keys += key.charCodeAt(key.length - 1) * (this.#count % 1000)
    if (this.#count % sampled === 0) this.#crc = crc32(value, this.#crc)
  }

  sums(): TallySums {
    return { count: this.#count, lengths: this.#lengths, crc: this.#crc, keys: this.#keys }
  }
}

/** Counts records whose order is nobody's promise: every value is summed, and places do not matter. */
export class UnorderedTally {
  #count = 0
  #lengths = 0
  #crc = 0
  #keys = 0

  get count(): number {
    return this.#count
  }

  take(key: string, value: Uint8Array): void {
    this.#count += 1
    this.#lengths += key.length + value.length
    this.#keys += Number(key.slice(-4))
    this.#crc = (this.#crc + crc32(value)) >>> 0
  }

  sums(): TallySums {
    return { count: this.#count, lengths: this.#lengths, crc: this.#crc, keys: this.#keys }
  }
}

/** What the first `count` records come to. */
export function expectedSums(count: number, tally: Tally | UnorderedTally): TallySums {
  const workload = makeWorkload()
  const values = Array.from({ length: poolSize }, (_, index) => Buffer.from(workload.value(index)))
  for (let i = 0; i < count; i++) tally.take(workload.key(i), values[i % poolSize] as Buffer)
  return tally.sums()
}

export function sameSums(a: TallySums, b: TallySums): boolean {
  return a.count === b.count && a.lengths === b.lengths && a.crc === b.crc && a.keys === b.keys
}
