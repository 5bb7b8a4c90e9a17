/**
 * The inbox: which deliveries have been handled.
 *
 * Its key is (service, source, id). The table is partitioned by a bucket that follows from the delivery alone, so that
 * every copy of an event, from whatever topic and at whatever time, meets the same unique index: the day in the id (UUIDv7,
 * or derived), else the day of the event's own time, else a hash. Days near today have partitions of their own, which are dropped
 * whole; all other buckets (old events read again, clocks far off, ids without time) live in the default partition and
 * are deleted row by row. So no input can make a partition, and a missing partition is never an error.
 */
import { timeOfId } from '../../contract/id.ts'
import type { Delivery } from '../../runtime/ports.ts'

const dayMs = 86_400_000
/** The last bucket that may mean a day: 9999-12-31. */
const lastDay = 2_932_896

/** Day number since 1970-01-01 (UTC), or a negative number between -1024 and -1 for ids without a time. */
export function inboxBucket(delivery: Pick<Delivery, 'id' | 'timeMs'>): number {
  const idTimeMs = timeOfId(delivery.id)
  if (idTimeMs !== null) return day(idTimeMs) ?? hashBucket(delivery.id)
  if (delivery.timeMs > 0) return day(delivery.timeMs) ?? hashBucket(delivery.id)
  return hashBucket(delivery.id)
}

function day(timeMs: number): number | null {
  const bucket = Math.floor(timeMs / dayMs)
  return Number.isSafeInteger(bucket) && bucket >= 0 && bucket <= lastDay ? bucket : null
}

function hashBucket(id: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), 0x01000193)
  return -1 - ((hash >>> 0) % 1024)
}

/** PostgreSQL's text holds no NUL character; ids come from other people. Different ids stay different. */
export function storableText(text: string): string {
  return text.includes('\0') ? `nul:${JSON.stringify(text)}` : text
}

/** `inbox_d20780` for day 20780. */
export const partitionName = (bucket: number): string => `inbox_d${bucket}`

/** The day of a partition's name, null for other tables. */
export function partitionDay(name: string): number | null {
  const match = /^inbox_d(\d{1,7})$/.exec(name)
  return match ? Number(match[1]) : null
}

/** What maintenance has to do, decided from names alone. */
export interface InboxPlan {
  readonly create: readonly number[]
  readonly dropIfQuiet: readonly number[]
}

/** Yesterday to a week ahead have partitions; those whose day is further back than the retention may go. */
export function inboxPlan(today: number, existing: readonly number[], retentionDays: number): InboxPlan {
  const have = new Set(existing)
  const create: number[] = []
  for (let bucket = today - 1; bucket <= today + 7; bucket++) if (!have.has(bucket)) create.push(bucket)
  return { create, dropIfQuiet: existing.filter((bucket) => bucket < today - retentionDays) }
}
