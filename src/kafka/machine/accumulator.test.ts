/** When records go, and what they may weigh; and where they go. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { isRetriable } from '../../wire/error-codes.ts'
import { Accumulator, type AccumulatorOptions } from './accumulator.ts'
import { backoffMs } from './backoff.ts'
import { keyPartition, StickyPartitioner } from './partitioner.ts'

const identity = { id: 1, epoch: 0 }

function make(options: Partial<AccumulatorOptions> = {}): Accumulator<number> {
  return new Accumulator<number>({
    batchBytes: 1_000,
    requestBytes: 2_000,
    bufferedBytesMax: 10_000,
    lingerMs: 0,
    deliveryTimeoutMs: 1_000,
    inFlightMax: 5,
    backoff: { baseMs: 10, maxMs: 100 },
    isRetriable,
    ...options,
  })
}

function add(a: Accumulator<number>, partition: number, bytes = 100, nowMs = 0): void {
  a.append(
    't',
    partition,
    { key: null, value: Buffer.alloc(bytes), headers: [], timestampMs: 0, estimate: bytes },
    0,
    nowMs,
  )
}

function drain(a: Accumulator<number>, inFlight: number, nowMs = 0, urgent = false) {
  const all = a.byLeader(() => 1).get(1) ?? []
  return a.drain(all, { identity, node: 1, inFlight, nowMs, urgent }).batches
}

describe('the accumulator', () => {
  test('lets everything go when nothing is in flight, one batch per partition in one request', () => {
    const a = make()
    for (const p of [0, 1, 2]) add(a, p)
    add(a, 1)
    assert.deepEqual(
      drain(a, 0).map((b) => [b.partition, b.callers.length]),
      [
        [0, 1],
        [1, 2],
        [2, 1],
      ],
    )
  })

  test('while a request is unanswered, lets only full batches go, and none when no slot is free', () => {
    const a = make()
    add(a, 0)
    assert.deepEqual(drain(a, 1), [])
    // Full by itself.
    add(a, 1, 1_200)
    assert.deepEqual(drain(a, 5), [])
    assert.deepEqual(
      drain(a, 1).map((b) => b.partition),
      [1],
    )
    assert.deepEqual(
      drain(a, 0).map((b) => b.partition),
      [0],
    )
  })

  test('with a linger, every record waits that long unless its batch is full or somebody is in need', () => {
    const a = make({ lingerMs: 20 })
    add(a, 0, 100, 5)
    assert.deepEqual(drain(a, 0, 24), [])
    assert.equal(a.nextDueMs(24), 25)
    assert.equal(drain(a, 0, 25).length, 1)
    add(a, 1, 100, 30)
    assert.equal(drain(a, 0, 31, true).length, 1)
  })

  test('a request takes no further batch beyond its size, and those left over are first in the next', () => {
    const a = make()
    for (const p of [0, 1, 2, 3]) add(a, p, 900)
    assert.deepEqual(
      drain(a, 0).map((b) => b.partition),
      [0, 1, 2],
    )
    add(a, 4, 900)
    assert.deepEqual(
      drain(a, 0).map((b) => b.partition),
      [3, 4],
    )
  })

  test('the memory account balances over success, expiry and splits', () => {
    const a = make()
    for (let i = 0; i < 5; i += 1) add(a, 0)
    add(a, 1)
    // What they take in a batch: 100 bytes of value and 9 around them.
    assert.equal(a.bufferedBytes, 6 * 109)
    const [b0, b1] = drain(a, 0)
    assert.ok(b0 !== undefined && b1 !== undefined)
    a.sequencerOf(b0).onAnswer(b0, { errorCode: 10, baseOffset: -1, appendTimeMs: -1 }, { nowMs: 0, random: 0 })
    const half = drain(a, 0)[0]
    assert.ok(half !== undefined)
    a.sequencerOf(half).onAnswer(half, { errorCode: 0, baseOffset: 0, appendTimeMs: -1 }, { nowMs: 0, random: 0 })
    a.release(half)
    assert.equal(a.bufferedBytes, 6 * 109 - half.bytes)
    assert.equal(a.expire(2_000).length, 2)
    assert.equal(a.bufferedBytes, 0)
    assert.equal(a.isEmpty, false, 'one is still in flight')
    a.sequencerOf(b1).onAnswer(b1, { errorCode: 0, baseOffset: 0, appendTimeMs: -1 }, { nowMs: 0, random: 0 })
    a.rest(b1)
    assert.equal(a.isEmpty, true)
  })

  test('is full at its limit, but a record that is larger than all of it still fits when alone', () => {
    const a = make({ bufferedBytesMax: 250 })
    assert.equal(a.hasRoom(1_000), true)
    add(a, 0)
    add(a, 0)
    assert.equal(a.hasRoom(100), false)
    assert.equal(a.hasRoom(32), true)
  })
})

describe('partitions', () => {
  const led = (leaders: readonly number[]) =>
    leaders.map((leader, partition) => ({
      partition,
      leader,
      leaderEpoch: 0,
      replicas: [],
      isr: [],
      offline: [],
      error: 0,
    }))

  test('D22: keys go where Java puts them', () => {
    const expected: Record<string, number> = {
      '21': -973932308,
      foobar: -790332482,
      'a-little-bit-long-string': -985981536,
    }
    for (const [key, hash] of Object.entries(expected)) {
      assert.equal(keyPartition(Buffer.from(key), 6), (hash & 0x7fffffff) % 6)
    }
  })

  test('records without a key stay until enough bytes went there, then move on to another partition', () => {
    const sticky = new StickyPartitioner(250)
    const partitions = led([1, 1, 1])
    const chosen = Array.from({ length: 7 }, () => sticky.choose(partitions, 100, () => 0.5))
    assert.equal(chosen[1], chosen[0])
    assert.equal(chosen[2], chosen[0])
    assert.notEqual(chosen[3], chosen[0])
    assert.equal(chosen[5], chosen[3])
  })

  test('records without a key avoid partitions without a leader, unless there is no other', () => {
    const sticky = new StickyPartitioner(1)
    for (let i = 0; i < 20; i += 1) assert.equal(sticky.choose(led([-1, 2, -1]), 10, Math.random), 1)
    const leaderless = sticky.choose(led([-1, -1]), 10, () => 0.9)
    assert.ok(leaderless === 0 || leaderless === 1)
  })
})

test('a pause doubles up to its cap, with jitter over its upper half', () => {
  const backoff = { baseMs: 100, maxMs: 1_000 }
  assert.equal(backoffMs(backoff, 0, 0.5), 0)
  assert.deepEqual(
    [1, 2, 3, 4, 5, 99].map((n) => backoffMs(backoff, n, 1)),
    [100, 200, 400, 800, 1_000, 1_000],
  )
  assert.equal(backoffMs(backoff, 3, 0), 200)
})
