/**
 * What a handler is given beside the payload: the message's facts, `emit`, `tx`, `signal`, `log`.
 *
 * A context is open from the start of one attempt until its handler has returned or its deadline has passed. After that
 * `emit` and `tx` throw: what they would do could no longer be part of the attempt. Everything here is made when asked
 * for, so a handler that takes only the payload costs one object.
 */
import type { Envelope } from '../contract/envelope.ts'
import { OttlaError } from '../contract/errors.ts'
import type { Message } from '../contract/event.ts'
import { derivedId, timeOfId } from '../contract/id.ts'
import { encodeMessage } from '../contract/message.ts'
import type { Blamed } from './guards.ts'
import type { ServicePlan, Surroundings } from './plan.ts'
import type { Log, OutboxRecord } from './ports.ts'
import { toRecord } from './publish.ts'

/** What is known about the message being handled. Never an offset. */
export class ReceivedMessage {
  readonly #envelope: Envelope
  readonly topic: string
  /** The name of the event. */
  readonly type: string
  /** From 1. Attempts that failed for a passing reason are not counted. */
  readonly attempt: number
  /** Was it a dead letter that somebody asked to have handled again? */
  readonly redrive: boolean

  constructor(envelope: Envelope, about: Pick<AttemptFacts, 'redrive' | 'topic' | 'type' | 'attempt'>) {
    this.#envelope = envelope
    this.redrive = about.redrive
    this.topic = about.topic
    this.type = about.type
    this.attempt = about.attempt
  }

  get id(): string {
    return this.#envelope.id
  }

  get source(): string {
    return this.#envelope.source
  }

  get key(): string | null {
    return this.#envelope.keyText
  }

  /** When the event happened by its producer's clock. Orders nothing. */
  get time(): Date {
    return new Date(this.#envelope.timeMs)
  }

  get headers(): Readonly<Record<string, string>> {
    return this.#envelope.headers
  }
}

export interface EmitOptions {
  /** `ce_id`; derived from the handled event when left out. */
  readonly id?: string
}

/** Collects what is emitted: encoded at once, so that a mistake points at its caller. */
export class Emissions {
  readonly #plan: ServicePlan
  readonly #surroundings: Surroundings
  readonly #idOf: (type: string, n: number) => string
  readonly #traceparent: string | null
  readonly records: OutboxRecord[] = []

  constructor(
    plan: ServicePlan,
    surroundings: Surroundings,
    origin: { readonly idOf: (type: string, n: number) => string; readonly traceparent: string | null },
  ) {
    this.#plan = plan
    this.#surroundings = surroundings
    this.#idOf = origin.idOf
    this.#traceparent = origin.traceparent
  }

  add(message: Message, options: EmitOptions | undefined): void {
    const { emits, name } = this.#plan
    if (emits !== null && !emits.has(message.topic)) {
      throw new OttlaError(
        'OTTLA_RUNTIME_UNDECLARED_EMIT',
        `Service ${name} does not declare that it emits to ${message.topic}. Add the topic to its emits`,
      )
    }
    const encoded = encodeMessage(
      message,
      {
        id: options?.id ?? this.#idOf(`${message.topic}.${message.type}`, this.records.length),
        source: name,
        timeMs: this.#surroundings.clock.wallMs(),
        ...(this.#traceparent === null ? {} : { traceparent: this.#traceparent }),
      },
      this.#surroundings.topics,
    )
    this.records.push(toRecord(encoded, this.#surroundings.facts))
  }
}

/** Which attempt it is, of which record, for which handler. */
export interface AttemptFacts {
  readonly handler: string
  /** The topic and the name of the event. */
  readonly topic: string
  readonly type: string
  readonly position: number
  readonly attempt: number
  readonly redrive: boolean
}

export class HandlerContext {
  readonly #plan: ServicePlan
  readonly #surroundings: Surroundings
  readonly #envelope: Envelope
  readonly #facts: AttemptFacts
  #message: ReceivedMessage | null = null
  #emissions: Emissions | null = null
  #emit: ((message: Message, options?: EmitOptions) => void) | null = null
  #controller: AbortController | null = null
  #closed: 'returned' | 'expired' | null = null
  #expiry: OttlaError | null = null
  #tx: unknown

  constructor(plan: ServicePlan, surroundings: Surroundings, envelope: Envelope, facts: AttemptFacts) {
    this.#plan = plan
    this.#surroundings = surroundings
    this.#envelope = envelope
    this.#facts = facts
  }

  /**
   * The message's facts. Whoever has taken them may keep them; they are not to be had for the first time after the handler
   * has returned, as the record's memory may hold another one by then. Throws OTTLA_RUNTIME_DEADLINE in that case.
   */
  get message(): ReceivedMessage {
    if (this.#message === null) {
      if (this.#closed === 'returned') this.#refuseWhenClosed('message')
      this.#message = new ReceivedMessage(this.#envelope, this.#facts)
    }
    return this.#message
  }

  /** Publishes with the transaction of a service with a store, after the handler otherwise. */
  get emit(): (message: Message, options?: EmitOptions) => void {
    this.#emit ??= (message, options) => {
      this.#refuseWhenClosed('emit')
      this.#emissions ??= new Emissions(this.#plan, this.#surroundings, {
        // Ids are unique per source only, so the source is part of what the new id is derived from.
        idOf: (type, n) =>
          derivedId({
            sourceId: `${this.#envelope.source}\n${this.#envelope.id}`,
            service: this.#plan.name,
            type,
            n,
            timeMs: timeOfId(this.#envelope.id) ?? this.#envelope.timeMs,
          }),
        traceparent: this.#envelope.traceparent,
      })
      this.#emissions.add(message, options)
    }
    return this.#emit
  }

  /** The transaction that also holds the inbox row and what is emitted. */
  get tx(): unknown {
    if (this.#plan.store === null) {
      throw new OttlaError(
        'OTTLA_RUNTIME_WIRING',
        `Service ${this.#plan.name} has no store, so there is no transaction. Write service(name, { store })`,
      )
    }
    this.#refuseWhenClosed('tx')
    return this.#tx
  }

  /** Aborts at the handler's deadline and when the partition is taken away. */
  get signal(): AbortSignal {
    this.#controller ??= new AbortController()
    if (this.#expiry !== null && !this.#controller.signal.aborted) this.#controller.abort(this.#expiry)
    return this.#controller.signal
  }

  get log(): Log {
    return this.#surroundings.log
  }

  /** @internal */
  begin(tx: unknown): void {
    this.#tx = tx
  }

  /** @internal The handler has returned: what it emitted. */
  close(): readonly OutboxRecord[] {
    this.#closed ??= 'returned'
    // What the handler did not await may still fail, and is to be told with the id of its record.
    if (this.#surroundings.guards !== null) this.#envelope.readId()
    return this.#emissions?.records ?? []
  }

  /** @internal The deadline has passed, or the partition is gone. `commit`: a transaction still under way is told too. */
  expire(error: OttlaError, { commit = false }: { readonly commit?: boolean } = {}): void {
    if (this.#expiry !== null) return
    if (this.#closed === 'returned' && !(commit && this.#plan.store !== null)) return
    this.#closed ??= 'expired'
    this.#expiry = error
    this.#controller?.abort(error)
  }

  /** @internal */
  get blamed(): Blamed {
    const { id, record } = this.#envelope
    const { handler, topic, position } = this.#facts
    return { service: this.#plan.name, handler, topic, partition: record.partition, position, id }
  }

  /** @internal Has anybody taken `message`? Then the record's bytes may be asked for at any time. */
  get shown(): boolean {
    return this.#message !== null
  }

  /** @internal Why it was cut short; null when it was not. */
  get expiry(): OttlaError | null {
    return this.#expiry
  }

  #refuseWhenClosed(what: string): void {
    if (this.#closed === null) return
    const { topic, type } = this.#facts
    throw new OttlaError(
      'OTTLA_RUNTIME_DEADLINE',
      this.#closed === 'expired'
        ? `${what} came after the deadline of ${topic}.${type}: the attempt was given up`
        : `${what} came after the handler of ${topic}.${type} had returned; await what uses it`,
    )
  }
}
