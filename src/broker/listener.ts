/**
 * Sockets: the only file of the broker that touches `node:net`.
 *
 * A connection, one request at a time, as Kafka does it:
 *
 *   reading   bytes are collected into frames; complete ones queue up. More than a few queued, or an answer that the
 *             client does not take: the socket is paused
 *   busy      the first frame of the queue is with the cluster; the next waits until its answer is written
 *   closed    malformed frame, unknown API or version, a fault rule, or the client hung up; waits are cancelled
 *
 * A frame's length is believed only up to a limit, and memory is taken as bytes arrive, not as they are promised.
 */
import { createServer, type Server, type Socket } from 'node:net'
import { OttlaError } from '../contract/errors.ts'
import { ErrorCode } from '../wire/error-codes.ts'
import {
  Api,
  type ApiKey,
  apiName,
  decodeRequest,
  decodeRequestHeader,
  encodeResponse,
  type RequestHeader,
} from '../wire/protocol.ts'
import type { AnyBody, ClientRequest } from './cluster.ts'
import type { Reply, Settled, Wait } from './reply.ts'

/** Kafka's `socket.request.max.bytes`. */
const frameBytesMax = 100 * 1024 * 1024
const queuedFramesMax = 8
const connectionsMax = 2_000

/** What a listener asks of the rest. */
export interface ListenerPort {
  /** The versions of ApiVersions; anything else gets the answer that every client can read. */
  readonly apiVersions: { readonly min: number; readonly max: number }
  handle(request: ClientRequest): Reply<AnyBody>
  /** Something worth a line in the log. */
  note(text: string, fields: object): void
}

/** A listening virtual broker. */
export interface Listener extends AsyncDisposable {
  readonly port: number
  /** Open client connections. */
  readonly connections: number
}

/** Listens on 127.0.0.1. `port` 0 takes a free one. */
export function listen(node: number, port: number, to: ListenerPort): Promise<Listener> {
  const open = new Set<Connection>()
  const server = createServer({ noDelay: true }, (socket) => {
    const connection = new Connection(socket, node, to)
    open.add(connection)
    socket.once('close', () => open.delete(connection))
  })
  server.maxConnections = connectionsMax
  return new Promise((resolve, reject) => {
    server.once('error', (cause) =>
      reject(
        new OttlaError('OTTLA_CONFIG_INVALID', `The embedded broker cannot listen on 127.0.0.1:${port}`, { cause }),
      ),
    )
    server.listen({ host: '127.0.0.1', port, backlog: 511 }, () => {
      const address = server.address()
      resolve({
        port: address !== null && typeof address === 'object' ? address.port : port,
        get connections() {
          return open.size
        },
        [Symbol.asyncDispose]: () => close(server, open),
      })
    })
  })
}

function close(server: Server, open: ReadonlySet<Connection>): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    for (const connection of [...open]) connection.close()
  })
}

class Connection {
  readonly #socket: Socket
  readonly #node: number
  readonly #to: ListenerPort
  readonly #clientHost: string
  readonly #frames: Uint8Array[] = []
  #chunks: Buffer[] = []
  #chunkBytes = 0
  #waiting: Wait<AnyBody> | null = null
  #busy = false
  #pumping = false
  #draining = false
  #closed = false

  constructor(socket: Socket, node: number, to: ListenerPort) {
    this.#socket = socket
    this.#node = node
    this.#to = to
    this.#clientHost = `/${socket.remoteAddress ?? '127.0.0.1'}`
    socket.on('data', (chunk: Buffer) => this.#read(chunk))
    socket.on('drain', () => {
      this.#draining = false
      this.#pump()
    })
    // A reset by the client is its way of leaving; 'close' follows.
    socket.on('error', (error) => to.note('connection lost', { node, reason: error.message }))
    socket.on('close', () => this.#ended())
  }

  close(): void {
    this.#ended()
    this.#socket.destroy()
  }

  #ended(): void {
    this.#closed = true
    this.#frames.length = 0
    this.#chunks = []
    this.#chunkBytes = 0
    this.#waiting?.cancel()
    this.#waiting = null
  }

  #read(chunk: Buffer): void {
    if (this.#closed) return
    this.#chunks.push(chunk)
    this.#chunkBytes += chunk.byteLength
    while (this.#chunkBytes >= 4) {
      const length = this.#peekLength()
      if (length < 8 || length > frameBytesMax) {
        this.#refuse(`a frame of ${length} bytes`)
        return
      }
      if (this.#chunkBytes < 4 + length) break
      this.#frames.push(this.#take(4 + length).subarray(4))
    }
    this.#pump()
  }

  #peekLength(): number {
    const first = this.#chunks[0]!
    if (first.byteLength >= 4) return first.readInt32BE(0)
    const joined = Buffer.concat(this.#chunks)
    this.#chunks = [joined]
    return joined.readInt32BE(0)
  }

  /** The first `count` bytes that came in; the rest stays. */
  #take(count: number): Uint8Array {
    const all = this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks)
    const rest = all.subarray(count)
    this.#chunks = rest.byteLength === 0 ? [] : [rest]
    this.#chunkBytes = rest.byteLength
    return all.subarray(0, count)
  }

  /** Serves what is queued until a request has to wait. */
  #pump(): void {
    if (this.#pumping) return
    this.#pumping = true
    while (!this.#closed && !this.#busy && !this.#draining && this.#frames.length > 0)
      this.#serve(this.#frames.shift()!)
    this.#pumping = false
    if (this.#closed) return
    const full = this.#draining || this.#frames.length > queuedFramesMax
    if (full && !this.#socket.isPaused()) this.#socket.pause()
    else if (!full && this.#socket.isPaused()) this.#socket.resume()
  }

  #serve(frame: Uint8Array): void {
    this.#busy = true
    try {
      const header = decodeRequestHeader(frame)
      const { apiVersions } = this.#to
      if (header.apiKey === Api.ApiVersions && !within(header.apiVersion, apiVersions)) {
        this.#write(header, 0, {
          errorCode: ErrorCode.UNSUPPORTED_VERSION,
          apiKeys: [{ apiKey: Api.ApiVersions, minVersion: apiVersions.min, maxVersion: apiVersions.max }],
        })
        return
      }
      const reply = this.#to.handle({
        node: this.#node,
        apiKey: header.apiKey,
        version: header.apiVersion,
        clientId: header.clientId,
        clientHost: this.#clientHost,
        body: decodeRequest(frame, header),
      })
      if (reply.kind !== 'wait') {
        this.#settle(header, reply)
        return
      }
      this.#waiting = reply.wait
      reply.wait.whenSettled((settled) => this.#settleLater(header, settled))
    } catch (error) {
      if (!(error instanceof OttlaError)) throw error
      this.#refuse(error.message)
    }
  }

  #settleLater(header: RequestHeader, reply: Settled<AnyBody>): void {
    this.#waiting = null
    try {
      this.#settle(header, reply)
    } catch (error) {
      if (!(error instanceof OttlaError)) throw error
      this.#refuse(error.message)
    }
    this.#pump()
  }

  #settle(header: RequestHeader, reply: Settled<AnyBody>): void {
    if (this.#closed) return
    switch (reply.kind) {
      case 'answer':
        this.#write(header, header.apiVersion, reply.body)
        return
      case 'silence':
        this.#busy = false
        return
      case 'close':
        this.#refuse(`${apiName(header.apiKey)}: ${reply.reason}`)
        return
      default:
        throw reply satisfies never
    }
  }

  #write(header: RequestHeader, version: number, body: AnyBody): void {
    const bytes = encodeResponse(header.apiKey as ApiKey, version, header.correlationId, body)
    this.#busy = false
    if (!this.#socket.write(bytes)) this.#draining = true
  }

  #refuse(reason: string): void {
    this.#to.note('connection closed', { node: this.#node, reason })
    this.close()
  }
}

function within(version: number, range: { readonly min: number; readonly max: number }): boolean {
  return version >= range.min && version <= range.max
}
