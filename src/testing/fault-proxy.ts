/**
 * A TCP proxy in front of Kafka brokers that knows frames, and makes the network or the broker misbehave for chosen
 * requests: answers lost, late, twice, in halves, with an error code instead; connections reset before or after.
 *
 * Every broker gets a port of its own, and the addresses in Metadata, FindCoordinator and DescribeCluster (and those that
 * Produce and Fetch mention) are rewritten, so that clients stay behind it. No TLS: it must be able to read.
 *
 * A request on its way, one queue per connection because Kafka answers in the order of asking:
 *
 *     read ──no fault──────────▶ sent on ──▶ answered ──▶ written
 *       ├──error, not applied──▶ (the broker never hears of it) answer made here ──▶ written in its place
 *       ├──reset before────────▶ connection gone, nothing sent on
 *       └──any other───────────▶ sent on ──▶ answered ──▶ late, twice, half, replaced, swallowed, or connection gone
 */
import { connect, createServer, type Server, type Socket } from 'node:net'
import { handlers } from '../broker/api/table.ts'
import type { Call } from '../broker/api.ts'
import type { ProduceRequest } from '../wire/messages.gen.ts'
import {
  Api,
  type ApiKey,
  type ApiName,
  type Draft,
  decodeRequest,
  decodeRequestHeader,
  decodeResponse,
  encodeResponse,
  isApiKey,
  type RequestHeader,
  type Responses,
  versionRange,
} from '../wire/protocol.ts'

/** A request that passes. */
export interface PassingRequest {
  readonly api: ApiKey
  readonly version: number
  readonly correlationId: number
  readonly clientId: string | null
  /** Decoded; its shape goes by `api`. */
  readonly body: object
  /** `host:port` of the broker it goes to. */
  readonly broker: string
}

export type ProxyAction =
  /** An error code for the whole request. With `applied` the broker does what was asked, and only the answer lies. */
  | { readonly do: 'error'; readonly code: number; readonly applied?: boolean }
  /** The answer never comes; the connection stays open and silent. */
  | { readonly do: 'silence' }
  /** The answer, and all behind it on the connection, come `delayMs` later. */
  | { readonly do: 'delay'; readonly delayMs: number }
  /** The answer comes twice. */
  | { readonly do: 'duplicate-answer' }
  /** The broker gets the request twice; one answer comes. */
  | { readonly do: 'duplicate-request' }
  /** Half of the answer, then the connection is closed. */
  | { readonly do: 'half-frame' }
  /** The connection is reset: before the broker hears of it, or once it has answered. */
  | { readonly do: 'reset'; readonly when: 'before' | 'after' }
  /** Other bytes instead of the answer. Both are whole frames, their length in front. */
  | { readonly do: 'replace'; readonly with: (answer: Uint8Array, request: PassingRequest) => Uint8Array }

/** What to do to which requests. */
export interface ProxyRule {
  readonly api: ApiName
  /** Only these. */
  readonly when?: (request: PassingRequest) => boolean
  /** Matching requests let through first. Default 0. */
  readonly skip?: number
  /** How often; Infinity for always. Default 1. */
  readonly times?: number
  readonly action: ProxyAction
}

/** A rule in force; disposing withdraws it. */
export interface ProxyFault extends Disposable {
  /** How often it has struck. */
  readonly struck: number
}

export interface FaultProxy extends AsyncDisposable {
  /** What clients are given: the brokers the proxy was started with, behind it. */
  readonly bootstrapServers: string
  /** Rules are asked in the order they were added; the first that matches and has uses left wins. */
  fault(rule: ProxyRule): ProxyFault
  /** Requests of an API that came by. */
  seen(api: ApiName): number
  /** Resets every connection that is open. */
  resetAll(): void
}

interface Armed extends ProxyFault {
  readonly rule: ProxyRule
  struck: number
  matched: number
}

/** One answer owed to the client. `answer` is a frame with its length in front. */
interface Owed {
  readonly request: PassingRequest
  readonly action: ProxyAction | null
  /** Null when the broker's side ended without one. */
  readonly answer: Promise<Uint8Array | null>
  readonly give: (answer: Uint8Array | null) => void
}

/** Starts a proxy in front of brokers given as `host:port,host:port`. */
export async function startFaultProxy(bootstrapServers: string): Promise<FaultProxy> {
  const proxy = new Proxying()
  try {
    const ports: number[] = []
    for (const server of bootstrapServers.split(',')) ports.push(await proxy.portOf(server.trim()))
    proxy.bootstrapServers = ports.map((port) => `127.0.0.1:${port}`).join(',')
    return proxy
  } catch (error) {
    await proxy[Symbol.asyncDispose]()
    throw error
  }
}

class Proxying implements FaultProxy {
  bootstrapServers = ''
  readonly #rules: Armed[] = []
  readonly #ports = new Map<string, Promise<number>>()
  readonly #servers: Server[] = []
  readonly #links = new Set<Link>()
  readonly #seen = new Map<number, number>()
  readonly #failures: unknown[] = []

  /** The port of ours that stands for a broker. */
  portOf(broker: string): Promise<number> {
    let port = this.#ports.get(broker)
    if (port === undefined) {
      port = this.#listen(broker)
      this.#ports.set(broker, port)
    }
    return port
  }

  fault(rule: ProxyRule): ProxyFault {
    const armed: Armed = {
      rule,
      struck: 0,
      matched: 0,
      [Symbol.dispose]: () => {
        const at = this.#rules.indexOf(armed)
        if (at >= 0) this.#rules.splice(at, 1)
      },
    }
    this.#rules.push(armed)
    return armed
  }

  seen(api: ApiName): number {
    return this.#seen.get(Api[api]) ?? 0
  }

  resetAll(): void {
    for (const link of [...this.#links]) link.reset()
  }

  /** What is to be done to a request, counted as done. */
  strike(request: PassingRequest): ProxyAction | null {
    this.#seen.set(request.api, (this.#seen.get(request.api) ?? 0) + 1)
    for (const armed of this.#rules) {
      const { rule } = armed
      if (Api[rule.api] !== request.api || rule.when?.(request) === false) continue
      armed.matched += 1
      if (armed.matched <= (rule.skip ?? 0)) continue
      armed.struck += 1
      if (armed.struck >= (rule.times ?? 1)) armed[Symbol.dispose]()
      return rule.action
    }
    return null
  }

  /** Something of the proxy itself went wrong: told when it is disposed, so that no test passes over it. */
  failed(error: unknown): void {
    this.#failures.push(error)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.resetAll()
    await Promise.all(this.#servers.map((server) => new Promise((resolve) => server.close(resolve))))
    if (this.#failures.length > 0) throw new AggregateError(this.#failures, 'the fault proxy itself failed')
  }

  #listen(broker: string): Promise<number> {
    const server = createServer({ noDelay: true }, (near) => {
      const link = new Link(near, broker, this)
      this.#links.add(link)
      near.once('close', () => this.#links.delete(link))
    })
    this.#servers.push(server)
    return new Promise((resolve, reject) => {
      server.once('error', reject)
      server.listen(0, '127.0.0.1', () => {
        const address = server.address()
        resolve(typeof address === 'object' && address !== null ? address.port : 0)
      })
    })
  }
}

/** One client connection and the one to the broker behind it. */
class Link {
  readonly #near: Socket
  readonly #far: Socket
  readonly #broker: string
  readonly #proxy: Proxying
  /** Answers the broker owes us, oldest first; null for one that nobody wants. */
  readonly #awaited: (Owed | null)[] = []
  #written: Promise<void> = Promise.resolve()

  constructor(near: Socket, broker: string, proxy: Proxying) {
    this.#near = near
    this.#broker = broker
    this.#proxy = proxy
    const colon = broker.lastIndexOf(':')
    this.#far = connect({ host: broker.slice(0, colon), port: Number(broker.slice(colon + 1)), noDelay: true })
    near.on(
      'data',
      framesOf((frame) => this.#onRequest(frame)),
    )
    this.#far.on(
      'data',
      framesOf((frame) => this.#onAnswer(frame)),
    )
    // Whatever ends one side ends the other, once what was answered has been passed on.
    near.on('error', () => this.reset())
    near.on('close', () => this.#far.destroy())
    this.#far.on('error', () => this.reset())
    this.#far.on('close', () => {
      for (const owed of this.#awaited.splice(0)) owed?.give(null)
      void this.#written.then(() => near.destroySoon())
    })
  }

  reset(): void {
    this.#near.resetAndDestroy()
    this.#far.destroy()
  }

  #onRequest(frame: Buffer): void {
    const header = decodeRequestHeader(frame.subarray(4))
    const { apiKey, apiVersion } = header
    const known = isApiKey(apiKey) && versionRange(apiKey).max >= apiVersion && versionRange(apiKey).min <= apiVersion
    if (!known) {
      // ApiVersions of a newer client: passed on as it is, and so is the answer.
      this.#owe({ ...passing(header, this.#broker), body: {} }, null)
      this.#far.write(frame)
      return
    }
    const request = { ...passing(header, this.#broker), body: decodeRequest(frame.subarray(4), header) }
    const action = this.#proxy.strike(request)
    if (action?.do === 'reset' && action.when === 'before') {
      this.reset()
      return
    }
    if (request.api === Api.Produce && (request.body as ProduceRequest).acks === 0) {
      this.#far.write(frame)
      return
    }
    const owed = this.#owe(request, action)
    if (action?.do === 'error' && action.applied !== true && request.api !== Api.Metadata) {
      this.#awaited.pop()
      owed.give(refusal(request, action.code))
      return
    }
    this.#far.write(frame)
    if (action?.do === 'duplicate-request') {
      this.#awaited.push(null)
      this.#far.write(frame)
    }
  }

  /** Takes a place in the queue of what the client is to get. */
  #owe(request: PassingRequest, action: ProxyAction | null): Owed {
    let give: (answer: Uint8Array | null) => void = () => undefined
    const answer = new Promise<Uint8Array | null>((resolve) => {
      give = resolve
    })
    const owed: Owed = { request, action, answer, give }
    this.#awaited.push(owed)
    this.#written = this.#written
      .then(() => this.#deliver(owed))
      .catch((error: unknown) => {
        this.#proxy.failed(error)
        this.reset()
      })
    return owed
  }

  #onAnswer(frame: Buffer): void {
    this.#awaited.shift()?.give(frame)
  }

  async #deliver(owed: Owed): Promise<void> {
    const given = await owed.answer
    if (given === null) return
    const answer = await this.#readdressed(owed.request, given)
    const { action } = owed
    switch (action?.do) {
      case undefined:
      case 'duplicate-request':
        this.#near.write(answer)
        return
      case 'error':
        this.#near.write(
          owed.request.api === Api.Metadata
            ? withTopicErrors(owed.request, answer, action.code)
            : refusal(owed.request, action.code),
        )
        return
      case 'silence':
        return
      case 'delay':
        await new Promise((resolve) => setTimeout(resolve, action.delayMs))
        this.#near.write(answer)
        return
      case 'duplicate-answer':
        this.#near.write(answer)
        this.#near.write(answer)
        return
      case 'half-frame':
        this.#near.end(answer.subarray(0, Math.ceil(answer.length / 2)))
        return
      case 'reset':
        this.reset()
        return
      case 'replace':
        this.#near.write(action.with(answer, owed.request))
        return
      default:
        throw action satisfies never
    }
  }

  /** The answer with our addresses instead of the brokers'. */
  async #readdressed(request: PassingRequest, answer: Uint8Array): Promise<Uint8Array> {
    const { api, version, correlationId } = request
    switch (api) {
      case Api.Metadata: {
        const body = read(api, version, answer)
        return encodeResponse(api, version, correlationId, { ...body, brokers: await this.#ours(body.brokers) })
      }
      case Api.DescribeCluster: {
        const body = read(api, version, answer)
        return encodeResponse(api, version, correlationId, { ...body, brokers: await this.#ours(body.brokers) })
      }
      case Api.FindCoordinator: {
        const body = read(api, version, answer)
        const coordinators = await this.#ours(body.coordinators)
        const [first] = await this.#ours([{ host: body.host, port: body.port }])
        return encodeResponse(api, version, correlationId, { ...body, ...first, coordinators })
      }
      case Api.Produce:
      case Api.Fetch: {
        const body: Responses[typeof Api.Produce] | Responses[typeof Api.Fetch] = read(api, version, answer)
        if (body.nodeEndpoints.length === 0) return answer
        const nodeEndpoints = await this.#ours(body.nodeEndpoints)
        return encodeResponse(api, version, correlationId, { ...body, nodeEndpoints } as Draft<Responses[typeof api]>)
      }
      default:
        return answer
    }
  }

  #ours<T extends { readonly host: string | null; readonly port: number }>(brokers: readonly T[]): Promise<T[]> {
    return Promise.all(
      brokers.map(async (broker) =>
        broker.port <= 0
          ? broker
          : { ...broker, host: '127.0.0.1', port: await this.#proxy.portOf(`${broker.host}:${broker.port}`) },
      ),
    )
  }
}

function passing(header: RequestHeader, broker: string): Omit<PassingRequest, 'body'> {
  const { apiKey, apiVersion: version, correlationId, clientId } = header
  return { api: apiKey as ApiKey, version, correlationId, clientId, broker }
}

function read<A extends ApiKey>(api: A, version: number, answer: Uint8Array): Responses[A] {
  return decodeResponse(api, version, answer.subarray(4))
}

/** A broker's way of saying no to a whole request. */
function refusal(request: PassingRequest, code: number): Uint8Array {
  const handler = handlers.get(request.api)
  if (handler === undefined) throw new Error(`no refusal is known for API ${request.api}`)
  // Of the call, a refusal needs nothing but the version; only Metadata's would look at a cluster.
  const call = { version: request.version, nowMs: 0, node: -1 } as unknown as Call
  const body = handler.refuse(call, request.body as never, code)
  return encodeResponse(request.api, request.version, request.correlationId, body)
}

function withTopicErrors(request: PassingRequest, answer: Uint8Array, errorCode: number): Uint8Array {
  const body = read(Api.Metadata, request.version, answer)
  return encodeResponse(Api.Metadata, request.version, request.correlationId, {
    ...body,
    topics: body.topics.map((topic) => ({ ...topic, errorCode, partitions: [] })),
  })
}

/** Collects bytes into frames, their length in front. */
function framesOf(onFrame: (frame: Buffer) => void): (chunk: Buffer) => void {
  let chunks: Buffer[] = []
  let have = 0
  let need = 4
  return (chunk) => {
    chunks.push(chunk)
    have += chunk.length
    while (have >= need) {
      const all = chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks)
      const length = 4 + all.readInt32BE(0)
      if (have < length) {
        chunks = [all]
        need = length
        return
      }
      onFrame(all.subarray(0, length))
      chunks = [all.subarray(length)]
      have -= length
      need = 4
    }
  }
}
