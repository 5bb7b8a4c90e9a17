/** What an app is to the people who write one: the types of `app`, `testApp` and of what they return. */
import type { Duration } from '../contract/duration.ts'
import type { AnyEvent, Message } from '../contract/event.ts'
import type { Mistake } from '../contract/mistake.ts'
import type { AnyTopic, MessageOf } from '../contract/topic.ts'
import type { Log, Store, Transport } from './ports.ts'
import type { AnyService, ContextOf } from './service.ts'

/** The name of a service, as a type. */
export type NameOf<S> = S extends { readonly name: infer N extends string } ? N : never

type Named<S extends readonly AnyService[], I> = Extract<
  { [K in keyof S]: K extends I ? never : NameOf<S[K]> }[number],
  string
>

/** The services themselves, or a sentence at each one whose name another has too. */
export type Distinct<S extends readonly AnyService[]> = {
  readonly [I in keyof S]: NameOf<S[I]> extends Named<S, I>
    ? `Two services are called ${NameOf<S[I]>}. A service is a consumer group: give each its own name`
    : S[I]
}

/** What is open inside `transact`: the transaction, and an emit that commits with it. */
export type Door<S> = Pick<ContextOf<S>, Extract<keyof ContextOf<S>, 'tx' | 'emit'>>

/** The service itself, or a sentence that says why this app cannot transact as it. */
export type Transacting<S extends AnyService, Names extends string> =
  NameOf<S> extends Names
    ? ContextOf<S> extends { readonly tx: Mistake<string> }
      ? `Service ${NameOf<S>} has no store, so there is nothing to transact`
      : S
    : `Service ${NameOf<S>} is not part of this app. Add it to services`

/** What may be said beside a published message. */
export interface PublishOptions {
  /** Its `ce_id`; a UUIDv7 when left out. Publishing again with the same one is safe: consumers know it. */
  readonly id?: string
  /** Stops waiting. What was sent may still be stored: the error is OTTLA_PUBLISH_OUTCOME_UNKNOWN. */
  readonly signal?: AbortSignal
}

/** Where a published message was stored. */
export interface PublishedAt {
  readonly id: string
  readonly topic: string
  readonly partition: number
  readonly position: number
}

/** A running set of services. Disposing drains them: what runs is finished, committed, and the groups are left. */
export interface App<Names extends string> extends AsyncDisposable {
  /** Checks topics and store, then begins. Throws OTTLA_RUNTIME_TOPIC, OTTLA_RUNTIME_WIRING, OTTLA_STORE_SCHEMA. */
  start(): Promise<this>
  /** Publishes at once, outside any transaction. Throws the errors of OTTLA_PUBLISH. */
  publish(message: Message, options?: PublishOptions): Promise<PublishedAt>
  /** Opens a transaction as this service: what `work` writes and what it emits commit together. */
  transact<S extends AnyService, R>(as: Transacting<S, Names>, work: (door: Door<S>) => Promise<R>): Promise<R>
}

/** What an app is made of. */
export interface AppDefinition<S extends readonly AnyService[]> {
  /** The log that carries the events, `kafka({ … })` for one. */
  readonly transport: Transport
  /** The store of all services that name its kind. */
  readonly store?: Store<any>
  readonly services: Distinct<S>
  /** `ce_source` of what `publish` sends. Default `app`. */
  readonly name?: string
  /** Stands in front of the names of groups and of the topics that ottla makes for itself. */
  readonly namespace?: string
  /** `create` makes missing topics, `verify` refuses to start without them. Default: `create` on an embedded transport. */
  readonly topics?: 'verify' | 'create'
  /** `apply` makes ottla's own tables, `verify` refuses to start without them. Default: `apply` where topics are created. */
  readonly schema?: 'apply' | 'verify'
  /** `single` allows topics with one replica on a cluster of three or more brokers. */
  readonly durability?: 'single'
  /**
   * Where a service goes on in a partition whose offsets are gone although it has worked there, or lie beyond the end of
   * the log: `earliest` redoes what the log still holds (a store's inbox knows what it has handled), `latest` skips it.
   * Default: the partition stands still, with an alarm that lists the choices.
   */
  readonly offsetsVanished?: 'earliest' | 'latest'
  /** Handlers that run at once per service. Default 64, with a store at most its pool size - 2. */
  readonly concurrency?: number
  /** How long disposal waits for running handlers. Default `'10s'`. */
  readonly drainTimeout?: Duration
  /** Where ottla says things. Default: warnings and errors on the console. */
  readonly log?: Log
  /**
   * True when this app owns its process: an error that nobody caught is reported with the record whose handler started
   * what failed, the app drains, and the process exits with 1. Costs each handler about a microsecond. Default false.
   */
  readonly guards?: boolean
}

/** What a test app is made of: it brings its own transport and store. */
export interface TestAppDefinition<S extends readonly AnyService[]> {
  readonly services: Distinct<S>
  readonly log?: Log
}

/** An app for tests: started, on an embedded broker, with its own store. Disposing checks its ledger. */
export interface TestApp<Names extends string> extends App<Names> {
  /** Waits until the whole cascade has come to rest. Throws OTTLA_TEST_UNSETTLED with what is stuck. */
  settled(): Promise<void>
  /** What has been emitted to this topic, or of this event, in order. */
  emitted<T extends AnyTopic | AnyEvent>(of: T): readonly MessageOf<T>[]
}
