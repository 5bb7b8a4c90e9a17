/**
 * What lines 2 and 5 handle: orders as a service publishes them, enveloped in CloudEvents headers, each one different, and
 * the tally that proves that an arm handled exactly them, each key in its order.
 *
 * A record is about 620 bytes on the wire: a key of 10 bytes, 296 bytes of JSON, eight headers.
 */
import { z } from 'zod'
import type { RecordOf } from './topics.ts'
import { contentType, type TallySums } from './workload.ts'

/** What every arm that checks payloads checks them with. */
export const Order = z.object({
  orderId: z.string().min(1),
  customerId: z.string().min(1),
  status: z.enum(['placed', 'paid', 'shipped']),
  currency: z.string().length(3),
  totalCents: z.int().nonnegative(),
  placedAt: z.string(),
  lines: z.array(z.object({ sku: z.string().min(1), quantity: z.int().positive(), cents: z.int() })).min(1),
  note: z.string(),
})

export type Order = z.infer<typeof Order>

/** Which customer an order is of: `uniform` over 5,000, or Zipf with exponent 1 over 1,000. */
export type Spreading = 'uniform' | 'zipf'

export const uniformKeys = 5_000
export const zipfKeys = 1_000
const valueBytes = 296
const digits = 9

/** Number of the customer of order `index`: always the same. */
function customerOf(index: number, spreading: Spreading): number {
  const random = hash(index) / 2 ** 32
  switch (spreading) {
    case 'uniform':
      return Math.floor(random * uniformKeys)
    case 'zipf':
      return rankAt(random)
    default:
      return spreading satisfies never
  }
}

/** Value of order `index` as JSON of 296 bytes. */
function orderText(index: number, spreading: Spreading): string {
  const order = {
    orderId: orderId(index),
    customerId: customerId(customerOf(index, spreading)),
    status: 'placed',
    currency: 'EUR',
    totalCents: totalCentsOf(index),
    placedAt: `2026-01-15T10:${String(index % 60).padStart(2, '0')}:00.000Z`,
    lines: [
      { sku: `sku-${String(index % 4096).padStart(6, '0')}`, quantity: 1 + (index % 9), cents: 1000 + (index % 9000) },
      { sku: `sku-${String((index + 17) % 4096).padStart(6, '0')}`, quantity: 2, cents: 4500 },
    ],
    note: '',
  } satisfies Order
  return JSON.stringify({ ...order, note: 'n'.repeat(valueBytes - JSON.stringify(order).length) })
}

function customerId(customer: number): string {
  return `cust-${String(customer).padStart(5, '0')}`
}

/** What of an order stands at the same place in all of them, without parsing the rest. */
export function namesIn(value: Uint8Array): Pick<Order, 'orderId' | 'customerId'> {
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.length)
  const id = '{"orderId":"'.length
  const customer = id + orderId(0).length + '","customerId":"'.length
  return {
    orderId: bytes.toString('latin1', id, id + orderId(0).length),
    customerId: bytes.toString('latin1', customer, customer + customerId(0).length),
  }
}

/** The records of a topic of orders. */
export function orders(topic: string, spreading: Spreading): RecordOf {
  return (index) => {
    const customer = customerOf(index, spreading)
    return {
      key: customerId(customer),
      value: orderText(index, spreading),
      headers: envelopeHeaders(topic, index, customer),
    }
  }
}

/** The headers that a record of this topic has when ottla publishes it; written out so that no arm is needed to make them. */
function envelopeHeaders(topic: string, index: number, customer: number): { key: string; value: Buffer }[] {
  const id = hex(index + 1, 16)
  return Object.entries({
    ce_specversion: '1.0',
    ce_id: `0198c0de-${id.slice(0, 4)}-7${id.slice(4, 7)}-8${id.slice(7, 10)}-${hex(index, 12)}`,
    ce_type: `${topic}.OrderPlaced`,
    ce_source: 'shop',
    ce_time: '2026-01-15T10:00:00.000Z',
    ce_subject: customerId(customer),
    'content-type': contentType,
    traceparent: `00-${id}${id}-${id}-01`,
  }).map(([key, value]) => ({ key, value: Buffer.from(value) }))
}

/**
 * Counts handled orders in whatever order they come, and how often an order came that was not the next of its key.
 *
 * `lengths`: all cents and quantities. `crc`: all numbers of orders, modulo 2^32. `keys`: orders out of their key's order,
 * 0 for whoever keeps it.
 */
export class OrderTally {
  count = 0
  #cents = 0
  #numbers = 0
  #disorder = 0
  readonly #last = new Float64Array(uniformKeys).fill(-1)

  take(order: Order): void {
    const index = Number(order.orderId.slice(-digits))
    const customer = Number(order.customerId.slice(-5))
    this.count += 1
    this.#cents += order.totalCents + order.lines[0]!.quantity
    this.#numbers = (this.#numbers + index) >>> 0
    if (this.#last[customer]! >= index) this.#disorder += 1
    this.#last[customer] = index
  }

  sums(): TallySums {
    return { count: this.count, lengths: this.#cents, crc: this.#numbers, keys: this.#disorder }
  }
}

/** What orders 0 to `count` come to. */
export function expectedOrders(count: number): TallySums {
  let cents = 0
  let numbers = 0
  for (let index = 0; index < count; index++) {
    cents += totalCentsOf(index) + 1 + (index % 9)
    numbers = (numbers + index) >>> 0
  }
  return { count, lengths: cents, crc: numbers, keys: 0 }
}

function orderId(index: number): string {
  return `ord-${String(index).padStart(digits, '0')}`
}

function totalCentsOf(index: number): number {
  return 10_000 + ((index * 31) % 90_000)
}

function hex(value: number, length: number): string {
  return value.toString(16).padStart(length, '0').slice(-length)
}

/** A number of 32 bits that looks random. */
function hash(index: number): number {
  let h = Math.imul(index + 1, 0x9e3779b1) >>> 0
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b) >>> 0
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35) >>> 0
  return (h ^ (h >>> 16)) >>> 0
}

/** Shares of the ranks added up. */
const zipfSums = ((): Float64Array => {
  const sums = new Float64Array(zipfKeys)
  let sum = 0
  for (let rank = 0; rank < zipfKeys; rank++) {
    sum += 1 / (rank + 1)
    sums[rank] = sum
  }
  return sums.map((each) => each / sum)
})()

function rankAt(random: number): number {
  let low = 0
  let high = zipfKeys - 1
  while (low < high) {
    const middle = (low + high) >> 1
    if (zipfSums[middle]! > random) high = middle
    else low = middle + 1
  }
  return low
}
