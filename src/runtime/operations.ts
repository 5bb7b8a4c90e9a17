/** What can be asked of a running app and told to it, beside publishing: the ledger, lag, health, pause and resume. */

import type { Health, ServiceLag } from './app.ts'
import type { App } from './app-types.ts'
import type { LedgerRow, Parked } from './service-loop.ts'

export interface Operations {
  /** The loss ledger, per service, topic and partition, over all ownerships of this process. */
  ledger(): readonly LedgerRow[]
  /** How far behind, per service and partition held by this process. */
  lag(): readonly ServiceLag[]
  /** Records that wait for a retry, or for a person. */
  parked(): readonly Parked[]
  health(): Health
  /** Lets partitions go on that the brake or `pause` has stopped. Returns how many. */
  resume(service: string, topic?: string, partition?: number): number
  /** Stands partitions still; running handlers finish. Returns how many. */
  pause(service: string, topic?: string, partition?: number): number
}

/** A set of services that can be looked into. */
export type OperableApp<Names extends string> = App<Names> & Operations
