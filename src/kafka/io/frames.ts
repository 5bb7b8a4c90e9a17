/**
 * Cuts a stream of bytes into Kafka's frames: four bytes of length, then that many bytes.
 *
 * The length is judged before anything is allocated for it. Each frame gets a buffer of its own that is used again only
 * when its reader has said that it is done with it (`framePool.give`), so views into it (keys, values) stay valid for as
 * long as somebody holds them. A large frame's rest is read by the kernel
 * straight into its buffer: `nextBuffer` hands out the free part of it, and only the few bytes that arrived together with
 * the length are copied.
 *
 *     between frames ──4 bytes──▶ length known ──▶ filling ──full──▶ onFrame, between frames
 */
import { OttlaError } from '../../contract/errors.ts'

/** Where reads go between frames: large enough for many small answers at once, small enough that copying them is cheap. */
const scratchBytes = 16 * 1024

/** Frames from this size on come from the pool, and are made in steps of it, so that they fit one another's place. */
const pooledFromBytes = 64 * 1024
const stepBytes = 256 * 1024
/** What the pool keeps at most. */
const poolMaxBytes = 16 * 1024 * 1024

/**
 * Buffers of large frames whose readers are done with them. Fresh memory for every frame costs page faults, and has the
 * garbage collector run for nothing but these buffers.
 */
export class FramePool {
  readonly #free: ArrayBuffer[] = []
  /** Those made here, whether free, in use or lost with their last reader. */
  readonly #made = new WeakSet<ArrayBuffer>()
  #freeBytes = 0

  /** Memory for a frame; what stands in it is anything. */
  take(length: number): Buffer {
    if (length < pooledFromBytes) return Buffer.allocUnsafeSlow(length)
    // A buffer much larger than the frame stays for one that needs it.
    const index = this.#free.findLastIndex(
      ({ byteLength }) => byteLength >= length && byteLength <= length + 2 * stepBytes,
    )
    if (index >= 0) {
      const [found] = this.#free.splice(index, 1) as [ArrayBuffer]
      this.#freeBytes -= found.byteLength
      return Buffer.from(found, 0, length)
    }
    const { buffer } = Buffer.allocUnsafeSlow(Math.ceil(length / stepBytes) * stepBytes)
    this.#made.add(buffer)
    return Buffer.from(buffer, 0, length)
  }

  /** Nobody will look at this frame again. What is not of the pool, or there already, is left alone. */
  give(buffer: ArrayBufferLike): void {
    if (!(buffer instanceof ArrayBuffer) || !this.#made.has(buffer) || this.#free.includes(buffer)) return
    while (this.#freeBytes + buffer.byteLength > poolMaxBytes) {
      const oldest = this.#free.shift()
      if (oldest === undefined) return
      this.#freeBytes -= oldest.byteLength
    }
    this.#free.push(buffer)
    this.#freeBytes += buffer.byteLength
  }
}

/** The one of this process. */
export const framePool = new FramePool()

export class FrameAssembler {
  readonly #maxFrameBytes: number
  readonly #onFrame: (frame: Uint8Array) => void
  readonly #scratch = Buffer.allocUnsafeSlow(scratchBytes)
  /** Bytes of the length that have come in, 0 to 4, while between frames. */
  readonly #head = new Uint8Array(4)
  #headLength = 0
  #frame: Buffer | null = null
  #filled = 0

  constructor(maxFrameBytes: number, onFrame: (frame: Uint8Array) => void) {
    this.#maxFrameBytes = maxFrameBytes
    this.#onFrame = onFrame
  }

  /** Where the next bytes should be read to. Afterwards say how many came with `received`. */
  nextBuffer(): Uint8Array {
    const frame = this.#frame
    // A rest smaller than the scratch buffer goes through it, so that what follows the frame comes in the same read.
    if (frame === null || frame.length - this.#filled < scratchBytes) return this.#scratch
    return frame.subarray(this.#filled)
  }

  /** `count` bytes were read into what `nextBuffer` gave last. Throws OTTLA_WIRE_MALFORMED. */
  received(count: number, buffer: Uint8Array): void {
    if (buffer.buffer === this.#scratch.buffer) {
      this.push(buffer.subarray(0, count))
      return
    }
    this.#filled += count
    this.#completeIfFull()
  }

  /** Bytes that arrived in a buffer of somebody else's. They are copied. Throws OTTLA_WIRE_MALFORMED. */
  push(chunk: Uint8Array): void {
    let at = 0
    while (at < chunk.length) {
      if (this.#frame === null) {
        while (this.#headLength < 4 && at < chunk.length) {
          this.#head[this.#headLength++] = chunk[at++] as number
        }
        if (this.#headLength < 4) return
        this.#begin()
      }
      const frame = this.#frame as unknown as Buffer
      const take = Math.min(frame.length - this.#filled, chunk.length - at)
      frame.set(take === chunk.length ? chunk : chunk.subarray(at, at + take), this.#filled)
      this.#filled += take
      at += take
      this.#completeIfFull()
    }
  }

  /** The first bytes that came, for telling a TLS listener from a Kafka one when the length made no sense. */
  get lengthBytes(): Uint8Array {
    return this.#head
  }

  #begin(): void {
    const head = this.#head
    const length =
      ((head[0] as number) << 24) | ((head[1] as number) << 16) | ((head[2] as number) << 8) | (head[3] as number)
    // Every answer begins with the correlation id, so less than four bytes is none.
    if (length < 4 || length > this.#maxFrameBytes) {
      throw new OttlaError(
        'OTTLA_WIRE_MALFORMED',
        `A frame of ${length} bytes was announced; allowed are 4 to ${this.#maxFrameBytes}`,
        { details: { length, maxFrameBytes: this.#maxFrameBytes } },
      )
    }
    this.#frame = framePool.take(length)
    this.#filled = 0
    this.#headLength = 0
  }

  #completeIfFull(): void {
    const frame = this.#frame
    if (frame === null || this.#filled < frame.length) return
    this.#frame = null
    this.#filled = 0
    this.#onFrame(frame)
  }
}
