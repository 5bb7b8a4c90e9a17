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
  }

  test('is UUIDv8 over the first 122 bits of SHA-256 of its length-prefixed parts', () => {
    const parts = [emission.sourceId, emission.service, emission.type, '0'].map((text) => {
      const length = Buffer.alloc(4)
      length.writeUInt32BE(Buffer.byteLength(text))
      return Buffer.concat([length, Buffer.from(text)])
    })
    const digest = createHash('sha256').update(Buffer.concat(parts)).digest()
    digest[6] = (digest[6]! & 0x0f) | 0x80
    digest[8] = (digest[8]! & 0x3f) | 0x80
    assert.equal(derivedId(emission).replaceAll('-', ''), digest.subarray(0, 16).toString('hex'))
    assert.match(derivedId(emission), /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  })

  test('never changes: redeliveries of old events must find their ids again', () => {
    assert.equal(derivedId(emission), '21233f84-0aab-8342-84c1-7100afd3160a')
  })

  test('differs in each of its parts, and parts cannot flow into each other', () => {
    const ids = [
      derivedId(emission),
      derivedId({ ...emission, sourceId: 'other' }),
      derivedId({ ...emission, service: 'billing' }),
      derivedId({ ...emission, type: 'stock.StockRejected' }),
      derivedId({ ...emission, n: 1 }),
      derivedId({ sourceId: 'a', service: 'bc', type: 'd', n: 0 }),
      derivedId({ sourceId: 'ab', service: 'c', type: 'd', n: 0 }),
    ]
    assert.equal(new Set(ids).size, ids.length)
  })

  test('holds no time', () => {
    assert.equal(timeOfId(derivedId(emission)), null)
    assert.equal(timeOfId('not an id'), null)
  })
})

test('a record without an envelope is known by where it was stored', () => {
  assert.equal(recordUrn('dGVzdC10b3BpYy1pZC0xMg', 3, 42), 'urn:kafka:dGVzdC10b3BpYy1pZC0xMg:3:42')
})
