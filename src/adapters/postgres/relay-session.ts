/**
 * What one relay process holds of the outbox.
 *
 * Two things guard a shard. A session advisory lock says who is alive: it vanishes with the connection. A lease in
 * `ottla.relay`, by the database's clock, says until when its owner may still be publishing although the connection is
 * gone: nobody takes a shard before the last owner's lease is over. An owner whose lease is long over but whose
 * connection stands (a frozen process) has its connection ended by the others.
 *
 *   free ──lock + old lease over──► held ──above the fair share──► leaving ──next call──► free
 *                                    │
 *                                    └── connection lost, process gone ──► free once the lease is over
 */
import { randomUUID } from 'node:crypto'
import { OttlaError } from '../../contract/errors.ts'
import type { ClaimedEvent, OutboxKey, RelaySession } from '../../runtime/ports.ts'
import { Checkout } from './checkout.ts'
import { ourFailure, unavailable } from './failure.ts'
import { decodeHeaders } from './outbox.ts'
import type { ClientShape, PoolShape } from './shape.ts'

export interface RelaySessionOptions {
  readonly shards: number
  readonly leaseMs: number
}

/** First half of the advisory locks: 'ottl'. The second is the shard. */
const lockClass = 1869902956

const renewText = `with me as (
  update ottla.relay set lease_until = clock_timestamp() + make_interval(secs => $2::float8 / 1000)
  where owner = $1 returning 1
), stale as (
  select r.owner, pg_terminate_backend(a.pid) as ended
  from ottla.relay r left join pg_stat_activity a on a.pid = r.backend_pid and a.backend_start = r.backend_start
  where r.owner <> $1 and r.lease_until < clock_timestamp() - make_interval(secs => $2::float8 / 1000)
)
select pg_backend_pid() as pid, (select count(*)::int from me) as known,
  (select count(*)::int from ottla.relay where lease_until > clock_timestamp() or owner = $1) as alive,
  (select count(*)::int from stale) as stale`

/** Shards whose last owner may not publish any more, as many as wanted, and whether their lock could be had. */
const lockText = `select shard, pg_try_advisory_lock(${lockClass}, shard) as mine from (
  select s.shard from ottla.shard s left join ottla.relay r on r.owner = s.owner
  where s.shard <> all ($2::int2[]) and (r.owner is null or r.owner = $1 or r.lease_until <= clock_timestamp())
  order by random() limit $3
) candidates`

/** With the lock in hand nobody else can take the shard; its last owner may have come back to life before that. */
const ownText = `update ottla.shard s set owner = $1 where shard = any ($2::int2[])
  and not exists (select from ottla.relay r where r.owner = s.owner and r.owner <> $1 and r.lease_until > clock_timestamp())
  returning shard`

const claimText = `select row_id, shard, topic, partition, key, value, headers, id, type, source, timestamp_ms from (
  select row_id, shard, topic, partition, key, value, headers, id, type, source, timestamp_ms,
    sum(coalesce(octet_length(key), 0) + coalesce(octet_length(value), 0) + octet_length(headers))
      over (order by row_id) as bytes, row_number() over (order by row_id) as nth
  from (
    select * from ottla.outbox o
    where shard = any ($1::int2[]) and row_id <> all ($2::int8[])
      and not exists (select from unnest($3::text[], $4::bytea[]) as skip (t, k) where t = topic and k = key)
    order by row_id limit $5
  ) first_rows
) counted where bytes <= $6 or nth = 1 order by row_id`

export class PostgresRelaySession implements RelaySession {
  readonly #checkout: Checkout
  readonly #options: RelaySessionOptions
  readonly #onEnd: () => void
  readonly #owner = randomUUID()
  readonly #held = new Set<number>()
  readonly #leaving = new Set<number>()
  readonly #pid: number
  #leaseUntil = { monotonicMs: 0, wallMs: 0 }
  #ended = false

  private constructor(checkout: Checkout, pid: number, options: RelaySessionOptions, onEnd: () => void) {
    this.#checkout = checkout
    this.#pid = pid
    this.#options = options
    this.#onEnd = onEnd
  }

  /** Throws OTTLA_STORE_POOLER when the connection is not a session of its own. */
  static async open(pool: PoolShape, options: RelaySessionOptions, onEnd: () => void): Promise<PostgresRelaySession> {
    const checkout = await Checkout.open(pool)
    try {
      const pid = await sessionPid(pool, checkout.client)
      const session = new PostgresRelaySession(checkout, pid, options, onEnd)
      // Plans of this connection follow the row order of the primary key, whatever the statistics say.
      await checkout.query(
        `set plan_cache_mode = force_custom_plan; set enable_seqscan = off; set enable_bitmapscan = off;
         set enable_sort = off; set statement_timeout = 0; set idle_session_timeout = 0; set jit = off`,
      )
      await session.#register()
      return session
    } catch (error) {
      checkout.noteFailure(error)
      checkout.markBroken(new Error('the relay session could not be opened'))
      checkout.release()
      throw ourFailure('a relay session was opened', error)
    }
  }

  async #register(): Promise<void> {
    const sent = now()
    await this.#checkout.query(
      `insert into ottla.relay (owner, backend_pid, backend_start, lease_until)
       select $1, a.pid, a.backend_start, clock_timestamp() + make_interval(secs => $2::float8 / 1000)
       from pg_stat_activity a where a.pid = pg_backend_pid()`,
      [this.#owner, this.#options.leaseMs],
    )
    this.#extend(sent)
  }

  async shards(): Promise<readonly number[]> {
    return this.#ask('leases were renewed', async () => {
      if (this.#leaving.size > 0) await this.#giveUp([...this.#leaving])
      const sent = now()
      const renewed = await this.#checkout.query(renewText, [this.#owner, this.#options.leaseMs])
      const { pid, known, alive, stale } = renewed.rows[0]!
      if (Number(pid) !== this.#pid) throw pooler()
      if (known === 0) throw unavailable('leases were renewed', new Error('others took this relay for dead'))
      this.#extend(sent)
      if (stale > 0) await this.#forgetStale()
      const fair = Math.ceil(this.#options.shards / Math.max(1, alive))
      if (this.#held.size < fair) await this.#take(fair - this.#held.size)
      const surplus = [...this.#held].slice(fair)
      for (const shard of surplus) {
        this.#held.delete(shard)
        this.#leaving.add(shard)
      }
      return [...this.#held].sort((a, b) => a - b)
    })
  }

  async #take(count: number): Promise<void> {
    const mineNow = [...this.#held, ...this.#leaving]
    const locked = await this.#checkout.query(lockText, [this.#owner, mineNow, count])
    const got = locked.rows.filter((row) => row.mine === true).map((row) => Number(row.shard))
    if (got.length === 0) return
    const owned = await this.#checkout.query(ownText, [this.#owner, got])
    const mine = new Set(owned.rows.map((row) => Number(row.shard)))
    for (const shard of mine) this.#held.add(shard)
    const missed = got.filter((shard) => !mine.has(shard))
    if (missed.length > 0) await this.#unlock(missed)
  }

  async #giveUp(shards: readonly number[]): Promise<void> {
    await this.#checkout.query('update ottla.shard set owner = null where shard = any ($1::int2[]) and owner = $2', [
      shards,
      this.#owner,
    ])
    await this.#unlock(shards)
    for (const shard of shards) this.#leaving.delete(shard)
  }

  async #unlock(shards: readonly number[]): Promise<void> {
    await this.#checkout.query(`select pg_advisory_unlock(${lockClass}, s) from unnest($1::int4[]) as s`, [shards])
  }

  /** Owners long silent; the renewal has ended their connections, so their locks are gone too. */
  async #forgetStale(): Promise<void> {
    await this.#checkout.query(
      `delete from ottla.relay where owner <> $1 and lease_until < clock_timestamp() - make_interval(secs => $2::float8 / 1000)`,
      [this.#owner, this.#options.leaseMs],
    )
  }

  #extend(sent: { readonly monotonicMs: number; readonly wallMs: number }): void {
    // Counted from before the question was sent: the database's lease ends later than ours.
    this.#leaseUntil = {
      monotonicMs: sent.monotonicMs + this.#options.leaseMs,
      wallMs: sent.wallMs + this.#options.leaseMs,
    }
  }

  mayPublish(shard: number, marginMs: number): boolean {
    if (this.#ended || this.#checkout.broken !== null || !this.#held.has(shard)) return false
    // The wall clock sees a suspended machine, which the monotonic one may sleep through.
    const { monotonicMs, wallMs } = now()
    return monotonicMs + marginMs < this.#leaseUntil.monotonicMs && wallMs + marginMs < this.#leaseUntil.wallMs
  }

  async claim(
    maxRows: number,
    maxBytes: number,
    skipKeys: readonly OutboxKey[],
    heldRows: readonly number[] = [],
  ): Promise<readonly ClaimedEvent[]> {
    if (this.#held.size === 0) return []
    return this.#ask('outbox rows were claimed', async () => {
      const keyed = skipKeys.filter((skip) => skip.key !== null)
      const answer = await this.#checkout.query(claimText, [
        [...this.#held],
        heldRows,
        keyed.map(({ topic }) => topic),
        keyed.map(({ key }) => bufferOf(key!)),
        maxRows,
        maxBytes,
      ])
      return answer.rows.map(claimedEvent)
    })
  }

  async published(rows: readonly number[]): Promise<void> {
    if (rows.length === 0) return
    await this.#ask('outbox rows were marked', () =>
      this.#checkout.query('delete from ottla.outbox where row_id = any ($1::int8[])', [rows]),
    )
  }

  async #ask<T>(doing: string, work: () => Promise<T>): Promise<T> {
    if (this.#ended) throw unavailable(doing, new Error('the relay session was disposed'))
    try {
      return await work()
    } catch (error) {
      throw ourFailure(doing, error)
    }
  }

  /** Gives shards and lease back, so that others need not wait for its end. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ended) return
    this.#ended = true
    try {
      if (this.#checkout.broken === null) {
        await this.#checkout.query(
          `with gone as (delete from ottla.relay where owner = $1)
           update ottla.shard set owner = null where owner = $1`,
          [this.#owner],
        )
        await this.#checkout.query(`select pg_advisory_unlock_all(); reset all`)
      }
    } catch (error) {
      this.#checkout.markBroken(error as Error)
    } finally {
      this.#held.clear()
      this.#checkout.release()
      this.#onEnd()
    }
  }
}

const now = (): { monotonicMs: number; wallMs: number } => ({ monotonicMs: performance.now(), wallMs: Date.now() })

const bufferOf = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)

const claimedEvent = (row: any): ClaimedEvent => ({
  row: Number(row.row_id),
  shard: Number(row.shard),
  record: {
    topic: row.topic,
    partition: row.partition === null ? null : Number(row.partition),
    key: row.key,
    value: row.value,
    headers: decodeHeaders(row.headers),
    id: row.id,
    type: row.type,
    source: row.source,
    ...(row.timestamp_ms === null ? {} : { timestampMs: Number(row.timestamp_ms) }),
  },
})

const pooler = (): OttlaError =>
  new OttlaError(
    'OTTLA_STORE_POOLER',
    'statements of one connection reach different server processes: a pooler in transaction mode stands in between. The relay needs a session of its own: give it a pool that connects to PostgreSQL directly, or set the pooler to session mode',
  )

/**
 * The server process behind this connection. A direct connection was told that number when it was opened; a pooler
 * makes one up, and then it must prove that two connections at a time are two processes.
 */
async function sessionPid(pool: PoolShape, client: ClientShape): Promise<number> {
  const pidOf = async (one: ClientShape): Promise<number> =>
    Number((await one.query('select pg_backend_pid() as pid')).rows[0]!.pid)
  const pid = await pidOf(client)
  if ((client as { processID?: unknown }).processID === pid) return pid
  const other = await Checkout.open(pool)
  try {
    await other.client.query('begin')
    const otherPid = await pidOf(other.client)
    // While the other one keeps its server process busy, ours must still be where it was.
    const again = await pidOf(client)
    if (otherPid === pid || again !== pid) throw pooler()
    return pid
  } finally {
    await other.rollback()
  }
}
