/** The door `ottla/contract`: what services agree on. Runs in a browser with nothing installed. */
export { type Codec, json } from './codec.ts'
export { type Duration, durationMs, type Size, sizeBytes } from './duration.ts'
export {
  type Attributes,
  Envelope,
  type Header,
  header,
  identityHeaders,
  type Origin,
  type OwnHeader,
  originText,
  ownHeader,
  type RecordView,
  readOrigin,
  readOwnHeaders,
} from './envelope.ts'
export {
  type ErrorCode,
  type ErrorFacts,
  errorTable,
  type KafkaErrorFacts,
  OttlaError,
  type OttlaErrorOptions,
  PermanentError,
} from './errors.ts'
export { type AnyEvent, type Event, isEvent, type Message, type PayloadOf } from './event.ts'
export { derivedId, type Emission, newId, recordUrn, timeOfId, uuidv7 } from './id.ts'
export {
  type Decoded,
  decodeRecord,
  type EncodedMessage,
  type EncodeOptions,
  encodeMessage,
  type HandledNames,
} from './message.ts'
export type { Mistake } from './mistake.ts'
export { type ServiceNames, serviceNames } from './names.ts'
export {
  type Coded,
  type FieldIssue,
  type Schema,
  type SchemaIssue,
  type Tombstone,
  tombstone,
  type Validated,
  type Versioned,
  versioned,
} from './schema.ts'
export {
  type AnyTopic,
  type EventsIn,
  isTopic,
  type MessageOf,
  type Topic,
  type TopicDefinition,
  type TopicFacts,
  type TopicJson,
  topic,
} from './topic.ts'
