import assert from 'node:assert/strict'
import { test } from 'node:test'
import { OttlaError } from '../../contract/errors.ts'
import { classify } from '../../core/classify.ts'
import { isConnectionFailure, ourFailure, sqlState } from './failure.ts'
import { roundTrip } from './round-trip.ts'
import type { ClientShape, PoolShape } from './shape.ts'
import { postgres } from './store.ts'

const pool = (max?: number): PoolShape => ({
  connect: async () => assert.fail('not asked here'),
  ...(max === undefined ? {} : { options: { max } }),
})
const databaseError = (code: string) => Object.assign(new Error('said the server'), { code, severity: 'ERROR' })

test('postgres is a kind and makes stores of that kind', () => {
  assert.equal(postgres.kind, 'postgres')
  assert.equal(postgres(pool()).kind, 'postgres')
  assert.equal(postgres(pool(20)).concurrencyMax, 18)
  assert.equal(postgres(pool()).concurrencyMax, 8)
})

test('a pool that is too small, or options that make no sense, are refused with all reasons', () => {
  assert.throws(() => postgres(pool(2), { inboxRetentionDays: 0, relayLeaseMs: 1 }), {
    code: 'OTTLA_CONFIG_INVALID',
    message: /max is 2.*inboxRetentionDays.*relayLeaseMs/,
  })
})

test('errors with an SQLSTATE pass untouched, so that they can be classified', () => {
  for (const code of ['40001', '40P01', '55P03', '23505']) {
    const error = databaseError(code)
    assert.equal(ourFailure('a test ran', error), error)
    assert.equal(classify(error), code === '23505' ? 'unknown' : 'transient')
  }
})

test('a lost connection is the store being unavailable', () => {
  const errors = [
    Object.assign(new Error('connect ECONNREFUSED 127.0.0.1:1'), { code: 'ECONNREFUSED' }),
    new Error('Connection terminated unexpectedly'),
    new Error('timeout exceeded when trying to connect'),
    new Error('Client has encountered a connection error and is not queryable'),
    databaseError('57P01'),
    databaseError('08006'),
    databaseError('25006'),
  ]
  for (const error of errors) {
    assert.equal(isConnectionFailure(error), true, error.message)
    const failure = ourFailure('a test ran', error) as OttlaError
    assert.deepEqual([failure.code, failure.retriable, failure.cause], ['OTTLA_STORE_UNAVAILABLE', true, error])
    assert.equal(classify(failure), 'store')
  }
  for (const error of [new TypeError('x is not a function'), new OttlaError('OTTLA_STORE_TX', 'x'), 'text', null]) {
    assert.equal(isConnectionFailure(error), false)
    assert.equal(sqlState(error), undefined)
  }
})

test('missing tables of ours are a matter of the schema', () => {
  assert.equal((ourFailure('a test ran', databaseError('42P01')) as OttlaError).code, 'OTTLA_STORE_SCHEMA')
})

test('a client without a connection to write to gets one statement after the other', async () => {
  const asked: unknown[] = []
  const client: ClientShape = {
    query: async (text, values) => {
      asked.push([text, values])
      if (text === 'bad') throw new Error('no')
      return { rows: [{ a: 1, b: null }], rowCount: 1, command: 'SELECT' }
    },
    release: () => undefined,
    on: () => undefined,
    removeListener: () => undefined,
  }
  const answers = await roundTrip(client, [
    { text: 'begin', values: [] },
    { text: 'select', values: ['x', null] },
  ])
  assert.deepEqual(answers[1], { command: 'SELECT', rows: [['1', null]] })
  assert.deepEqual(asked, [
    ['begin', []],
    ['select', ['x', null]],
  ])
  await assert.rejects(
    roundTrip(client, [
      { text: 'bad', values: [] },
      { text: 'never', values: [] },
    ]),
    /no/,
  )
  assert.equal(asked.length, 3)
})
