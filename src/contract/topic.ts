/**
 * A topic: what services agree on. Its events are members with capital letters, its facts are members with small ones.
 */
import { type Codec, json } from './codec.ts'
import { OttlaError } from './errors.ts'
import { type AnyEvent, type Event, eventInternals, makeEvent } from './event.ts'
import type { Mistake } from './mistake.ts'
import { topicNameProblem } from './names.ts'
import {
  type In,
  isTombstone,
  latestOf,
  type PayloadOfSchema,
  type Schema,
  type Tombstone,
  type ValueOf,
  type WireOf,
} from './schema.ts'
import { encodeUtf8 } from './text.ts'

/** What every topic has besides its events. Lower-case, so that no event can be in the way. */
export interface TopicFacts<Name extends string> {
  readonly name: Name
  /** The declared number of partitions; null leaves it to the broker. */
  readonly partitions: number | null
  readonly events: readonly AnyEvent[]
  /** The contract as data: names, versions, key, JSON Schema of the wire form. */
  toJSON(): TopicJson
}

/** A topic as data. */
export interface TopicJson {
  readonly topic: string
  readonly partitions: number | null
  /** A field, `function` per event, or null. */
  readonly key: string | null | Readonly<Record<string, string>>
  /** The event that records without an envelope are, or null. */
  readonly bare: string | null
  readonly events: Readonly<
    Record<string, { readonly type: string; readonly version: number; readonly schema: unknown }>
  >
}

/** A topic: its events are members with capital letters, its facts are members with small ones. */
export type Topic<Name extends string, Payloads extends object> = TopicFacts<Name> & {
  readonly [E in keyof Payloads & string]: Event<Name, E, WireOf<Payloads[E]>, ValueOf<Payloads[E]>>
}

export type AnyTopic = TopicFacts<string>

/** The events of a topic, or the event itself. */
export type EventsIn<T> = T extends AnyTopic
  ? { [E in keyof T]: T[E] extends AnyEvent ? T[E] : never }[Exclude<keyof T, keyof AnyTopic>]
  : T

/** The messages of a topic, or of one event. */
export type MessageOf<T extends AnyTopic | AnyEvent> =
  EventsIn<T> extends infer E ? (E extends (payload: never) => infer M ? M : never) : never

type Keyable = string | number | bigint

type WireUnion<S extends Record<string, Schema>> = {
  [E in keyof S]: S[E] extends Tombstone ? never : In<S[E]>
}[keyof S]

type KeyField<S extends Record<string, Schema>> =
  WireUnion<S> extends infer U
    ? KeyableField<U, keyof U> extends infer F
      ? [F] extends [never]
        ? Mistake<'These events share no string or number field: give key one function per event'>
        : F
      : never
    : never

// Over the common fields only: a mapped type over the union would visit every field of every event.
type KeyableField<U, F extends keyof U> = F extends unknown ? (U[F] extends Keyable ? F : never) : never

/** What a topic is made of. */
export interface TopicDefinition<S extends Record<string, Schema>> {
  /** Events with the same key keep their order: a field that all events have, or one function per event. `null` says that order does not matter. */
  readonly key:
    | KeyField<S>
    | { readonly [E in keyof S as S[E] extends Tombstone ? never : E]: (payload: In<S[E]>) => Keyable }
    | null
  /** How many partitions keys are spread over. Declared here it stays the same on every broker; left out, the broker's number is used. Raising it moves keys. */
  readonly partitions?: number
  /** For a topic of somebody who writes no CloudEvents headers: which event such records are. */
  readonly records?: { readonly bare: keyof S & string }
  /** Names on the wire (`ce_type`) that differ from `<topic>.<Event>`. */
  readonly types?: { readonly [E in keyof S]?: string }
  /** How payloads become bytes. Default JSON. */
  readonly codec?: Codec
}

type Capital<E, S> = E extends `${infer Head}${string}`
  ? Head extends Lowercase<Head>
    ? `Event names start with a capital letter: write ${Capitalize<E>} instead of ${E}`
    : S
  : S

/** What the engine needs to know of a topic beyond what its user sees. */
export interface TopicInternals {
  readonly codec: Codec
  /** Events with the bytes of their `ce_type`, for matching a header without decoding it. */
  readonly types: readonly { readonly event: AnyEvent; readonly ceType: string; readonly bytes: Uint8Array }[]
  readonly bare: AnyEvent | null
  readonly tombstone: AnyEvent | null
  readonly byName: ReadonlyMap<string, AnyEvent>
}

const internals = Symbol.for('ottla.topic')

/** What the engine needs to know of a topic. */
export function topicInternals(topic: AnyTopic): TopicInternals {
  return (topic as unknown as { readonly [internals]: TopicInternals })[internals]
}

/** Is this a topic, from whichever copy of the package? */
export function isTopic(value: unknown): value is AnyTopic {
  return typeof value === 'object' && value !== null && internals in value
}

/** The topic an event is a member of. */
export function topicOf(event: AnyEvent): AnyTopic {
  return (event as unknown as { readonly [internals]: AnyTopic })[internals]
}

/**
 * Declares a topic. Throws OTTLA_CONTRACT_DEFINITION, naming the member that is wrong.
 *
 * ```ts
 * export const Orders = topic('orders', {
 *   key: 'orderId',
 *   partitions: 12,
 *   events: { OrderPlaced: z.object({ orderId: z.string() }), OrderErased: tombstone },
 * })
 * ```
 */
export function topic<const Name extends string, S extends Record<string, Schema>>(
  name: Name,
  definition: TopicDefinition<NoInfer<S>> & { readonly events: { readonly [E in keyof S]: Capital<E, S[E]> } },
): Topic<Name, { [E in keyof S]: PayloadOfSchema<S[E]> }> {
  return makeTopic(name, definition as unknown as LooseDefinition) as never
}

/** A definition as the runtime sees it, without what the types have proven. */
interface LooseDefinition {
  readonly key: string | Readonly<Record<string, (payload: any) => unknown>> | null
  readonly partitions?: number
  readonly records?: { readonly bare: string }
  readonly types?: Readonly<Record<string, string>>
  readonly codec?: Codec
  readonly events: Readonly<Record<string, Schema<any, any>>>
}

const eventName = /^[A-Z][A-Za-z0-9_]{0,127}$/
const ceTypeName = /^[\x21-\x7e]{1,256}$/

function makeTopic(name: string, definition: LooseDefinition): AnyTopic {
  const problem = topicNameProblem(name)
  if (problem !== null) throw wrong(name, problem)
  const { key, records, types = {}, codec = json } = definition
  const partitions = definition.partitions ?? null
  if (partitions !== null && !(Number.isInteger(partitions) && partitions >= 1 && partitions <= 1_000_000)) {
    throw wrong(name, `partitions is ${partitions}; a whole number from 1 is expected`)
  }
  if (key === undefined) throw wrong(name, 'key is missing; write null when order does not matter')
  const entries = Object.entries(definition.events)
  if (entries.length === 0) throw wrong(name, 'it has no events')
  const byType = new Set<string>()
  const events = entries.map(([event, schema]) => {
    if (!eventName.test(event)) {
      throw wrong(name, `the event ${event} must start with a capital letter and hold letters, digits and _ only`)
    }
    if (typeof schema?.['~standard']?.validate !== 'function') throw wrong(name, `${event} is no Standard Schema`)
    const ceType = types[event] ?? `${name}.${event}`
    if (!ceTypeName.test(ceType)) throw wrong(name, `the type of ${event} must be 1 to 256 printable ASCII characters`)
    if (byType.has(ceType)) throw wrong(name, `two events have the type ${ceType}`)
    byType.add(ceType)
    return makeEvent({ topic: name, name: event, schema, ceType, keyOf: keyOfEvent(name, event, schema, key) })
  })
  const byName = new Map(events.map((event) => [event.name, event]))
  for (const unknown of Object.keys(types)) {
    if (!byName.has(unknown)) throw wrong(name, `types names ${unknown}, which is no event of it`)
  }
  const bare = records === undefined ? null : byName.get(records.bare)
  if (bare === undefined) throw wrong(name, `records.bare names ${records?.bare}, which is no event of it`)
  if (bare !== null && eventInternals(bare).tombstone) throw wrong(name, 'records.bare cannot be the tombstone')
  const tombstones = events.filter((event) => eventInternals(event).tombstone)
  if (tombstones.length > 1) throw wrong(name, 'it has two tombstones, but Kafka has one null value')
  if (tombstones.length > 0 && key === null) throw wrong(name, 'a tombstone needs a key')

  const inner: TopicInternals = {
    codec,
    types: events.map((event) => {
      const { ceType } = eventInternals(event)
      return { event, ceType, bytes: encodeUtf8(ceType) }
    }),
    bare,
    tombstone: tombstones[0] ?? null,
    byName,
  }
  const facts: AnyTopic = { name, partitions, events, toJSON: () => topicJson(facts, key) }
  for (const event of events) {
    Object.defineProperty(facts, event.name, { value: event, enumerable: true })
    Object.defineProperty(event, internals, { value: facts })
  }
  return Object.freeze(Object.defineProperty(facts, internals, { value: inner }))
}

function keyOfEvent(
  name: string,
  event: string,
  schema: Schema<any, any>,
  key: LooseDefinition['key'],
): (payload: any) => unknown {
  if (isTombstone(schema)) return (payload) => payload
  if (key === null) return () => null
  if (typeof key === 'string') return (payload) => payload?.[key] ?? undefined
  const pick = key[event]
  if (typeof pick !== 'function') throw wrong(name, `key has no function for ${event}`)
  return (payload) => pick(payload) ?? undefined
}

function wrong(name: string, what: string): OttlaError {
  return new OttlaError('OTTLA_CONTRACT_DEFINITION', `Topic ${name}: ${what}`, { details: { topic: name } })
}

function topicJson(facts: AnyTopic, key: LooseDefinition['key']): TopicJson {
  return {
    topic: facts.name,
    partitions: facts.partitions,
    key:
      key === null || typeof key === 'string'
        ? key
        : Object.fromEntries(Object.keys(key).map((event) => [event, 'function'])),
    bare: topicInternals(facts).bare?.name ?? null,
    events: Object.fromEntries(
      facts.events.map((event) => [
        event.name,
        { type: eventInternals(event).ceType, version: event.version, schema: jsonSchema(event.schema) },
      ]),
    ),
  }
}

interface JsonSchemaSource {
  readonly jsonSchema?: { input(options: { readonly target: string }): unknown }
}

/** JSON Schema of the wire form where the library can tell it; null for others and for the tombstone. */
function jsonSchema(schema: Schema<any, any>): unknown {
  const source = latestOf(schema)['~standard'] as JsonSchemaSource
  try {
    return source.jsonSchema?.input({ target: 'draft-2020-12' }) ?? null
  } catch {
    // A library says in this way that the schema has no form in JSON Schema (a transform, a custom check).
    return null
  }
}
