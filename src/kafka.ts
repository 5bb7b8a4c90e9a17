/** The door `ottla/kafka`: the transport for `app`, and the Kafka client it stands on, usable by itself. */
export type { KafkaOptions } from './adapters/kafka/transport.ts'
export { kafka } from './adapters/kafka/transport.ts'
export type { ErrorCode, KafkaErrorFacts } from './contract/errors.ts'
export { OttlaError } from './contract/errors.ts'
export type { AdminCallOptions, ItemResult, PartitionName } from './kafka/admin/calls.ts'
export type {
  ConfigChange,
  ConfigChangeResult,
  ConfigDescription,
  ConfigEntry,
  ConfigResource,
  ConfigSource,
} from './kafka/admin/configs.ts'
export type { GroupDescription, GroupListing, GroupMember } from './kafka/admin/groups.ts'
export type {
  OffsetChange,
  OffsetChangeResult,
  OffsetPlan,
  OffsetTarget,
  PlannedOffset,
} from './kafka/admin/offset-plan.ts'
export type { CommittedOffset, OffsetQuery, OffsetResult, PartitionResult } from './kafka/admin/offsets.ts'
export type { RecordDeletion, RecordDeletionResult } from './kafka/admin/records.ts'
export type { TopicCreation, TopicCreationResult, TopicDescription, TopicListing } from './kafka/admin/topics.ts'
export type { ClusterDescription } from './kafka/admin.ts'
export { Admin } from './kafka/admin.ts'
export { KafkaClient } from './kafka/client.ts'
export type {
  AssignedPartition,
  AssignorName,
  CommitResult,
  CommittedPosition,
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
