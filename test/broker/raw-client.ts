/** A connection that speaks raw frames: what the broker sees is exactly what the test says. */
import { connect, type Socket } from 'node:net'
import {
  type ApiKey,
  correlationIdOf,
  type Draft,
  decodeResponse,
  encodeRequest,
  type Requests,
  type Responses,
} from '../../src/wire/protocol.ts'

export class RawClient implements AsyncDisposable {
  readonly #socket: Socket
  readonly #frames: Buffer[] = []
  readonly #waiting: ((frame: Buffer | null) => void)[] = []
  #bytes = Buffer.alloc(0)
  #correlationId = 0
  #closed = false

  constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', (chunk: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk])
      while (this.#bytes.byteLength >= 4 && this.#bytes.byteLength >= 4 + this.#bytes.readInt32BE(0)) {
        const length = this.#bytes.readInt32BE(0)
        this.#got(this.#bytes.subarray(4, 4 + length))
        this.#bytes = this.#bytes.subarray(4 + length)
      }
    })
    // A reset is one of the ways in which the broker hangs up; 'close' follows and is what tests look at.
    socket.on('error', () => {})
    socket.on('close', () => {
      this.#closed = true
      for (const tell of this.#waiting.splice(0)) tell(null)
    })
  }

  static connect(port: number): Promise<RawClient> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port, noDelay: true })
      socket.once('error', reject)
      socket.once('connect', () => {
        socket.off('error', reject)
        resolve(new RawClient(socket))
      })
    })
  }

  /** Writes bytes as they are. */
  raw(bytes: Uint8Array): void {
    this.#socket.write(bytes)
  }

  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  /** The next frame, without its length; null when the broker has hung up. */
  frame(): Promise<Buffer | null> {
    const ready = this.#frames.shift()
    if (ready !== undefined) return Promise.resolve(ready)
    if (this.#closed) return Promise.resolve(null)
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  /** Sends a request and returns its correlation id. */
  send<K extends ApiKey>(api: K, version: number, body: Draft<Requests[K]>): number {
    this.#correlationId += 1
    this.#socket.write(encodeRequest(api, version, this.#correlationId, 'raw', body))
    return this.#correlationId
  }

  /** Sends a request and reads the next answer; throws when the broker hangs up instead. */
  async ask<K extends ApiKey>(api: K, version: number, body: Draft<Requests[K]>): Promise<Responses[K]> {
    const correlationId = this.send(api, version, body)
    const frame = await this.frame()
    if (frame === null) throw new Error('the broker hung up')
    if (correlationIdOf(frame) !== correlationId) throw new Error(`answer to ${correlationIdOf(frame)}`)
    return decodeResponse(api, version, frame)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return
    await new Promise<void>((resolve) => {
      this.#socket.once('close', () => resolve())
      this.#socket.destroy()
    })
  }

  #got(frame: Buffer): void {
    const tell = this.#waiting.shift()
    if (tell === undefined) this.#frames.push(frame)
    else tell(frame)
  }
}
