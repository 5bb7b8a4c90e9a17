/**
 * One connection to one broker: frames out and in, answers matched to questions, each with its own deadline.
 *
 * Kafka answers in the order of asking, so requests in flight are a queue. A request that runs out of time is given up
 * by its caller but keeps its place in the queue: its late answer is read and dropped, and the neighbours behind it get
 * theirs. Only a connection on which nothing at all has come in for `silenceMs` while the oldest question is overdue is
 * taken for dead (a half-open socket) and closed.
 *
 *     connecting ──▶ open ◀──▶ gated (throttled by the broker, or authenticating again: requests wait)
 *          │          │            │
 *          └──────────┴────────────┴──▶ closed (every request still waiting fails; `sent` says whether its bytes had left)
 */
import { connect, type Socket, type TcpNetConnectOpts } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { OttlaError } from '../../contract/errors.ts'
import { GatheredRequest } from '../../wire/gathered-request.ts'
import {
  Api,
  type ApiKey,
  apiName,
  correlationIdOf,
  type Draft,
  decodeResponse,
  encodeRequest,
  type Requests,
  type Responses,
} from '../../wire/protocol.ts'
import type { ResolvedTlsOptions, ServerAddress } from '../options.ts'
import { FrameAssembler } from './frames.ts'
import { isTlsFailure, looksLikeTls, secureDialer } from './tls.ts'

export interface ConnectionOptions {
  readonly address: ServerAddress
  readonly clientId: string
  readonly tls: ResolvedTlsOptions | null
  readonly connectTimeoutMs: number
  /** Silence after which an overdue connection counts as dead. */
  readonly silenceMs: number
  readonly maxFrameBytes: number
  readonly maxInFlight: number
  readonly keepAliveMs: number
}

export interface SendOptions {
  readonly timeoutMs: number
  readonly signal?: AbortSignal | undefined
  /** Goes out although the gate is closed: for the conversation the gate was closed for. */
  readonly pastGate?: boolean
}

interface Pending {
  readonly api: ApiKey
  readonly version: number
  readonly body: unknown
  readonly timeoutMs: number
  readonly resolve: (body: never) => void
  readonly reject: (error: unknown) => void
  correlationId: number
  sent: boolean
  /** Its caller has been told something already; the answer will be dropped. */
  settled: boolean
  timer: NodeJS.Timeout | undefined
  signal: AbortSignal | undefined
  onAbort: (() => void) | undefined
}

export class Connection {
  readonly address: ServerAddress
  readonly #options: ConnectionOptions
  readonly #frames: FrameAssembler
  readonly #closeListeners: ((error: OttlaError) => void)[] = []
  #socket: Socket | TLSSocket | null = null
  #inFlight: Pending[] = []
  #inFlightHead = 0
  #waiting: Pending[] = []
  #nextCorrelationId = 1
  #lastReceivedMs = 0
  #received = false
  /** Answers beyond the introduction: until then a hang-up probably means that we are not welcome as we are. */
  #served = false
  #silenceTimer: NodeJS.Timeout | undefined
  #gateTimer: NodeJS.Timeout | undefined
  #throttledUntilMs = 0
  #gates = 0
  #corked = false
  #closed: OttlaError | null = null

  private constructor(options: ConnectionOptions) {
    this.address = options.address
    this.#options = options
    this.#frames = new FrameAssembler(options.maxFrameBytes, (frame) => this.#onFrame(frame))
  }

  /**
   * Connects TCP and, when asked for, TLS. Speaks no Kafka yet.
   * Throws OTTLA_KAFKA_CONNECTION or OTTLA_KAFKA_TLS.
   */
  static async open(options: ConnectionOptions, signal?: AbortSignal): Promise<Connection> {
    const connection = new Connection(options)
    const dial = options.tls === null ? null : await secureDialer(options.tls, options.address.host)
    await connection.#connect(dial, signal)
    return connection
  }

  /** `host:port`, for messages. */
  get name(): string {
    return `${this.address.host}:${this.address.port}`
  }

  get isOpen(): boolean {
    return this.#closed === null
  }

  /** Why it is closed, null while it is open. */
  get closedBy(): OttlaError | null {
    return this.#closed
  }

  /** Requests whose callers still wait. */
  get load(): number {
    return this.#inFlight.length - this.#inFlightHead + this.#waiting.length
  }

  onClose(listener: (error: OttlaError) => void): void {
    if (this.#closed !== null) listener(this.#closed)
    else this.#closeListeners.push(listener)
  }

  /**
   * Sends a request and resolves with its decoded answer. Throws OTTLA_KAFKA_TIMEOUT, OTTLA_KAFKA_CONNECTION (both with
   * `details.sent`: whether the broker may have got it), OTTLA_WIRE_MALFORMED; the signal's reason when aborted.
   */
  send<A extends ApiKey>(
    api: A,
    version: number,
    body: Draft<Requests[A]> | GatheredRequest,
    options: SendOptions,
  ): Promise<Responses[A]> {
    return new Promise<Responses[A]>((resolve, reject) => {
      if (this.#closed !== null) {
        reject(lost(this.#closed, false))
        return
      }
      const { signal } = options
      if (signal?.aborted) {
        reject(signal.reason)
        return
      }
      const pending: Pending = {
        api,
        version,
        body,
        timeoutMs: options.timeoutMs,
        resolve,
        reject,
        correlationId: 0,
        sent: false,
        settled: false,
        timer: undefined,
        signal,
        onAbort: undefined,
      }
      pending.timer = setTimeout(() => this.#onTimeout(pending), options.timeoutMs)
      if (signal !== undefined) {
        pending.onAbort = () => {
          settle(pending)
          this.#waiting = this.#waiting.filter((other) => other !== pending)
          reject(signal.reason)
        }
        signal.addEventListener('abort', pending.onAbort, { once: true })
      }
      if (options.pastGate === true) this.#write(pending)
      else if (this.#mayWrite()) this.#write(pending)
      else this.#waiting.push(pending)
    })
  }

  /**
   * Holds back requests while `work` has the connection to itself (authenticating again): its own go `pastGate`. What was
   * sent before is still answered, in order.
   */
  async exclusively<T>(work: () => Promise<T>): Promise<T> {
    this.#gates += 1
    try {
      return await work()
    } finally {
      this.#gates -= 1
      this.#drain()
    }
  }

  /** Closes at once. Requests not answered fail with OTTLA_KAFKA_CONNECTION around `error`. */
  close(error?: OttlaError): void {
    this.#close(error ?? new OttlaError('OTTLA_KAFKA_CLOSED', `The connection to ${this.name} was closed`))
  }

  // ── connecting ──

  #connect(secure: ((options: TcpNetConnectOpts) => TLSSocket) | null, signal: AbortSignal | undefined): Promise<void> {
    const { address, connectTimeoutMs, keepAliveMs } = this.#options
    const common = {
      host: address.host,
      port: address.port,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: keepAliveMs,
    }
    return new Promise((resolve, reject) => {
      let socket: Socket | TLSSocket
      if (secure === null) {
        socket = connect({
          ...common,
          onread: {
            buffer: () => this.#frames.nextBuffer(),
            callback: (count, buffer) => {
              this.#onBytes(() => this.#frames.received(count, buffer))
              return true
            },
          },
        })
      } else {
        socket = secure(common)
        socket.on('data', (chunk: Uint8Array) => this.#onBytes(() => this.#frames.push(chunk)))
      }
      this.#socket = socket

      const fail = (error: OttlaError): void => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', onAbort)
        this.#close(error)
        reject(error)
      }
      const timer = setTimeout(
        () =>
          fail(
            new OttlaError(
              'OTTLA_KAFKA_CONNECTION',
              `No connection to ${this.name} within ${connectTimeoutMs} ms${secure === null ? '' : ' (TLS handshake included)'}`,
            ),
          ),
        connectTimeoutMs,
      )
      const onAbort = (): void =>
        fail(new OttlaError('OTTLA_KAFKA_CONNECTION', `Connecting to ${this.name} was given up`))
      signal?.addEventListener('abort', onAbort, { once: true })

      const onError = (cause: Error): void => fail(this.#connectFailure(cause, secure !== null))
      socket.once('error', onError)
      const onEarlyClose = (): void =>
        fail(this.#connectFailure(new Error('closed by the other side'), secure !== null))
      socket.once('close', onEarlyClose)
      socket.once(secure === null ? 'connect' : 'secureConnect', () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', onAbort)
        socket.off('error', onError)
        socket.off('close', onEarlyClose)
        this.#lastReceivedMs = performance.now()
        socket.on('error', (cause: Error) => {
          this.#close(
            isTlsFailure(cause) && !this.#received && secure !== null
              ? this.#connectFailure(cause, true)
              : new OttlaError('OTTLA_KAFKA_CONNECTION', `The connection to ${this.name} broke: ${cause.message}`, {
                  cause,
                }),
          )
        })
        socket.on('close', () => this.#close(this.#hungUp()))
        resolve()
      })
      if (signal?.aborted) onAbort()
    })
  }

  #connectFailure(cause: Error, withTls: boolean): OttlaError {
    const why = describe(cause)
    if (withTls && isTlsFailure(cause)) {
      const hint =
        (cause as { code?: string }).code === 'ERR_SSL_WRONG_VERSION_NUMBER' ||
        (cause as { code?: string }).code === 'ERR_SSL_PACKET_LENGTH_TOO_LONG'
          ? ' (the port does not seem to speak TLS)'
          : ''
      return new OttlaError('OTTLA_KAFKA_TLS', `The TLS handshake with ${this.name} failed: ${why}${hint}`, { cause })
    }
    if (withTls && this.#socket !== null && !this.#socket.connecting && this.#socket.bytesWritten > 0) {
      return new OttlaError(
        'OTTLA_KAFKA_CONNECTION',
        `${this.name} hung up during the TLS handshake: ${why}. Does that port speak TLS?`,
        { cause, details: { duringTlsHandshake: true } },
      )
    }
    return new OttlaError('OTTLA_KAFKA_CONNECTION', `No connection to ${this.name}: ${why}`, { cause })
  }

  #hungUp(): OttlaError {
    if (this.#received) {
      const hint = this.#served ? '' : ' after the first question. Does that listener want SASL?'
      return new OttlaError('OTTLA_KAFKA_CONNECTION', `${this.name} closed the connection${hint}`)
    }
    return new OttlaError(
      'OTTLA_KAFKA_CONNECTION',
      `${this.name} closed the connection without a word. ${this.#options.tls === null ? 'Does that port want TLS?' : 'Is it a Kafka listener?'}`,
      { details: { beforeFirstAnswer: true } },
    )
  }

  // ── out ──

  #mayWrite(): boolean {
    return (
      this.#gates === 0 &&
      this.#throttledUntilMs === 0 &&
      this.#waiting.length === 0 &&
      this.#inFlight.length - this.#inFlightHead < this.#options.maxInFlight
    )
  }

  #write(pending: Pending): void {
    const socket = this.#socket as Socket
    const { api, version, body } = pending
    const { clientId } = this.#options
    const correlationId = this.#nextCorrelationId
    let pieces: readonly Uint8Array[]
    try {
      pieces =
        body instanceof GatheredRequest
          ? body.pieces({ version, correlationId, clientId })
          : [encodeRequest(api, version, correlationId, clientId, body as never)]
    } catch (error) {
      settle(pending)
      pending.reject(error)
      return
    }
    this.#nextCorrelationId = correlationId === 0x7fff_ffff ? 1 : correlationId + 1
    pending.correlationId = correlationId
    pending.sent = true
    this.#inFlight.push(pending)
    if (!this.#corked) {
      // Requests of one turn leave in one system call.
      this.#corked = true
      socket.cork()
      queueMicrotask(() => {
        this.#corked = false
        socket.uncork()
      })
    }
    for (let i = 0; i < pieces.length; i += 1) socket.write(pieces[i] as Uint8Array)
  }

  #drain(): void {
    while (
      this.#closed === null &&
      this.#waiting.length > 0 &&
      this.#gates === 0 &&
      this.#throttledUntilMs === 0 &&
      this.#inFlight.length - this.#inFlightHead < this.#options.maxInFlight
    ) {
      const next = this.#waiting.shift() as Pending
      if (!next.settled) this.#write(next)
    }
  }

  // ── in ──

  #onBytes(take: () => void): void {
    if (this.#closed !== null) return
    this.#lastReceivedMs = performance.now()
    try {
      take()
    } catch (error) {
      this.#close(this.#malformed(error))
    }
  }

  #malformed(error: unknown): OttlaError {
    if (!this.#received && looksLikeTls(this.#frames.lengthBytes)) {
      return new OttlaError(
        'OTTLA_KAFKA_TLS',
        `${this.name} answers in TLS, but the client was told to speak plaintext: set tls`,
      )
    }
    const why = error instanceof Error ? error.message : 'the bytes make no sense'
    return new OttlaError('OTTLA_WIRE_MALFORMED', `${this.name} sent something that is not Kafka: ${why}`, {
      cause: error,
    })
  }

  #onFrame(frame: Uint8Array): void {
    if (this.#closed !== null) return
    this.#received = true
    const pending = this.#inFlight[this.#inFlightHead]
    const correlationId = correlationIdOf(frame)
    if (pending === undefined || pending.correlationId !== correlationId) {
      throw new OttlaError(
        'OTTLA_WIRE_MALFORMED',
        `An answer to request ${correlationId} came where ${pending === undefined ? 'none' : pending.correlationId} was awaited`,
      )
    }
    this.#inFlightHead += 1
    if (this.#inFlightHead === this.#inFlight.length) {
      this.#inFlight = []
      this.#inFlightHead = 0
    } else if (this.#inFlightHead > 64) {
      this.#inFlight = this.#inFlight.slice(this.#inFlightHead)
      this.#inFlightHead = 0
    }
    if (pending.settled) {
      this.#drain()
      return
    }
    let body: Responses[ApiKey]
    try {
      body = decodeResponse(pending.api, answeredVersion(pending, frame), frame)
    } catch (error) {
      settle(pending)
      const malformed = new OttlaError(
        'OTTLA_WIRE_MALFORMED',
        `The answer of ${this.name} to ${apiName(pending.api)} v${pending.version} cannot be read: ${(error as Error).message}`,
        { cause: error },
      )
      pending.reject(malformed)
      this.#close(malformed)
      return
    }
    settle(pending)
    if (pending.api !== Api.ApiVersions) this.#served = true
    this.#honourThrottle((body as { throttleTimeMs?: number }).throttleTimeMs ?? 0)
    pending.resolve(body as never)
    this.#drain()
  }

  /** The broker asks to be left alone for a while; it would not read what we send anyway. */
  #honourThrottle(throttleMs: number): void {
    if (throttleMs <= 0) return
    // A broker that says an hour is wrong or hostile; a minute is already more than any sensible quota asks for.
    const pauseMs = Math.min(throttleMs, 60_000)
    const untilMs = performance.now() + pauseMs
    if (untilMs <= this.#throttledUntilMs) return
    this.#throttledUntilMs = untilMs
    clearTimeout(this.#gateTimer)
    this.#gateTimer = setTimeout(() => {
      this.#throttledUntilMs = 0
      this.#drain()
    }, pauseMs)
  }

  // ── giving up ──

  #onTimeout(pending: Pending): void {
    if (pending.settled) return
    settle(pending)
    if (!pending.sent) this.#waiting = this.#waiting.filter((other) => other !== pending)
    pending.reject(
      new OttlaError(
        'OTTLA_KAFKA_TIMEOUT',
        `${this.name} did not answer ${apiName(pending.api)} within ${pending.timeoutMs} ms`,
        { details: { sent: pending.sent, api: apiName(pending.api), broker: this.name } },
      ),
    )
    this.#watchSilence()
  }

  #watchSilence(): void {
    clearTimeout(this.#silenceTimer)
    const oldest = this.#inFlight[this.#inFlightHead]
    if (this.#closed !== null || oldest === undefined || !oldest.settled) return
    const leftMs = this.#lastReceivedMs + this.#options.silenceMs - performance.now()
    if (leftMs <= 0) {
      this.#close(
        new OttlaError('OTTLA_KAFKA_CONNECTION', `${this.name} has been silent for ${this.#options.silenceMs} ms`),
      )
      return
    }
    this.#silenceTimer = setTimeout(() => this.#watchSilence(), Math.ceil(leftMs))
  }

  #close(error: OttlaError): void {
    if (this.#closed !== null) return
    this.#closed = error
    clearTimeout(this.#silenceTimer)
    clearTimeout(this.#gateTimer)
    const socket = this.#socket
    if (socket !== null) {
      socket.on('error', () => {
        // Closed already, with the first error told; what a dying socket still says changes nothing.
      })
      socket.destroy()
    }
    const abandoned = [...this.#inFlight.slice(this.#inFlightHead), ...this.#waiting]
    this.#inFlight = []
    this.#inFlightHead = 0
    this.#waiting = []
    for (const pending of abandoned) {
      if (pending.settled) continue
      settle(pending)
      pending.reject(lost(error, pending.sent))
    }
    for (const listener of this.#closeListeners.splice(0)) listener(error)
  }
}

/** A broker that does not know our version of ApiVersions says so (code 35) in the form of version 0. */
function answeredVersion(pending: Pending, frame: Uint8Array): number {
  return pending.api === Api.ApiVersions && frame[4] === 0 && frame[5] === 35 ? 0 : pending.version
}

function settle(pending: Pending): void {
  pending.settled = true
  clearTimeout(pending.timer)
  if (pending.onAbort !== undefined) pending.signal?.removeEventListener('abort', pending.onAbort)
}

/** The error of one request on a connection that was lost, which also says whether its bytes may have arrived. */
function lost(error: OttlaError, sent: boolean): OttlaError {
  return new OttlaError(error.code, error.message, {
    cause: error,
    retriable: error.retriable,
    details: { ...error.details, sent },
  })
}

/** Node wraps the errors of several addresses into one without a message. */
function describe(cause: Error): string {
  if (cause instanceof AggregateError && cause.errors.length > 0) {
    return cause.errors.map((e: Error) => e.message).join('; ')
  }
  return cause.message === '' ? cause.name : cause.message
}
