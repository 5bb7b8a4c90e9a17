/** The door `ottla/kafka`: a Kafka client by itself. */
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
  ConsumerEvents,
  ConsumerOptions,
  FetchedBatch,
  GainedPartition,
  HeldPartition,
  PartitionLag,
  StartPosition,
} from './kafka/consumer.ts'
export { Consumer } from './kafka/consumer.ts'
export { optionsFromEnvironment } from './kafka/io/environment.ts'
export type { PartitionState } from './kafka/machine/metadata.ts'
export type { Partitioner } from './kafka/machine/partitioner.ts'
export type { ClientOptions, SaslOptions, TlsOptions } from './kafka/options.ts'
export type { Bytes, ProducerOptions, ProducerRecord, RecordMetadata, SendOptions } from './kafka/producer.ts'
export { Producer } from './kafka/producer.ts'
export type { SecretSource } from './kafka/secret.ts'
