/** What the PostgreSQL store keeps beyond the store port, as tests for any version of the server. */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import pg from 'pg'
import { migrationSql, schemaVersion } from '../../adapters/postgres/schema.ts'
import type { ClientShape, PoolShape, PostgresTx } from '../../adapters/postgres/shape.ts'
import { type PostgresStore, postgres } from '../../adapters/postgres/store.ts'
import { OttlaError } from '../../contract/errors.ts'
import type { Delivery, Fence, OutboxRecord } from '../../runtime/ports.ts'
import type { EmbeddedPostgres } from '../embedded-postgres.ts'
import { eventually, outboxRecord } from './fake-log.ts'
import { adminPool, openPostgres } from './postgres-fixture.ts'
import { freshDelivery } from './store.ts'

const dayMs = 86_400_000

/** Registers the tests. `start` gives a server on which databases can be made. */
export function postgresConformance(name: string, start: () => Promise<EmbeddedPostgres>): void {
  describe(`postgres: ${name}`, { timeout: 120_000 }, () => {
    let server: EmbeddedPostgres
    before(async () => {
      server = await start()
    })
    after(() => server?.[Symbol.asyncDispose]())

    /** A store on a database of its own, with a table `t (k text primary key)`. */
    const opened = async (poolOptions: pg.PoolConfig = {}) => {
      const url = await server.createDatabase()
      const one = await openPostgres(url, { relayLeaseMs: 500 }, poolOptions)
      const admin = adminPool(url)
      await admin.query('create table t (k text primary key)')
      const fence: Fence = { service: 's', topicId: 'T', partition: 0, epoch: await one.store.acquire('s', 'T', 0) }
      const sql = async (text: string, values?: unknown[]): Promise<any[]> => (await admin.query(text, values)).rows
      return {
        url,
        store: one.store as PostgresStore,
        pool: one.pool,
        fence,
        sql,
        handle: (
          work: (tx: PostgresTx) => Promise<readonly OutboxRecord[]>,
          { delivery = freshDelivery({ service: 's' }), signal = new AbortController().signal } = {},
        ) => one.store.handle({ delivery, fence, signal }, work),
        [Symbol.asyncDispose]: async () => {
          await admin.end()
          await one[Symbol.asyncDispose]()
        },
      }
    }

    describe('schema', () => {
      test('verify refuses a database without the schema and says what to do', async () => {
        const pool = new pg.Pool({ connectionString: await server.createDatabase(), max: 3 })
        await using store = postgres(pool)
        const refused = {
          code: 'OTTLA_STORE_SCHEMA',
          message: /no schema "ottla".*ottla store migrate.*schema: 'apply'/,
        }
        await assert.rejects(store.prepare('verify'), refused)
        await assert.rejects(store.acquire('s', 'T', 0), { code: 'OTTLA_STORE_SCHEMA' })
        await assert.rejects(
          store.transact(async () => ({ result: 1, records: [] })),
          refused,
        )
        await store.prepare('apply')
        await store.prepare('verify')
        await pool.end()
      })

      test('verify refuses a database that is two versions newer and bears one that is one newer', async () => {
        await using db = await opened()
        await db.sql('update ottla.meta set schema_version = $1', [schemaVersion + 1])
        await db.store.prepare('verify')
        await db.store.prepare('apply')
        await db.sql('update ottla.meta set schema_version = $1', [schemaVersion + 2])
        await assert.rejects(db.store.prepare('verify'), { code: 'OTTLA_STORE_SCHEMA', message: /upgrade the package/ })
        await assert.rejects(db.store.prepare('apply'), { code: 'OTTLA_STORE_SCHEMA' })
      })

      test('any number of processes may apply it at the same time', async () => {
        const url = await server.createDatabase()
        const opening = Array.from({ length: 8 }, () => openPostgres(url, {}, { max: 3 }))
        for (const one of await Promise.all(opening)) await one[Symbol.asyncDispose]()
        const pool = adminPool(url, 1)
        const { rows } = await pool.query('select schema_version, shards from ottla.meta')
        await pool.end()
        assert.deepEqual(rows, [{ schema_version: schemaVersion, shards: 64 }])
      })

      test('the printed SQL makes the same schema as apply', async () => {
        const url = await server.createDatabase()
        const pool = new pg.Pool({ connectionString: url, max: 3 })
        await pool.query(migrationSql())
        await using store = postgres(pool)
        await store.prepare('verify')
        await pool.end()
      })

      test('a role without the privilege gets a sentence', async () => {
        await using db = await opened()
        const role = `weak_${process.pid}_${Date.now()}`
        await db.sql(`create role ${role} login password 'weak'`)
        const url = new URL(await server.createDatabase())
        url.username = role
        url.password = 'weak'
        const pool = new pg.Pool({ connectionString: url.href, max: 3 })
        await using store = postgres(pool)
        await assert.rejects(store.prepare('apply'), { code: 'OTTLA_STORE_SCHEMA', message: /lacks a privilege/ })
        await pool.end()
      })

      test('the sequence of the outbox is not cached', async () => {
        await using db = await opened()
        const [row] = await db.sql(`select seqcache::int as cache from pg_sequence
          where seqrelid = pg_get_serial_sequence('ottla.outbox', 'row_id')::regclass`)
        assert.equal(row.cache, 1)
      })
    })

    describe('transaction', () => {
      test('statements that begin or end the transaction are refused, and the transaction goes on', async () => {
        await using db = await opened()
        const result = await db.handle(async (tx) => {
          for (const text of ['commit', 'ROLLBACK', ' begin', "insert into t values ('x'); commit", '/* a */ end']) {
            await assert.rejects(tx.query(text), { code: 'OTTLA_STORE_TX' })
          }
          await tx.query("insert into t values ('commit; rollback')")
          await tx.query('savepoint a')
          await assert.rejects(tx.query("insert into t values ('commit; rollback')"), { code: '23505' })
          await tx.query('rollback to savepoint a')
          await tx.query('release savepoint a')
          return []
        })
        assert.equal(result, 'committed')
        assert.deepEqual(await db.sql('select k from t'), [{ k: 'commit; rollback' }])
      })

      test('an error of a statement that the handler swallowed comes out instead of a commit that was none', async () => {
        await using db = await opened()
        for (const records of [[], [outboxRecord('a', '1')]]) {
          const handling = db.handle(async (tx) => {
            await tx.query("insert into t values ('a')")
            await tx.query("insert into t values ('a')").catch(() => undefined)
            return records
          })
          await assert.rejects(handling, { code: '23505' })
        }
        assert.deepEqual(await db.sql('select k from t'), [])
        assert.deepEqual(await db.sql('select id from ottla.inbox'), [])
      })

      test('an error that only the commit finds comes out with its own code', async () => {
        await using db = await opened()
        await db.sql('create table child (k text references t deferrable initially deferred)')
        const handling = db.handle(async (tx) => {
          await tx.query("insert into child values ('nobody')")
          return [outboxRecord('a', '1')]
        })
        await assert.rejects(handling, { code: '23503' })
        assert.equal((await db.store.backlog()).rows, 0)
      })

      test('a serialization failure keeps its SQLSTATE', async () => {
        await using db = await opened()
        await db.sql("insert into t values ('a')")
        const handling = db.handle(async (tx) => {
          await tx.query('savepoint s')
          await tx.query("do $$ begin raise exception 'again' using errcode = '40001'; end $$")
          return []
        })
        await assert.rejects(handling, { code: '40001' })
      })

      test('statements started together run one after the other, also those nobody awaited', async () => {
        await using db = await opened()
        const result = await db.handle(async (tx) => {
          await Promise.all([tx.query("insert into t values ('a')"), tx.query("insert into t values ('b')")])
          void tx.query("select pg_sleep(0.05), 'x'")
          void tx.query("insert into t values ('c')")
          return []
        })
        assert.equal(result, 'committed')
        assert.equal((await db.sql('select k from t')).length, 3)
      })

      test('tx throws after the handler has returned', async () => {
        await using db = await opened()
        let kept: PostgresTx | undefined
        await db.handle(async (tx) => {
          kept = tx
          return []
        })
        await assert.rejects(kept!.query('select 1'), { code: 'OTTLA_STORE_TX', message: /await every tx.query/ })
      })

      test('an aborted statement is cancelled on the server, and its connection serves again', async () => {
        await using db = await opened({ max: 3 })
        const abort = new AbortController()
        const startMs = performance.now()
        const handling = db.handle(
          async (tx) => {
            await tx.query("insert into t values ('a')")
            await tx.query('select pg_sleep(30)')
            return []
          },
          { signal: abort.signal },
        )
        await eventually(async () => {
          const [row] = await db.sql(
            "select count(*)::int as n from pg_stat_activity where query like '%pg_sleep(30)%' and state = 'active' and pid <> pg_backend_pid()",
          )
          return row.n === 1
        })
        abort.abort(new OttlaError('OTTLA_RUNTIME_DEADLINE', 'too slow'))
        await assert.rejects(handling, { code: 'OTTLA_RUNTIME_DEADLINE', message: 'too slow' })
        assert.ok(performance.now() - startMs < 5_000)
        const [row] = await db.sql(
          "select count(*)::int as n from pg_stat_activity where query like '%pg_sleep(30)%' and state = 'active' and pid <> pg_backend_pid()",
        )
        assert.equal(row.n, 0)
        assert.deepEqual(await db.sql('select k from t'), [])
        assert.equal(await db.handle(async () => []), 'committed')
      })

      test('without a connection left to cancel through, the aborted connection is closed within about 1 s', async () => {
        await using db = await opened({ max: 3 })
        const others = await Promise.all([db.pool.connect(), db.pool.connect()])
        const abort = new AbortController()
        const handling = db.handle(
          async (tx) => {
            await tx.query('select pg_sleep(5)')
            return []
          },
          { signal: abort.signal },
        )
        await eventually(async () => {
          const [row] = await db.sql(
            "select count(*)::int as n from pg_stat_activity where query like '%pg_sleep(5)%' and state = 'active' and pid <> pg_backend_pid()",
          )
          return row.n === 1
        })
        const startMs = performance.now()
        abort.abort()
        await assert.rejects(handling, { code: 'OTTLA_RUNTIME_DEADLINE' })
        assert.ok(performance.now() - startMs < 2_500)
        for (const other of others) other.release()
        assert.equal(await db.handle(async () => []), 'committed')
      })

      test('an exhausted pool makes handlers wait, and an abort ends the wait', async () => {
        await using db = await opened({ max: 3 })
        const go = Promise.withResolvers<void>()
        const busy = [1, 2, 3].map(() =>
          db.handle(async () => {
            await go.promise
            return []
          }),
        )
        const abort = new AbortController()
        const given = db.handle(async () => [], { signal: abort.signal })
        const patient = db.handle(async () => [])
        abort.abort()
        await assert.rejects(given, { code: 'OTTLA_RUNTIME_DEADLINE' })
        go.resolve()
        assert.deepEqual(await Promise.all([...busy, patient]), ['committed', 'committed', 'committed', 'committed'])
      })

      test('a pool that gives up waiting means that the store is unavailable', async () => {
        await using db = await opened({ max: 3, connectionTimeoutMillis: 1_000 })
        const others = await Promise.all([db.pool.connect(), db.pool.connect(), db.pool.connect()])
        await assert.rejects(
          db.handle(async () => []),
          { code: 'OTTLA_STORE_UNAVAILABLE', retriable: true },
        )
        for (const other of others) other.release()
      })

      test('a connection that dies under a handler means that the store is unavailable, and the next one works', async () => {
        await using db = await opened()
        const handling = db.handle(async (tx) => {
          const { rows } = await tx.query('select pg_backend_pid() as pid')
          await db.sql('select pg_terminate_backend($1)', [rows[0].pid])
          await tx.query("insert into t values ('a')")
          return []
        })
        await assert.rejects(handling, { code: 'OTTLA_STORE_UNAVAILABLE', retriable: true })
        assert.equal(await db.handle(async () => []), 'committed')
      })

      test('a database that is gone means that the store is unavailable', async () => {
        const pool = new pg.Pool({ host: '127.0.0.1', port: 1, max: 3 })
        await using store = postgres(pool)
        await assert.rejects(store.prepare('verify'), { code: 'OTTLA_STORE_UNAVAILABLE', retriable: true })
        await pool.end()
      })

      test('pipelining clients are served too', async () => {
        await using db = await opened({ pipeline: true } as pg.PoolConfig)
        const delivery = freshDelivery({ service: 's' })
        const work = async (tx: PostgresTx) => {
          await tx.query('insert into t values ($1)', ['a'])
          return [outboxRecord('a', '1')]
        }
        assert.equal(await db.handle(work, { delivery }), 'committed')
        assert.equal(await db.handle(work, { delivery }), 'duplicate')
        assert.equal((await db.store.backlog()).rows, 1)
      })

      test('a hundred records of a handler keep their order', async () => {
        await using db = await opened()
        const records = Array.from({ length: 1_200 }, (_, i) => outboxRecord('k', String(i)))
        await db.handle(async () => records)
        const rows = await db.sql(`select convert_from(value, 'UTF8') as n, shard from ottla.outbox order by row_id`)
        assert.deepEqual(
          rows.map(({ n }) => n),
          records.map((_, i) => String(i)),
        )
        assert.equal(new Set(rows.map(({ shard }) => shard)).size, 1)
      })
    })

    describe('inbox', () => {
      const buckets = async (db: { sql(text: string): Promise<any[]> }) =>
        (await db.sql('select tableoid::regclass::text as part, id from ottla.inbox order by id')).map(
          (row) => row.part,
        )
      const deliver = (db: { handle: (w: any, o: any) => Promise<string> }, delivery: Delivery) =>
        db.handle(async () => [], { delivery })

      test('today has a partition; ids from far away go into the rest, and are recognised there too', async () => {
        await using db = await opened()
        const today = Math.floor(Date.now() / dayMs)
        const near = freshDelivery({ service: 's', id: '1' })
        const far = freshDelivery({ service: 's', id: '2', timeMs: 5 * dayMs })
        const timeless = freshDelivery({ service: 's', id: '3\0', timeMs: 0 })
        for (const delivery of [near, far, timeless]) {
          assert.equal(await deliver(db, delivery), 'committed')
          assert.equal(await deliver(db, delivery), 'duplicate')
        }
        assert.deepEqual(await buckets(db), [`ottla.inbox_d${today}`, 'ottla.inbox_rest', 'ottla.inbox_rest'])
      })

      test('maintenance moves a day out of the rest, and every copy is still recognised', async () => {
        await using db = await opened()
        const soon = Math.floor(Date.now() / dayMs) + 3
        await db.sql(`drop table ottla.inbox_d${soon}`)
        const delivery = freshDelivery({ service: 's', timeMs: soon * dayMs + 1 })
        assert.equal(await deliver(db, delivery), 'committed')
        assert.deepEqual(await buckets(db), ['ottla.inbox_rest'])
        assert.equal((await db.store.maintain()).created, 1)
        assert.deepEqual(await buckets(db), [`ottla.inbox_d${soon}`])
        assert.equal(await deliver(db, delivery), 'duplicate')
      })

      test('a day goes when it is older than the retention and quiet; rows handled lately keep it', async () => {
        await using db = await opened()
        const old = Math.floor(Date.now() / dayMs) - 100
        const attach = (bucket: number) =>
          db.sql(
            `create table ottla.inbox_d${bucket} partition of ottla.inbox for values from (${bucket}) to (${bucket + 1})`,
          )
        await attach(old)
        await attach(old + 1)
        assert.equal(await deliver(db, freshDelivery({ service: 's', timeMs: (old + 1) * dayMs })), 'committed')
        assert.equal((await db.store.maintain()).dropped, 1)
        assert.deepEqual(await buckets(db), [`ottla.inbox_d${old + 1}`])
        await db.sql(`update ottla.inbox set handled_at = now() - interval '31 days'`)
        assert.equal((await db.store.maintain()).dropped, 1)
        assert.deepEqual(await buckets(db), [])
      })

      test('rows of the rest are deleted after the retention', async () => {
        await using db = await opened()
        for (const id of ['a', 'b'])
          assert.equal(await deliver(db, freshDelivery({ service: 's', id, timeMs: 1 })), 'committed')
        await db.sql(`update ottla.inbox set handled_at = now() - interval '31 days' where id = 'a'`)
        assert.equal((await db.store.maintain()).deleted, 1)
        assert.deepEqual(
          (await db.sql('select id from ottla.inbox')).map(({ id }) => id),
          ['b'],
        )
      })

      test('maintenance does not wait for a handler that holds its locks', async () => {
        await using db = await opened()
        const soon = Math.floor(Date.now() / dayMs) + 3
        await db.sql(`drop table ottla.inbox_d${soon}`)
        await db.handle(
          async () => {
            const done = await db.store.maintain()
            assert.equal(done.created, 0)
            assert.match(done.postponed[0]!, /lock timeout/)
            return []
          },
          { delivery: freshDelivery({ service: 's', timeMs: 1 }) },
        )
        assert.equal((await db.store.maintain()).created, 1)
      })
    })

    describe('relay session', () => {
      test('a frozen owner loses its connection to those who wait for its shards', async () => {
        await using db = await opened()
        await using other = await openPostgres(db.url, { relayLeaseMs: 500 })
        await using frozen = await db.store.relay()
        const all = await frozen.shards()
        await using awake = await other.store.relay()
        await eventually(async () => (await awake.shards()).length === all.length)
        await assert.rejects(frozen.shards(), { code: 'OTTLA_STORE_UNAVAILABLE' })
        assert.equal(frozen.mayPublish(all[0]!, 0), false)
      })

      test('shards of a dead process are taken only when its lease is over', async () => {
        await using db = await opened()
        await using doomed = await openPostgres(db.url, { relayLeaseMs: 500 })
        const dead = await doomed.store.relay()
        const all = await dead.shards()
        const renewedMs = performance.now()
        await using heir = await db.store.relay()
        await doomed.kill()
        let takenMs = 0
        await eventually(async () => {
          const { length } = await heir.shards()
          takenMs = performance.now()
          return length === all.length
        })
        assert.ok(takenMs - renewedMs >= 480, `taken after ${takenMs - renewedMs} ms`)
        await dead[Symbol.asyncDispose]()
      })

      test('a disposed session leaves its shards at once', async () => {
        await using db = await opened()
        const first = await db.store.relay()
        const all = await first.shards()
        await first[Symbol.asyncDispose]()
        await using second = await db.store.relay()
        assert.deepEqual(await second.shards(), all)
        assert.deepEqual(await db.sql('select count(*)::int as n from ottla.relay'), [{ n: 1 }])
      })

      test('a pooler in transaction mode is refused with a sentence', async () => {
        await using db = await opened()
        await using pool = new TransactionPooler(db.url)
        await using store = postgres(pool)
        await assert.rejects(store.relay(), { code: 'OTTLA_STORE_POOLER', message: /a pooler in transaction mode/ })
      })

      test('a claim reads the rows in order without sorting the outbox', async () => {
        await using db = await opened()
        await db.sql(`insert into ottla.outbox (shard, topic, headers, id, type, source)
          select i % 64, 't', '\\x00', i::text, 't.E', 's' from generate_series(1, 20000) i`)
        await using session = await db.store.relay()
        await session.shards()
        const startMs = performance.now()
        const claimed = await session.claim(100, 1 << 20, [])
        assert.deepEqual(
          claimed.map(({ record }) => Number(record.id)),
          Array.from({ length: 100 }, (_, i) => i + 1),
        )
        assert.ok(performance.now() - startMs < 1_000)
      })
    })
  })
}

/** As a pooler in transaction mode: outside of transactions every statement may meet another server process. */
class TransactionPooler implements PoolShape {
  readonly options = { max: 10 }
  readonly #servers: pg.Pool

  constructor(url: string) {
    this.#servers = adminPool(url, 4)
  }

  async connect(): Promise<ClientShape> {
    let server: pg.PoolClient | null = null
    return {
      query: async (text, values) => {
        server ??= await this.#servers.connect()
        const answer = await server.query(text, values)
        const word = text.trim().split(/\s+/, 1)[0]!.toLowerCase()
        if (word === 'begin') return answer
        if (word === 'commit' || word === 'rollback' || !(await inTransaction(server))) {
          server.release()
          server = null
        }
        return answer
      },
      release: () => {
        server?.release()
        server = null
      },
      on: () => undefined,
      removeListener: () => undefined,
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#servers.end()
  }
}

async function inTransaction(client: pg.PoolClient): Promise<boolean> {
  const { rows } = await client.query('select now() <> statement_timestamp() as inside')
  return rows[0].inside
}
