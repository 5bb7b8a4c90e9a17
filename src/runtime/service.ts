/**
 * A service: a name, which is its consumer group, and one handler per event.
 *
 * The types say at the call what is wrong: an event handled twice, a topic in the place of an event, `tx` without a
 * store, an emit to a topic that was not declared. What types cannot see (a service wired in statements, JavaScript)
 * is checked again when it runs.
 */
import { type Duration, durationMs } from '../contract/duration.ts'
import { OttlaError } from '../contract/errors.ts'
import { type AnyEvent, isEvent, type Message, type PayloadOf } from '../contract/event.ts'
import type { Mistake } from '../contract/mistake.ts'
import { checkServiceName } from '../contract/names.ts'
import type { Schema } from '../contract/schema.ts'
import { type AnyTopic, isTopic, topicOf } from '../contract/topic.ts'
import type { Classify } from '../core/classify.ts'
import type { Log, StoreKind } from './ports.ts'

// ── what a handler sees ──

/** What is known about the message being handled. Never an offset. */
export interface Received {
  /** `ce_id`: the same on every delivery of this event. */
  readonly id: string
  readonly topic: string
  /** The event's name. */
  readonly type: string
  readonly key: string | null
  /** When it was published, by the publisher's clock. Orders nothing. */
  readonly time: Date
  /** The service it came from. */
  readonly source: string
  /** 1 on the first attempt. */
  readonly attempt: number
  /** Was it a dead letter, and does it come again because somebody asked for that? */
  readonly redrive: boolean
  /** All headers as text, the last of repeated ones. */
  readonly headers: Readonly<Record<string, string>>
}

/** What may be said beside an emitted message. */
export interface EmitOptions {
  /** Its `ce_id`. Derived from the handled event when left out, so that a redelivery emits the same id. */
  readonly id?: string
}

/** Publishes with the handler's transaction when the service has a store, after the handler otherwise. */
export type Emit<Topics extends string> = <T extends string>(
  message: [T] extends [Topics]
    ? Message<T>
    : `This service does not declare that it emits to ${Exclude<T, Topics>}. Add the topic to its emits`,
  options?: EmitOptions,
) => void

/** The second parameter of a handler in a service without a store. */
export interface Context<Topics extends string = string> {
  readonly emit: Emit<Topics>
  /**
   * What is known about the message. May be kept for as long as one likes, but is taken while the handler runs: asked for the
   * first time after it has returned, it throws OTTLA_RUNTIME_DEADLINE, since the record's memory may hold another one.
   */
  readonly message: Received
  /** Aborts at the handler's timeout and when its partition is taken away. */
  readonly signal: AbortSignal
  readonly log: Log
}

/** The second parameter of a handler in a service with a store. */
export interface StoreContext<Tx, Topics extends string = string> extends Context<Topics> {
  /** The transaction that also holds the inbox row and what is emitted. Never commit it yourself. */
  readonly tx: Tx
}

/** As Context; `tx` is here only to say why it is not. */
export interface StorelessContext<Topics extends string = string> extends Context<Topics> {
  readonly tx: Mistake<'This service has no store, so there is no transaction. Write service(name, { store })'>
}

type ContextFor<Tx, Topics extends string> = [Tx] extends [never] ? StorelessContext<Topics> : StoreContext<Tx, Topics>

/** What a service hands to its handlers. */
export type ContextOf<S> = S extends { readonly '~context'?: infer C } ? NonNullable<C> : never

/** Handles one event. It returns nothing; what it has to say it emits. */
export type Handler<Payload, C> = (payload: Payload, context: C) => void | Promise<void>

/** The type of a handler kept in a file of its own. */
export type HandlerOf<S extends AnyService, E extends AnyEvent> = Handler<PayloadOf<E>, ContextOf<S>>

/** How a handler is run, and what happens when it cannot be. */
export interface HandlerOptions<Payload = any, C = any> {
  /** How long one attempt may take; then `signal` aborts and its transaction is rolled back. Default `'60s'`. */
  readonly timeout?: Duration
  /** Attempts on errors of an unknown kind before the record is dead-lettered. Default 5. */
  readonly attempts?: number
  /**
   * Takes a redriven record although later ones of its key may have been handled; `message.redrive` tells. Without it
   * such a redrive is refused as *stale*.
   */
  readonly late?: 'accept'
  /**
   * Handles the event instead when the attempts are used up or a breaker is open, with all that the handler has: `tx`,
   * `emit`, its own deadline. When it returns, the record counts as handled, with the label *fallback*; when it throws,
   * the record goes where it would have gone without it. Not asked for a `PermanentError` and for an invalid event.
   */
  readonly fallback?: (payload: Payload, context: C, error: unknown) => void | Promise<void>
  /**
   * What a failure is, asked before ottla's own opinion; `undefined`: no opinion. An open breaker and a store that is
   * away are not asked about.
   */
  readonly classify?: Classify
  /**
   * What becomes of a record that is given up. `deadLetter`: it goes to the dead letters. `drop`: it is gone; the ledger
   * counts it as *dropped* with its reason. Default `deadLetter`.
   */
  readonly onFailure?: 'deadLetter' | 'drop'
  /**
   * `forever`: failures of an unknown kind are repeated without end, and the key stands as long. `PermanentError` and
   * invalid events are given up all the same. The ledger counts what goes beyond the attempts as *retriesForever*.
   */
  readonly retry?: 'forever'
  /**
   * `before-handling`: the record counts as done before its handler starts, so it is handled at most once: a crash loses
   * it, and a failure drops it (ledger: *dropped*, `acknowledgedBeforeHandling`). Every record waits for its checkpoint.
   */
  readonly acknowledge?: C extends { readonly tx: Mistake<string> }
    ? 'before-handling'
    : 'A service with a store acknowledges with its transaction. Leave acknowledge out, or the store'
}

// ── the builder ──

type IdOf<E> = E extends { readonly topic: infer T extends string; readonly name: infer N extends string }
  ? `${T}.${N}`
  : never
type EventName<T> = Exclude<keyof T, keyof AnyTopic> & string
type ValueIn<T, E extends keyof T> = T[E] extends { readonly schema: Schema<any, infer V> } ? V : never

/** One service: one consumer group, one handler per event. */
export interface Service<Name extends string, C = any, Handled extends string = any> {
  readonly name: Name
  /** Type only: what its handlers get. */
  readonly '~context'?: C
  /** Type only: what it handles. */
  readonly '~handled'?: (event: Handled) => void
  /** What the engine runs. */
  readonly '~definition': ServiceDefinition
  /** Subscribes to one event. One handler per event and service. */
  on<E extends AnyEvent | AnyTopic>(
    event: E extends AnyTopic
      ? `This is the topic ${E['name']}, not an event of it. Write onTopic(topic, { … }) to handle all its events`
      : IdOf<E> extends Handled
        ? `Service ${Name} already handles ${IdOf<E>}. One service handles an event once`
        : E,
    handler: Handler<PayloadOf<E>, C>,
    options?: HandlerOptions<PayloadOf<E>, C>,
  ): Service<Name, C, Handled | IdOf<E>>
  /** Subscribes to every event of a topic: a new event in the contract is then a compile error here. */
  onTopic<T extends AnyTopic>(
    topic: T,
    handlers: {
      readonly [E in EventName<T>]: `${T['name']}.${E}` extends Handled
        ? `Service ${Name} already handles ${T['name']}.${E}. One service handles an event once`
        : Handler<ValueIn<T, E>, C>
    },
    options?: HandlerOptions<ValueIn<T, EventName<T>>, C>,
  ): Service<Name, C, Handled | `${T['name']}.${EventName<T>}`>
  /** Subscribes to an event known only when the program runs. For tools; `on` is checked by types. */
  subscribe(event: AnyEvent, handler: Handler<any, C>, options?: HandlerOptions<any, C>): this
}

/** Any service, whatever it handles. */
export interface AnyService {
  readonly name: string
  readonly '~context'?: any
  readonly '~definition': ServiceDefinition
}

/** One handler as the engine sees it. */
export interface Subscription {
  readonly event: AnyEvent
  readonly handler: Handler<any, any>
  readonly options: HandlerOptions
}

/** The handlers of one topic. */
export interface TopicSubscriptions {
  readonly topic: AnyTopic
  /** By the event's name. */
  readonly handlers: ReadonlyMap<string, Subscription>
}

/** A service as the engine sees it. It grows with each `.on`. */
export interface ServiceDefinition {
  readonly name: string
  /** The kind of store it needs; null when it needs none. */
  readonly storeKind: string | null
  /** The topics it may write to; undefined allows any. */
  readonly emits: ReadonlyMap<string, AnyTopic> | undefined
  /** What was said about the followers of a dead letter's key; undefined leaves it to whether there is a store. */
  readonly afterDeadLetter: 'hold' | 'continue' | undefined
  /** The delays of its retry topics; null: records are retried in their place. */
  readonly retryDelays: readonly Duration[] | null
  /** By the topic's name. */
  readonly subscriptions: ReadonlyMap<string, TopicSubscriptions>
}

/** What a service needs besides its name. */
export interface ServiceOptions<Tx, E extends readonly AnyTopic[], Unordered extends boolean = false> {
  /** The kind of store that handlers write to, `postgres` for one. The app supplies the instance. */
  readonly store?: StoreKind<Tx>
  /** The topics this service may write to. Left out: any. */
  readonly emits?: E
  /**
   * What happens to later records of a key whose record was dead-lettered. `hold`: they go to the dead letters behind it,
   * and a redrive handles all of them in order. `continue`: they are handled, and the record stays a gap. Default `hold`
   * with a store, `continue` without and with retry topics.
   */
  readonly afterDeadLetter?: [Unordered] extends [true]
    ? 'continue' | `With retry: 'topics' keys have no order that could be held. Leave afterDeadLetter out`
    : 'hold' | 'continue'
  /**
   * `topics`: a record that failed goes to `retry.<service>.<delay>` and comes back after that delay, and its key does not
   * wait for it. Later records of the key overtake it, and handlers of one key may run at once. Without it a failed record
   * waits in its place, with its key behind it.
   */
  readonly retry?: [Unordered] extends [true]
    ? 'topics'
    : `retry: 'topics' gives up the order of each key, and one handler at a time. Write unordered: true beside it`
  /** Said together with `retry: 'topics'`. */
  readonly unordered?: Unordered
  /**
   * The delays of the retry topics, ascending: the first failure waits for the first, later ones for the next, and after
   * the last a record is given up. Default `['10s', '1m', '10m', '1h']`.
   */
  readonly retryDelays?: [Unordered] extends [true]
    ? readonly Duration[]
    : `retryDelays are those of retry: 'topics'. Write retry: 'topics' and unordered: true beside them`
}

/**
 * Begins a service. Throws OTTLA_CONTRACT_DEFINITION for a bad name and OTTLA_RUNTIME_WIRING for options that are none.
 *
 * ```ts
 * export const inventory = service('inventory', { store: postgres, emits: [Stock] })
 *   .on(Orders.OrderPlaced, async (order, { tx, emit }) => { … })
 * ```
 */
export function service<
  const Name extends string,
  Tx = never,
  const E extends readonly AnyTopic[] = readonly AnyTopic[],
  const Unordered extends boolean = false,
>(name: Name, options: ServiceOptions<Tx, E, Unordered> = {}): Service<Name, ContextFor<Tx, E[number]['name']>, never> {
  checkServiceName(name)
  const { store, emits } = options
  const afterDeadLetter = options.afterDeadLetter as 'hold' | 'continue' | undefined
  if (store !== undefined && typeof store.kind !== 'string') {
    throw wiring(name, 'store is no kind of store; write store: postgres, and give the pool to the app')
  }
  if (afterDeadLetter !== undefined && afterDeadLetter !== 'hold' && afterDeadLetter !== 'continue') {
    throw wiring(name, `afterDeadLetter is ${afterDeadLetter}; it can be 'hold' or 'continue'`)
  }
  for (const topic of emits ?? []) {
    if (!isTopic(topic)) throw wiring(name, 'emits holds something that is no topic')
  }
  return new Builder(name, {
    storeKind: store?.kind ?? null,
    emits: emits && new Map(emits.map((topic) => [topic.name, topic])),
    afterDeadLetter,
    retryDelays: retryDelaysOf(name, options as RetryOptions),
  }) as unknown as Service<Name, ContextFor<Tx, E[number]['name']>, never>
}

/** As the types have it, without what they have proven. */
interface RetryOptions {
  readonly retry?: unknown
  readonly unordered?: unknown
  readonly retryDelays?: readonly Duration[]
  readonly afterDeadLetter?: unknown
}

const defaultRetryDelays: readonly Duration[] = ['10s', '1m', '10m', '1h']
const retryDelaysMax = 16

function retryDelaysOf(name: string, options: RetryOptions): readonly Duration[] | null {
  const { retry, unordered, retryDelays, afterDeadLetter } = options
  if (retry === undefined && unordered !== true && retryDelays === undefined) return null
  if (retry !== 'topics' || unordered !== true) {
    throw wiring(name, "retry: 'topics' gives up the order of each key; write retry: 'topics' and unordered: true")
  }
  if (afterDeadLetter === 'hold') throw wiring(name, "with retry: 'topics' keys have no order that could be held")
  const delays = retryDelays ?? defaultRetryDelays
  if (delays.length === 0 || delays.length > retryDelaysMax) {
    throw wiring(name, `retryDelays has ${delays.length} delays; 1 to ${retryDelaysMax} are expected`)
  }
  let lastMs = 0
  for (const delay of delays) {
    const ms = durationMs(delay, `Service ${name}: retryDelays`)
    if (ms <= lastMs) throw wiring(name, 'retryDelays must ascend, from more than nothing')
    lastMs = ms
  }
  return delays
}

interface Growing {
  readonly topic: AnyTopic
  readonly handlers: Map<string, Subscription>
}

class Builder implements AnyService {
  readonly name: string
  readonly '~definition': ServiceDefinition
  readonly #subscriptions = new Map<string, Growing>()

  constructor(name: string, facts: Pick<ServiceDefinition, 'storeKind' | 'emits' | 'afterDeadLetter' | 'retryDelays'>) {
    this.name = name
    this['~definition'] = Object.freeze({ name, ...facts, subscriptions: this.#subscriptions })
    Object.freeze(this)
  }

  on(event: unknown, handler: Handler<any, any>, options?: HandlerOptions): this {
    if (isTopic(event)) {
      throw wiring(this.name, `on was given the topic ${event.name}; onTopic handles all events of a topic`)
    }
    if (!isEvent(event)) throw wiring(this.name, 'on was given something that is no event of a topic')
    return this.subscribe(event, handler, options)
  }

  onTopic(topic: AnyTopic, handlers: Readonly<Record<string, Handler<any, any>>>, options?: HandlerOptions): this {
    if (!isTopic(topic)) throw wiring(this.name, 'onTopic was given something that is no topic')
    const missing = topic.events.filter((event) => handlers[event.name] === undefined).map((event) => event.name)
    if (missing.length > 0) {
      throw wiring(this.name, `onTopic(${topic.name}) lacks a handler for ${missing.join(', ')}`)
    }
    for (const event of topic.events) this.subscribe(event, handlers[event.name]!, options)
    return this
  }

  subscribe(event: AnyEvent, handler: Handler<any, any>, options: HandlerOptions = {}): this {
    const id = `${event.topic}.${event.name}`
    if (typeof handler !== 'function') throw wiring(this.name, `the handler of ${id} is no function`)
    const topic = topicOf(event)
    const known = this.#subscriptions.get(topic.name)
    if (known !== undefined && known.topic !== topic) {
      throw wiring(this.name, `it handles two different topics that are both called ${topic.name}`)
    }
    const growing = known ?? { topic, handlers: new Map() }
    if (growing.handlers.has(event.name)) {
      throw wiring(this.name, `it already handles ${id}. One service handles an event once`)
    }
    growing.handlers.set(event.name, { event, handler, options })
    this.#subscriptions.set(topic.name, growing)
    return this
  }
}

function wiring(service: string, what: string): OttlaError {
  return new OttlaError('OTTLA_RUNTIME_WIRING', `Service ${service}: ${what}`, { details: { service } })
}
