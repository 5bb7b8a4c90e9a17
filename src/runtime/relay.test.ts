import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { describe, type TestContext, test } from 'node:test'
import { OttlaError } from '../contract/errors.ts'
import {
  eventually,
  FakeLog,
  orderFaults,
  outboxRecord,
  silentLog,
  systemClock,
} from '../testing/conformance/fake-log.ts'
import type { ClaimedEvent, OutboxKey, OutboxRecord, RelaySession, Store, Transport, Writer } from './ports.ts'
import { type RelayOptions, startRelay } from './relay.ts'

/** A store of which only the outbox exists, with switches for what may go wrong. */
class Outbox {
  rows: { readonly row: number; readonly record: OutboxRecord }[] = []
  /** Thrown by every call while set. */
  away: OttlaError | null = null
  lease = true
  shards: readonly number[] = [0]
  readonly claims: { readonly maxRows: number; readonly skip: number }[] = []
  sessions = 0
  opened = 0
  renewals = 0
  #next = 1
  #listener: (() => void) | null = null

  add(...records: OutboxRecord[]): void {
    for (const record of records) this.rows.push({ row: this.#next++, record })
    this.#listener?.()
  }

  readonly store: Store = {
    kind: 'fake',
    concurrencyMax: 1,
    prepare: async () => undefined,
    knows: async () => false,
    acquire: async () => 1,
    handle: async () => 'committed',
    transact: async () => assert.fail('not asked here'),
    onOutbox: (listener) => {
      this.#listener = listener
      return {
        [Symbol.dispose]: () => {
          this.#listener = null
        },
      }
    },
    backlog: async () => {
      this.#reach()
      return { rows: this.rows.length, oldestSeconds: 0 }
    },
    relay: async () => this.#session(),
    [Symbol.asyncDispose]: async () => undefined,
  }

  #reach(): void {
    if (this.away) throw this.away
  }

  #session(): RelaySession {
    this.#reach()
    this.sessions += 1
    this.opened += 1
    const isSkipped = (keys: readonly OutboxKey[], { topic, key }: OutboxRecord): boolean =>
      keys.some((skip) => skip.topic === topic && key !== null && String(skip.key) === String(key))
    return {
      shards: async () => {
        this.#reach()
        this.renewals += 1
        return this.shards
      },
      claim: async (maxRows, _maxBytes, skipKeys, heldRows = []): Promise<readonly ClaimedEvent[]> => {
        this.#reach()
        this.claims.push({ maxRows, skip: skipKeys.length })
        return this.rows
          .filter(({ row, record }) => !heldRows.includes(row) && !isSkipped(skipKeys, record))
          .slice(0, maxRows)
          .map(({ row, record }) => ({ row, shard: 0, record }))
      },
      mayPublish: () => this.lease && this.away === null,
      published: async (rows) => {
        this.#reach()
        this.rows = this.rows.filter(({ row }) => !rows.includes(row))
      },
      [Symbol.asyncDispose]: async () => {
        this.sessions -= 1
      },
    }
  }
}

const keyed = (key: string, version: number): OutboxRecord => outboxRecord(key, String(version))
const keysOf = (records: readonly OutboxRecord[]): string =>
  records.map(({ key }) => Buffer.from(key ?? 'null')).join('')

/** A relay between a fake outbox and a fake log, ended with the test. */
function started(t: TestContext, options: Partial<RelayOptions> = {}) {
  const outbox = new Outbox()
  const log = new FakeLog()
  const relay = startRelay({
    store: outbox.store,
    writer: log.writer(),
    clock: systemClock,
    log: silentLog,
    pollMs: 20,
    stalledAfterMs: 40,
    refusedRetryMs: 30,
    ...options,
  })
  t.after(() => relay[Symbol.asyncDispose]())
  return { outbox, log, relay }
}

/** Collects the messages of a channel until the test ends. */
function heard<T>(t: TestContext, name: string): T[] {
  const messages: T[] = []
  const listener = (message: unknown) => void messages.push(message as T)
  subscribe(name, listener)
  t.after(() => unsubscribe(name, listener))
  return messages
}

describe('relay', { timeout: 20_000 }, () => {
  test('publishes what is there, what comes later, and marks it', async (t) => {
    const { outbox, log, relay } = started(t)
    outbox.add(keyed('a', 1), keyed('b', 1))
    await eventually(() => outbox.rows.length === 0)
    outbox.add(keyed('a', 2))
    await eventually(() => relay.publishedRows === 3)
    assert.equal(keysOf(log.records), 'aba')
    assert.equal(relay.inHand, 0)
    assert.equal(relay.state, 'flowing')
  })

  test('of a key one record at a time is with the writer, of different keys many', async (t) => {
    const { outbox, log, relay } = started(t)
    const open = new Map<string, number>()
    let most = 0
    let total = 0
    const writer = log.writer()
    const send = writer.send.bind(writer)
    await relay[Symbol.asyncDispose]()
    writer.send = async (record) => {
      const key = String(record.key)
      open.set(key, (open.get(key) ?? 0) + 1)
      most = Math.max(most, open.get(key)!)
      total = Math.max(
        total,
        [...open.values()].reduce((a, b) => a + b),
      )
      const sent = await send(record)
      open.set(key, open.get(key)! - 1)
      return sent
    }
    const second = startRelay({ store: outbox.store, writer, clock: systemClock, log: silentLog })
    t.after(() => second[Symbol.asyncDispose]())
    for (let version = 1; version <= 5; version++) outbox.add(...[...'abcdefgh'].map((key) => keyed(key, version)))
    await eventually(() => outbox.rows.length === 0)
    assert.equal(most, 1)
    assert.equal(total, 8)
    assert.deepEqual(orderFaults(log.records, new Map([...'abcdefgh'].map((key) => [key, 5]))), [])
  })

  test('a refused record blocks its key and nothing else, raises one alarm, and goes out once it may', async (t) => {
    const alarms = heard<{ service: string; topic: string; error: OttlaError }>(t, 'ottla:alarm')
    const { outbox, log, relay } = started(t)
    let tries = 0
    let refusing = true
    log.refuse = ({ key, value }) => {
      const first = keyed('b', 1)
      if (!refusing || String(key) !== String(first.key) || String(value) !== String(first.value)) return null
      tries += 1
      return new OttlaError('OTTLA_PUBLISH_TOO_LARGE', 'too large')
    }
    outbox.add(keyed('a', 1), keyed('b', 1), keyed('c', 1), keyed('b', 2), keyed('a', 2))
    await eventually(() => outbox.rows.length === 2 && tries >= 3)
    assert.deepEqual(
      relay.parkedKeys.map(({ refused, error }) => [refused, error.code]),
      [[true, 'OTTLA_PUBLISH_TOO_LARGE']],
    )
    outbox.add(keyed('c', 2))
    await eventually(() => outbox.rows.length === 2)
    assert.equal(relay.state, 'flowing')
    refusing = false
    await eventually(() => outbox.rows.length === 0)
    assert.deepEqual(orderFaults(log.records, new Map([...'abc'].map((key) => [key, 2]))), [])
    assert.deepEqual(
      alarms.map(({ service, topic, error }) => [service, topic, error.code]),
      [['shop', 'stock', 'OTTLA_PUBLISH_TOO_LARGE']],
    )
    assert.deepEqual(relay.parkedKeys, [])
  })

  test('a refused record without a key blocks nobody', async (t) => {
    const { outbox, log, relay } = started(t)
    let refusing = true
    log.refuse = ({ value }) =>
      refusing && String(value) === String(keyed('', 1).value)
        ? new OttlaError('OTTLA_KAFKA_AUTHORIZATION', 'no')
        : null
    outbox.add(outboxRecord(null, '1'), outboxRecord(null, '2'), outboxRecord(null, '3'))
    await eventually(() => outbox.rows.length === 1 && relay.parkedKeys.length === 1)
    refusing = false
    await eventually(() => outbox.rows.length === 0)
    assert.equal(relay.inHand, 0)
  })

  test('a passing failure of one key parks that key only', async (t) => {
    const { outbox, log, relay } = started(t)
    let failures = 3
    const failing = String(keyed('b', 1).key)
    log.refuse = ({ key }) =>
      String(key) === failing && failures-- > 0 ? new OttlaError('OTTLA_KAFKA_RETRIABLE', 'no leader') : null
    // Another key goes through while this one fails, so it is not the broker that is away.
    outbox.add(keyed('a', 1), keyed('b', 1), keyed('c', 1), keyed('b', 2))
    await eventually(() => outbox.rows.length === 0)
    assert.deepEqual(
      orderFaults(
        log.records,
        new Map([
          ['a', 1],
          ['b', 2],
          ['c', 1],
        ]),
      ),
      [],
    )
    assert.equal(relay.state, 'flowing')
  })

  test('a broker that is away stalls the outbox, says so, and is found again by one probe at a time', async (t) => {
    const told = heard<{ state: string; rows: number; error?: Error }>(t, 'ottla:outbox.state')
    const { outbox, log, relay } = started(t)
    log.away = true
    outbox.add(keyed('a', 1), keyed('a', 2), keyed('b', 1))
    await eventually(() => told.length === 1)
    assert.deepEqual([told[0]?.state, told[0]?.rows, relay.state], ['stalled', 3, 'stalled'])
    log.failWaiting('OTTLA_PUBLISH_OUTCOME_UNKNOWN')
    const before = outbox.claims.length
    await eventually(() => outbox.claims.length > before)
    assert.ok(outbox.claims.slice(before).every(({ maxRows }) => maxRows === 1))
    assert.equal(outbox.rows.length, 3)
    log.comeBack()
    await eventually(() => outbox.rows.length === 0 && told.length === 2)
    assert.deepEqual([told[1]?.state, relay.state], ['flowing', 'flowing'])
    assert.deepEqual(
      orderFaults(
        log.records,
        new Map([
          ['a', 2],
          ['b', 1],
        ]),
      ),
      [],
    )
  })

  test('nothing goes to the writer while the lease is not good', async (t) => {
    const { outbox, log } = started(t)
    outbox.lease = false
    outbox.add(keyed('a', 1))
    await eventually(() => outbox.claims.length > 0)
    const before = outbox.opened
    // Renewed again and again, the lease stays bad.
    const renewals = outbox.renewals
    await eventually(() => outbox.renewals >= renewals + 3)
    assert.equal(log.records.length, 0)
    outbox.lease = true
    await eventually(() => outbox.rows.length === 0)
    assert.equal(outbox.opened, before)
  })

  test('rows claimed for a shard that was given away are not published', async (t) => {
    const { outbox, log, relay } = started(t)
    outbox.lease = false
    outbox.add(keyed('a', 1))
    await eventually(() => relay.inHand === 1)
    outbox.shards = []
    await eventually(() => relay.inHand === 0)
    outbox.lease = true
    assert.equal(log.records.length, 0)
    outbox.shards = [0]
    await eventually(() => outbox.rows.length === 0)
  })

  test('a lost session is replaced, and what was acknowledged meanwhile is marked, not sent again', async (t) => {
    const told = heard<{ state: string }>(t, 'ottla:outbox.state')
    const { outbox, log, relay } = started(t)
    log.away = true
    outbox.add(keyed('a', 1), keyed('a', 2))
    await eventually(() => relay.inHand === 2)
    outbox.away = new OttlaError('OTTLA_STORE_UNAVAILABLE', 'gone')
    relay.wake()
    await eventually(() => outbox.sessions === 0)
    log.comeBack()
    outbox.away = null
    await eventually(() => outbox.rows.length === 0)
    assert.equal(log.records.length, 2)
    await eventually(() => relay.state === 'flowing')
    assert.ok(told.some((message) => message.state === 'stalled'))
  })

  test('a store that cannot have a relay says so at once', async (t) => {
    const outbox = new Outbox()
    outbox.away = new OttlaError('OTTLA_STORE_POOLER', 'a pooler')
    const relay = startRelay({
      store: outbox.store,
      writer: new FakeLog().writer(),
      clock: systemClock,
      log: silentLog,
    })
    t.after(() => relay[Symbol.asyncDispose]())
    await assert.rejects(relay.opened, { code: 'OTTLA_STORE_POOLER' })
  })

  test('a writer that is finished is replaced by another of the transport', async (t) => {
    const outbox = new Outbox()
    const log = new FakeLog()
    let made = 0
    const transport = {
      writer: async (): Promise<Writer> => {
        made += 1
        const writer = log.writer()
        if (made === 1) writer.send = () => Promise.reject(new OttlaError('OTTLA_KAFKA_CLOSED', 'closed'))
        return writer
      },
    } as unknown as Transport
    const relay = startRelay({ store: outbox.store, transport, clock: systemClock, log: silentLog, pollMs: 20 })
    t.after(() => relay[Symbol.asyncDispose]())
    outbox.add(keyed('a', 1))
    await eventually(() => outbox.rows.length === 0)
    assert.equal(made, 2)
  })

  test('the durable steps are told in their order, and what was published', async (t) => {
    const order: string[] = []
    const names = [
      'ottla:relay.after_send',
      'ottla:relay.after_ack',
      'ottla:record.published',
      'ottla:relay.after_mark',
    ]
    const listener = (_: unknown, name: string | symbol) => void order.push(String(name))
    for (const name of names) subscribe(name, listener)
    try {
      const { outbox } = started(t)
      outbox.add(keyed('a', 1))
      await eventually(() => order.length === 4)
      assert.deepEqual(order, names)
    } finally {
      for (const name of names) unsubscribe(name, listener)
    }
  })

  test('disposing waits for what is with the writer, marks it and ends the session', async (t) => {
    const { outbox, log, relay } = started(t)
    log.latencyMs = 30
    outbox.add(keyed('a', 1), keyed('b', 1))
    await eventually(() => relay.inHand === 2)
    await relay[Symbol.asyncDispose]()
    assert.equal(outbox.rows.length, 0)
    assert.equal(outbox.sessions, 0)
    assert.equal(relay.state, 'stopped')
  })

  test('neither writer nor transport is a mistake', () => {
    assert.throws(() => startRelay({ store: new Outbox().store, clock: systemClock, log: silentLog }), {
      code: 'OTTLA_CONFIG_INVALID',
    })
  })
})
