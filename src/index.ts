/** The door `ottla`: services, their app, and everything of `ottla/contract`. */
export { app } from './adapters/system/app.ts'
export { breaker } from './adapters/system/breaker.ts'
export { type DeadLettersOptions, deadLetters } from './adapters/system/dead-letters.ts'
export { probes } from './adapters/telemetry/probes.ts'
export {
  type AnyEvent,
  type AnyTopic,
  type Codec,
  type Coded,
  type Duration,
  type ErrorCode,
  type Event,
  type EventsIn,
  errorTable,
  type FieldIssue,
  json,
  type KafkaErrorFacts,
  type Message,
  type MessageOf,
  type Mistake,
  OttlaError,
  type OttlaErrorOptions,
  type PayloadOf,
  PermanentError,
  type Schema,
  type Size,
  type Tombstone,
  type Topic,
  type TopicDefinition,
  type TopicFacts,
  type TopicJson,
  tombstone,
  topic,
  type Versioned,
  versioned,
} from './contract/index.ts'
export type { BreakerState } from './core/circuit-breaker.ts'
export type { Health, ServiceLag } from './runtime/app.ts'
export type { App, AppDefinition, Door, PublishedAt, PublishOptions } from './runtime/app-types.ts'
export type {
  Breaker,
  BreakerCallOptions,
  BreakerChange,
  BreakerOptions,
  BreakerRetry,
} from './runtime/breaker.ts'
export type {
  Asked,
  AskOptions,
  DeadLetterDesk,
  LetterGroup,
  OpenLetter,
  SentToSource,
  ToSourceOptions,
} from './runtime/dlq.ts'
export type { Letter, LetterEntry } from './runtime/letters.ts'
export type { OperableApp, Operations } from './runtime/operations.ts'
export type { Clock, Log, Store, StoreKind, Transport } from './runtime/ports.ts'
export {
  type AnyService,
  type Context,
  type ContextOf,
  type Emit,
  type EmitOptions,
  type Handler,
  type HandlerOf,
  type HandlerOptions,
  type Received,
  type Service,
  type ServiceOptions,
  type StoreContext,
  type StorelessContext,
  service,
} from './runtime/service.ts'
export type { LedgerRow, Parked } from './runtime/service-loop.ts'
