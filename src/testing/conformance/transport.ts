/**
 * What every transport must keep, as tests: run them with a fixture that connects to one log.
 *
 * A difference that a system cannot help is a flag with a reason: its tests are skipped and the reason is shown.
 */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { OttlaError } from '../../contract/errors.ts'
import type { BatchView, Gained, Held, OutgoingRecord, Reader, ReaderEvents, Transport } from '../../runtime/ports.ts'

/** One log with transports on it. */
export interface TransportFixture extends AsyncDisposable {
  /** Another process: a transport of its own on the same log. The suite disposes it. */
  connect(): Transport
}

/** What may be missing, each with the reason; null: it is there. */
export interface TransportDifferences {
  /** Finished ranges, strikes and their suspect come back to the next owner. */
  readonly checkpointMap: string | null
  /** `seek({ timestampMs })` works. */
  readonly seekByTime: string | null
  /** A header may have no value. */
  readonly nullHeaders: string | null
  /** The record's own timestamp is kept. */
  readonly timestamps: string | null
}

export const noDifferences: TransportDifferences = {
  checkpointMap: null,
  seekByTime: null,
  nullHeaders: null,
  timestamps: null,
}

const waitMaxMs = 20_000
const skipOr = (reason: string | null): { readonly skip?: string } => (reason === null ? {} : { skip: reason })
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const plain = (view: Uint8Array | null): string | null => (view === null ? null : Buffer.from(view).toString())

async function until(condition: () => boolean, what: string): Promise<void> {
  const endMs = performance.now() + waitMaxMs
  while (!condition()) {
    if (performance.now() > endMs) throw new Error(`waited in vain for: ${what}`)
    await new Promise((done) => setTimeout(done, 5))
  }
}

interface Seen {
  readonly topic: string
  readonly partition: number
  readonly position: number
  readonly ownership: number
  readonly timestampMs: number
  readonly key: string | null
  readonly value: string | null
  readonly headers: readonly (readonly [string, string | null])[]
}

/** A reader that writes down what it is told. */
class Member implements ReaderEvents {
  readonly reader: Reader
  readonly held = new Map<string, Gained>()
  readonly seen: Seen[] = []
  readonly told: string[] = []
  readonly faults: OttlaError[] = []
  /** Awaited in `releasing`. */
  onReleasing: (parts: readonly Held[]) => Promise<void> = async () => undefined

  constructor(transport: Transport, group: string, topics: readonly string[]) {
    this.reader = transport.reader({ group, topics }, this)
  }

  async gained(parts: readonly Gained[]): Promise<void> {
    for (const each of parts) {
      this.held.set(`${each.held.topic}/${each.held.partition}`, each)
      this.told.push(`gained ${each.held.partition}`)
    }
  }

  batch(held: Held, records: BatchView): void {
    let last = -1
    for (let index = 0; index < records.count; index++) {
      const position = records.position(index)
      assert.ok(position > last, 'positions ascend within a batch')
      last = position
      this.seen.push({
        topic: held.topic,
        partition: held.partition,
        ownership: held.ownership,
        position,
        timestampMs: records.timestampMs(index),
        key: plain(records.key(index)),
        value: plain(records.value(index)),
        headers: records.headers(index).map(({ key, value }) => [key, plain(value)] as const),
      })
    }
    assert.ok(records.nextPosition > last, 'nextPosition is beyond the last record')
  }

  async releasing(parts: readonly Held[]): Promise<void> {
    for (const { partition } of parts) this.told.push(`releasing ${partition}`)
    await this.onReleasing(parts)
    for (const { topic, partition } of parts) this.held.delete(`${topic}/${partition}`)
    for (const { partition } of parts) this.told.push(`released ${partition}`)
  }

  lost(parts: readonly Held[]): void {
    for (const { topic, partition } of parts) {
      this.held.delete(`${topic}/${partition}`)
      this.told.push(`lost ${partition}`)
    }
  }

  fault(_where: Held | 'group', error: OttlaError): void {
    this.told.push('fault')
    this.faults.push(error)
  }

  heldOf(topic: string, partition: number): Held {
    const gained = this.held.get(`${topic}/${partition}`)
    assert.ok(gained, `${topic}-${partition} is held`)
    return gained.held
  }
}

/** Runs the suite. `name` says which log it is. */
export function transportConformance(
  name: string,
  open: () => Promise<TransportFixture>,
  differences: TransportDifferences = noDifferences,
): void {
  describe(`transport: ${name}`, () => {
    let fixture: TransportFixture
    let transport: Transport
    let names = 0
    const opened: Transport[] = []
    const fresh = (word: string): string => `conformance-${word}-${process.pid}-${++names}`
    const connect = (): Transport => {
      const made = fixture.connect()
      opened.push(made)
      return made
    }
    const make = async (partitions: number): Promise<string> => {
      const topic = fresh('topic')
      const [result] = await transport.ensure([{ topic, partitions }])
      assert.equal(result?.error, undefined)
      return topic
    }
    const record = (topic: string, more: Partial<OutgoingRecord> = {}): OutgoingRecord => ({
      topic,
      partition: null,
      key: null,
      value: bytes('value'),
      headers: [],
      ...more,
    })
    const fill = async (topic: string, partition: number, count: number): Promise<void> => {
      await using writer = await transport.writer()
      await Promise.all(
        Array.from({ length: count }, (_, n) => writer.send(record(topic, { partition, value: bytes(String(n)) }))),
      )
    }

    before(async () => {
      fixture = await open()
      transport = connect()
    })
    after(async () => {
      for (const each of opened) await each[Symbol.asyncDispose]()
      await fixture[Symbol.asyncDispose]()
    })

    test('topics are made once and described as they are', async () => {
      const topic = fresh('topic')
      const missing = fresh('missing')
      assert.deepEqual(
        (await transport.ensure([{ topic, partitions: 3 }])).map(({ created }) => created),
        [true],
      )
      assert.deepEqual(
        (await transport.ensure([{ topic, partitions: 3 }])).map(({ created, error }) => [created, error]),
        [[false, undefined]],
      )
      const facts = new Map((await transport.describe([topic, missing])).map((each) => [each.topic, each]))
      assert.equal(facts.get(topic)?.exists, true)
      assert.equal(facts.get(topic)?.partitions, 3)
      assert.notEqual(facts.get(topic)?.id, '')
      assert.equal(facts.get(missing)?.exists, false)
    })

    test('a topic is read whole without a group, followed, and read from a position on', async () => {
      const topic = await make(3)
      for (const partition of [0, 1, 2]) await fill(topic, partition, 40 + partition)
      const seen: string[] = []
      const note = (partition: number, records: BatchView): void => {
        for (let i = 0; i < records.count; i++) seen.push(`${partition}:${plain(records.value(i))}`)
      }
      await using all = transport.tail({ topic }, { batch: note, fault: assert.ifError })
      await all.caughtUp()
      assert.equal(seen.length, 123)
      assert.equal(new Set(seen).size, 123)
      seen.length = 0
      await fill(topic, 1, 5)
      await all.caughtUp()
      assert.deepEqual(seen, ['1:0', '1:1', '1:2', '1:3', '1:4'])
      all.pause()
      seen.length = 0
      await using part = transport.tail({ topic, partition: 2, from: 39 }, { batch: note, fault: assert.ifError })
      await part.caughtUp()
      assert.deepEqual(seen, ['2:39', '2:40', '2:41'])
      await using none = transport.tail({ topic, partition: 2, from: 42 }, { batch: note, fault: assert.ifError })
      await none.caughtUp()
      assert.equal(seen.length, 3)
      await using empty = transport.tail({ topic: await make(2) }, { batch: note, fault: assert.ifError })
      await empty.caughtUp()
    })

    test('what is written comes back byte for byte, in order, absent and empty told apart', async () => {
      const topic = await make(1)
      await using writer = await transport.writer()
      const sent = await Promise.all([
        writer.send(record(topic, { key: null, value: null })),
        writer.send(record(topic, { key: new Uint8Array(), value: new Uint8Array() })),
        writer.send(
          record(topic, {
            key: bytes('k'),
            value: bytes('v'.repeat(70_000)),
            headers: [
              { key: 'a', value: bytes('1') },
              { key: 'a', value: bytes('2') },
              { key: 'b', value: new Uint8Array() },
            ],
          }),
        ),
      ])
      const member = new Member(connect(), fresh('group'), [topic])
      await until(() => member.seen.length === 3, 'three records')
      assert.deepEqual(
        member.seen.map(({ key, value }) => [key, value]),
        [
          [null, null],
          ['', ''],
          ['k', 'v'.repeat(70_000)],
        ],
      )
      assert.deepEqual(member.seen[2]!.headers, [
        ['a', '1'],
        ['a', '2'],
        ['b', ''],
      ])
      assert.deepEqual(
        member.seen.map(({ position }) => position),
        sent.map(({ position }) => position),
      )
      await member.reader[Symbol.asyncDispose]()
    })

    test('a header without a value stays without one', skipOr(differences.nullHeaders), async () => {
      const topic = await make(1)
      await using writer = await transport.writer()
      await writer.send(record(topic, { headers: [{ key: 'n', value: null }] }))
      const member = new Member(connect(), fresh('group'), [topic])
      await until(() => member.seen.length === 1, 'the record')
      assert.deepEqual(member.seen[0]!.headers, [['n', null]])
      await member.reader[Symbol.asyncDispose]()
    })

    test("a record's own timestamp is kept", skipOr(differences.timestamps), async () => {
      const topic = await make(1)
      const timestampMs = Date.now() - 86_400_000
      await using writer = await transport.writer()
      const sent = await writer.send(record(topic, { timestampMs }))
      const member = new Member(connect(), fresh('group'), [topic])
      await until(() => member.seen.length === 1, 'the record')
      assert.equal(member.seen[0]!.timestampMs, timestampMs)
      assert.equal(sent.timestampMs, timestampMs)
      await member.reader[Symbol.asyncDispose]()
    })

    test('a key has one partition, a stated partition wins, and call order is log order per partition', async () => {
      const topic = await make(4)
      await using writer = await transport.writer()
      const keyed = await Promise.all(
        Array.from({ length: 40 }, (_, n) => writer.send(record(topic, { key: bytes(`key-${n % 4}`) }))),
      )
      for (let n = 4; n < 40; n++) {
        assert.equal(keyed[n]!.partition, keyed[n % 4]!.partition)
        assert.ok(keyed[n]!.position > keyed[n - 4]!.position)
      }
      const stated = await writer.send(record(topic, { key: bytes('key-0'), partition: 3 }))
      assert.equal(stated.partition, 3)
    })

    test('two members share the partitions, two groups both get everything', async () => {
      const topic = await make(4)
      for (let partition = 0; partition < 4; partition++) await fill(topic, partition, 10)
      const group = fresh('group')
      const one = new Member(connect(), group, [topic])
      const two = new Member(connect(), group, [topic])
      const other = new Member(connect(), fresh('group'), [topic])
      await until(() => one.held.size === 2 && two.held.size === 2, 'two each')
      assert.equal(new Set([...one.held.keys(), ...two.held.keys()]).size, 4)
      await until(() => other.seen.length === 40, 'the other group')
      const distinct = (members: readonly Member[]) =>
        new Set(members.flatMap(({ seen }) => seen.map((each) => `${each.partition}/${each.position}`))).size
      await until(() => distinct([one, two]) === 40, 'the shared group')
      for (const member of [one, two, other]) await member.reader[Symbol.asyncDispose]()
    })

    test('the next owner is told how far the last one came', async () => {
      const topic = await make(1)
      await fill(topic, 0, 20)
      const group = fresh('group')
      const first = new Member(connect(), group, [topic])
      await until(() => first.seen.length === 20, 'twenty')
      const held = first.heldOf(topic, 0)
      const told = first.held.get(`${topic}/0`)?.stored
      const positions = first.seen.map(({ position }) => position)
      assert.equal(await first.reader.checkpoint(held, { low: positions[5]!, finished: [], strikes: 0 }), 'stored')
      await first.reader[Symbol.asyncDispose]()
      const second = new Member(connect(), group, [topic])
      await until(() => second.seen.length === 15, 'the rest')
      assert.equal(second.held.get(`${topic}/0`)?.checkpoint.low, positions[5])
      assert.deepEqual([told, second.held.get(`${topic}/0`)?.stored], [false, true], 'was there a checkpoint?')
      assert.equal(second.seen[0]!.position, positions[5])
      await second.reader[Symbol.asyncDispose]()
    })

    test(
      'finished ranges, strikes and their suspect come back to the next owner',
      skipOr(differences.checkpointMap),
      async () => {
        const topic = await make(1)
        await fill(topic, 0, 20)
        const group = fresh('group')
        const first = new Member(connect(), group, [topic])
        await until(() => first.seen.length === 20, 'twenty')
        const at = (index: number) => first.seen[index]!.position
        const checkpoint = { low: at(3), finished: [at(5), at(8), at(10), at(11)], strikes: 2, suspect: at(9) }
        assert.equal(await first.reader.checkpoint(first.heldOf(topic, 0), checkpoint), 'stored')
        await first.reader[Symbol.asyncDispose]()
        const second = new Member(connect(), group, [topic])
        await until(() => second.held.size === 1, 'gained')
        assert.deepEqual(second.held.get(`${topic}/0`)?.checkpoint, checkpoint)
        await second.reader[Symbol.asyncDispose]()
      },
    )

    test('the next owner gains nothing before the last one has released, and old ownerships are refused', async () => {
      const topic = await make(2)
      const group = fresh('group')
      const order: string[] = []
      const first = new Member(connect(), group, [topic])
      await until(() => first.held.size === 2, 'both')
      const before = [first.heldOf(topic, 0), first.heldOf(topic, 1)]
      let letGo = (): void => undefined
      first.onReleasing = async () => {
        order.push('releasing')
        await new Promise<void>((done) => {
          letGo = done
        })
        order.push('released')
      }
      const second = new Member(connect(), group, [topic])
      const gained = second.gained.bind(second)
      second.gained = async (parts) => {
        if (parts.length > 0) order.push('second gained')
        await gained(parts)
      }
      await until(() => order.length === 1, 'the release')
      letGo()
      await until(() => second.held.size === 1, 'one moved')
      assert.deepEqual(order.slice(0, 3), ['releasing', 'released', 'second gained'])
      const moved = [...second.held.values()][0]!.held
      const old = before.find(({ partition }) => partition === moved.partition)!
      assert.equal(first.reader.owns(old), false)
      assert.equal(await first.reader.confirm(old), 'lost')
      assert.equal(await first.reader.checkpoint(old, { low: 0, finished: [], strikes: 0 }), 'lost')
      assert.equal(second.reader.owns(moved), true)
      assert.equal(await second.reader.confirm(moved), 'held')
      first.onReleasing = async () => undefined
      await second.reader[Symbol.asyncDispose]()
      await until(() => first.held.size === 2, 'back again')
      const again = first.heldOf(topic, moved.partition)
      assert.ok(again.ownership > old.ownership, 'the ownership number has grown')
      await first.reader[Symbol.asyncDispose]()
    })

    test('a paused partition stays silent while another flows, and resuming loses nothing', async () => {
      const topic = await make(2)
      const member = new Member(connect(), fresh('group'), [topic])
      await until(() => member.held.size === 2, 'both')
      member.reader.pause(member.heldOf(topic, 0))
      await fill(topic, 0, 30)
      await fill(topic, 1, 30)
      const of = (partition: number) => member.seen.filter((each) => each.partition === partition)
      await until(() => of(1).length === 30, 'the other one')
      assert.equal(of(0).length, 0)
      member.reader.resume(member.heldOf(topic, 0))
      await until(() => of(0).length === 30, 'after resuming')
      assert.deepEqual(
        of(0).map(({ value }) => value),
        Array.from({ length: 30 }, (_, n) => String(n)),
      )
      await member.reader[Symbol.asyncDispose]()
    })

    test('a place that the log does not hold is a fault that says what it holds, and a seek goes on', async () => {
      const topic = await make(1)
      await fill(topic, 0, 3)
      const member = new Member(connect(), fresh('group'), [topic])
      await until(() => member.seen.length === 3, 'three')
      const held = member.heldOf(topic, 0)
      const { position } = member.seen[0]!
      await member.reader.seek(held, { offset: position + 1_000 })
      await until(() => member.faults.length === 1, 'a fault')
      const [{ code, details }] = member.faults as [OttlaError]
      assert.equal(code, 'OTTLA_KAFKA_OFFSET_OUT_OF_RANGE')
      assert.equal(details['position'], position + 1_000)
      assert.ok((details['logStart'] as number) <= position && (details['logEnd'] as number) > position + 2)
      await member.reader.seek(held, { offset: position + 1 })
      await until(() => member.seen.length === 5, 'two again')
      await member.reader[Symbol.asyncDispose]()
    })

    test('a topic may stamp records by itself, and a send is told that time', async () => {
      const topic = fresh('topic')
      const configs = { 'message.timestamp.type': 'LogAppendTime' }
      const [result] = await transport.ensure([{ topic, partitions: 1, configs }])
      assert.equal(result?.error, undefined)
      await using writer = await transport.writer()
      const sent = await writer.send(record(topic, { timestampMs: 1 }))
      assert.ok(sent.timestampMs > 1_600_000_000_000, `stamped ${sent.timestampMs}`)
      const [facts] = await transport.describe([topic])
      assert.equal(facts?.appendTime, true)
      const member = new Member(connect(), fresh('group'), [topic])
      await until(() => member.seen.length === 1, 'one')
      assert.equal(member.seen[0]!.timestampMs, sent.timestampMs)
      await member.reader[Symbol.asyncDispose]()
    })

    test('groups of a topic are those with a member at it or a checkpoint in it', async () => {
      const [topic, other] = [await make(1), await make(1)]
      await fill(topic, 0, 1)
      await fill(other, 0, 1)
      const [staying, gone, stranger] = [fresh('group'), fresh('group'), fresh('group')]
      const first = new Member(connect(), staying, [topic])
      const second = new Member(connect(), gone, [topic])
      const third = new Member(connect(), stranger, [other])
      await until(() => [first, second, third].every(({ seen }) => seen.length === 1), 'all have begun')
      await second.reader.checkpoint(second.heldOf(topic, 0), { low: 1, finished: [], strikes: 0 })
      await second.reader[Symbol.asyncDispose]()
      assert.deepEqual(await transport.groupsOf(topic), [gone, staying].sort())
      await first.reader[Symbol.asyncDispose]()
      await third.reader[Symbol.asyncDispose]()
    })

    test('seeking goes back and forth by position', async () => {
      const topic = await make(1)
      await fill(topic, 0, 10)
      const member = new Member(connect(), fresh('group'), [topic])
      await until(() => member.seen.length === 10, 'ten')
      const held = member.heldOf(topic, 0)
      const { position } = member.seen[7]!
      await member.reader.seek(held, { offset: position })
      await until(() => member.seen.length === 13, 'three again')
      assert.deepEqual(
        member.seen.slice(10).map(({ value }) => value),
        ['7', '8', '9'],
      )
      await member.reader.seek(held, 'earliest')
      await until(() => member.seen.length === 23, 'all again')
      await member.reader[Symbol.asyncDispose]()
    })

    test('seeking by time finds the first record that is not older', skipOr(differences.seekByTime), async () => {
      const topic = await make(1)
      const baseMs = Date.now() - 100_000
      await using writer = await transport.writer()
      for (let n = 0; n < 5; n++) {
        await writer.send(record(topic, { value: bytes(String(n)), timestampMs: baseMs + n * 1_000 }))
      }
      const member = new Member(connect(), fresh('group'), [topic])
      await until(() => member.seen.length === 5, 'five')
      await member.reader.seek(member.heldOf(topic, 0), { timestampMs: baseMs + 2_500 })
      await until(() => member.seen.length === 7, 'two again')
      assert.deepEqual(
        member.seen.slice(5).map(({ value }) => value),
        ['3', '4'],
      )
      await member.reader[Symbol.asyncDispose]()
    })

    test('lag counts what is not finished and falls to nothing', async () => {
      const topic = await make(1)
      await fill(topic, 0, 10)
      const member = new Member(connect(), fresh('group'), [topic])
      await until(() => member.seen.length === 10, 'ten')
      const lag = () => member.reader.lag().find((each) => each.topic === topic)?.records
      await until(() => lag() === 10, 'ten behind')
      const low = member.seen.at(-1)!.position + 1
      await member.reader.checkpoint(member.heldOf(topic, 0), { low, finished: [], strikes: 0 })
      await until(() => lag() === 0, 'none behind')
      await member.reader[Symbol.asyncDispose]()
    })
  })
}
