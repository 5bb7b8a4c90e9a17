/**
 * What every store must keep, as tests: run them with a fixture that opens stores on one database.
 *
 * The judge of order is apart from the store: each write bumps a version of its key inside the transaction and puts it
 * into the event; in the log the first copies of a key's events must then read 1, 2, 3 … without a gap.
 */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { OttlaError } from '../../contract/errors.ts'
import type { Delivery, Fence, OutboxRecord, Store, Writer } from '../../runtime/ports.ts'
import { type Relay, startRelay } from '../../runtime/relay.ts'
import { bytesOf, eventually, FakeLog, orderFaults, outboxRecord, silentLog, systemClock, textOf } from './fake-log.ts'

/** A store as one process has it. */
export interface OpenStore<Tx> extends AsyncDisposable {
  readonly store: Store<Tx>
  /** Does to it what `kill -9` would: its connections are gone at once and no new ones can be made. */
  kill(): Promise<void>
}

/** One database with stores on it. */
export interface StoreFixture<Tx> extends AsyncDisposable {
  /** Another process: a prepared store of its own on the same database. */
  open(): Promise<OpenStore<Tx>>
  /** Locks the key's row, counts its version up and returns it. */
  bump(tx: Tx, key: string): Promise<number>
  /** Writes something else that no other transaction waits for. */
  touch(tx: Tx): Promise<void>
  /** The committed version of each key ever bumped. */
  versions(): Promise<ReadonlyMap<string, number>>
  /** The lease of the relays of the stores opened here. */
  readonly leaseMs: number
}

let serial = 0

/** A delivery nobody has seen before. */
export function freshDelivery(changes: Partial<Delivery> = {}): Delivery {
  serial += 1
  return {
    service: 'inventory',
    source: 'orders',
    id: `delivery-${process.pid}-${serial}`,
    timeMs: Date.now(),
    ...changes,
  }
}

const never = (): AbortSignal => new AbortController().signal

async function gained<Tx>(store: Store<Tx>, partition: number): Promise<Fence> {
  const at = { service: 'inventory', topicId: 'AAAAAAAAAAAAAAAAAAAAAA', partition }
  return { ...at, epoch: await store.acquire(at.service, at.topicId, partition) }
}

/** Registers the tests. `start` is called once, before the first. */
export function storeConformance<Tx>(name: string, start: () => Promise<StoreFixture<Tx>>): void {
  describe(`store: ${name}`, { timeout: 120_000 }, () => {
    let fixture: StoreFixture<Tx>
    let one: OpenStore<Tx>
    let partition = 0
    before(async () => {
      fixture = await start()
      one = await fixture.open()
    })
    after(async () => {
      await one?.[Symbol.asyncDispose]()
      await fixture?.[Symbol.asyncDispose]()
    })
    const version = async (key: string): Promise<number> => (await fixture.versions()).get(key) ?? 0
    const newFence = (store = one.store): Promise<Fence> => gained(store, ++partition)
    const newKey = (): string => `key-${++serial}`
    /** Publishes everything that waits and returns it. */
    const drained = async (): Promise<readonly OutboxRecord[]> => {
      const log = new FakeLog()
      await using _relay = startRelay({ store: one.store, writer: log.writer(), clock: systemClock, log: silentLog })
      await eventually(async () => (await one.store.backlog()).rows === 0)
      return log.records
    }

    test('a delivery is handled once; its copies are duplicates', async () => {
      const fence = await newFence()
      const delivery = freshDelivery()
      const key = newKey()
      const handle = () =>
        one.store.handle({ delivery, fence, signal: never() }, async (tx) => {
          await fixture.bump(tx, key)
          return []
        })
      assert.deepEqual([await handle(), await handle()], ['committed', 'duplicate'])
      assert.equal(await version(key), 1)
    })

    test('a partition is known from its first fence on', async () => {
      const { service, topicId, partition } = await newFence()
      assert.equal(await one.store.knows(service, topicId, partition), true)
      assert.equal(await one.store.knows(service, topicId, partition + 1), false)
      assert.equal(await one.store.knows(service, `${topicId}-anew`, partition), false)
    })

    test('another source or service with the same id is another delivery', async () => {
      const fence = await newFence()
      const delivery = freshDelivery()
      const results: string[] = []
      for (const each of [delivery, { ...delivery, source: 'billing' }, { ...delivery, service: 'mail' }]) {
        const own = { ...fence, service: each.service }
        if (each.service !== fence.service) {
          own.epoch = await one.store.acquire(own.service, own.topicId, own.partition)
        }
        results.push(await one.store.handle({ delivery: each, fence: own, signal: never() }, async () => []))
      }
      assert.deepEqual(results, ['committed', 'committed', 'committed'])
    })

    test('of copies handled at the same time one has an effect', async () => {
      const fence = await newFence()
      const delivery = freshDelivery()
      const key = newKey()
      const results = await Promise.all(
        Array.from({ length: 4 }, () =>
          one.store.handle({ delivery, fence, signal: never() }, async (tx) => {
            await fixture.bump(tx, key)
            return [outboxRecord(key, '1')]
          }),
        ),
      )
      assert.deepEqual(results.sort(), ['committed', 'duplicate', 'duplicate', 'duplicate'])
      assert.equal(await version(key), 1)
      assert.equal((await drained()).filter((record) => textOf(record.key) === key).length, 1)
    })

    test('when the first copy rolls back, the one that waited takes over', async () => {
      const fence = await newFence()
      const delivery = freshDelivery()
      const key = newKey()
      let entered = 0
      const handle = () =>
        one.store.handle({ delivery, fence, signal: never() }, async (tx) => {
          entered += 1
          const first = entered === 1
          await fixture.bump(tx, key)
          if (first) throw new Error('the first one fails')
          return []
        })
      const results = await Promise.allSettled([handle(), handle()])
      assert.deepEqual(results.map((result) => result.status).sort(), ['fulfilled', 'rejected'])
      const failure = results.find((result) => result.status === 'rejected')
      assert.equal(failure?.reason.message, 'the first one fails')
      assert.equal(entered, 2)
      assert.equal(await version(key), 1)
    })

    test('a zombie is fenced and writes nothing', async () => {
      const old = await newFence()
      await using other = await fixture.open()
      const now = { ...old, epoch: await other.store.acquire(old.service, old.topicId, old.partition) }
      assert.equal(now.epoch, old.epoch + 1)
      const key = newKey()
      const delivery = freshDelivery()
      const work = async (tx: Tx): Promise<readonly OutboxRecord[]> => {
        await fixture.bump(tx, key)
        return []
      }
      assert.equal(await one.store.handle({ delivery, fence: old, signal: never() }, work), 'fenced')
      assert.equal(await version(key), 0)
      assert.equal(await other.store.handle({ delivery, fence: now, signal: never() }, work), 'committed')
      assert.equal(await version(key), 1)
    })

    test('gaining a partition waits for the handlers that run under the old epoch', async () => {
      const fence = await newFence()
      const entered = Promise.withResolvers<void>()
      const go = Promise.withResolvers<void>()
      const order: string[] = []
      const handling = one.store.handle({ delivery: freshDelivery(), fence, signal: never() }, async () => {
        entered.resolve()
        await go.promise
        order.push('handler done')
        return []
      })
      await entered.promise
      const acquiring = one.store.acquire(fence.service, fence.topicId, fence.partition).then((epoch) => {
        order.push('acquired')
        return epoch
      })
      go.resolve()
      assert.equal(await handling, 'committed')
      assert.equal(await acquiring, fence.epoch + 1)
      assert.deepEqual(order, ['handler done', 'acquired'])
    })

    test('a handler that throws leaves nothing behind, and its own error comes out', async () => {
      const fence = await newFence()
      const delivery = freshDelivery()
      const key = newKey()
      const failure = new Error('no stock')
      const handling = one.store.handle({ delivery, fence, signal: never() }, async (tx) => {
        await fixture.bump(tx, key)
        throw failure
      })
      await assert.rejects(handling, (error) => error === failure)
      assert.equal(await version(key), 0)
      assert.equal(await one.store.handle({ delivery, fence, signal: never() }, async () => []), 'committed')
    })

    test('an aborted handler is rolled back before its own end, and its tx throws from then on', async () => {
      const fence = await newFence()
      const key = newKey()
      const abort = new AbortController()
      const go = Promise.withResolvers<void>()
      let late: unknown
      const handling = one.store.handle({ delivery: freshDelivery(), fence, signal: abort.signal }, async (tx) => {
        await fixture.bump(tx, key)
        abort.abort()
        await go.promise
        late = await fixture.bump(tx, key).catch((error) => error)
        return []
      })
      const rejected = assert.rejects(handling, { code: 'OTTLA_RUNTIME_DEADLINE' })
      // The key's lock is free although the handler has not returned yet.
      await one.store.transact(async (tx) => ({ result: await fixture.bump(tx, key), records: [] }))
      go.resolve()
      await rejected
      assert.equal((late as OttlaError).code, 'OTTLA_RUNTIME_DEADLINE')
      assert.equal(await version(key), 1)
    })

    test('transact commits the result, the writes and the records together, or nothing', async () => {
      const key = newKey()
      const result = await one.store.transact(async (tx) => {
        const version = await fixture.bump(tx, key)
        return { result: version * 10, records: [outboxRecord(key, String(version))] }
      })
      assert.equal(result, 10)
      const failing = one.store.transact(async (tx) => {
        await fixture.bump(tx, key)
        throw new Error('changed my mind')
      })
      await assert.rejects(failing, /changed my mind/)
      assert.equal(await version(key), 1)
      assert.deepEqual(
        (await drained()).filter((record) => textOf(record.key) === key).map((record) => textOf(record.value)),
        ['1'],
      )
    })

    test('a record comes out of the outbox as it went in, byte for byte', async () => {
      const records = [
        outboxRecord('a\u0000\u00ff', 'x', { partition: 7, timestampMs: 1_700_000_000_123 }),
        outboxRecord(null, ''),
        outboxRecord('b', '', { value: null, headers: [] }),
      ]
      await one.store.transact(async () => ({ result: null, records }))
      const out = await drained()
      const plain = (record: OutboxRecord) => ({
        ...record,
        key: record.key && [...record.key],
        value: record.value && [...record.value],
        headers: record.headers.map(({ key, value }) => [key, value && [...value]]),
      })
      for (const record of records) {
        assert.deepEqual(out.filter(({ id }) => id === record.id).map(plain), [plain(record)])
      }
    })

    test('listeners are told after the commit, and only when there are records', async () => {
      let told = 0
      using _subscription = one.store.onOutbox(() => {
        told += 1
      })
      await one.store.transact(async () => ({ result: null, records: [] }))
      assert.equal(told, 0)
      await one.store.transact(async () => ({ result: null, records: [outboxRecord('a', '1')] }))
      assert.equal(told, 1)
      assert.ok((await one.store.backlog()).rows >= 1)
      await drained()
      assert.deepEqual(await one.store.backlog(), { rows: 0, oldestSeconds: 0 })
    })

    test('two relays share the shards, and what one holds the other does not publish', async () => {
      await using two = await fixture.open()
      await using first = await one.store.relay()
      const all = await first.shards()
      await using second = await two.store.relay()
      assert.deepEqual(await second.shards(), [])
      let mine: readonly number[] = all
      let theirs: readonly number[] = []
      await eventually(async () => {
        mine = await first.shards()
        theirs = await second.shards()
        return mine.length + theirs.length === all.length && theirs.length >= Math.floor(all.length / 2)
      })
      assert.deepEqual(
        [...mine, ...theirs].sort((a, b) => a - b),
        all,
      )
      await one.store.transact(async () => ({
        result: null,
        records: Array.from({ length: 50 }, (_, i) => outboxRecord(`spread-${i}`, '1')),
      }))
      const a = await first.claim(1_000, 1 << 20, [])
      const b = await second.claim(1_000, 1 << 20, [])
      assert.equal(a.length + b.length, 50)
      assert.ok(a.every(({ shard }) => mine.includes(shard)) && b.every(({ shard }) => theirs.includes(shard)))
      assert.ok(mine.every((shard) => first.mayPublish(shard, 0)))
      assert.ok(theirs.every((shard) => !first.mayPublish(shard, 0)))
      await first.published(a.map(({ row }) => row))
      await second.published(b.map(({ row }) => row))
      assert.equal((await one.store.backlog()).rows, 0)
    })

    test('a claim keeps to its limits, its order, and leaves out keys and rows in hand', async () => {
      await using session = await one.store.relay()
      await session.shards()
      await one.store.transact(async () => ({
        result: null,
        records: [...'abcabc'].map((key, i) => outboxRecord(`claim-${key}`, 'x'.repeat(100) + i)),
      }))
      const keys = async (...args: Parameters<typeof session.claim>) =>
        (await session.claim(...args)).map(({ record }) => textOf(record.key).slice(-1)).join('')
      assert.equal(await keys(100, 1 << 20, []), 'abcabc')
      assert.equal(await keys(2, 1 << 20, []), 'ab')
      assert.equal(await keys(100, 1, []), 'a')
      assert.equal(await keys(100, 1 << 20, [{ topic: 'stock', key: bytesOf('claim-b') }]), 'acac')
      assert.equal(await keys(100, 1 << 20, [{ topic: 'other', key: bytesOf('claim-b') }]), 'abcabc')
      const rows = (await session.claim(100, 1 << 20, [])).map(({ row }) => row)
      assert.deepEqual(
        rows,
        [...rows].sort((a, b) => a - b),
      )
      assert.equal(await keys(100, 1 << 20, [], rows.slice(0, 3)), 'abc')
      await session.published(rows)
      assert.equal(await keys(100, 1 << 20, []), '')
    })

    test('a process that was frozen longer than its lease does not publish, and may again after renewing', async () => {
      await using session = await one.store.relay()
      const [shard = 0] = await session.shards()
      assert.equal(session.mayPublish(shard, 0), true)
      // The event loop stands still: no timer could have told anybody.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, fixture.leaseMs + 20)
      assert.equal(session.mayPublish(shard, 0), false)
      await session.shards()
      assert.equal(session.mayPublish(shard, 0), true)
    })

    test('16 writers, 8 hot keys, 2 relays of which one dies: nothing is lost and no key is out of order', async () => {
      const log = new FakeLog()
      await using writers = await fixture.open()
      await using doomed = await fixture.open()
      await using survivor = await fixture.open()
      const doomedWriter = log.writer()
      const relay = (store: Store<Tx>, writer: Writer): Relay =>
        startRelay({ store, writer, clock: systemClock, log: silentLog, claimRows: 20 })
      await using dying = relay(doomed.store, doomedWriter)
      await using living = relay(survivor.store, log.writer())
      await eventually(() => dying.shards.length > 0 && living.shards.length > 0)
      const keys = Array.from({ length: 8 }, (_, i) => `hot-${process.pid}-${i}`)
      let left = 2_000
      let rolledBack = 0
      const writer = async (seed: number): Promise<void> => {
        let random = seed * 2_654_435_761
        const next = (): number => {
          random = (Math.imul(random, 1_664_525) + 1_013_904_223) >>> 0
          return random / 2 ** 32
        }
        while (left-- > 0) {
          const key = keys[Math.floor(next() * keys.length)]!
          const early = next() < 0.3
          const fails = next() < 0.1
          const pauseMs = next() * 8
          await writers.store
            .transact(async (tx) => {
              if (early) await fixture.touch(tx)
              await new Promise((resolve) => setTimeout(resolve, pauseMs))
              const version = await fixture.bump(tx, key)
              if (fails) throw new Error('rolled back')
              return { result: null, records: [outboxRecord(key, String(version))] }
            })
            .catch((error) => {
              if (error.message !== 'rolled back') throw error
              rolledBack += 1
            })
        }
      }
      const killing = log
        .until(() => log.records.length >= 200)
        .then(async () => {
          doomedWriter.kill()
          await doomed.kill()
        })
      await Promise.all(Array.from({ length: 16 }, (_, i) => writer(i + 1)))
      await killing
      await eventually(async () => (await one.store.backlog()).rows === 0)
      const versions = new Map([...(await fixture.versions())].filter(([key]) => keys.includes(key)))
      assert.deepEqual(orderFaults(log.records, versions), [])
      assert.ok(
        rolledBack > 100 && log.records.length > 1_000,
        `${log.records.length} records, ${rolledBack} rolled back`,
      )
      assert.equal(living.state, 'flowing')
    })
  })
}
