/** The desk beyond redriving in place: letters written to their source once more, and what it keeps in memory. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { systemClock } from '../adapters/system/clock.ts'
import { decodeControl, type ResultRecord } from '../contract/control.ts'
import { OttlaError, PermanentError } from '../contract/errors.ts'
import { topic } from '../contract/topic.ts'
import { balances, type Ending } from '../core/ledger.ts'
import { MemoryStore, memory } from '../testing/memory-store.ts'
import { MemoryLog, memoryTransport } from '../testing/memory-transport.ts'
import { untilWithin } from '../testing/until.ts'
import { RunningApp } from './app.ts'
import { DeadLetterDesk } from './dlq.ts'
import { LetterReader } from './letters.ts'
import type { Transport } from './ports.ts'
import { type AnyService, service } from './service.ts'

const Orders = topic('orders', {
  key: 'id',
  partitions: 2,
  events: { Placed: z.object({ id: z.string(), n: z.int() }) },
})
const quiet = { debug() {}, info() {}, warn() {}, error() {} }
const fast = { perSecond: 10_000 }

const until = untilWithin(10_000)

/** Counts the tails that are opened. */
function counted(log: MemoryLog): { readonly transport: Transport; tails: number; open: number } {
  const inner = memoryTransport(log)
  const count = { tails: 0, open: 0, transport: inner as Transport }
  count.transport = {
    ...inner,
    tail: (options, on) => {
      if (options.topic.startsWith('dlq.')) {
        count.tails++
        count.open++
      }
      const tail = inner.tail(options, on)
      return {
        caughtUp: () => tail.caughtUp(),
        pause: () => tail.pause(),
        resume: () => tail.resume(),
        async [Symbol.asyncDispose]() {
          if (options.topic.startsWith('dlq.')) count.open--
          await tail[Symbol.asyncDispose]()
        },
      }
    },
  }
  return count
}

const openDesk = (log: MemoryLog, warn: (text: string) => void = () => {}) =>
  DeadLetterDesk.open({
    transport: memoryTransport(log),
    service: 'worker',
    clock: systemClock,
    log: { ...quiet, warn },
    by: 'tester',
  })

async function start(services: readonly AnyService[], log = new MemoryLog()) {
  const counts = counted(log)
  const app = new RunningApp(
    { transport: counts.transport, store: new MemoryStore(), services, drainTimeout: 500, topics: 'create' },
    { clock: systemClock, log: quiet, random: () => 0.01, instance: 'test' },
  )
  await app.start()
  const warnings: string[] = []
  const desk = await openDesk(log, (text) => void warnings.push(text))
  return {
    app,
    log,
    desk,
    counts,
    warnings,
    ended: (ending: Ending, name = 'worker') =>
      app.ledger().reduce((sum, row) => sum + (row.service === name ? row.ended[ending] : 0), 0),
    async [Symbol.asyncDispose]() {
      await desk[Symbol.asyncDispose]()
      await app[Symbol.asyncDispose]()
      for (const row of app.ledger()) assert.ok(balances(row) && row.open === 0, JSON.stringify(row))
    },
  }
}

const audit = (log: MemoryLog): ResultRecord[] =>
  log.records('ottla.control.worker').flatMap(({ key, value }) => {
    const entry = decodeControl(key, value)
    return entry.kind === 'record' && entry.record.kind === 'result' ? [entry.record] : []
  })

test('a letter written to its source is seen by every group that is named before, counts its round, and stands in the audit', async () => {
  let broken = true
  const seen = { worker: [] as string[], other: [] as string[] }
  const worker = service('worker').on(Orders.Placed, ({ id, n }, { message }) => {
    if (broken) throw new PermanentError('no such customer')
    seen.worker.push(`${id}${n} ${message.id}`)
  })
  const other = service('other').on(Orders.Placed, ({ id, n }, { message }) => {
    seen.other.push(`${id}${n} ${message.id}`)
  })
  await using started = await start([worker, other])
  const { app, desk, log, ended } = started
  const { id } = await app.publish(Orders.Placed({ id: 'a', n: 0 }))
  await until(() => ended('deadLettered') === 1, 'dead letter')
  const letters = await desk.letters()
  assert.deepEqual(await desk.groupsOf(letters), { orders: ['other', 'worker'] })
  await assert.rejects(desk.toSource(letters, { reason: ' ' }), (error: OttlaError) => {
    return error.code === 'OTTLA_CONFIG_INVALID'
  })
  assert.equal(log.records('orders').length, 1)

  // It fails once more: a new letter that says so.
  const sent = await desk.toSource(letters, { reason: 'other lost its table', ...fast })
  const refused = { loop: 0, held: 0, missing: 0 }
  assert.deepEqual(sent, { groups: { orders: ['other', 'worker'] }, sent: 1, refused })
  await until(() => ended('deadLettered') === 2 && seen.other.length === 2, 'both groups have seen it again')
  const [again, ...none] = await desk.letters()
  assert.deepEqual([none.length, again!.letter.facts.redrives, again!.letter.facts.origin?.position], [0, 1, 1])
  const [result] = audit(log)
  assert.deepEqual(
    [result!.action, result!.outcome, result!.reason, result!.by, result!.groups],
    ['toSource', 'sentToSource', 'other lost its table', 'tester', ['other', 'worker']],
  )

  broken = false
  await desk.toSource([again!], { reason: 'mended', ...fast })
  await until(() => ended('handled') === 1 && seen.other.length === 3, 'handled')
  assert.deepEqual(seen.worker, [`a0 ${id}`])
  assert.deepEqual(new Set(seen.other), new Set([`a0 ${id}`]), 'the same id each time')
  assert.deepEqual(await desk.letters(), [])
  const [first, second] = log.records('orders')
  assert.deepEqual([second!.partition, second!.key, second!.value], [first!.partition, first!.key, first!.value])
})

test('what came back too often is not written once more unless forced, and a held key stays behind its own letters', async () => {
  const worker = service('worker', { store: memory }).on(Orders.Placed, async ({ id }) => {
    await Promise.resolve()
    if (id !== 'good') throw new PermanentError('never')
  })
  const loose = service('loose').on(Orders.Placed, ({ id }) => {
    if (id === 'b') throw new PermanentError('never')
  })
  await using started = await start([worker, loose])
  const { app, desk, log, ended } = started
  await app.publish(Orders.Placed({ id: 'a', n: 0 }))
  await app.publish(Orders.Placed({ id: 'a', n: 1 }))
  await until(() => ended('heldInDlq') === 1, 'held')
  const held = await desk.toSource(await desk.letters(), { reason: 'try', ...fast })
  assert.deepEqual([held.sent, held.refused.held], [0, 2])
  assert.equal(log.records('orders').length, 2)

  await using other = await DeadLetterDesk.open({
    transport: memoryTransport(log),
    service: 'loose',
    clock: systemClock,
    log: quiet,
    by: 'tester',
  })
  await app.publish(Orders.Placed({ id: 'b', n: 0 }))
  for (let turn = 0; turn < 5; turn++) {
    await until(() => ended('deadLettered', 'loose') === turn + 1, `dead letter ${turn}`)
    assert.equal((await other.toSource(await other.letters(), { reason: 'again', ...fast })).sent, 1)
  }
  await until(() => ended('deadLettered', 'loose') === 6, 'the last round')
  const letters = await other.letters()
  assert.deepEqual((await other.toSource(letters, { reason: 'again', ...fast })).refused.loop, 1)
  assert.equal((await other.toSource(letters, { reason: 'again', force: true, ...fast })).sent, 1)
  await until(() => ended('deadLettered', 'loose') === 7, 'forced')
})

test('the list keeps no payloads and has a bound that is said aloud; a letter is read when it is asked for', async () => {
  const worker = service('worker').on(Orders.Placed, () => {
    throw new PermanentError('x'.repeat(2_000))
  })
  await using started = await start([worker])
  const { app, desk, ended, warnings } = started
  for (let n = 0; n < 12; n++) await app.publish(Orders.Placed({ id: `key-${n}`, n }))
  await until(() => ended('deadLettered') === 12, 'dead letters')
  const letters = await desk.letters()
  assert.equal(letters.length, 12)
  for (const { letter } of letters) {
    assert.ok(!('value' in letter) && !('headers' in letter))
    assert.equal(letter.facts.message!.length, 256)
  }
  assert.deepEqual(warnings, [])
  assert.equal((await desk.letters({ max: 5 })).length, 5)
  assert.match(warnings[0]!, /more open letters than 5: about 7/)
  const letter = await desk.read(letters[3]!)
  assert.deepEqual(JSON.parse(Buffer.from(letter!.value!).toString()).id, Buffer.from(letter!.key!).toString())
  assert.equal(letter!.facts.message!.length, 2_000)
})

test('many letters redriven one after the other are read by one reading per partition', async () => {
  let broken = true
  const worker = service('worker').on(
    Orders.Placed,
    () => {
      if (broken) throw new PermanentError('never')
    },
    { late: 'accept' },
  )
  await using started = await start([worker])
  const { app, desk, ended, counts } = started
  for (let n = 0; n < 40; n++) await app.publish(Orders.Placed({ id: `key-${n}`, n }))
  await until(() => ended('deadLettered') === 40, 'dead letters')
  broken = false
  const inOrder = (await desk.letters()).toSorted((a, b) => a.letter.position - b.letter.position)
  const asked = await desk.redrive(inOrder, { reason: 'mended', perSecond: 10_000, waitMs: 10_000 })
  assert.deepEqual(asked.outcomes, { handled: 40 })
  assert.ok(counts.tails <= 6, `${counts.tails} readings for 40 letters in 2 partitions`)
  await app[Symbol.asyncDispose]()
  assert.equal(counts.open, 0, 'all are closed with the app')
})

test('a reader finds letters in any order, several at once, and says when there is none', async () => {
  const log = new MemoryLog()
  log.create('dlq.worker', 1)
  const put = (text: string) =>
    log.append({ topic: 'dlq.worker', partition: 0, key: null, value: Buffer.from(text), headers: [] }).position
  for (let n = 0; n < 300; n++) put(`letter ${n}`)
  log.gap('dlq.worker', 0, 3)
  const last = put('last')
  const counts = counted(log)
  {
    await using reader = new LetterReader(counts.transport, systemClock, 'dlq.worker')
    const read = async (position: number) => {
      const letter = await reader.read({ partition: 0, position })
      return letter === null ? null : Buffer.from(letter.value!).toString()
    }
    assert.deepEqual(await Promise.all([read(7), read(250), read(7), read(8)]), [
      'letter 7',
      'letter 250',
      'letter 7',
      'letter 8',
    ])
    assert.equal(await read(299), 'letter 299')
    assert.equal(await read(3), 'letter 3')
    assert.deepEqual([await read(301), await read(last), await read(last + 1)], [null, 'last', null])
  }
  assert.equal(counts.open, 0)
})

test('a redrive whose letter cannot be read for a while is no redrive over which anybody died', async () => {
  const log = new MemoryLog()
  const inner = memoryTransport(log)
  let failures = 0
  const transport: Transport = {
    ...inner,
    tail: (options, on) => {
      const tail = inner.tail(options, on)
      if (options.topic !== 'dlq.worker' || failures >= 3) return tail
      failures++
      return {
        caughtUp: async () => {
          throw new OttlaError('OTTLA_KAFKA_CONNECTION', 'a broker restarts')
        },
        pause: () => tail.pause(),
        resume: () => tail.resume(),
        [Symbol.asyncDispose]: () => tail[Symbol.asyncDispose](),
      }
    },
  }
  let broken = true
  const worker = service('worker').on(
    Orders.Placed,
    () => {
      if (broken) throw new PermanentError('never')
    },
    { late: 'accept' },
  )
  await using app = new RunningApp(
    { transport, services: [worker], drainTimeout: 500, topics: 'create' },
    { clock: systemClock, log: quiet, random: () => 0.01, instance: 'test' },
  )
  await app.start()
  await app.publish(Orders.Placed({ id: 'a', n: 1 }))
  await until(() => log.records('dlq.worker').length === 1, 'the dead letter')
  broken = false
  await using desk = await openDesk(log)
  const { outcomes } = await desk.redrive(await desk.letters(), { ...fast, reason: 'mended' })
  assert.deepEqual(outcomes, { handled: 1 })
  assert.equal(failures, 3)
})

test('discarding asks for a reason that says something', async () => {
  await using desk = await openDesk(new MemoryLog())
  await assert.rejects(desk.discard([], { reason: ' ' }), (e: OttlaError) => e.code === 'OTTLA_CONFIG_INVALID')
})
