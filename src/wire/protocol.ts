/**
 * Requests and responses of the Kafka protocol, whole frames in and out.
 *
 * A request frame is length, API key, version, correlation id, client id (and tags from flexible versions on), body; a
 * response frame is length, correlation id (and tags), body. ApiVersions responses never have header tags, so that a
 * client can read the answer of a broker whose versions it does not know yet.
 *
 * Functions that make frames put the length in front; functions that read frames get them without it.
 */
import { OttlaError } from '../contract/errors.ts'
import { Api, type DataMessages, type Requests, type Responses, table } from './messages.gen.ts'
import { Reader } from './reader.ts'
import {
  buildCodec,
  type MessageCodec,
  parseSchema,
  type Schema,
  type Struct,
  type VersionRange,
  within,
} from './schema.ts'
import { Writer } from './writer.ts'

export type { DataMessages, Requests, Responses, VersionRange }
export { Api }

/** The name of an API: `Metadata`. */
export type ApiName = keyof typeof Api

/** The key of an API: `3`. */
export type ApiKey = (typeof Api)[ApiName]

/** The name of any message of the table. */
export type MessageName = keyof typeof table

/** What an encoder takes: every property may be left out and then means the default. */
export type Draft<T> = T extends Uint8Array
  ? Uint8Array
  : T extends readonly (infer E)[]
    ? readonly Draft<E>[]
    : T extends object
      ? { readonly [K in keyof T]?: Draft<T[K]> | undefined }
      : T

/** What stands before the body of a request. */
export interface RequestHeader {
  readonly apiKey: number
  readonly apiVersion: number
  readonly correlationId: number
  readonly clientId: string | null
  /** Where the body starts in the frame. */
  readonly bodyOffset: number
}

const names = new Map<number, ApiName>(Object.entries(Api).map(([name, key]) => [key, name as ApiName]))
const schemas = new Map<string, Schema>()
const codecs = new Map<string, MessageCodec[]>()

/** `Metadata` for 3; `Api(200)` for a key the table lacks. */
export function apiName(apiKey: number): string {
  return names.get(apiKey) ?? `Api(${apiKey})`
}

/** Is this key in the table? */
export function isApiKey(apiKey: number): apiKey is ApiKey {
  return names.has(apiKey)
}

/** The versions of an API that the table has. Throws OTTLA_KAFKA_UNSUPPORTED_VERSION for an unknown key. */
export function versionRange(apiKey: number): VersionRange {
  return schemaOf(`${known(apiKey)}Request`).versions
}

/** Has this version compact lengths and tags? */
export function isFlexible(apiKey: number, version: number): boolean {
  return within(schemaOf(`${known(apiKey)}Request`).flexible, version)
}

/** A whole request frame, its length in front. */
export function encodeRequest<K extends ApiKey>(
  api: K,
  version: number,
  correlationId: number,
  clientId: string | null,
  body: Draft<Requests[K]>,
): Uint8Array {
  const name = known(api)
  const codec = codecOf(`${name}Request`, version)
  const writer = new Writer(512)
  writer.int32(0)
  writer.int16(api)
  writer.int16(version)
  writer.int32(correlationId)
  writer.nullableString(clientId)
  if (isFlexible(api, version)) writer.unsignedVarint(0)
  codec.write(writer, body as Struct)
  writer.patchInt32(0, writer.length - 4)
  return writer.finish()
}

/** The body of a response frame. Bytes and records in it are views of the frame. */
export function decodeResponse<K extends ApiKey>(api: K, version: number, frame: Uint8Array): Responses[K] {
  const codec = codecOf(`${known(api)}Response`, version)
  const reader = new Reader(frame)
  reader.int32()
  if (hasResponseTags(api, version)) skipTags(reader)
  const body = codec.read(reader)
  reader.finish()
  return body as unknown as Responses[K]
}

/** The correlation id of a response frame. */
export function correlationIdOf(frame: Uint8Array): number {
  return new Reader(frame).int32()
}

/**
 * What stands before the body of a request frame. The version need not be one of the table: ApiVersions of any version
 * must be answered. Of an unknown API or version only key, version and correlation id are read; `clientId` is then null
 * and `bodyOffset` the end of the frame.
 */
export function decodeRequestHeader(frame: Uint8Array): RequestHeader {
  const reader = new Reader(frame)
  const apiKey = reader.int16()
  const apiVersion = reader.int16()
  const correlationId = reader.int32()
  const range = isApiKey(apiKey) ? versionRange(apiKey) : null
  if (!within(range, apiVersion)) {
    return { apiKey, apiVersion, correlationId, clientId: null, bodyOffset: frame.length }
  }
  const clientId = reader.nullableString()
  if (isFlexible(apiKey, apiVersion)) skipTags(reader)
  return { apiKey, apiVersion, correlationId, clientId, bodyOffset: reader.at }
}

/** The body of a request frame. Narrow the answer by `header.apiKey`. */
export function decodeRequest<K extends ApiKey>(
  frame: Uint8Array,
  header: Omit<RequestHeader, 'apiKey'> & { readonly apiKey: K },
): Requests[K]
export function decodeRequest(frame: Uint8Array, header: RequestHeader): Requests[ApiKey]
export function decodeRequest(frame: Uint8Array, header: RequestHeader): Requests[ApiKey] {
  const codec = codecOf(`${known(header.apiKey)}Request`, header.apiVersion)
  const reader = new Reader(frame, header.bodyOffset)
  const body = codec.read(reader)
  reader.finish()
  return body as unknown as Requests[ApiKey]
}

/** A whole response frame, its length in front. */
export function encodeResponse<K extends ApiKey>(
  api: K,
  version: number,
  correlationId: number,
  body: Draft<Responses[K]>,
): Uint8Array {
  const codec = codecOf(`${known(api)}Response`, version)
  const writer = new Writer(512)
  writer.int32(0)
  writer.int32(correlationId)
  if (hasResponseTags(api, version)) writer.unsignedVarint(0)
  codec.write(writer, body as Struct)
  writer.patchInt32(0, writer.length - 4)
  return writer.finish()
}

/** Bytes of a message that is neither request nor response, such as a group's subscription, without its version. */
export function encodeMessage<N extends keyof DataMessages>(
  name: N,
  version: number,
  value: Draft<DataMessages[N]>,
): Uint8Array {
  const writer = new Writer(128)
  codecOf(name, version).write(writer, value as Struct)
  return writer.finish()
}

/** Reads what `encodeMessage` wrote. Bytes after it are left alone: newer members may append fields. */
export function decodeMessage<N extends keyof DataMessages>(
  name: N,
  version: number,
  bytes: Uint8Array,
): DataMessages[N] {
  return codecOf(name, version).read(new Reader(bytes)) as unknown as DataMessages[N]
}

/** The parsed line of the table. */
export function schemaOf(name: string): Schema {
  let schema = schemas.get(name)
  if (schema === undefined) {
    const line = (table as Readonly<Record<string, string>>)[name]
    if (line === undefined) throw new Error(`no message is called ${name}`)
    schema = parseSchema(name, line)
    schemas.set(name, schema)
  }
  return schema
}

/** The reader and writer of a message's version, built on first use. */
export function codecOf(name: string, version: number): MessageCodec {
  const ready = codecs.get(name)?.[version]
  if (ready !== undefined) return ready
  const schema = schemaOf(name)
  if (!within(schema.versions, version)) {
    throw new OttlaError('OTTLA_KAFKA_UNSUPPORTED_VERSION', `${name} has no version ${version}`)
  }
  const codec = buildCodec(schema, version)
  const ofMessage = codecs.get(name) ?? []
  ofMessage[version] = codec
  codecs.set(name, ofMessage)
  return codec
}

function known(apiKey: number): ApiName {
  const name = names.get(apiKey)
  if (name === undefined) throw new OttlaError('OTTLA_KAFKA_UNSUPPORTED_VERSION', `no API has the key ${apiKey}`)
  return name
}

function hasResponseTags(apiKey: number, version: number): boolean {
  return apiKey !== Api.ApiVersions && within(schemaOf(`${known(apiKey)}Response`).flexible, version)
}

function skipTags(reader: Reader): void {
  for (let left = reader.unsignedVarint(); left > 0; left--) {
    reader.unsignedVarint()
    reader.skip(reader.unsignedVarint())
  }
}
