/**
 * PostgreSQL as a store: a handler's writes, its inbox row and what it emits in one transaction.
 *
 * `postgres` is both the kind a service names (`service('x', { store: postgres })`) and the function that makes the
 * instance the app supplies (`app({ store: postgres(pool) })`).
 */
import { OttlaError } from '../../contract/errors.ts'
import type {
  HandleOptions,
  HandleResult,
  Log,
  OutboxRecord,
  RelaySession,
  Store,
  StoreKind,
} from '../../runtime/ports.ts'
import { Checkout, deadlineError } from './checkout.ts'
import { ourFailure } from './failure.ts'
import { inboxBucket, storableText } from './inbox.ts'
import { type Maintained, maintainInbox } from './maintenance.ts'
import { PostgresRelaySession } from './relay-session.ts'
import { applySchema, readMeta, verifySchema } from './schema.ts'
import type { PoolShape, PostgresTx } from './shape.ts'
import { runTransaction } from './transaction.ts'

export interface PostgresOptions {
  /**
   * For how many days handled deliveries are remembered. Default 30. At least the retention of the topics read, plus
   * the time within which dead letters are redriven, plus one day.
   */
  readonly inboxRetentionDays?: number
  /** How long a relay may go on publishing after it last reached the database. Default 4,000 ms. */
  readonly relayLeaseMs?: number
  /** Where lost connections and postponed maintenance are told. Default: nowhere. */
  readonly log?: Log
}

/**
 * Pools with a listener of ours. Without one a pool ends the process when an idle connection is lost, also while the
 * pool is ending, so this one stays: a lost idle connection harms nobody.
 */
const guarded = new WeakSet<PoolShape>()

const maintenanceEveryMs = 3_600_000
const dayMs = 86_400_000

/** The fence and the inbox row in one statement; a concurrent copy of the same delivery waits here for the first. */
const enterText = `with fence as (
  select epoch from ottla.fence where service = $1::text and topic_id = $2::text and partition = $3::int4 for share
), entry as (
  insert into ottla.inbox (bucket, service, source, id)
  select $5::int4, $1::text, $6::text, $7::text from fence where epoch = $4::int8
  on conflict do nothing
  returning 1
)
select pg_backend_pid()::text, (select epoch::text from fence), (select count(*)::text from entry)`

const acquireText = `insert into ottla.fence as f (service, topic_id, partition, epoch) values ($1, $2, $3, 1)
on conflict (service, topic_id, partition) do update set epoch = f.epoch + 1, acquired_at = now()
returning epoch`

/** See `postgres`. */
export class PostgresStore implements Store<PostgresTx> {
  readonly kind = 'postgres'
  readonly concurrencyMax: number
  readonly #pool: PoolShape
  readonly #retentionDays: number
  readonly #leaseMs: number
  readonly #log: Log | undefined
  readonly #listeners = new Set<() => void>()
  readonly #sessions = new Set<PostgresRelaySession>()
  #shards: number | null = null
  #maintenance: NodeJS.Timeout | undefined
  #maintaining: Promise<unknown> = Promise.resolve()
  #disposed = false
  readonly #onPoolError = (error: Error): void => {
    this.#log?.warn('an idle connection to the database was lost; the pool opens another', { error })
  }

  constructor(pool: PoolShape, options: PostgresOptions = {}) {
    const max = pool.options?.max ?? 10
    const problems: string[] = []
    if (max < 3)
      problems.push(`the pool's max is ${max}, needed are at least 3: one for the relay, one spare, one to work`)
    this.#retentionDays = options.inboxRetentionDays ?? 30
    if (!(Number.isInteger(this.#retentionDays) && this.#retentionDays >= 1)) {
      problems.push(`inboxRetentionDays expects whole days from 1, got ${options.inboxRetentionDays}`)
    }
    this.#leaseMs = options.relayLeaseMs ?? 4_000
    if (!(Number.isInteger(this.#leaseMs) && this.#leaseMs >= 500 && this.#leaseMs <= 600_000)) {
      problems.push(`relayLeaseMs expects 500 to 600000, got ${options.relayLeaseMs}`)
    }
    if (problems.length > 0) throw new OttlaError('OTTLA_CONFIG_INVALID', `postgres(): ${problems.join('; ')}`)
    this.#pool = pool
    this.#log = options.log
    this.concurrencyMax = max - 2
    if (!guarded.has(pool)) {
      guarded.add(pool)
      pool.on?.('error', () => undefined)
    }
    pool.on?.('error', this.#onPoolError)
  }

  async prepare(mode: 'apply' | 'verify'): Promise<void> {
    await this.#withClient('the schema was prepared', async (client) => {
      const meta = mode === 'apply' ? await applySchema(client) : await verifySchema(client)
      this.#shards = meta.shards
    })
    if (mode === 'apply') await this.maintain()
    this.#maintenance ??= setInterval(() => {
      this.#maintaining = this.maintain().catch((error) => {
        this.#log?.warn('the inbox could not be tidied; it is tried again in an hour', { error })
      })
    }, maintenanceEveryMs).unref()
  }

  /** Makes inbox partitions ahead and removes what is older than the retention. Runs by itself once an hour. */
  async maintain(): Promise<Maintained> {
    const done = await this.#withClient('the inbox was tidied', (client) => maintainInbox(client, this.#retentionDays))
    if (done.postponed.length > 0)
      this.#log?.warn('part of the inbox could not be tidied', { postponed: done.postponed })
    return done
  }

  get inboxRetentionMs(): number {
    return this.#retentionDays * dayMs
  }

  async knows(service: string, topicId: string, partition: number): Promise<boolean> {
    return this.#withClient('a fence was looked up', async (client) => {
      const answer = await client.query(
        'select exists (select from ottla.fence where service = $1 and topic_id = $2 and partition = $3) as known',
        [service, topicId, partition],
      )
      return answer.rows[0]!.known === true
    })
  }

  async acquire(service: string, topicId: string, partition: number): Promise<number> {
    return this.#withClient('a fence was bumped', async (client) => {
      const answer = await client.query(acquireText, [service, topicId, partition])
      return Number(answer.rows[0]!.epoch)
    })
  }

  async handle(
    { delivery, fence, signal }: HandleOptions,
    work: (tx: PostgresTx) => Promise<readonly OutboxRecord[]>,
  ): Promise<HandleResult> {
    const shards = await this.#shardCount()
    const checkout = await this.#checkout(signal)
    const first = {
      text: enterText,
      values: [
        fence.service,
        fence.topicId,
        String(fence.partition),
        String(fence.epoch),
        String(inboxBucket(delivery)),
        storableText(delivery.source),
        storableText(delivery.id),
      ],
    }
    const facts = { service: delivery.service, source: delivery.source, id: delivery.id }
    let wrote = false
    const result = await runTransaction<HandleResult, HandleResult>(
      { checkout, shards, signal, first, facts },
      ([pid, epoch, entered]) => {
        checkout.backendPid = Number(pid)
        if (epoch === null || epoch === undefined || Number(epoch) !== fence.epoch) {
          return { enter: false, result: 'fenced' }
        }
        return entered === '1' ? { enter: true } : { enter: false, result: 'duplicate' }
      },
      async (tx) => {
        const records = await work(tx)
        wrote = records.length > 0
        return { value: 'committed', records }
      },
    )
    if (wrote && result === 'committed') this.#tell()
    return result
  }

  async transact<R>(
    work: (tx: PostgresTx) => Promise<{ readonly result: R; readonly records: readonly OutboxRecord[] }>,
  ): Promise<R> {
    const shards = await this.#shardCount()
    const checkout = await this.#checkout()
    let wrote = false
    const result = await runTransaction<R, never>(
      { checkout, shards, first: { text: 'select pg_backend_pid()::text', values: [] }, facts: {} },
      ([pid]) => {
        checkout.backendPid = Number(pid)
        return { enter: true }
      },
      async (tx) => {
        const done = await work(tx)
        wrote = done.records.length > 0
        return { value: done.result, records: done.records }
      },
    )
    if (wrote) this.#tell()
    return result
  }

  onOutbox(listener: () => void): Disposable {
    this.#listeners.add(listener)
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) }
  }

  async relay(): Promise<RelaySession> {
    const shards = await this.#shardCount()
    if (this.#disposed) throw this.#closed()
    const session = await PostgresRelaySession.open(this.#pool, { shards, leaseMs: this.#leaseMs }, () =>
      this.#sessions.delete(session),
    )
    this.#sessions.add(session)
    return session
  }

  async backlog(): Promise<{ readonly rows: number; readonly oldestSeconds: number }> {
    return this.#withClient('the outbox was counted', async (client) => {
      const answer = await client.query(
        `select count(*) as rows,
           greatest(0, coalesce(extract(epoch from clock_timestamp() - min(created_at)), 0))::float8 as seconds
         from ottla.outbox`,
      )
      return { rows: Number(answer.rows[0]!.rows), oldestSeconds: Number(answer.rows[0]!.seconds) }
    })
  }

  /** Ends the relay sessions. The pool stays open: it is the caller's. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#disposed) return
    this.#disposed = true
    clearInterval(this.#maintenance)
    this.#listeners.clear()
    await this.#maintaining
    await Promise.all([...this.#sessions].map((session) => session[Symbol.asyncDispose]()))
    this.#pool.removeListener?.('error', this.#onPoolError)
  }

  async #shardCount(): Promise<number> {
    if (this.#shards === null) {
      await this.#withClient('the schema was read', async (client) => {
        const meta = await readMeta(client)
        this.#shards = meta?.shards ?? null
      })
    }
    if (this.#shards === null) {
      throw new OttlaError(
        'OTTLA_STORE_SCHEMA',
        `the database has no schema "ottla": run \`ottla store migrate\`, or start once with schema: 'apply'`,
      )
    }
    return this.#shards
  }

  async #checkout(signal?: AbortSignal): Promise<Checkout> {
    if (this.#disposed) throw this.#closed()
    try {
      return await Checkout.open(this.#pool, signal)
    } catch (error) {
      if (signal?.aborted) throw deadlineError(signal.reason)
      throw error
    }
  }

  async #withClient<T>(doing: string, work: (client: Checkout['client']) => Promise<T>): Promise<T> {
    const checkout = await this.#checkout()
    try {
      return await work(checkout.client)
    } catch (error) {
      checkout.noteFailure(error)
      throw ourFailure(doing, error)
    } finally {
      checkout.release()
    }
  }

  #closed(): OttlaError {
    return new OttlaError('OTTLA_STORE_UNAVAILABLE', 'the store was disposed', { retriable: false })
  }

  #tell(): void {
    for (const listener of this.#listeners) listener()
  }
}

/**
 * The PostgreSQL store. As a value it is the kind a service names; called with a `pg` Pool it is the instance for
 * `app({ store })`. The pool needs `max` of 3 or more, its tables live in schema `ottla`. Throws OTTLA_CONFIG_INVALID.
 */
export const postgres: StoreKind<PostgresTx> & {
  readonly kind: 'postgres'
  (pool: PoolShape, options?: PostgresOptions): PostgresStore
} = Object.assign((pool: PoolShape, options?: PostgresOptions) => new PostgresStore(pool, options), {
  kind: 'postgres' as const,
})
