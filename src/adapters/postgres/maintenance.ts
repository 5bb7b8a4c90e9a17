/**
 * Keeps the inbox bounded: partitions ahead of time, old ones dropped whole, stragglers deleted in portions.
 *
 * A partition goes when its day is further back than the retention *and* nothing was handled in it within the
 * retention, so events read again long after they were made stay known. Nothing here is needed for correctness: without
 * it rows land in the default partition. Locks are waited for briefly; what fails today is done at the next round.
 */
import { inboxPlan, partitionDay, partitionName } from './inbox.ts'
import type { ClientShape } from './shape.ts'

/** What a round did. */
export interface Maintained {
  readonly created: number
  readonly dropped: number
  readonly deleted: number
  /** What could not be done this time, and why. */
  readonly postponed: readonly string[]
}

/** 'ottl', then 2. */
const maintenanceLock = 'select pg_try_advisory_xact_lock(1869902956, -2) as mine'
const deletePortion = 5_000
const portionsMax = 200

/** One round. Another process at it at the same time makes this one a no-op. */
export async function maintainInbox(client: ClientShape, retentionDays: number): Promise<Maintained> {
  const postponed: string[] = []
  let created = 0
  let dropped = 0
  const state = await client.query(
    `select floor(extract(epoch from now()) / 86400)::int as today,
            (select coalesce(array_agg(c.relname::text), '{}') from pg_inherits i join pg_class c on c.oid = i.inhrelid
              where i.inhparent = 'ottla.inbox'::regclass) as names`,
  )
  const { today, names } = state.rows[0] as { today: number; names: string[] }
  const days = names.map(partitionDay).filter((bucket) => bucket !== null)
  const plan = inboxPlan(today, days, retentionDays)
  const attempt = async (what: string, work: () => Promise<boolean>): Promise<boolean> => {
    try {
      await client.query(`begin; set local lock_timeout = '500ms'`)
      const mine = await client.query(maintenanceLock)
      const done = mine.rows[0]?.mine === true && (await work())
      await client.query('commit')
      return done
    } catch (error) {
      await client.query('rollback')
      postponed.push(`${what}: ${(error as Error).message}`)
      return false
    }
  }
  for (const bucket of plan.create) {
    if (await attempt(`creating partition ${bucket}`, () => createPartition(client, bucket))) created += 1
  }
  for (const bucket of plan.dropIfQuiet) {
    if (await attempt(`dropping partition ${bucket}`, () => dropPartition(client, bucket, retentionDays))) dropped += 1
  }
  return { created, dropped, deleted: await deleteStragglers(client, retentionDays), postponed }
}

/** Rows of that day that are in the default partition already move over with it. */
async function createPartition(client: ClientShape, bucket: number): Promise<boolean> {
  const name = `ottla.${partitionName(bucket)}`
  const there = await client.query('select to_regclass($1) is not null as there', [name])
  if (there.rows[0]?.there === true) return false
  await client.query(`
    create table ${name} (like ottla.inbox including defaults including indexes);
    lock table ottla.inbox_rest in access exclusive mode;
    with moved as (delete from ottla.inbox_rest where bucket = ${bucket} returning bucket, service, source, id, handled_at)
      insert into ${name} (bucket, service, source, id, handled_at) select bucket, service, source, id, handled_at from moved;
    alter table ottla.inbox attach partition ${name} for values from (${bucket}) to (${bucket + 1})`)
  return true
}

async function dropPartition(client: ClientShape, bucket: number, retentionDays: number): Promise<boolean> {
  const name = `ottla.${partitionName(bucket)}`
  const fresh = await client.query(
    `select exists (select from ${name} where handled_at > now() - make_interval(days => $1)) as fresh`,
    [retentionDays],
  )
  if (fresh.rows[0]?.fresh === true) return false
  await client.query(`
    lock table ottla.inbox in access exclusive mode;
    do $$ begin
      if not exists (select from ${name} where handled_at > now() - make_interval(days => ${retentionDays})) then
        drop table ${name};
      end if;
    end $$`)
  return true
}

async function deleteStragglers(client: ClientShape, retentionDays: number): Promise<number> {
  let deleted = 0
  for (let portion = 0; portion < portionsMax; portion++) {
    const answer = await client.query(
      `delete from ottla.inbox_rest where ctid = any (array(
         select ctid from ottla.inbox_rest where handled_at < now() - make_interval(days => $1)
         order by handled_at limit ${deletePortion} for update skip locked))`,
      [retentionDays],
    )
    deleted += answer.rowCount ?? 0
    if ((answer.rowCount ?? 0) < deletePortion) break
  }
  return deleted
}
