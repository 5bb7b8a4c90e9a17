/**
 * What a payload looks like: any Standard Schema library by shape, a tombstone, and a schema with its history.
 *
 * Wire is the schema's input, the handler gets its output. Contract schemas are synchronous: a promise is an error.
 */
import { OttlaError } from './errors.ts'

/** A schema of zod, valibot, arktype or any other library that speaks Standard Schema, version 1. */
export interface Schema<In = unknown, Out = In> {
  readonly '~standard': {
    readonly version: 1
    readonly vendor: string
    readonly validate: (value: unknown) => Validated<Out> | Promise<Validated<Out>>
    readonly types?: { readonly input: In; readonly output: Out } | undefined
  }
}

/** One thing that is wrong with a value, as a schema library tells it. */
export interface SchemaIssue {
  readonly message: string
  readonly path?: ReadonlyArray<PropertyKey | { readonly key: PropertyKey }> | undefined
}

/** A schema's answer: the output, or what is wrong. */
export type Validated<Out> =
  | { readonly value: Out; readonly issues?: undefined }
  | { readonly issues: ReadonlyArray<SchemaIssue> }

/** What travels on the wire. */
export type In<S extends Schema> = NonNullable<S['~standard']['types']>['input']
/** What a handler receives. */
export type Out<S extends Schema> = NonNullable<S['~standard']['types']>['output']

/** A payload whose wire form differs from what the handler receives (defaults, transforms, brands). */
export interface Coded<Wire, Value> {
  readonly wire: Wire
  readonly value: Value
}

/** One type when wire form and value are the same, `Coded` when they are not. */
export type PayloadOfSchema<S extends Schema> = [In<S>] extends [Out<S>]
  ? [Out<S>] extends [In<S>]
    ? Out<S>
    : Coded<In<S>, Out<S>>
  : Coded<In<S>, Out<S>>

/** The wire form of a payload. */
export type WireOf<P> = P extends Coded<infer W, any> ? W : P
/** What a handler receives of a payload. */
export type ValueOf<P> = P extends Coded<any, infer V> ? V : P

declare const erased: unique symbol

/** Nothing but a key: Kafka's null value, which compaction turns into "forget this key". */
export interface Tombstone extends Schema<string, string> {
  readonly [erased]: true
}

/** Names an event that is Kafka's null value. Its payload is the key, and a topic has at most one. */
export const tombstone: Tombstone = {
  '~standard': {
    version: 1,
    vendor: 'ottla',
    validate: (value: unknown) =>
      typeof value === 'string'
        ? { value }
        : { issues: [{ message: 'A tombstone carries nothing but its key: expected a string' }] },
  },
} as unknown as Tombstone

const tombstoneBrand = Symbol.for('ottla.tombstone')
Object.defineProperty(tombstone, tombstoneBrand, { value: true })

/** Is this the tombstone, from whichever copy of the package? */
export function isTombstone(schema: Schema<any, any>): boolean {
  return tombstoneBrand in schema
}

/** A schema with its history. `next` says how the previous version becomes this one. */
export interface Versioned<I, O> extends Schema<I, O> {
  next<S extends Schema<any, any>>(schema: S, upcast: (previous: O) => In<S>): Versioned<In<S>, Out<S>>
}

const historyBrand = Symbol.for('ottla.versioned')

interface History {
  readonly version: number
  readonly latest: Schema<any, any>
}

/**
 * Begins the history of a schema: `versioned(v1).next(v2, (old) => …)`.
 *
 * Producers write the newest version. A consumer tries the newest first; a value that does not fit it is read with the
 * version before, lifted by `upcast`, and checked against the newer one, back to the first. A change that older
 * values cannot be told from is a new event, not a new version.
 */
export function versioned<S extends Schema<any, any>>(first: S): Versioned<In<S>, Out<S>> {
  return history(first, 1, (value) => validateSync(first, value)) as Versioned<In<S>, Out<S>>
}

function history(
  latest: Schema<any, any>,
  version: number,
  validate: (value: unknown) => Validated<any>,
): Versioned<any, any> {
  const schema: Versioned<any, any> = {
    '~standard': { version: 1, vendor: 'ottla', validate },
    next: (newer, upcast) =>
      history(newer, version + 1, (value) => {
        const direct = validateSync(newer, value)
        if (direct.issues === undefined) return direct
        const older = validate(value)
        // What is wrong is told in terms of the newest version: that is what producers read about.
        return older.issues === undefined ? validateSync(newer, upcast(older.value)) : direct
      }),
  }
  Object.defineProperty(schema, historyBrand, { value: { version, latest } satisfies History })
  return schema
}

function historyOf(schema: Schema<any, any>): History | undefined {
  return (schema as { readonly [historyBrand]?: History })[historyBrand]
}

/** The version of a schema: 1 unless it has a history. */
export function versionOf(schema: Schema<any, any>): number {
  return historyOf(schema)?.version ?? 1
}

/** The schema producers must satisfy: the newest version of a history. */
export function latestOf(schema: Schema<any, any>): Schema<any, any> {
  return historyOf(schema)?.latest ?? schema
}

/** Asks a schema, and refuses an answer that would have to be awaited. Throws OTTLA_CONTRACT_ASYNC_SCHEMA. */
export function validateSync<O>(schema: Schema<any, O>, value: unknown): Validated<O> {
  const answer = schema['~standard'].validate(value)
  if (!isPromise(answer)) return answer
  // Its outcome concerns nobody any more; without this a rejection would end the process.
  answer.then(undefined, () => undefined)
  throw new OttlaError(
    'OTTLA_CONTRACT_ASYNC_SCHEMA',
    // Zod starts over asynchronously when a transform throws, so this is what that looks like.
    `A schema of ${schema['~standard'].vendor} answered with a promise: a check in it is asynchronous, or threw`,
  )
}

function isPromise(answer: object): answer is Promise<unknown> {
  return 'then' in answer && typeof answer.then === 'function'
}

/** One field that is wrong, ready to be shown or put into an answer of HTTP. */
export interface FieldIssue {
  /** Dotted path, `''` for the payload itself. */
  readonly field: string
  /** What was expected, in the words of the schema library. */
  readonly expected: string
}

const maxIssues = 20
const maxSentence = 300

/** Issues of a schema library in our own plain form, bounded in number and length. */
export function fieldIssues(issues: readonly SchemaIssue[]): readonly FieldIssue[] {
  return issues.slice(0, maxIssues).map((issue) => ({
    field: (issue.path ?? []).map((part) => String(typeof part === 'object' ? part.key : part)).join('.'),
    expected: issue.message.length > maxSentence ? `${issue.message.slice(0, maxSentence)}…` : issue.message,
  }))
}

/**
 * Checks a value and returns the output. Throws OTTLA_CONTRACT_INVALID, whose message lists each field and what was
 * expected (`details.issues` holds the same as data), and OTTLA_CONTRACT_ASYNC_SCHEMA.
 */
export function parse<O>(schema: Schema<any, O>, value: unknown, what: string): O {
  let answer: Validated<O>
  try {
    answer = validateSync(schema, value)
  } catch (error) {
    if (error instanceof OttlaError) throw error
    // A transform or a refinement that throws has refused the value.
    throw new OttlaError('OTTLA_CONTRACT_INVALID', `${what} is refused: its schema threw while reading it`, {
      cause: error,
      details: { event: what, issues: [{ field: '', expected: 'a value that the schema can read' }] },
    })
  }
  if (answer.issues === undefined) return answer.value
  const issues = fieldIssues(answer.issues)
  const list = issues.map(({ field, expected }) => (field === '' ? expected : `${field}: ${expected}`)).join('; ')
  throw new OttlaError('OTTLA_CONTRACT_INVALID', `${what} does not fit its schema: ${list}`, {
    details: { event: what, issues },
  })
}
