/**
 * Counts from outside what a client does: requests by reading the frames written to its sockets, and bytes copied by
 * watching every way JavaScript has to copy them. Works for any client in JavaScript; what it costs is why it is never on
 * while time is taken.
 */
import { Socket } from 'node:net'
import { promiseHooks } from 'node:v8'
import type { Counters } from './task.ts'

const produceKey = 0

/** Cuts what is written to one socket into frames: 4 bytes of length, then the API key in the first two. */
class FrameWatch {
  #head = 0
  #length = 0
  #apiKey = 0
  /** Bytes of the frame seen so far, the length included. */
  #at = 0

  take(bytes: Uint8Array, onFrame: (apiKey: number) => void): void {
    for (let i = 0; i < bytes.length; ) {
      if (this.#at >= 6) {
        const skipped = Math.min(this.#length + 4 - this.#at, bytes.length - i)
        this.#at += skipped
        i += skipped
      } else {
        const byte = bytes[i++] as number
        if (this.#at < 4) this.#head = ((this.#head << 8) | byte) >>> 0
        else this.#apiKey = (this.#apiKey << 8) | byte
        this.#at += 1
        if (this.#at === 4) {
          this.#length = this.#head
          this.#head = 0
        }
        if (this.#at === 6) onFrame(this.#apiKey)
      }
      if (this.#at >= 6 && this.#at === this.#length + 4) {
        this.#at = 0
        this.#apiKey = 0
      }
    }
  }
}

/** To be called before the client is loaded. The returned function tells what has been counted so far. */
export function countFromNowOn(): () => Counters {
  const requests: Record<string, number> = {}
  const sockets = new Map<Socket, FrameWatch>()
  const produced = new Map<Socket, number>()
  let produceInTurnMax = 0
  let turnOpen = false
  let copiedBytes = 0
  let copying = 0

  const onFrame = (socket: Socket, apiKey: number): void => {
    requests[apiKey] = (requests[apiKey] ?? 0) + 1
    if (apiKey !== produceKey) return
    if (!turnOpen) {
      turnOpen = true
      setImmediate(() => {
        turnOpen = false
        produced.clear()
      })
    }
    const inTurn = (produced.get(socket) ?? 0) + 1
    produced.set(socket, inTurn)
    produceInTurnMax = Math.max(produceInTurnMax, inTurn)
  }
  const write = Socket.prototype.write as (this: Socket, ...given: unknown[]) => boolean
  Socket.prototype.write = function (this: Socket, ...given: unknown[]): boolean {
    const [chunk] = given
    if (chunk instanceof Uint8Array) {
      let watch = sockets.get(this)
      if (watch === undefined) {
        watch = new FrameWatch()
        sockets.set(this, watch)
      }
      watch.take(chunk, (apiKey) => onFrame(this, apiKey))
    }
    return write.apply(this, given)
  } as typeof Socket.prototype.write

  // The memory of a WebAssembly module is where a checksum works, not a message's.
  const workingMemories = new WeakSet<object>()
  const { WebAssembly } = globalThis as unknown as { WebAssembly: { Instance: new (...given: unknown[]) => object } }
  WebAssembly.Instance = new Proxy(WebAssembly.Instance, {
    construct(target, given) {
      const instance = Reflect.construct(target, given) as { exports: Record<string, { buffer?: object }> }
      for (const exported of Object.values(instance.exports)) {
        if (exported.buffer !== undefined) workingMemories.add(exported.buffer)
      }
      return instance
    },
  })

  /** Only the outermost call counts: `Buffer.concat` copies by `set`. */
  const watched = (
    holder: object,
    name: string,
    bytesOf: (self: Uint8Array, given: readonly unknown[], result: unknown) => number,
  ): void => {
    const original = (holder as Record<string, (...given: unknown[]) => unknown>)[name] as (
      ...given: unknown[]
    ) => unknown
    Object.defineProperty(holder, name, {
      configurable: true,
      writable: true,
      value: function (this: Uint8Array, ...given: unknown[]): unknown {
        copying += 1
        try {
          const result = original.apply(this, given)
          if (copying === 1) copiedBytes += bytesOf(this, given, result)
          return result
        } finally {
          copying -= 1
        }
      },
    })
  }
  const typedArray = Object.getPrototypeOf(Uint8Array.prototype) as object
  watched(typedArray, 'set', (self, [source]) =>
    workingMemories.has(self.buffer) ? 0 : ((source as { byteLength?: number }).byteLength ?? 0),
  )
  watched(typedArray, 'slice', (_self, _given, result) => (result as Uint8Array).byteLength)
  watched(typedArray, 'copyWithin', (self) => self.byteLength)
  watched(Buffer.prototype, 'copy', (_self, _given, result) => result as number)
  watched(Buffer, 'concat', (_self, _given, result) => (result as Buffer).length)
  watched(Buffer, 'from', (_self, [source], result) => (source instanceof Uint8Array ? (result as Buffer).length : 0))

  let promises = 0
  promiseHooks.onInit(() => {
    promises += 1
  })
  let timers = 0
  const { setTimeout: original } = globalThis
  globalThis.setTimeout = ((...given: Parameters<typeof setTimeout>) => {
    timers += 1
    return original(...given)
  }) as typeof setTimeout

  return () => ({
    promises,
    timers,
    requests: { ...requests },
    produceInTurnMax,
    receivedBytes: [...sockets.keys()].reduce((sum, socket) => sum + socket.bytesRead, 0),
    copiedBytes,
  })
}
