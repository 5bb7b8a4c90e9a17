/** `ottla/broker`: an embedded broker that speaks Kafka's protocol, for development and tests. */
export {
  type BrokerClock,
  type BrokerLog,
  type BrokerOptions,
  type BrokerTopic,
  type CommittedFacts,
  type EmbeddedBroker,
  type GroupFacts,
  startBroker,
} from './broker/embedded.ts'
export type { Fault, FaultAction, FaultRule } from './broker/faults.ts'
export type { StoredRecord } from './broker/records.ts'
