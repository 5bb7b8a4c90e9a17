import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type CheckpointMap, decodeCheckpoint, encodeCheckpoint, maxMetadataChars } from './checkpoint.ts'

const topicId = 'b8tRS7h4TJ2Vt43Dp85v2A'
const otherId = 'AAAAAAAAAAAAAAAAAAAAAQ'

const map = (low: number, finished: readonly number[], strikes = 0): CheckpointMap => ({
  topicId,
  low,
  leaderEpoch: 4,
  strikes,
  finished,
})

/** What the broker would say right after committing exactly this. */
const facts = (metadata: string, low: number, logEnd = Number.MAX_SAFE_INTEGER) => ({
  topicId,
  offset: low,
  leaderEpoch: 4,
  logEnd,
  metadata,
})

/** Ascending ranges with open positions before each. */
const maps = fc
  .record({
    low: fc.nat(2 ** 40),
    strikes: fc.nat(255),
    runs: fc.array(fc.tuple(fc.integer({ min: 1, max: 5_000 }), fc.integer({ min: 1, max: 5_000 })), { maxLength: 40 }),
  })
  .map(({ low, strikes, runs }) => {
    const finished: number[] = []
    let at = low
    for (const [open, done] of runs) {
      finished.push(at + open, at + open + done)
      at += open + done
    }
    return map(low, finished, strikes)
  })

test('nothing to say is an empty string', () => {
  assert.equal(encodeCheckpoint(map(7, [])), '')
})

test('what was written is read again', () => {
  fc.assert(
    fc.property(maps, (given) => {
      const text = encodeCheckpoint(given)
      if (text === '') return
      assert.match(text, /^o1\.[A-Za-z0-9_-]+$/)
      const { finished, strikes } = given
      assert.deepEqual(decodeCheckpoint(facts(text, given.low)), { finished, strikes, attempts: [] })
    }),
  )
})

test('a map that does not fit keeps its first runs and stays under the limit', () => {
  const finished: number[] = []
  for (let at = 0; at < 40_000; at += 4) finished.push(1_000_001 + at, 1_000_001 + at + 2)
  const text = encodeCheckpoint(map(1_000_000, finished))
  assert.ok(text.length <= maxMetadataChars && text.length > maxMetadataChars - 8, `${text.length}`)
  const believed = decodeCheckpoint(facts(text, 1_000_000))
  assert.ok(believed !== null && believed.finished.length > 2_900)
  assert.deepEqual(believed.finished, finished.slice(0, believed.finished.length))
})

test('strings of others count as absent', () => {
  const foreign = ['', ' ', 'o1.', 'o1.AAAA', 'o2.AAAA', 'NO_METADATA', '{"version":1}', `o1.${'A'.repeat(44)}`, 'o1.=']
  for (const metadata of foreign) assert.equal(decodeCheckpoint(facts(metadata, 0)), null, metadata)
  assert.equal(decodeCheckpoint({ ...facts('', 0), metadata: null }), null)
  assert.equal(decodeCheckpoint(facts(`o1.${'A'.repeat(10_000_000)}`, 0)), null)
  fc.assert(fc.property(fc.string(), (metadata) => decodeCheckpoint(facts(metadata, 0)) === null))
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 200 }),
      (bytes) => decodeCheckpoint(facts(`o1.${Buffer.from(bytes).toString('base64url')}`, 0)) === null,
    ),
  )
})

test('every single changed bit, and every cut, counts as absent', () => {
  const text = encodeCheckpoint(map(1_000, [1_002, 1_005, 1_009, 1_700], 2))
  const bytes = Buffer.from(text.slice(3), 'base64url')
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const broken = Buffer.from(bytes)
    broken[bit >> 3] = (broken[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    assert.equal(decodeCheckpoint(facts(`o1.${broken.toString('base64url')}`, 1_000)), null, `bit ${bit}`)
  }
  for (let length = 0; length < text.length; length++) {
    assert.equal(decodeCheckpoint(facts(text.slice(0, length), 1_000)), null, `cut at ${length}`)
  }
  assert.equal(decodeCheckpoint(facts(`${text}A`, 1_000)), null)
  assert.equal(decodeCheckpoint(facts(`${text} `, 1_000)), null)
})

test('a mirror, a topic made again, a reset offset, another epoch and a truncated log count as absent', () => {
  const text = encodeCheckpoint(map(1_000, [1_002, 1_005]))
  const good = facts(text, 1_000, 1_005)
  assert.deepEqual(decodeCheckpoint(good), { finished: [1_002, 1_005], strikes: 0, attempts: [] })
  assert.equal(decodeCheckpoint({ ...good, topicId: otherId }), null)
  assert.equal(decodeCheckpoint({ ...good, offset: 999 }), null)
  assert.equal(decodeCheckpoint({ ...good, offset: 1_001 }), null)
  assert.equal(decodeCheckpoint({ ...good, leaderEpoch: 5 }), null)
  assert.equal(decodeCheckpoint({ ...good, logEnd: 1_004 }), null)
})

test('failed attempts are read again with the rest', () => {
  const given = { ...map(1_000, [1_005, 1_010], 2), attempts: [1_000, 3, 1_004, 1, 1_200, 255] }
  const text = encodeCheckpoint(given)
  assert.match(text, /^o2\./)
  const { finished, strikes, attempts } = given
  assert.deepEqual(decodeCheckpoint(facts(text, 1_000)), { finished, strikes, attempts })
  assert.equal(decodeCheckpoint(facts(text, 1_000, 1_200)), null, 'a record beyond the end of the log')
})

test('the suspect is read again with the rest, up to the end of the log', () => {
  for (const more of [{}, { attempts: [1_000, 3, 1_004, 1] }]) {
    const given = { ...map(1_000, [1_005, 1_010], 2), suspect: 1_300, ...more }
    const text = encodeCheckpoint(given)
    assert.match(text, /^o2\./)
    const { finished, strikes, suspect } = given
    const expected = { finished, strikes, suspect, attempts: [], ...more }
    assert.deepEqual(decodeCheckpoint(facts(text, 1_000, 1_300)), expected)
    assert.equal(decodeCheckpoint(facts(text, 1_000, 1_299)), null)
  }
  assert.match(encodeCheckpoint({ ...map(1_000, [], 1), suspect: 1_000 }), /^o1\./)
})

test('too many attempts leave room for the runs', () => {
  const attempts: number[] = []
  const finished: number[] = []
  for (let at = 0; at < 40_000; at += 4) {
    attempts.push(1_000_000 + at, 4)
    finished.push(1_000_001 + at, 1_000_002 + at)
  }
  const text = encodeCheckpoint({ ...map(1_000_000, finished), attempts })
  assert.ok(text.length <= maxMetadataChars)
  const believed = decodeCheckpoint(facts(text, 1_000_000))
  assert.deepEqual(believed?.attempts, attempts.slice(0, 800))
  assert.ok((believed?.finished.length ?? 0) > 1_000)
})

test('attempts that cannot be make the whole string count as absent', () => {
  const good = encodeCheckpoint({ ...map(7, []), attempts: [7, 2, 9, 1] })
  assert.notEqual(decodeCheckpoint(facts(good, 7)), null)
  for (const attempts of [
    [7, 0],
    [9, 1, 9, 1],
  ]) {
    assert.equal(decodeCheckpoint(facts(encodeCheckpoint({ ...map(7, []), attempts }), 7)), null, `${attempts}`)
  }
})
