/**
 * What every API of the broker looks like to the cluster: its versions, what it does, and how it says no.
 */
import type { ApiKey, Draft, Requests, Responses } from '../wire/protocol.ts'
import type { Cluster } from './cluster.ts'
import type { Subject } from './faults.ts'
import type { Reply } from './reply.ts'

/** One request, and who asks where and when. */
export interface Call {
  readonly cluster: Cluster
  /** The virtual broker that was asked. */
  readonly node: number
  readonly version: number
  readonly clientId: string | null
  /** The client's address as Kafka shows it: `/127.0.0.1`. */
  readonly clientHost: string
  readonly nowMs: number
  /** The error code a fault rule has for a partition of this request; 0 for none. */
  fault(topic: string, partition: number): number
}

/** One API. The versions advertised are exactly `min` to `max`. */
export interface ApiHandler<K extends ApiKey> {
  readonly key: K
  readonly min: number
  readonly max: number
  handle(call: Call, request: Requests[K]): Reply<Draft<Responses[K]>>
  /** Answers the whole request with one error, nothing applied: for fault rules. */
  refuse(call: Call, request: Requests[K], errorCode: number): Draft<Responses[K]>
  /** What fault rules may match, where the request names a group or partitions. */
  subject?(call: Call, request: Requests[K]): Partial<Pick<Subject, 'group' | 'partitions'>>
}
