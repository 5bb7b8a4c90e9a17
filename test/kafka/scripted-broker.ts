/**
 * A TCP server that answers Kafka requests exactly as a test says: late, never, in pieces, wrongly.
 *
 * ApiVersions is answered by itself unless the test takes it over.
 */
import { createServer, type Server, type Socket } from 'node:net'
import {
  Api,
  type ApiKey,
  type Draft,
  decodeRequest,
  decodeRequestHeader,
  encodeResponse,
  type Responses,
  versionRange,
} from '../../src/wire/protocol.ts'

/** One request as it came. */
export interface Received {
  readonly api: number
  readonly version: number
  readonly correlationId: number
  readonly clientId: string | null
  readonly body: object
  readonly socket: Socket
  /** Answers with a body. */
  answer<A extends ApiKey>(api: A, body: Draft<Responses[A]>): void
  /** Sends any bytes. */
  raw(bytes: Uint8Array): void
}

export interface ScriptedBroker extends AsyncDisposable {
  readonly port: number
  readonly received: Received[]
  readonly sockets: Set<Socket>
  connections: number
  /** Resolves with the n-th request (from 0) of an API, when it has come. */
  request(api: ApiKey, n?: number): Promise<Received>
}

export interface Script {
  /** Return true when handled; otherwise ApiVersions is answered and everything else is not. */
  readonly onRequest?: (request: Received) => boolean | undefined
  /** Versions offered; default all that are known. */
  readonly versions?: readonly { readonly apiKey: number; readonly minVersion: number; readonly maxVersion: number }[]
  readonly onConnect?: (socket: Socket) => void
}

export const allVersions = Object.values(Api).map((apiKey) => {
  const { min, max } = versionRange(apiKey)
  return { apiKey, minVersion: min, maxVersion: max }
})

export async function scriptedBroker(script: Script = {}): Promise<ScriptedBroker> {
  const received: Received[] = []
  const sockets = new Set<Socket>()
  let watchers: (() => void)[] = []
  const broker = {
    port: 0,
    received,
    sockets,
    connections: 0,
    async request(api: ApiKey, n = 0): Promise<Received> {
      for (;;) {
        const found = received.filter((r) => r.api === api)[n]
        if (found !== undefined) return found
        await new Promise<void>((resolve) => watchers.push(resolve))
      }
    },
    async [Symbol.asyncDispose](): Promise<void> {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }

  const server: Server = createServer((socket) => {
    broker.connections += 1
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => socket.destroy())
    script.onConnect?.(socket)
    let rest = Buffer.alloc(0)
    socket.on('data', (chunk) => {
      rest = Buffer.concat([rest, chunk])
      while (rest.length >= 4 && rest.length >= 4 + rest.readInt32BE(0)) {
        const frame = rest.subarray(4, 4 + rest.readInt32BE(0))
        rest = rest.subarray(4 + rest.readInt32BE(0))
        onFrame(socket, frame)
      }
    })
  })

  function onFrame(socket: Socket, frame: Buffer): void {
    const header = decodeRequestHeader(frame)
    const request: Received = {
      api: header.apiKey,
      version: header.apiVersion,
      correlationId: header.correlationId,
      clientId: header.clientId,
      body: decodeRequest(frame, header),
      socket,
      answer: (api, body) => socket.write(encodeResponse(api, header.apiVersion, header.correlationId, body)),
      raw: (bytes) => socket.write(bytes),
    }
    received.push(request)
    const handled = script.onRequest?.(request) === true
    if (!handled && request.api === Api.ApiVersions) {
      request.answer(Api.ApiVersions, { errorCode: 0, apiKeys: script.versions ?? allVersions })
    }
    const told = watchers
    watchers = []
    for (const watcher of told) watcher()
  }

  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  broker.port = typeof address === 'object' && address !== null ? address.port : 0
  return broker
}
