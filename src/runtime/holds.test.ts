import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { z } from 'zod'
import { systemClock } from '../adapters/system/clock.ts'
import { type CommandRecord, encodeControl, type HoldRecord } from '../contract/control.ts'
import { PermanentError } from '../contract/errors.ts'
import { topic } from '../contract/topic.ts'
import { balances, type Ending } from '../core/ledger.ts'
import { malformedHeaders } from '../testing/malformed-headers.ts'
import { MemoryStore, memory } from '../testing/memory-store.ts'
import { MemoryLog, memoryTransport } from '../testing/memory-transport.ts'
import { untilWithin } from '../testing/until.ts'
import { RunningApp } from './app.ts'
import { DeadLetterDesk } from './dlq.ts'
import type { AnyService } from './service.ts'
import { service } from './service.ts'

const Orders = topic('orders', {
  key: 'id',
  partitions: 2,
  events: { Placed: z.object({ id: z.string(), n: z.int() }) },
})
const quiet = { debug() {}, info() {}, warn() {}, error() {} }
const why = { reason: 'test', perSecond: 10_000, waitMs: 5_000 }

const until = untilWithin(5_000)

interface Started extends AsyncDisposable {
  readonly app: RunningApp
  readonly log: MemoryLog
  readonly transport: ReturnType<typeof memoryTransport>
  ended(ending: Ending): number
}

async function start(
  services: readonly AnyService[],
  { log = new MemoryLog(), store }: { log?: MemoryLog; store?: MemoryStore } = {},
): Promise<Started> {
  const transport = memoryTransport(log)
  const app = new RunningApp(
    { transport, services, drainTimeout: 1_000, topics: 'create', ...(store === undefined ? {} : { store }) },
    { clock: systemClock, log: quiet, random: () => 0.01, instance: 'test' },
  )
  await app.start()
  return {
    app,
    log,
    transport,
    ended: (ending) => app.ledger().reduce((sum, row) => sum + row.ended[ending], 0),
    async [Symbol.asyncDispose]() {
      await app[Symbol.asyncDispose]()
      for (const row of app.ledger()) assert.ok(balances(row) && row.open === 0, JSON.stringify(row))
    },
  }
}

const dead: RunningApp[] = []
after(() => Promise.all(dead.map((app) => app[Symbol.asyncDispose]())))
/** The process dies. */
function crash({ app, transport }: Started): void {
  transport.readers[0]!.kill()
  dead.push(app)
}

const desk = (log: MemoryLog, name = 'worker') =>
  DeadLetterDesk.open({ transport: memoryTransport(log), service: name, clock: systemClock, log: quiet, by: 'tester' })

/** Does the newest record about a held key let it go? */
const isReleased = (log: MemoryLog): boolean =>
  log
    .records('ottla.control.worker')
    .filter(({ key }) =>
      Buffer.from(key ?? [])
        .toString()
        .startsWith('hold/'),
    )
    .at(-1)?.value === null

/** A service that fails while `broken`, and remembers what it handled. */
function worker(more: { store?: boolean; afterDeadLetter?: 'hold' | 'continue'; late?: 'accept'; name?: string } = {}) {
  const state = { broken: true, handled: [] as string[], redriven: [] as string[], running: 0, overlaps: 0 }
  const { name = 'worker', late, afterDeadLetter } = more
  const made = service(name, {
    ...(more.store === false ? {} : { store: memory }),
    ...(afterDeadLetter === undefined ? {} : { afterDeadLetter }),
  } as { afterDeadLetter?: 'hold' }).on(
    Orders.Placed,
    async ({ id, n }, { message }) => {
      if (state.running++ > 0 && id === 'bad') state.overlaps++
      await Promise.resolve()
      state.running--
      if (state.broken && id === 'bad') throw new PermanentError('no such customer')
      state.handled.push(`${id}${n}`)
      if (message.redrive) state.redriven.push(`${id}${n}`)
    },
    late === undefined ? {} : { late },
  )
  return { state, made }
}

async function publish({ app }: Started, id: string, from: number, to: number): Promise<void> {
  for (let n = from; n < to; n++) await app.publish(Orders.Placed({ id, n }))
}

test('followers of a dead letter are held behind it in order, every other key flows, and a redrive releases the key in order', async () => {
  const { made, state } = worker()
  await using started = await start([made], { store: new MemoryStore() })
  await publish(started, 'bad', 0, 3)
  await publish(started, 'good', 0, 3)
  await until(() => started.ended('heldInDlq') === 2 && started.ended('handled') === 3, 'held')
  assert.equal(started.ended('deadLettered'), 1)
  assert.deepEqual(state.handled, ['good0', 'good1', 'good2'])
  await using open = await desk(started.log)
  const letters = await open.letters()
  assert.deepEqual(
    letters.map(({ held }) => held),
    [true, true, true],
  )
  assert.deepEqual(
    (await open.groups()).map(({ cause, count }) => [cause, count]),
    [
      ['Held', 2],
      ['OTTLA_RUNTIME_PERMANENT', 1],
    ],
  )

  const before = started.log.records('orders').length
  state.broken = false
  const asked = await open.redrive(letters, why)
  assert.deepEqual(asked, { commands: 1, outcomes: { handled: 3 }, open: 0, stoppedBefore: 0 })
  assert.deepEqual(state.handled.slice(3), ['bad0', 'bad1', 'bad2'])
  assert.deepEqual(state.redriven, ['bad0', 'bad1', 'bad2'])
  assert.equal(started.log.records('orders').length, before, 'a redrive writes nothing to the shared topic')
  assert.deepEqual(await open.letters(), [])
  await publish(started, 'bad', 3, 4)
  await until(() => state.handled.at(-1) === 'bad3', 'flows again')
  assert.equal(started.ended('heldInDlq'), 2)
})

test('another group on the topic gets nothing of a redrive', async () => {
  const one = worker()
  const other = worker({ name: 'other' })
  other.state.broken = false
  await using started = await start([one.made, other.made], { store: new MemoryStore() })
  await publish(started, 'bad', 0, 4)
  await until(() => started.ended('heldInDlq') === 3 && other.state.handled.length === 4, 'held')
  one.state.broken = false
  await using open = await desk(started.log)
  await open.redrive(await open.letters(), why)
  assert.deepEqual(one.state.handled, ['bad0', 'bad1', 'bad2', 'bad3'])
  const fetched = started.app
    .ledger()
    .filter((row) => row.service === 'other')
    .reduce((sum, row) => sum + row.fetched, 0)
  assert.equal(fetched, 4)
  assert.equal(other.state.handled.length, 4)
})

test('a held key outlives its owner: the next one reads it before its first record', async () => {
  const { made, state } = worker()
  const log = new MemoryLog()
  const store = new MemoryStore()
  const first = await start([made], { log, store })
  await publish(first, 'bad', 0, 2)
  await until(() => first.ended('heldInDlq') === 1, 'held')
  crash(first)
  state.broken = false
  await using second = await start([made], { log, store })
  await publish(second, 'bad', 2, 4)
  await until(() => second.ended('heldInDlq') >= 2, 'still held')
  assert.deepEqual(state.handled, [])
  await using open = await desk(log)
  const asked = await open.redrive(await open.letters(), why)
  assert.equal(asked.open, 0)
  assert.deepEqual(state.handled, ['bad0', 'bad1', 'bad2', 'bad3'])
})

test('followers that arrive during a redrive wait behind it and run in order', async () => {
  const { made, state } = worker()
  await using started = await start([made], { store: new MemoryStore() })
  await publish(started, 'bad', 0, 20)
  await until(() => started.ended('heldInDlq') === 19, 'held')
  state.broken = false
  await using open = await desk(started.log)
  const redriving = open.redrive(await open.letters(), why)
  await publish(started, 'bad', 20, 60)
  await redriving
  await until(() => state.handled.length === 60, 'all')
  assert.deepEqual(
    state.handled,
    Array.from({ length: 60 }, (_, n) => `bad${n}`),
  )
  assert.equal(state.overlaps, 0)
})

test('a redrive that fails leaves letters and hold as they are, and too many failures are a loop', async () => {
  const { made, state } = worker()
  await using started = await start([made], { store: new MemoryStore() })
  await publish(started, 'bad', 0, 2)
  await until(() => started.ended('heldInDlq') === 1, 'held')
  await using open = await desk(started.log)
  const stored = started.log.records('dlq.worker').length
  for (let round = 0; round < 5; round++) {
    assert.deepEqual((await open.redrive(await open.letters(), why)).outcomes, { failed: 1 })
  }
  assert.equal(started.log.records('dlq.worker').length, stored)
  assert.deepEqual((await open.redrive(await open.letters(), why)).outcomes, { loop: 1 })
  assert.equal((await open.letters()).length, 2)
  state.broken = false
  assert.deepEqual((await open.redrive(await open.letters(), { ...why, force: true })).outcomes, { handled: 2 })
  assert.deepEqual(state.handled, ['bad0', 'bad1'])
})

test('a discarded letter is passed over, and the last one lets the key go', async () => {
  const { made, state } = worker()
  await using started = await start([made], { store: new MemoryStore() })
  await publish(started, 'bad', 0, 3)
  await until(() => started.ended('heldInDlq') === 2, 'held')
  await using open = await desk(started.log)
  const [head, ...rest] = await open.letters()
  assert.deepEqual((await open.discard([head!], why)).outcomes, { discarded: 1 })
  assert.deepEqual((await open.letters()).length, 2)
  state.broken = false
  assert.deepEqual((await open.redrive([rest[1]!], why)).outcomes, { handled: 2 })
  assert.deepEqual(state.handled, ['bad1', 'bad2'])

  state.broken = true
  await publish(started, 'bad', 3, 5)
  await until(() => started.ended('heldInDlq') === 3, 'held again')
  assert.deepEqual((await open.discard(await open.letters(), why)).outcomes, { discarded: 2 })
  state.broken = false
  await until(() => isReleased(started.log), 'released')
  await publish(started, 'bad', 5, 6)
  await until(() => state.handled.at(-1) === 'bad5', 'flows')
})

test('an edited payload is checked, delivered with the same id, and the others stay as they were', async () => {
  const ids = new Map<number, string>()
  const state = { broken: true }
  const made = service('worker', { store: memory }).on(Orders.Placed, ({ n }, { message }) => {
    if (state.broken) throw new PermanentError('n')
    ids.set(n, message.id)
  })
  await using started = await start([made], { store: new MemoryStore() })
  const { id } = await started.app.publish(Orders.Placed({ id: 'bad', n: 1 }))
  await until(() => started.ended('deadLettered') === 1, 'dead')
  state.broken = false
  await using open = await desk(started.log)
  const wrong = new TextEncoder().encode('{"id":"bad","n":"one"}')
  assert.deepEqual((await open.redrive(await open.letters(), { ...why, edited: wrong })).outcomes, { invalid: 1 })
  const right = new TextEncoder().encode('{"id":"bad","n":7}')
  assert.deepEqual((await open.redrive(await open.letters(), { ...why, edited: right })).outcomes, { handled: 1 })
  assert.deepEqual([...ids], [[7, id]])
})

test('with continue followers run; a redrive is stale unless the handler takes late ones', async () => {
  for (const late of [undefined, 'accept'] as const) {
    const { made, state } = worker({ store: false, ...(late === undefined ? {} : { late }) })
    await using started = await start([made])
    await publish(started, 'bad', 0, 1)
    await until(() => started.ended('deadLettered') === 1, 'dead')
    state.broken = false
    await publish(started, 'bad', 1, 2)
    await until(() => state.handled.length === 1, 'follower')
    await using open = await desk(started.log)
    const { outcomes } = await open.redrive(await open.letters(), why)
    assert.deepEqual(outcomes, late === undefined ? { stale: 1 } : { handled: 1 })
    assert.deepEqual(state.handled, late === undefined ? ['bad1'] : ['bad1', 'bad0'])
  }
})

test('a record that fails again by itself has a new dead letter that counts its redrives', async () => {
  const { made } = worker({ store: false, late: 'accept' })
  await using started = await start([made])
  await publish(started, 'bad', 0, 1)
  await until(() => started.ended('deadLettered') === 1, 'dead')
  await using open = await desk(started.log)
  for (const redrives of [1, 2]) {
    assert.deepEqual((await open.redrive(await open.letters(), why)).outcomes, { deadLettered: 1 })
    const [only, ...others] = await open.letters()
    assert.equal(others.length, 0)
    assert.equal(only!.letter.facts.redrives, redrives)
    assert.equal(only!.letter.facts.origin!.position, 0)
  }
})

test('a redrive whose cause was not mended stops early', async () => {
  const { made } = worker({ store: false, late: 'accept' })
  await using started = await start([made])
  await publish(started, 'bad', 0, 40)
  await until(() => started.ended('deadLettered') === 40, 'dead')
  await using open = await desk(started.log)
  const asked = await open.redrive(await open.letters(), why)
  assert.ok(asked.commands < 20, `${asked.commands} were asked for`)
  assert.equal(asked.stoppedBefore, 40 - asked.commands)
})

test('a pause stands every member still, over restarts, until somebody resumes', async () => {
  const { made, state } = worker({ store: false })
  const log = new MemoryLog()
  const first = await start([made], { log })
  await publish(first, 'good', 0, 1)
  await until(() => state.handled.length === 1, 'running')
  await using open = await desk(log)
  await open.pause({ topic: 'orders', partition: null, reason: 'deploy' })
  await until(() => first.app.health().reasons.length === 2, 'both stand')
  await first[Symbol.asyncDispose]()
  await using second = await start([made], { log })
  await publish(second, 'good', 1, 2)
  await until(
    () => second.app.ledger().filter((row) => row.standing === 'asked').length === 2,
    'stands after a restart',
  )
  assert.equal(state.handled.length, 1)
  await open.resume({ topic: 'orders', partition: null })
  await until(() => state.handled.length === 2, 'goes on')
})

test('no malformed header of a corpus of 500 stops a partition, whoever reads it', async () => {
  const { made, state } = worker({ store: false })
  await using started = await start([made])
  await publish(started, 'good', 0, 1)
  const [sane] = started.log.records('orders')
  const corpus = malformedHeaders()
  const { partition } = sane!
  for (const { headers } of corpus) {
    started.log.append({ ...sane!, topic: 'orders', partition, headers: [...sane!.headers, ...headers] })
    started.log.append({ ...sane!, topic: 'dlq.worker', partition: 0, headers })
    started.log.append({ ...sane!, topic: 'ottla.control.worker', partition: 0, headers, value: headers[0]!.value })
  }
  await publish(started, 'good', 1, 2)
  await until(() => state.handled.at(-1) === 'good1', 'reached the end')
  const read = started.app.ledger().reduce((sum, row) => sum + row.fetched, 0)
  assert.equal(read, 502)
  await using open = await desk(started.log)
  assert.ok((await open.letters()).length > 400)
})

test('many letters of one key discarded at once are all discarded, and the key flows', async () => {
  const { made, state } = worker()
  await using started = await start([made], { store: new MemoryStore() })
  await publish(started, 'bad', 0, 8)
  await until(() => started.ended('heldInDlq') === 7, 'held')
  await using open = await desk(started.log)
  const letters = await open.letters()
  // Acknowledged only after the others were asked for too.
  started.log.delayAck = ({ topic: name }) =>
    name === 'ottla.control.worker' ? new Promise((done) => setTimeout(done, 5)) : null
  assert.deepEqual((await open.discard(letters, why)).outcomes, { discarded: 8 })
  state.broken = false
  await until(() => isReleased(started.log), 'released')
  await publish(started, 'bad', 8, 9)
  await until(() => state.handled.length === 1, 'flows')
  assert.deepEqual(state.handled, ['bad8'])
})

test('an owner that dies in the middle of a redrive leaves the rest to the next one, in order', async () => {
  const log = new MemoryLog()
  const store = new MemoryStore()
  const state = { broken: true, handled: [] as number[], stuckAt: 3 }
  const made = service('worker', { store: memory }).on(Orders.Placed, async ({ n }) => {
    if (state.broken) throw new PermanentError('n')
    if (n === state.stuckAt) await new Promise<void>(() => undefined)
    state.handled.push(n)
  })
  const first = await start([made], { log, store })
  await publish(first, 'bad', 0, 6)
  await until(() => first.ended('heldInDlq') === 5, 'held')
  state.broken = false
  await using open = await desk(log)
  const redriving = open.redrive(await open.letters(), why)
  await until(() => state.handled.length === 3, 'half way')
  crash(first)
  state.stuckAt = -1
  await using _second = await start([made], { log, store })
  const asked = await redriving
  assert.equal(asked.open, 0)
  assert.deepEqual(state.handled, [0, 1, 2, 3, 4, 5])
  assert.deepEqual(await open.letters(), [])
})

test('a command under which its owners died three times is given up, and nothing is handled for it', async () => {
  const { made, state } = worker({ store: false, late: 'accept' })
  await using started = await start([made])
  await publish(started, 'bad', 0, 1)
  await until(() => started.ended('deadLettered') === 1, 'dead')
  state.broken = false
  await using open = await desk(started.log)
  const [{ letter }] = (await open.letters()) as [Awaited<ReturnType<typeof open.letters>>[number]]
  const command: CommandRecord = {
    kind: 'command',
    id: 'deadly',
    action: 'redrive',
    letter: { partition: letter.partition, position: letter.position },
    topic: 'orders',
    partition: letter.facts.origin!.partition,
    by: 'tester',
    reason: '',
    atMs: 1,
    edited: null,
    force: false,
    accepted: 3,
  }
  const results = () =>
    started.log.records('ottla.control.worker').map(({ value }) => Buffer.from(value ?? []).toString())
  started.log.append({ topic: 'ottla.control.worker', partition: 0, ...encodeControl(command), headers: [] })
  await until(() => results().some((text) => text.includes('"outcome":"processDied"')), 'result')
  assert.deepEqual(state.handled, [])
})

test('held keys are bounded: the partition that would hold one more stands until there is room', async () => {
  const log = new MemoryLog()
  log.create('ottla.control.worker', 1, { 'cleanup.policy': 'compact' })
  const hold = (n: number): HoldRecord => ({
    kind: 'hold',
    topic: 'elsewhere',
    topicId: 'x',
    partition: 0,
    key: Buffer.from(`${n}`).toString('base64url'),
    head: 0,
    letter: { partition: 0, position: 0 },
    done: -1,
    skip: [],
    redrives: 0,
    atMs: 0,
    error: 'E',
  })
  const topicName = 'ottla.control.worker'
  for (let n = 0; n < 10_000; n++)
    log.append({ topic: topicName, partition: 0, ...encodeControl(hold(n)), headers: [] })
  const { made, state } = worker()
  await using started = await start([made], { log, store: new MemoryStore() })
  await publish(started, 'bad', 0, 2)
  await until(() => started.app.ledger().some(({ standing }) => standing === 'holdsFull'), 'stands')
  assert.equal(started.ended('deadLettered'), 0)
  assert.equal(log.records('dlq.worker').length, 0)
  log.append({ topic: topicName, partition: 0, key: encodeControl(hold(7)).key, value: null, headers: [] })
  await until(() => started.ended('heldInDlq') === 1, 'goes on')
  assert.deepEqual(state.handled, [])
})

test('a service does not start without its control topic, or on one that forgets', async () => {
  const log = new MemoryLog({ embedded: false })
  const { made } = worker({ store: false })
  const open = () =>
    new RunningApp(
      { transport: memoryTransport(log), services: [made], topics: 'verify' },
      { clock: systemClock, log: quiet, random: () => 0.01, instance: 'test' },
    ).start()
  log.create('orders', 2)
  log.create('dlq.worker', 2, { 'retention.ms': '-1', 'max.message.bytes': '2000000' })
  await assert.rejects(open, { code: 'OTTLA_RUNTIME_TOPIC', message: /ottla\.control\.worker.*does not exist/ })
  log.create('ottla.control.worker', 2)
  await assert.rejects(open, { message: /must have one\n.*cleanup\.policy to compact/ })
})
