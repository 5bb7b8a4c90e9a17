/**
 * Produce requests, written by hand: the one message a producer sends all the time, and the one whose largest part should
 * not be copied. Answers the frame in pieces that follow one another; batches of some size are pieces of their own, views
 * of what was handed in. `produce-request.test.ts` holds it equal to the encoder that the table makes, version by version.
 *
 * Every version of the table is written: up to 8 with lengths of fixed size, from 9 on compact and with tags, from 13 on
 * with ids in the place of topics' names.
 */
import { GatheredRequest, type RequestPrefix } from './gathered-request.ts'
import type { BuiltParts } from './record-batch.ts'
import { uuidBytes } from './uuid.ts'
import { unsignedVarintSize } from './writer.ts'

/** What is sent: the batches by topic. */
export interface ProduceTopic {
  readonly name: string
  /** Needed from version 13 on. */
  readonly id: string
  readonly partitions: readonly { readonly index: number; readonly batch: BuiltParts }[]
}

const produceKey = 0
const acksOfAll = -1
/** Records of fewer bytes are copied behind the header: a second piece costs more. */
const copiedBytes = 4 * 1024
const firstFlexible = 9
const firstWithIds = 13

/** A request with acks of all in-sync replicas and no transaction. */
export function produceRequest(timeoutMs: number, topics: readonly ProduceTopic[]): GatheredRequest {
  return new GatheredRequest((prefix) => encode(prefix, timeoutMs, topics))
}

function encode(prefix: RequestPrefix, timeoutMs: number, topics: readonly ProduceTopic[]): Uint8Array[] {
  const { version, correlationId, clientId } = prefix
  const isFlexible = version >= firstFlexible
  const hasIds = version >= firstWithIds

  // At most so much stands around the records.
  let room = 64 + 3 * clientId.length
  let viewedBytes = 0
  for (const { name, partitions } of topics) {
    room += 32 + 3 * name.length
    for (const { batch } of partitions) {
      room += 16 + batch.head.length
      if (batch.records.length < copiedBytes) room += batch.records.length
      else viewedBytes += batch.records.length
    }
  }

  const own = Buffer.allocUnsafe(room)
  const pieces: Uint8Array[] = []
  let pieceStart = 0
  let at = 4
  at = own.writeInt16BE(produceKey, at)
  at = own.writeInt16BE(version, at)
  at = own.writeInt32BE(correlationId, at)
  at = putString(own, at, clientId, false)
  if (isFlexible) own[at++] = 0
  // No transaction.
  if (isFlexible) own[at++] = 0
  else at = own.writeInt16BE(-1, at)
  at = own.writeInt16BE(acksOfAll, at)
  at = own.writeInt32BE(timeoutMs, at)
  at = putLength(own, at, topics.length, isFlexible)
  for (const { name, id, partitions } of topics) {
    if (hasIds) {
      uuidBytes(id, own, at)
      at += 16
    } else {
      at = putString(own, at, name, isFlexible)
    }
    at = putLength(own, at, partitions.length, isFlexible)
    for (const { index, batch } of partitions) {
      const { head, records } = batch
      at = own.writeInt32BE(index, at)
      at = putLength(own, at, head.length + records.length, isFlexible)
      own.set(head, at)
      at += head.length
      if (records.length < copiedBytes) {
        own.set(records, at)
        at += records.length
      } else {
        pieces.push(own.subarray(pieceStart, at), records)
        pieceStart = at
      }
      if (isFlexible) own[at++] = 0
    }
    if (isFlexible) own[at++] = 0
  }
  if (isFlexible) own[at++] = 0
  if (at > pieceStart) pieces.push(own.subarray(pieceStart, at))
  own.writeInt32BE(at + viewedBytes - 4, 0)
  return pieces
}

function putLength(into: Buffer, start: number, length: number, isCompact: boolean): number {
  return isCompact ? putVarint(into, start, length + 1) : into.writeInt32BE(length, start)
}

function putString(into: Buffer, start: number, text: string, isCompact: boolean): number {
  const length = Buffer.byteLength(text)
  const at = isCompact ? putVarint(into, start, length + 1) : into.writeInt16BE(length, start)
  return at + into.write(text, at, 'utf8')
}

function putVarint(into: Buffer, start: number, value: number): number {
  let at = start
  let rest = value
  for (let left = unsignedVarintSize(value); left > 1; left--) {
    into[at++] = (rest & 0x7f) | 0x80
    rest >>>= 7
  }
  into[at++] = rest
  return at
}
