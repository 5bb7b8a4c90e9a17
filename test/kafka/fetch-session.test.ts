/** The client's fetch sessions against the embedded broker's, with answers and requests lost at random. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { FetchSessions } from '../../src/broker/fetch-sessions.ts'
import type { FetchItem } from '../../src/kafka/machine/fetch-planner.ts'
import { FetchSession, type SessionRequest } from '../../src/kafka/machine/fetch-session.ts'
import type { FetchRequest } from '../../src/wire/messages.gen.ts'

interface Turn {
  /** Positions by partition; partitions left out are not fetched in this turn. */
  readonly positions: ReadonlyMap<number, number>
  readonly remade: boolean
  readonly fate: 'answered' | 'answer lost' | 'request lost' | 'broker restarted'
}

const turns: fc.Arbitrary<Turn[]> = fc.array(
  fc.record({
    positions: fc
      .array(fc.tuple(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 0, max: 3 })), { minLength: 1, maxLength: 6 })
      .map((pairs) => new Map(pairs)),
    remade: fc.boolean(),
    fate: fc.constantFrom('answered', 'answered', 'answered', 'answer lost', 'request lost', 'broker restarted'),
  }),
  { maxLength: 30 },
)

function requestOf(asked: SessionRequest): FetchRequest {
  const topics = asked.items.map(({ held, position, leaderEpoch, lastEpoch }) => ({
    topic: '',
    topicId: held.topicId,
    partitions: [
      {
        partition: held.partition,
        currentLeaderEpoch: leaderEpoch,
        fetchOffset: position,
        lastFetchedEpoch: lastEpoch,
      },
    ],
  }))
  const forgottenTopicsData = asked.forgotten.map(({ topicId, partition }) => ({
    topic: '',
    topicId,
    partitions: [partition],
  }))
  const { sessionId, sessionEpoch } = asked
  return { sessionId, sessionEpoch, topics, forgottenTopicsData } as unknown as FetchRequest
}

test('whatever gets lost, the broker fetches exactly what the client wants', () => {
  let incremental = 0
  fc.assert(
    fc.property(turns, (script) => {
      const client = new FetchSession()
      let broker = new FetchSessions()
      for (const { positions, remade, fate } of script) {
        const items = [...positions].map(([partition, position]): FetchItem => {
          const held = { topic: 't', topicId: remade ? 'b' : 'a', partition, ownership: 1 }
          return { held, stamp: 1, position, leaderEpoch: 0, lastEpoch: -1 }
        })
        const wanted = items.map(({ held, position }) => `${held.topicId}/${held.partition}@${position}`).sort()
        if (fate === 'broker restarted') broker = new FetchSessions()
        for (let attempt = 0; ; attempt++) {
          assert.ok(attempt < 3, 'it settles')
          const asked = client.begin(items, true)
          if (fate === 'request lost') {
            client.lost()
            break
          }
          const context = broker.open({ node: 1, byId: true, nowMs: 0 }, requestOf(asked))
          if (typeof context === 'number') {
            const verdict = client.answered({ errorCode: context, sessionId: 0, told: 0, strangers: 0 })
            assert.equal(verdict, 'again')
            continue
          }
          const fetched = context.request.topics.flatMap(({ topicId, partitions }) =>
            partitions.map(({ partition, fetchOffset }) => `${topicId}/${partition}@${fetchOffset}`),
          )
          assert.deepEqual(fetched.sort(), wanted)
          if (asked.sessionEpoch > 0) incremental++
          if (fate === 'answer lost') {
            client.lost()
            break
          }
          const body = context.answer({
            responses: context.request.topics.map(({ topic, topicId, partitions }) => ({
              topic,
              topicId,
              partitions: partitions.map(({ partition }) => ({ partitionIndex: partition, highWatermark: 9 })),
            })),
          })
          const told = (body.responses ?? []).flatMap(({ partitions = [] }) => partitions).length
          const sessionId = body.sessionId ?? 0
          assert.equal(client.answered({ errorCode: 0, sessionId, told, strangers: 0 }), 'good')
          break
        }
      }
    }),
    { numRuns: 500 },
  )
  assert.ok(incremental > 500, 'sessions were used at all')
})
