/** The door `ottla/kafka`: the transport for `app`, and the Kafka client it stands on, usable by itself. */
export type { KafkaOptions } from './adapters/kafka/transport.ts'
export { kafka } from './adapters/kafka/transport.ts'
export type { ErrorCode, KafkaErrorFacts } from './contract/errors.ts'
export { OttlaError } from './contract/errors.ts'
export type {
  AdminCallOptions,
  ClusterDescription,
  CommittedOffset,
  GroupDescription,
  GroupListing,
  GroupMember,
  ItemResult,
  OffsetQuery,
  OffsetResult,
  PartitionName,
  TopicCreation,
  TopicCreationResult,
  TopicDescription,
  TopicListing,
} from './kafka/admin.ts'
export { Admin } from './kafka/admin.ts'
export { KafkaClient } from './kafka/client.ts'
export type {
  CommitResult,
  ConsumerEvents,
  ConsumerOptions,
  FetchedBatch,
  GainedPartition,
  HeldPartition,
  OffsetValue,
  PartitionLag,
  StartPosition,
} from './kafka/consumer.ts'
export { Consumer } from './kafka/consumer.ts'
export { type ClientCredentialsOptions, clientCredentials } from './kafka/io/client-credentials.ts'
export { optionsFromEnvironment } from './kafka/io/environment.ts'
export type { PartitionState } from './kafka/machine/metadata.ts'
export type { Partitioner } from './kafka/machine/partitioner.ts'
export type { OAuthToken, OAuthTokenSource } from './kafka/oauth-token.ts'
export type { ClientOptions, SaslOptions, TlsOptions } from './kafka/options.ts'
export type { Bytes, ProducerOptions, ProducerRecord, RecordMetadata, SendOptions } from './kafka/producer.ts'
export { Producer } from './kafka/producer.ts'
export type { SecretSource } from './kafka/secret.ts'
