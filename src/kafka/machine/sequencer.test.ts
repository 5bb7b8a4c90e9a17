/** The order of one partition, against a broker that is a model of Kafka's rules and behaves as badly as they allow. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { isRetriable } from '../../wire/error-codes.ts'
import { RecordBatch, type RecordBatchBuilder } from '../../wire/record-batch.ts'
import { type Batch, nextSequence, Sequencer, type Verdict } from './sequencer.ts'

const identity = { id: 7, epoch: 0 }
const ok = (baseOffset: number) => ({ errorCode: 0, baseOffset, appendTimeMs: -1 })
const error = (errorCode: number) => ({ errorCode, baseOffset: -1, appendTimeMs: -1 })
const at = (nowMs: number) => ({ nowMs, random: 0 })

function make(
  options: { batchBytes?: number; deliveryTimeoutMs?: number; builders?: RecordBatchBuilder[] } = {},
): Sequencer<number> {
  return new Sequencer<number>('t', 0, {
    batchBytes: options.batchBytes ?? 1_000,
    deliveryTimeoutMs: options.deliveryTimeoutMs ?? 1_000_000,
    backoff: { baseMs: 10, maxMs: 100 },
    isRetriable,
    builders: options.builders ?? [],
  })
}

/** One record in a batch of its own. */
function add(sequencer: Sequencer<number>, n: number, nowMs = 0): void {
  const value = Buffer.from(String(n))
  sequencer.append({ key: null, value, headers: [], timestampMs: 0, estimate: value.length + 40 }, n, nowMs)
  sequencer.seal()
}

function take(sequencer: Sequencer<number>, nowMs = 0): Batch<number> {
  const batch = sequencer.take(identity, nowMs)
  assert.ok(batch !== null, 'something should be sendable')
  return batch
}

/** One whose broker has taken a record, the number 0, so that up to five batches may be in flight. */
function makeKnown(options: { deliveryTimeoutMs?: number } = {}): Sequencer<number> {
  const sequencer = make(options)
  add(sequencer, 0)
  sequencer.onAnswer(take(sequencer), ok(0), at(0))
  return sequencer
}

describe('the sequencer', () => {
  test('the first batch travels alone until its broker has taken it, and so does the first after a silence', () => {
    const s = make()
    for (let n = 0; n < 4; n += 1) add(s, n)
    const first = take(s)
    assert.equal(s.take(identity, 0), null)
    s.onAnswer(first, error(6), at(0))
    assert.equal(take(s, 1_000), first)
    assert.equal(s.take(identity, 1_000), null)
    s.onAnswer(first, ok(0), at(1_000))
    const [b, c] = [take(s, 1_000), take(s, 1_000)]
    s.onAnswer(b, ok(1), at(1_000))
    s.onAnswer(c, ok(2), at(1_000))
    assert.equal(take(s, 62_000).callers[0], 3)
    add(s, 4, 62_000)
    assert.equal(s.take(identity, 62_000), null)
  })

  test('sends nothing to a new leader while the old one has answers to give', () => {
    const s = makeKnown()
    for (let n = 1; n < 4; n += 1) add(s, n)
    const first = s.take(identity, 0, 1)
    assert.ok(first !== null)
    assert.equal(s.waitsElsewhere(2), true)
    assert.equal(s.take(identity, 0, 2), null)
    s.onNoAnswer(first, true, at(0))
    const again = s.take(identity, 1_000, 2)
    assert.deepEqual([again, again?.sequence], [first, 1], 'the same one goes first')
    assert.equal(s.take(identity, 1_000, 1), null)
    assert.equal(s.take(identity, 1_000, 2)?.sequence, 2)
  })

  test('numbers batches one after another and keeps at most five in flight', () => {
    const s = makeKnown()
    for (let n = 1; n < 8; n += 1) add(s, n)
    const batches = [1, 2, 3, 4, 5].map(() => take(s))
    assert.deepEqual(
      batches.map((b) => [b.sequence, b.callers[0]]),
      [1, 2, 3, 4, 5].map((n) => [n, n]),
    )
    assert.equal(s.take(identity, 0), null)
    s.onAnswer(batches[0] as Batch<number>, ok(1), at(0))
    assert.equal(take(s).sequence, 6)
  })

  test('sequence numbers go on at 0 after the largest', () => {
    assert.equal(nextSequence(0x7fff_ffff, 1), 0)
    assert.equal(nextSequence(0x7fff_fffe, 3), 1)
    assert.equal(nextSequence(5, 2), 7)
  })

  test('after a passing error nothing leaves until all are home, then all go again in order, one at a time', () => {
    const s = makeKnown()
    for (let n = 1; n < 5; n += 1) add(s, n)
    const [a, b, c] = [take(s), take(s), take(s)]
    assert.deepEqual(s.onAnswer(a, error(6), at(0)), { kind: 'again', refresh: true })
    assert.equal(s.take(identity, 1_000), null, 'two are still out')
    assert.deepEqual(s.onAnswer(b, error(45), at(0)), { kind: 'again', refresh: false })
    s.onAnswer(c, error(45), at(0))
    assert.equal(s.take(identity, 0), null, 'the pause has not ended')
    const again = take(s, 1_000)
    assert.deepEqual([again.sequence, again.epoch, again.callers[0]], [1, 0, 1])
    assert.equal(s.take(identity, 1_000), null, 'one at a time while catching up')
    s.onAnswer(again, ok(1), at(1_000))
    const second = take(s, 1_000)
    assert.deepEqual([second.sequence, second.epoch], [2, 0])
    s.onAnswer(second, ok(2), at(1_000))
    s.onAnswer(take(s, 1_000), ok(3), at(1_000))
    assert.equal(take(s, 1_000).sequence, 4)
  })

  test('followers that fail for the reason of the first do not lengthen the pause', () => {
    const s = makeKnown()
    for (let n = 1; n < 6; n += 1) add(s, n)
    const batches = [1, 2, 3, 4, 5].map(() => take(s))
    for (const batch of batches) s.onAnswer(batch, error(6), at(0))
    assert.ok(s.sendableAtMs <= 10, `waits ${s.sendableAtMs} ms`)
  })

  test('a known leader ends the pause', () => {
    const s = make()
    add(s, 0)
    s.onAnswer(take(s), error(6), at(0))
    assert.equal(s.take(identity, 0), null)
    s.wake()
    assert.equal(take(s, 0).callers[0], 0)
  })

  test('a duplicate is a success whose place is not known', () => {
    const s = make()
    add(s, 0)
    assert.deepEqual(s.onAnswer(take(s), error(46), at(0)), { kind: 'stored', baseOffset: -1, appendTimeMs: -1 })
  })

  test('out of order for the lowest batch proves a gap: numbers begin at 0 under the next epoch', () => {
    const s = make()
    for (let n = 0; n < 3; n += 1) add(s, n)
    s.onAnswer(take(s), ok(0), at(0))
    const [b, c] = [take(s), take(s)]
    s.onAnswer(b, error(45), at(0))
    s.onAnswer(c, error(45), at(0))
    const again = take(s, 1_000)
    assert.deepEqual([again.callers[0], again.sequence, again.epoch], [1, 0, 1])
    s.onAnswer(again, ok(1), at(0))
    assert.deepEqual([take(s, 1_000).sequence], [1])
  })

  test('out of order for a batch that an earlier connection may still bring is an unknown outcome, not a second copy', () => {
    const s = makeKnown({ deliveryTimeoutMs: 100 })
    add(s, 1, 0)
    add(s, 2, 50)
    add(s, 3, 50)
    const [a, b, c] = [take(s, 50), take(s, 50), take(s, 50)]
    assert.equal(s.expire(100).length, 1)
    s.onNoAnswer(a, true, at(100))
    s.onNoAnswer(b, true, at(100))
    s.onNoAnswer(c, false, at(100))
    const again = take(s, 110)
    assert.deepEqual([again.callers[0], again.sequence, again.epoch], [2, 2, 0], 'it is asked about first')
    assert.deepEqual(s.onAnswer(again, error(45), at(110)), { kind: 'failed', errorCode: 45, maybeStored: true })
    const never = take(s, 120)
    assert.deepEqual([never.callers[0], never.sequence, never.epoch], [3, 0, 1], 'what never left goes on')
  })

  test('a refused batch fails alone; the ones behind it go on under the next epoch', () => {
    const s = makeKnown()
    add(s, 1)
    add(s, 2)
    const [a, b] = [take(s), take(s)]
    assert.deepEqual(s.onAnswer(a, error(87), at(0)), { kind: 'failed', errorCode: 87, maybeStored: false })
    s.onAnswer(b, error(45), at(0))
    const again = take(s, 1_000)
    assert.deepEqual([again.callers[0], again.sequence, again.epoch], [2, 0, 1])
  })

  test('a refusal after an attempt without an answer says that it may be stored', () => {
    const s = make()
    add(s, 0)
    s.onNoAnswer(take(s), true, at(0))
    assert.deepEqual(s.onAnswer(take(s, 100), error(87), at(100)), {
      kind: 'failed',
      errorCode: 87,
      maybeStored: true,
    })
  })

  test('a forgetful broker: what may be stored is given up, the rest is numbered anew', () => {
    const s = make()
    add(s, 0)
    add(s, 1)
    const a = take(s)
    s.onNoAnswer(a, true, at(0))
    assert.equal(s.onAnswer(take(s, 100), error(59), at(100)).kind, 'failed')
    const b = take(s, 1_000)
    assert.deepEqual([b.callers[0], b.sequence, b.epoch], [1, 0, 1])
    assert.deepEqual(s.onAnswer(b, error(59), at(1_000)), { kind: 'again', refresh: false })
    const again = take(s, 2_000)
    assert.deepEqual([again.callers[0], again.sequence, again.epoch], [1, 0, 2])
  })

  test('when epochs run out another producer id takes over', () => {
    const s = make()
    add(s, 0)
    s.onAnswer(take(s), error(47), at(0))
    assert.equal(s.needsNewId(identity), true)
    const fresh = { id: 8, epoch: 0 }
    assert.equal(s.needsNewId(fresh), false)
    const again = s.take(fresh, 1_000)
    assert.deepEqual([again?.producerId, again?.epoch, again?.sequence], [8, 0, 0])
  })

  test('a buffer serves again only after one attempt that was answered: another may still lie in a socket', () => {
    const builders: RecordBatchBuilder[] = []
    const s = make({ builders })
    add(s, 0)
    const answered = take(s)
    s.onAnswer(answered, ok(0), at(0))
    s.recycle(answered)
    assert.deepEqual(builders, [answered.builder])
    builders.length = 0

    add(s, 1)
    const repeated = take(s)
    s.onAnswer(repeated, error(6), at(0))
    assert.equal(take(s, 1_000), repeated)
    s.onAnswer(repeated, ok(1), at(1_000))
    s.recycle(repeated)

    add(s, 2)
    const lost = take(s, 1_000)
    s.onNoAnswer(lost, true, at(1_000))
    s.recycle(lost)
    assert.deepEqual(builders, [])
  })

  test('time up before sending is told as not stored, in flight as maybe, and neither is sent again', () => {
    const s = make({ deliveryTimeoutMs: 100 })
    add(s, 0)
    add(s, 1)
    const a = take(s)
    assert.deepEqual(
      s.expire(100).map((e) => [e.batch.callers[0], e.maybeStored]),
      [
        [0, true],
        [1, false],
      ],
    )
    assert.deepEqual(s.onNoAnswer(a, true, at(100)), { kind: 'forgotten' })
    assert.equal(s.isIdle, true)
    add(s, 2, 200)
    const c = take(s, 10_000)
    assert.deepEqual([c.sequence, c.epoch], [0, 1], 'the number of the lost one is not waited for')
  })

  test('a batch in flight whose time is up, and which is stored after all, leaves no gap', () => {
    const s = make({ deliveryTimeoutMs: 100 })
    add(s, 0)
    const a = take(s)
    s.expire(100)
    assert.deepEqual(s.onAnswer(a, ok(0), at(100)), { kind: 'forgotten' })
    add(s, 1, 200)
    const b = take(s, 200)
    assert.deepEqual([b.sequence, b.epoch], [1, 0])
  })

  test('a batch too large for the topic is split under its own numbers, down to the record', () => {
    const s = make({ batchBytes: 10_000 })
    for (let n = 0; n < 4; n += 1) {
      const value = Buffer.from(String(n))
      s.append({ key: null, value, headers: [], timestampMs: n, estimate: 50 }, n, 0)
    }
    const whole = take(s)
    assert.equal(whole.callers.length, 4)
    s.onAnswer(whole, error(10), at(0))
    const first = take(s)
    assert.deepEqual([first.sequence, first.callers], [0, [0, 1]])
    s.onAnswer(first, ok(0), at(0))
    const second = take(s)
    assert.deepEqual([second.sequence, second.callers], [2, [2, 3]])
    const records = new RecordBatch(second.builder.build())
    assert.deepEqual(
      [0, 1].map((i) => [Buffer.from(records.value(i) as Uint8Array).toString(), records.timestampMs(i)]),
      [
        ['2', 2],
        ['3', 3],
      ],
    )
    s.onAnswer(second, error(10), at(0))
    const third = take(s)
    assert.deepEqual(s.onAnswer(third, error(10), at(0)).kind, 'failed')
    assert.equal(whole.tally, third.tally)
    assert.equal(whole.bytes, first.bytes + second.bytes)
  })
})

/**
 * One partition's producer state by Kafka's rules, with its log. A broker takes any number from a producer it has no state
 * of; `isKnown`: it has state, of an earlier epoch, so that numbers must begin at 0.
 */
class ModelPartition {
  readonly log: number[] = []
  #isKnown: boolean
  #epoch = -1
  #last: { first: number; last: number; offset: number }[] = []

  constructor(isKnown: boolean) {
    this.#isKnown = isKnown
  }

  /** The producer was silent for longer than `producer.id.expiration.ms`. */
  forget(): void {
    this.#isKnown = false
    this.#epoch = -1
    this.#last = []
  }

  append(batch: { epoch: number; sequence: number; values: readonly number[] }): {
    errorCode: number
    baseOffset: number
    appendTimeMs: number
  } {
    const first = batch.sequence
    const last = nextSequence(first, batch.values.length - 1)
    if (batch.epoch < this.#epoch) return error(47)
    if (batch.epoch === this.#epoch) {
      const same = this.#last.find((l) => l.first === first && l.last === last)
      if (same !== undefined) return ok(same.offset)
      const expected = nextSequence((this.#last.at(-1)?.last ?? -1) as number, 1)
      if (first !== expected) return error(45)
    } else {
      if (first !== 0 && (this.#isKnown || this.#epoch >= 0)) return error(45)
      this.#last = []
    }
    this.#epoch = batch.epoch
    const offset = this.log.length
    this.log.push(...batch.values)
    this.#last = [...this.#last, { first, last, offset }].slice(-5)
    return ok(offset)
  }
}

test('whatever requests meet, the log holds every acknowledged record once, and all in order', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          what: fc.constantFrom(
            'add',
            'send',
            'send',
            'answer',
            'answer',
            'refuse',
            'demoted',
            'lose',
            'loseStored',
            'ghost',
            'pass',
            'late',
            'silence',
          ),
          n: fc.nat(3),
        }),
        { minLength: 20, maxLength: 200 },
      ),
      fc.boolean(),
      (steps, isKnown) => {
        const s = make({ deliveryTimeoutMs: 500 })
        const broker = new ModelPartition(isKnown)
        const told = new Map<number, number>()
        const failedForSure = new Set<number>()
        /** Requests on their way, in the order of sending: one connection. */
        let wire: { batch: Batch<number>; image: { epoch: number; sequence: number; values: number[] } }[] = []
        /** Requests of broken connections that the broker may still read, those of one connection in their order. */
        const ghosts: { epoch: number; sequence: number; values: number[] }[][] = []
        let nowMs = 0
        let next = 0
        const note = (batch: Batch<number>, verdict: Verdict): void => {
          if (verdict.kind === 'stored') {
            for (const [i, n] of batch.callers.entries())
              told.set(n, verdict.baseOffset < 0 ? -1 : verdict.baseOffset + i)
          }
          if (verdict.kind === 'failed' && !verdict.maybeStored) for (const n of batch.callers) failedForSure.add(n)
        }
        const answerOne = (): void => {
          const head = wire.shift()
          if (head !== undefined) note(head.batch, s.onAnswer(head.batch, broker.append(head.image), at(nowMs)))
        }
        const expire = (): void => {
          for (const { batch, maybeStored } of s.expire(nowMs)) {
            if (!maybeStored) for (const caller of batch.callers) failedForSure.add(caller)
          }
        }
        for (const { what, n } of steps) {
          nowMs += 1
          switch (what) {
            case 'add': {
              for (let i = 0; i <= n; i += 1) {
                const value = Buffer.from(String(next))
                s.append({ key: null, value, headers: [], timestampMs: 0, estimate: 45 }, next++, nowMs)
              }
              break
            }
            case 'send': {
              const batch = s.take(identity, nowMs)
              if (batch !== null) {
                const { epoch, sequence } = batch
                wire.push({ batch, image: { epoch, sequence, values: [...batch.callers] } })
              }
              break
            }
            case 'answer':
              answerOne()
              break
            case 'refuse': {
              // Not leader, not enough replicas: nothing is appended. Or, with 0, refused for good.
              const head = wire.shift()
              if (head !== undefined)
                note(head.batch, s.onAnswer(head.batch, error([87, 6, 19, 6][n] as number), at(nowMs)))
              break
            }
            case 'demoted': {
              // Appended and copied to the next leader; the old one, asked to wait for all copies, is no leader any more.
              const head = wire.shift()
              if (head !== undefined) {
                broker.append(head.image)
                note(head.batch, s.onAnswer(head.batch, error(n === 0 ? 3 : 6), at(nowMs)))
              }
              break
            }
            case 'lose':
            case 'loseStored': {
              // The connection breaks: some requests were read by the broker, the others may be read later, or never.
              const read = what === 'loseStored' ? wire.splice(0, n + 1) : []
              for (const one of read) broker.append(one.image)
              const rest = wire
              wire = []
              if (n % 2 === 0) ghosts.push(rest.map((r) => r.image))
              for (const one of [...read, ...rest]) note(one.batch, s.onNoAnswer(one.batch, true, at(nowMs)))
              break
            }
            case 'ghost': {
              const image = ghosts[n % Math.max(1, ghosts.length)]?.shift()
              if (image !== undefined) broker.append(image)
              break
            }
            case 'pass':
              nowMs += 40
              break
            case 'late': {
              nowMs += 100
              expire()
              break
            }
            case 'silence': {
              if (wire.length > 0) break
              nowMs += 61_000
              expire()
              ghosts.length = 0
              broker.forget()
              break
            }
            default:
              what satisfies never
          }
        }
        // The trouble is over: everything still open comes to its end.
        for (let i = 0; i < 1_000 && !s.isIdle; i += 1) {
          nowMs += 200
          const batch = s.take(identity, nowMs)
          if (batch !== null) {
            const { epoch, sequence } = batch
            wire.push({ batch, image: { epoch, sequence, values: [...batch.callers] } })
          }
          answerOne()
        }
        assert.equal(s.isIdle, true, 'everything comes to an end')
        for (const image of ghosts.flat()) broker.append(image)
        for (let i = 1; i < broker.log.length; i += 1) {
          assert.ok((broker.log[i] as number) > (broker.log[i - 1] as number), `log ${broker.log.join(' ')}`)
        }
        for (const [n, offset] of told) {
          if (offset >= 0) assert.equal(broker.log[offset], n)
          else assert.ok(broker.log.includes(n))
        }
        for (const n of failedForSure) assert.ok(!broker.log.includes(n), `${n} was told as not stored`)
      },
    ),
    { numRuns: 3_000 },
  )
})
