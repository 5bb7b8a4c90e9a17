import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  Api,
  apiName,
  correlationIdOf,
  decodeMessage,
  decodeRequest,
  decodeRequestHeader,
  decodeResponse,
  encodeMessage,
  encodeRequest,
  encodeResponse,
  isApiKey,
  isFlexible,
  versionRange,
} from './protocol.ts'

const malformed = { code: 'OTTLA_WIRE_MALFORMED' }
const unsupported = { code: 'OTTLA_KAFKA_UNSUPPORTED_VERSION' }

test('a request has its length, header and body', () => {
  const frame = encodeRequest(Api.Heartbeat, 0, 258, 'me', { groupId: 'g', generationId: 1, memberId: 'm' })
  assert.deepEqual([...frame], [0, 0, 0, 22, 0, 12, 0, 0, 0, 0, 1, 2, 0, 2, 109, 101, 0, 1, 103, 0, 0, 0, 1, 0, 1, 109])
  const header = decodeRequestHeader(frame.subarray(4))
  assert.deepEqual(header, { apiKey: 12, apiVersion: 0, correlationId: 258, clientId: 'me', bodyOffset: 12 })
  const body = decodeRequest(frame.subarray(4), header)
  assert.deepEqual(body, { groupId: 'g', generationId: 1, memberId: 'm', groupInstanceId: null })
})

test('a flexible request has tags after a client id that is not compact', () => {
  const frame = encodeRequest(Api.ApiVersions, 3, 1, null, { clientSoftwareName: 'a', clientSoftwareVersion: 'b' })
  assert.deepEqual([...frame], [0, 0, 0, 16, 0, 18, 0, 3, 0, 0, 0, 1, 255, 255, 0, 2, 97, 2, 98, 0])
})

test('a response has its length, header and body; ApiVersions never has header tags', () => {
  const heartbeat = encodeResponse(Api.Heartbeat, 4, 7, { errorCode: 27 })
  assert.deepEqual([...heartbeat], [0, 0, 0, 12, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 27, 0])
  assert.equal(correlationIdOf(heartbeat.subarray(4)), 7)
  assert.deepEqual(decodeResponse(Api.Heartbeat, 4, heartbeat.subarray(4)), { throttleTimeMs: 0, errorCode: 27 })
  const versions = encodeResponse(Api.ApiVersions, 3, 7, { apiKeys: [{ apiKey: 1, minVersion: 2, maxVersion: 3 }] })
  assert.deepEqual([...versions], [0, 0, 0, 19, 0, 0, 0, 7, 0, 0, 2, 0, 1, 0, 2, 0, 3, 0, 0, 0, 0, 0, 0])
})

test('of an unknown API or version the header is read as far as it is sure', () => {
  const frame = Uint8Array.of(0, 18, 0, 99, 0, 0, 0, 5, 1, 2, 3)
  const expected = { apiKey: 18, apiVersion: 99, correlationId: 5, clientId: null, bodyOffset: 11 }
  assert.deepEqual(decodeRequestHeader(frame), expected)
  const strange = Uint8Array.of(3, 231, 0, 0, 0, 0, 0, 5)
  assert.equal(decodeRequestHeader(strange).apiKey, 999)
  assert.throws(() => decodeRequestHeader(Uint8Array.of(0, 18, 0)), malformed)
})

test('bytes too many or too few make a frame malformed', () => {
  const frame = encodeResponse(Api.Heartbeat, 0, 7, {}).subarray(4)
  assert.throws(() => decodeResponse(Api.Heartbeat, 0, frame.subarray(0, 5)), malformed)
  assert.throws(() => decodeResponse(Api.Heartbeat, 0, Uint8Array.of(...frame, 0)), malformed)
})

test('a version or API that the table lacks is refused by name', () => {
  assert.throws(() => encodeRequest(Api.Produce, 2, 1, null, {}), { ...unsupported, message: /ProduceRequest.*2/ })
  assert.throws(() => decodeResponse(Api.Fetch, 99, new Uint8Array(4)), unsupported)
  assert.throws(() => versionRange(4), unsupported)
})

test('names and versions of APIs', () => {
  assert.equal(apiName(Api.Metadata), 'Metadata')
  assert.equal(apiName(4), 'Api(4)')
  assert.ok(isApiKey(3) && !isApiKey(4))
  assert.deepEqual(versionRange(Api.Produce), { min: 3, max: 13 })
  assert.deepEqual(versionRange(Api.InitProducerId), { min: 0, max: 5 }, 'an unstable last version is left out')
  assert.ok(isFlexible(Api.Fetch, 12) && !isFlexible(Api.Fetch, 11))
})

test('a subscription reads as it was written, and what newer members append is left alone', () => {
  const bytes = encodeMessage('ConsumerProtocolSubscription', 1, {
    topics: ['a', 'b'],
    userData: Uint8Array.of(1),
    ownedPartitions: [{ topic: 'a', partitions: [0, 2] }],
  })
  const read = decodeMessage('ConsumerProtocolSubscription', 1, Uint8Array.of(...bytes, 9, 9))
  assert.deepEqual(read.topics, ['a', 'b'])
  assert.deepEqual(read.userData, Uint8Array.of(1))
  assert.deepEqual(read.ownedPartitions, [{ topic: 'a', partitions: [0, 2] }])
  assert.equal(read.rackId, null)
  assert.throws(() => decodeMessage('ConsumerProtocolSubscription', 1, bytes.subarray(0, 9)), malformed)
})
