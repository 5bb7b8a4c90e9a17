/**
 * One kind of event: called, it builds a message; handed to `service.on`, it subscribes.
 */
import { OttlaError } from './errors.ts'
import { isTombstone, latestOf, parse, type Schema, versionOf } from './schema.ts'

/** What is published: plain data, comparable with deepEqual. Its id is given when it is published. */
export interface Message<Topic extends string = string, Type extends string = string, Data = unknown> {
  readonly topic: Topic
  readonly type: Type
  /** Messages of one key keep their order; null has none. */
  readonly key: string | null
  /** The wire form of the payload: the input of its schema. For a tombstone the key. */
  readonly data: Data
}

/** One kind of event. Call it to build a message; hand it to `service.on` to subscribe. */
export interface Event<Topic extends string, Name extends string, Wire, Value = Wire> {
  /** Builds a message. Throws OTTLA_CONTRACT_INVALID when the payload does not fit. */
  (payload: Wire): Message<Topic, Name, Wire>
  readonly topic: Topic
  readonly name: Name
  /** How many versions its schema has had. */
  readonly version: number
  readonly schema: Schema<Wire, Value>
}

export type AnyEvent = Event<string, string, any, any>

/** What a handler of this event receives. */
export type PayloadOf<E> = E extends { readonly schema: Schema<any, infer Value> } ? Value : never

/** What the engine needs to know of an event beyond what its user sees. */
export interface EventInternals {
  /** `ce_type`: `<topic>.<Event>` unless the contract says otherwise. */
  readonly ceType: string
  readonly tombstone: boolean
  /** The key of a payload in wire form. */
  readonly keyOf: (payload: any) => unknown
}

const internals = Symbol.for('ottla.event')

/** What the engine needs to know of an event. */
export function eventInternals(event: AnyEvent): EventInternals {
  return (event as unknown as { readonly [internals]: EventInternals })[internals]
}

/** Is this an event of some topic, from whichever copy of the package? */
export function isEvent(value: unknown): value is AnyEvent {
  return typeof value === 'function' && internals in value
}

/** What an event is made of. */
export interface EventDefinition {
  readonly topic: string
  readonly name: string
  readonly schema: Schema<any, any>
  readonly ceType: string
  readonly keyOf: (payload: any) => unknown
}

/**
 * Which event built a message, without a mark on the message: it stays plain data. Shared by all copies of the package
 * in a process. A message written out by hand is absent here and found by its topic's name instead.
 */
const builtBy: WeakMap<Message, AnyEvent> = shared('ottla.messages')

function shared(name: string): WeakMap<Message, AnyEvent> {
  const home = globalThis as unknown as Record<symbol, WeakMap<Message, AnyEvent> | undefined>
  const symbol = Symbol.for(name)
  home[symbol] ??= new WeakMap()
  return home[symbol]
}

/** The event that built this message, when one did. */
export function eventOf(message: Message): AnyEvent | undefined {
  return builtBy.get(message)
}

/** Makes an event. `topic` does this for you. */
export function makeEvent(definition: EventDefinition): AnyEvent {
  const { topic, name, schema, ceType, keyOf } = definition
  const newest = latestOf(schema)
  const what = `${topic}.${name}`
  const build = (payload: unknown): Message => {
    parse(newest, payload, what)
    const message: Message = { topic, type: name, key: keyText(keyOf(payload), what), data: payload }
    builtBy.set(message, event)
    return message
  }
  const event = Object.defineProperties(build, {
    name: { value: name, enumerable: true },
    topic: { value: topic, enumerable: true },
    version: { value: versionOf(schema), enumerable: true },
    schema: { value: schema, enumerable: true },
    [internals]: { value: { ceType, tombstone: isTombstone(schema), keyOf } satisfies EventInternals },
  }) as unknown as AnyEvent
  return event
}

/** A key as text. Throws OTTLA_CONTRACT_INVALID for anything that is no string, safe number or bigint. */
export function keyText(key: unknown, what: string): string | null {
  switch (typeof key) {
    case 'string':
      // Two different lone surrogates would become the same bytes, and so the same lane.
      if (key.isWellFormed()) return key
      throw invalidKey(what, 'its text holds half a surrogate pair')
    case 'number':
      if (Number.isFinite(key)) return String(key)
      throw invalidKey(what, `it is ${key}`)
    case 'bigint':
      return String(key)
    case 'object':
      if (key === null) return null
      throw invalidKey(what, 'it is an object')
    default:
      throw invalidKey(what, `it is ${typeof key}`)
  }
}

function invalidKey(what: string, why: string): OttlaError {
  return new OttlaError('OTTLA_CONTRACT_INVALID', `${what} has no usable key: ${why}; a string or a number is needed`, {
    details: { event: what, issues: [{ field: 'key', expected: 'a string or a number' }] },
  })
}
