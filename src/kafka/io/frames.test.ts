/** Frames out of bytes, however these come. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import type { OttlaError } from '../../contract/errors.ts'
import { FrameAssembler, FramePool } from './frames.ts'

const framed = (body: Uint8Array): Buffer => {
  const head = Buffer.alloc(4)
  head.writeInt32BE(body.length)
  return Buffer.concat([head, body])
}

/** Feeds bytes as the kernel does: into the buffer asked for, at most `step` at a time. */
function feed(assembler: FrameAssembler, bytes: Uint8Array, step: number): void {
  let at = 0
  while (at < bytes.length) {
    const target = assembler.nextBuffer()
    const count = Math.min(step, target.length, bytes.length - at)
    target.set(bytes.subarray(at, at + count))
    assembler.received(count, target)
    at += count
  }
}

describe('frames', () => {
  test('are the same whether read directly or pushed, in pieces of any size', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 4, max: 60_000 }), { minLength: 1, maxLength: 6 }),
        fc.integer({ min: 1, max: 70_000 }),
        fc.boolean(),
        (sizes, step, direct) => {
          const bodies = sizes.map((size, i) => Buffer.alloc(size, i + 1))
          const seen: Uint8Array[] = []
          const assembler = new FrameAssembler(1_000_000, (frame) => seen.push(frame))
          const bytes = Buffer.concat(bodies.map(framed))
          // One byte at a time through 60 KB would only be slow.
          const stepBytes = Math.max(step, Math.ceil(bytes.length / 500))
          if (direct) feed(assembler, bytes, stepBytes)
          else for (let at = 0; at < bytes.length; at += stepBytes) assembler.push(bytes.subarray(at, at + stepBytes))
          assert.deepEqual(
            seen.map((frame) => Buffer.from(frame).equals(bodies[seen.indexOf(frame)] as Buffer)),
            bodies.map(() => true),
          )
          assert.equal(new Set(seen.map((frame) => frame.buffer)).size, seen.length, 'each has a buffer of its own')
        },
      ),
      { numRuns: 200 },
    )
  })

  test('of a large size are read straight into their own buffer', () => {
    const seen: Uint8Array[] = []
    const assembler = new FrameAssembler(1_000_000, (frame) => seen.push(frame))
    const body = Buffer.alloc(500_000, 7)
    const bytes = framed(body)
    feed(assembler, bytes.subarray(0, 1_000), 1_000)
    const target = assembler.nextBuffer()
    assert.equal(target.length, bytes.length - 1_000)
    feed(assembler, bytes.subarray(1_000), 1_000_000)
    assert.equal(seen[0]?.buffer, target.buffer)
  })

  for (const length of [-1, 0, 3, 1_001, 0x7fff_ffff, 0x15030300]) {
    test(`a length of ${length} is refused before anything is allocated`, () => {
      const assembler = new FrameAssembler(1_000, () => assert.fail('no frame'))
      const head = Buffer.alloc(4)
      head.writeInt32BE(length | 0)
      const before = process.memoryUsage().arrayBuffers
      assert.throws(
        () => assembler.push(head),
        (e: OttlaError) => e.code === 'OTTLA_WIRE_MALFORMED',
      )
      assert.ok(process.memoryUsage().arrayBuffers - before < 1_000_000)
    })
  }
})

describe('the pool of frames', () => {
  test('memory is used again only after it was given back, and once', () => {
    const pool = new FramePool()
    const first = pool.take(1_000_000)
    const second = pool.take(1_000_000)
    assert.notEqual(second.buffer, first.buffer)
    pool.give(first.buffer)
    pool.give(first.buffer)
    const third = pool.take(990_000)
    assert.equal(third.buffer, first.buffer)
    assert.equal(third.length, 990_000)
    assert.notEqual(pool.take(990_000).buffer, first.buffer)
  })

  test('memory of others, small frames and what is beyond its limit are not kept', () => {
    const pool = new FramePool()
    const foreign = Buffer.alloc(1_000_000)
    pool.give(foreign.buffer)
    assert.notEqual(pool.take(1_000_000).buffer, foreign.buffer)
    const small = pool.take(100)
    pool.give(small.buffer)
    assert.notEqual(pool.take(100).buffer, small.buffer)
    const frames = Array.from({ length: 40 }, () => pool.take(1024 * 1024))
    for (const frame of frames) pool.give(frame.buffer)
    const again = new Set(frames.map(({ buffer }) => buffer))
    let kept = 0
    while (again.has(pool.take(1024 * 1024).buffer)) kept++
    assert.equal(kept, 16)
  })

  test('a small frame does not take the memory of a large one', () => {
    const pool = new FramePool()
    const large = pool.take(8 * 1024 * 1024)
    pool.give(large.buffer)
    assert.notEqual(pool.take(100_000).buffer, large.buffer)
    assert.equal(pool.take(8 * 1024 * 1024).buffer, large.buffer)
  })
})
