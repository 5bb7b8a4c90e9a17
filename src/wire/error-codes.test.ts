import assert from 'node:assert/strict'
import { test } from 'node:test'
import { brokerErrorName, brokerErrors, ErrorCode, isRetriable } from './error-codes.ts'

test('codes, names and what may be tried again agree', () => {
  assert.equal(ErrorCode.NOT_COORDINATOR, 16)
  assert.equal(brokerErrorName(16), 'NOT_COORDINATOR')
  assert.equal(brokerErrorName(-1), 'UNKNOWN_SERVER_ERROR')
  assert.deepEqual(brokerErrors[6], { name: 'NOT_LEADER_OR_FOLLOWER', retriable: true })
  assert.ok(isRetriable(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS))
  assert.ok(!isRetriable(ErrorCode.TOPIC_AUTHORIZATION_FAILED))
  assert.ok(!isRetriable(ErrorCode.NONE))
})

test('every code from -1 on has a name and no two share one', () => {
  const codes = Object.values(ErrorCode).sort((a, b) => a - b)
  assert.deepEqual(
    codes,
    codes.map((_, i) => i - 1),
  )
  assert.equal(Object.keys(brokerErrors).length, codes.length)
})

test('a code of a later Kafka has a name that says so and is not tried again', () => {
  assert.equal(brokerErrorName(9999), 'ERROR_9999')
  assert.equal(isRetriable(9999), false)
})
