import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ErrorCode } from '../../wire/error-codes.ts'
import type { FetchItem } from './fetch-planner.ts'
import { FetchSession, type SessionRequest } from './fetch-session.ts'

const item = (partition: number, position = 0, facts: Partial<FetchItem> & { topicId?: string } = {}): FetchItem => {
  const { topicId = 'id', ...rest } = facts
  const held = { topic: 't', topicId, partition, ownership: 1 }
  return { held, stamp: 1, position, leaderEpoch: 0, lastEpoch: -1, ...rest }
}

const summary = (asked: SessionRequest): string =>
  `${asked.sessionId}/${asked.sessionEpoch} ${asked.items.map((each) => `${each.held.partition}@${each.position}`)}` +
  (asked.forgotten.length === 0 ? '' : ` -${asked.forgotten.map((each) => `${each.topicId}:${each.partition}`)}`)

const good = (sessionId: number, told: number) => ({ errorCode: 0, sessionId, told, strangers: 0 })

/** A session with id 7 that has been told of these partitions. */
function opened(...items: readonly FetchItem[]): FetchSession {
  const session = new FetchSession()
  session.begin(items, true)
  assert.equal(session.answered(good(7, items.length)), 'good')
  return session
}

test('the first request names all and asks for a session, the next ones name what moved', () => {
  const session = new FetchSession()
  assert.equal(summary(session.begin([item(0), item(1), item(2)], true)), '0/0 0@0,1@0,2@0')
  session.answered(good(7, 3))
  assert.equal(summary(session.begin([item(0), item(1, 5), item(2)], true)), '7/1 1@5')
  session.answered(good(7, 1))
  assert.equal(summary(session.begin([item(0), item(1, 5), item(2)], true)), '7/2 ')
  session.answered(good(7, 0))
  assert.equal(summary(session.begin([item(0, 1), item(1, 5), item(3)], true)), '7/3 0@1,3@0 -id:2')
})

test('a new leader epoch and a new epoch of the last record are told, too', () => {
  const session = opened(item(0), item(1))
  assert.equal(summary(session.begin([item(0, 0, { leaderEpoch: 1 }), item(1)], true)), '7/1 0@0')
  session.answered(good(7, 1))
  assert.equal(summary(session.begin([item(0, 0, { leaderEpoch: 1, lastEpoch: 1 }), item(1)], true)), '7/2 0@0')
})

test('a topic made again is forgotten under its old id and named under its new one', () => {
  const session = opened(item(0), item(1))
  assert.equal(summary(session.begin([item(0, 0, { topicId: 'new' }), item(1)], true)), '7/1 0@0 -id:0')
})

test('a broker that answers without a session is asked for everything each time', () => {
  const session = new FetchSession()
  session.begin([item(0)], true)
  assert.equal(session.answered(good(0, 1)), 'good')
  assert.equal(summary(session.begin([item(0)], true)), '0/0 0@0')
  assert.equal(session.close(), null)
})

test('after a lost answer everything is told anew, and the old session ends with that', () => {
  const session = opened(item(0), item(1))
  session.begin([item(0, 5), item(1)], true)
  session.lost()
  assert.equal(summary(session.begin([item(0, 5), item(1)], true)), '7/0 0@5,1@0')
  session.answered(good(8, 2))
  assert.equal(summary(session.begin([item(0, 5), item(1)], true)), '8/1 ')
})

test('a request that never went out changes nothing', () => {
  const session = opened(item(0))
  session.lost()
  assert.equal(summary(session.begin([item(0)], true)), '7/1 ')
})

for (const [name, next] of [
  ['FETCH_SESSION_ID_NOT_FOUND', '0/0 0@0'],
  ['INVALID_FETCH_SESSION_EPOCH', '7/0 0@0'],
  ['FETCH_SESSION_TOPIC_ID_ERROR', '7/0 0@0'],
] as const) {
  test(`${name} is answered with a full fetch at once`, () => {
    const session = opened(item(0))
    session.begin([item(0)], true)
    assert.equal(session.answered({ errorCode: ErrorCode[name], sessionId: 0, told: 0, strangers: 0 }), 'again')
    assert.equal(summary(session.begin([item(0)], true)), next)
  })

  test(`${name} for a full fetch is an error like others, not asked again in a circle`, () => {
    const session = new FetchSession()
    let again = 0
    for (let i = 0; i < 10; i++) {
      session.begin([item(0)], true)
      const verdict = session.answered({ errorCode: ErrorCode[name], sessionId: 0, told: 0, strangers: 0 })
      if (verdict === 'again') again++
    }
    assert.equal(again, 0)
  })
}

test('topics named by name and by id do not share a session', () => {
  const session = opened(item(0))
  assert.equal(summary(session.begin([item(0)], false)), '7/0 0@0')
})

test('a full answer with nothing in it, as throttling brokers give, opens no session', () => {
  const session = new FetchSession()
  session.begin([item(0)], true)
  session.answered(good(7, 0))
  assert.equal(summary(session.begin([item(0)], true)), '7/0 0@0')
})

test('an answer that speaks of partitions never asked for, or of another session, is not believed again', () => {
  for (const answer of [{ ...good(7, 1), strangers: 1 }, good(8, 1)]) {
    const session = opened(item(0))
    session.begin([item(0)], true)
    session.answered(answer)
    assert.equal(summary(session.begin([item(0)], true)), '7/0 0@0')
  }
})

test('a session is closed once, by its id and epoch -1; one in doubt is left to expire', () => {
  const session = opened(item(0))
  assert.deepEqual(session.close(), { sessionId: 7, sessionEpoch: -1 })
  assert.equal(session.close(), null)
  const doubtful = opened(item(0))
  doubtful.begin([item(0)], true)
  doubtful.lost()
  assert.equal(doubtful.close(), null)
})
