/**
 * A Kafka cluster as seen by a client: who is there, who leads what, and a way to ask each broker something.
 *
 * Owns the connections (one per node and lane, made when first needed), the metadata cache and its refreshing, and the
 * addresses of group coordinators. Producer, consumer and admin share one cluster.
 */
import type { ApiKey, Requests, Responses } from '../../wire/protocol.ts'
import { type MetadataCache as Cache, type MetadataChanges, MetadataCache } from '../machine/metadata.ts'
import type { ResolvedClientOptions } from '../options.ts'

export interface RequestOptions {
  /** Default: the client's `requestTimeoutMs`. Runs from the call, connecting included. */
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
  /** A connection of its own per node, so that long polls block nobody. Default `'default'`. */
  readonly lane?: string
  readonly maxVersion?: number
  readonly minVersion?: number
}

export interface Answer<A extends ApiKey> {
  readonly version: number
  readonly body: Responses[A]
}

export class Cluster implements AsyncDisposable {
  readonly metadata: Cache = new MetadataCache()

  constructor(_options: ResolvedClientOptions) {}

  /**
   * Picks the highest version both sides know, sends and decodes. Per-item error codes in the answer are the caller's.
   * Throws OTTLA_KAFKA_CONNECTION, OTTLA_KAFKA_TIMEOUT, OTTLA_KAFKA_UNSUPPORTED_VERSION, OTTLA_KAFKA_AUTHENTICATION,
   * OTTLA_KAFKA_TLS, OTTLA_KAFKA_CLOSED; the signal's reason when aborted.
   */
  request<A extends ApiKey>(
    _node: number | 'any',
    _api: A,
    _body: Requests[A] | ((version: number) => Requests[A]),
    _options?: RequestOptions,
  ): Promise<Answer<A>> {
    throw new Error('not yet')
  }

  /** Resolves when each topic is known (or known to fail: see `metadata.topic(name).error`). Never fails for one topic's sake. */
  ensureTopics(_topics: readonly string[], _options?: { timeoutMs?: number; signal?: AbortSignal }): Promise<void> {
    throw new Error('not yet')
  }

  /** Asks for the metadata of all topics in use. Calls in flight are shared; failures back off. */
  refresh(): Promise<void> {
    throw new Error('not yet')
  }

  onMetadata(_listener: (changes: MetadataChanges) => void): Disposable {
    throw new Error('not yet')
  }

  /** The node that coordinates a group: looked up once and remembered. */
  coordinator(_group: string, _options?: { timeoutMs?: number; signal?: AbortSignal }): Promise<number> {
    throw new Error('not yet')
  }

  /** Call on NOT_COORDINATOR, COORDINATOR_NOT_AVAILABLE or a lost connection; the next `coordinator` asks again. */
  forgetCoordinator(_group: string, _node: number): void {
    throw new Error('not yet')
  }

  nodes(): readonly number[] {
    throw new Error('not yet')
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}
