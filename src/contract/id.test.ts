import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, test } from 'node:test'
import { OttlaError } from './errors.ts'
import { derivedId, newId, recordUrn, timeOfId, uuidv7 } from './id.ts'

describe('an id of an event that starts here', () => {
  test('is the UUIDv7 of RFC 9562, appendix A.6', () => {
    const random = Buffer.from('0cc318c4dc0c0c07398f', 'hex')
    assert.equal(uuidv7(0x017f22e279b0, random), '017f22e2-79b0-7cc3-98c4-dc0c0c07398f')
  })

  test('holds its time, and two of one millisecond differ', () => {
    const now = 1_795_000_000_123
    const ids = new Set(Array.from({ length: 2000 }, () => newId(now)))
    assert.equal(ids.size, 2000)
    for (const id of ids) assert.equal(timeOfId(id), now)
  })

  test('is refused for a time that does not fit or too little randomness', () => {
    assert.throws(() => uuidv7(-1, new Uint8Array(10)), OttlaError)
    assert.throws(() => uuidv7(2 ** 48, new Uint8Array(10)), OttlaError)
    assert.throws(() => uuidv7(1.5, new Uint8Array(10)), OttlaError)
    assert.throws(() => uuidv7(1, new Uint8Array(9)), OttlaError)
    assert.equal(timeOfId(uuidv7(2 ** 48 - 1, new Uint8Array(10))), 2 ** 48 - 1)
  })
})

describe('a derived id', () => {
  const emission = {
    sourceId: '017f22e2-79b0-7cc3-98c4-dc0c0c07398f',
    service: 'inventory',
    type: 'stock.StockReserved',
    n: 0,
    timeMs: 0x017f22e279b0,
  }

  test('is UUIDv8: the time, then the first 74 bits of SHA-256 of its length-prefixed parts', () => {
    const parts = [emission.sourceId, emission.service, emission.type, '0'].map((text) => {
      const length = Buffer.alloc(4)
      length.writeUInt32BE(Buffer.byteLength(text))
      return Buffer.concat([length, Buffer.from(text)])
    })
    const digest = createHash('sha256').update(Buffer.concat(parts)).digest()
    const tail = digest.subarray(0, 10)
    tail[0] = (tail[0]! & 0x0f) | 0x80
    tail[2] = (tail[2]! & 0x3f) | 0x80
    assert.equal(derivedId(emission).replaceAll('-', ''), `017f22e279b0${tail.toString('hex')}`)
    assert.match(derivedId(emission), /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  })

  test('never changes: redeliveries of old events must find their ids again', () => {
    assert.equal(derivedId(emission), '017f22e2-79b0-8123-bf84-0aab634204c1')
  })

  test('differs in each of its parts, and parts cannot flow into each other', () => {
    const ids = [
      derivedId(emission),
      derivedId({ ...emission, sourceId: 'other' }),
      derivedId({ ...emission, service: 'billing' }),
      derivedId({ ...emission, type: 'stock.StockRejected' }),
      derivedId({ ...emission, n: 1 }),
      derivedId({ ...emission, sourceId: 'a', service: 'bc', type: 'd' }),
      derivedId({ ...emission, sourceId: 'ab', service: 'c', type: 'd' }),
    ]
    assert.equal(new Set(ids).size, ids.length)
  })

  test('hands the time of its source down, and holds some time even when that one is absurd', () => {
    assert.equal(timeOfId(derivedId(emission)), emission.timeMs)
    assert.equal(timeOfId(derivedId({ ...emission, timeMs: Number.NaN })), 0)
    assert.equal(timeOfId(derivedId({ ...emission, timeMs: -5 })), 0)
    assert.equal(timeOfId(derivedId({ ...emission, timeMs: 2 ** 60 })), 2 ** 48 - 1)
    assert.equal(timeOfId('not an id'), null)
  })
})

test('a record without an envelope is known by where it was stored', () => {
  assert.equal(recordUrn('dGVzdC10b3BpYy1pZC0xMg', 3, 42), 'urn:kafka:dGVzdC10b3BpYy1pZC0xMg:3:42')
})
