/** 100,000 damaged inputs, and proof that the fuzzer finds what it is there for. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Reader } from '../../src/wire/reader.ts'
import { fuzz, wireTargets } from '../../tools/protocol/fuzz.ts'

test('100,000 damaged inputs are answered or refused with a typed error, within the bounds', () => {
  const seed = 20261122
  const report = fuzz({ inputs: 100_000, seed, targets: wireTargets(seed) })
  assert.equal(report.failure, null)
  assert.ok(report.accepted > 1000, 'some damage leaves a valid frame')
  assert.ok(report.refused > 1000)
})

/** Believes a count and makes room for it at once. */
class Believing extends Reader {
  room: Float64Array | null = null

  override count(): number {
    return this.#makeRoom(this.int32())
  }

  override compactCount(): number {
    return this.#makeRoom(this.unsignedVarint() - 1)
  }

  #makeRoom(count: number): number {
    // Not so much that the allocation itself fails: the growth must be noticed.
    this.room = new Float64Array(Math.max(0, Math.min(count, 2_000_000)))
    return count
  }
}

/** Reads a number without looking whether it is there. */
class Overrunning extends Reader {
  override int32(): number {
    const view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.byteLength)
    const value = view.getInt32(this.at)
    this.at += 4
    return value
  }
}

/** Trusts the length of a field's bytes. */
class Copying extends Reader {
  override nullableBytes(): Uint8Array | null {
    const length = this.int32()
    if (length < 0) return null
    const copy = new Uint8Array(Math.min(length, 10_000_000))
    copy.set(this.bytes.subarray(this.at, this.at + length))
    return this.view(length)
  }
}

for (const [what, Broken, expected] of [
  ['a count that is believed', Believing, /bytes more in use/],
  ['a read beyond the end', Overrunning, /threw RangeError/],
  ['a length that is believed', Copying, /bytes more in use/],
] as const) {
  test(`${what} is found in under a minute`, () => {
    const startedMs = performance.now()
    const report = fuzz({ inputs: 100_000, seed: 1, targets: wireTargets(1, (bytes) => new Broken(bytes)) })
    assert.match(report.failure?.what ?? 'nothing found', expected)
    assert.ok(performance.now() - startedMs < 60_000)
  })
}

test('the same seed gives the same run', () => {
  const run = () => fuzz({ inputs: 2000, seed: 5, targets: wireTargets(5) })
  assert.deepEqual(run(), run())
})
