import assert from 'node:assert/strict'
import { test } from 'node:test'
import { OttlaError, PermanentError } from '../contract/errors.ts'
import { backoffMs, handlerBackoff } from './backoff.ts'
import { type Classify, classify } from './classify.ts'
import { asProbe, decide, type FailurePolicy } from './outcome.ts'

const policy: FailurePolicy = {
  attemptsMax: 5,
  backoff: handlerBackoff,
  transientForMs: 3_600_000,
  finally: 'deadLetter',
  endless: false,
  delays: 0,
}
const fresh = { counted: 0, transient: 0, transientSinceMs: 0 }
const now = { nowMs: 1_000, random: 0.5 }

test('network errors, lock failures and retriable errors of ours are transient, along the chain of causes', () => {
  for (const code of ['ECONNREFUSED', 'ETIMEDOUT', '40001', '40P01', '55P03', '08006']) {
    assert.equal(classify(Object.assign(new Error('x'), { code })), 'transient', code)
  }
  assert.equal(classify(new Error('wrapped', { cause: Object.assign(new Error('x'), { code: 'EPIPE' }) })), 'transient')
  assert.equal(classify(new OttlaError('OTTLA_KAFKA_CONNECTION', 'away')), 'transient')
  assert.equal(classify(new DOMException('slow', 'TimeoutError')), 'transient')
})

test('permanent, store and unknown failures are told apart', () => {
  assert.equal(classify(new PermanentError('never')), 'permanent')
  assert.equal(classify(new OttlaError('OTTLA_CONTRACT_CODEC', 'no JSON')), 'permanent')
  assert.equal(classify(new OttlaError('OTTLA_STORE_UNAVAILABLE', 'away')), 'store')
  assert.equal(classify(new OttlaError('OTTLA_RUNTIME_DEADLINE', 'slow')), 'unknown')
  for (const error of [new Error('x'), 'a string', null, undefined, { code: '23505' }]) {
    assert.equal(classify(error), 'unknown')
  }
})

test('a chain of causes that bites its tail ends', () => {
  const error = new Error('a')
  error.cause = error
  assert.equal(classify(error), 'unknown')
})

test('an unknown failure is retried four times with full jitter, then given up', () => {
  const waits = [0, 1, 2, 3].map((counted) => decide(new Error('x'), { ...fresh, counted }, policy, now))
  assert.deepEqual(
    waits.map((outcome) => (outcome.kind === 'retry' ? outcome.atMs - 1_000 : outcome.kind)),
    [125, 500, 2_000, 8_000],
  )
  const last = decide(new Error('x'), { ...fresh, counted: 4 }, policy, now)
  assert.equal(last.kind === 'deadLetter' && last.cause, 'attemptsExhausted')
})

test('an answer of classify that is none of its words is no opinion', () => {
  const broken = { ...policy, classify: (async () => 'permanent') as unknown as Classify }
  assert.equal(decide(new Error('x'), fresh, broken, now).kind, 'retry')
})

test('a permanent failure is given up at once', () => {
  const outcome = decide(new PermanentError('never'), fresh, policy, now)
  assert.equal(outcome.kind === 'deadLetter' && outcome.cause, 'permanent')
})

test('a transient failure parks the key without counting, until it has lasted too long', () => {
  const error = Object.assign(new Error('x'), { code: 'ECONNRESET' })
  const tries = { counted: 0, transient: 40, transientSinceMs: 1 }
  const parked = decide(error, tries, policy, { nowMs: 3_600_000, random: 0.999 })
  assert.equal(parked.kind === 'park' && parked.scope, 'key')
  assert.equal(decide(error, tries, policy, { nowMs: 3_600_002, random: 0 }).kind, 'retry')
})

test('a store that is away stops the partition and blames no record', () => {
  const outcome = decide(new OttlaError('OTTLA_STORE_UNAVAILABLE', 'away'), { ...fresh, counted: 4 }, policy, now)
  assert.equal(outcome.kind === 'park' && outcome.scope, 'partition')
})

test("the service's own rule is asked first, and dropping needs its name", () => {
  const mine = { ...policy, classify: () => 'permanent' as const }
  assert.equal(decide(Object.assign(new Error(), { code: 'EPIPE' }), fresh, mine, now).kind, 'deadLetter')
  const dropping = decide(new Error(), { ...fresh, counted: 4 }, { ...policy, finally: 'drop' }, now)
  assert.deepEqual(dropping, { kind: 'drop', reason: 'attemptsExhausted' })
})

test('no wait exceeds the cap', () => {
  for (let failures = 1; failures < 2_000; failures *= 3) {
    assert.ok(backoffMs(handlerBackoff, failures, 0.999999) <= handlerBackoff.capMs)
  }
})

test('endless retry repeats beyond the attempts and says so', () => {
  const outcomes = [3, 4, 400].map((counted) =>
    decide(new Error('x'), { ...fresh, counted }, { ...policy, endless: true }, now),
  )
  assert.deepEqual(
    outcomes.map((outcome) => outcome.kind === 'retry' && outcome.endless),
    [false, true, true],
  )
  const last = outcomes.at(-1)!
  assert.ok(last.kind === 'retry' && last.atMs <= now.nowMs + 30_000)
  const permanent = decide(new PermanentError('never'), fresh, { ...policy, endless: true }, now)
  assert.equal(permanent.kind, 'deadLetter')
})

test('with retry topics a failure moves to the next delay, a passing one without being counted', () => {
  const moving = { ...policy, delays: 3 }
  const moves = [0, 1, 2, 3].map((counted) => decide(new Error('x'), { ...fresh, counted }, moving, now))
  assert.deepEqual(
    moves.map((outcome) => outcome.kind === 'move' && [outcome.delay, outcome.counted]),
    [
      [0, true],
      [1, true],
      [2, true],
      [2, true],
    ],
  )
  assert.equal(decide(new Error('x'), { ...fresh, counted: 4 }, moving, now).kind, 'deadLetter')
  const passing = decide(Object.assign(new Error(), { code: 'EPIPE' }), { ...fresh, counted: 2 }, moving, now)
  assert.deepEqual(passing, { kind: 'move', delay: 0, counted: false, endless: false })
  assert.equal(decide(new OttlaError('OTTLA_STORE_UNAVAILABLE', 'away'), fresh, moving, now).kind, 'park')
})

test('the failure of a probe is not counted unless the record itself is to blame', () => {
  const given = { kind: 'deadLetter', cause: 'attemptsExhausted', error: new Error() } as const
  for (const outcome of [decide(new Error(), fresh, policy, now), given]) {
    assert.equal(asProbe(outcome, policy, now).kind, 'park')
  }
  const permanent = decide(new PermanentError('never'), fresh, policy, now)
  assert.equal(asProbe(permanent, policy, now), permanent)
  const store = decide(new OttlaError('OTTLA_STORE_UNAVAILABLE', 'away'), fresh, policy, now)
  assert.equal(asProbe(store, policy, now), store)
})

test('a passing failure that has lasted too long stays one of an unknown kind', () => {
  const tries = { counted: 1, transient: 40, transientSinceMs: 1 }
  const outcome = decide(Object.assign(new Error(), { code: 'EPIPE' }), tries, policy, { nowMs: 3_600_002, random: 0 })
  assert.ok(outcome.kind === 'retry' && outcome.aged)
})
