/**
 * The failure mix: a service under half its load, some of whose records fail in every way there is, while members come and
 * go. Then what failed is mended and everything is redriven, and another group must not notice.
 *
 * Records and their fates come from a seed, so the run without failures handles the same ones. Each handler writes the
 * number of its record into the store: what stands there is the order in which effects were committed.
 */
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { PermanentError } from '../../src/contract/errors.ts'
import { topic } from '../../src/contract/topic.ts'
import type { RunningApp } from '../../src/runtime/app.ts'
import { service } from '../../src/runtime/service.ts'
import { MemoryStore, memory } from '../../src/testing/memory-store.ts'
import { dice, paced, percentile, Stage, until } from './stage.ts'

export interface FailureMixOptions {
  readonly bootstrapServers: string
  readonly records: number
  readonly keys: number
  readonly partitions: number
  /** Shares of records that fail once or twice for a passing reason, and for good. */
  readonly transientShare: number
  readonly poisonShare: number
  /** A member joins or leaves this often. */
  readonly rebalanceEveryMs: number
  /** Records for finding out what the machine can do. */
  readonly capacityRecords: number
  /** Share of that at which the runs go. */
  readonly load: number
  /** Faster than that where a run would last longer than this; latencies mean nothing then. */
  readonly playMaxMs?: number
  readonly say: (line: string) => void
}

/** Latencies of records of keys without a failing record, from when they were due to be published to their end. */
export interface Latency {
  readonly p50Ms: number
  readonly p99Ms: number
}

export interface FailureMixReport {
  readonly capacityPerSecond: number
  readonly ratePerSecond: number
  readonly rebalances: number
  readonly deadLettered: number
  readonly held: number
  readonly redriven: number
  readonly without: Latency
  readonly withFailures: Latency
  readonly books: readonly string[]
}

type Fate = 'well' | 'transient' | 'poison' | 'broken'

interface Planned {
  readonly key: string
  readonly n: number
  readonly fate: Fate
  /** Passing failures before it works. */
  readonly failures: number
}

interface Mix {
  readonly records: readonly Planned[]
  readonly cleanKeys: ReadonlySet<string>
}

const seed = 20_260_101
const brokenKey = 'always-broken'
/** A handler that waits for something: a thousand of them a second need more than one lane. */
const handlerMs = 1
/** How long each step may take on a machine that does other things too. */
const patienceMs = 600_000

/** Plays it all and checks it. Throws AssertionError for what does not hold; speeds are in the report. */
export async function failureMix(options: FailureMixOptions): Promise<FailureMixReport> {
  const mix = plan(options)
  const { say } = options
  const capacityPerSecond = await measureCapacity(options)
  const { load, records, playMaxMs = Number.POSITIVE_INFINITY } = options
  const ratePerSecond = Math.max(capacityPerSecond * load, records / (playMaxMs / 1_000))
  say(`capacity ${Math.round(capacityPerSecond)} records/s, played at ${Math.round(ratePerSecond)}`)
  const well: Mix = { ...mix, records: mix.records.map((record) => ({ ...record, fate: 'well' })) }
  const without = await play(options, well, ratePerSecond)
  const withFailures = await play(options, mix, ratePerSecond)
  const { rebalances, deadLettered, held, redriven, books } = withFailures
  for (const line of books) say(line)
  return {
    capacityPerSecond,
    ratePerSecond,
    rebalances,
    deadLettered,
    held,
    redriven,
    without: without.latency,
    withFailures: withFailures.latency,
    books,
  }
}

function plan({ records, keys, transientShare, poisonShare }: FailureMixOptions): Mix {
  const random = dice(seed)
  const counts = new Map<string, number>()
  const planned: Planned[] = []
  for (let index = 0; index < records; index++) {
    const chosen = Math.floor(random() * keys)
    const key = chosen === 0 ? brokenKey : `key-${chosen}`
    const n = counts.get(key) ?? 0
    counts.set(key, n + 1)
    const roll = random()
    let fate: Fate = 'well'
    if (key === brokenKey) fate = 'broken'
    else if (roll < poisonShare) fate = 'poison'
    else if (roll < poisonShare + transientShare) fate = 'transient'
    planned.push({ key, n, fate, failures: fate === 'transient' ? 1 + Math.floor(random() * 2) : 0 })
  }
  const failing = new Set(planned.filter(({ fate }) => fate !== 'well').map(({ key }) => key))
  return { records: planned, cleanKeys: new Set([...counts.keys()].filter((key) => !failing.has(key))) }
}

const order = z.object({ key: z.string(), n: z.int(), index: z.int(), dueMs: z.number() })
const nowMs = () => performance.timeOrigin + performance.now()

/** Services, store and what is seen of them, for one play on one stage. */
function cast(stage: Stage, mix: Mix, partitions: number) {
  const Orders = topic(stage.name('mix'), { key: 'key', partitions, events: { Placed: order } })
  const store = new MemoryStore(66)
  const seen = {
    mended: false,
    violations: [] as string[],
    running: new Set<string>(),
    failures: new Map<number, number>(),
    latencies: [] as number[],
    /** Times each record's handler came to its end. */
    handled: new Uint8Array(mix.records.length),
    finished: 0,
    /** Deliveries to the other group. */
    other: new Uint8Array(mix.records.length),
    others: 0,
  }
  const note = (what: string) => {
    if (seen.violations.length < 20) seen.violations.push(what)
  }
  const worker = service(stage.name('worker'), { store: memory }).on(
    Orders.Placed,
    async ({ key, n, index, dueMs }, { tx }) => {
      if (seen.running.has(key)) note(`${key}: number ${n} started while another was running`)
      const last = Number(tx.get(key) ?? -1)
      if (n !== last + 1) note(`${key}: number ${n} came after ${last}`)
      seen.running.add(key)
      try {
        const { fate, failures } = mix.records[index] as Planned
        await sleep(handlerMs)
        if (fate === 'broken' && !seen.mended) throw new Error('this customer does not work')
        if (fate === 'poison' && !seen.mended) throw new PermanentError('no such article')
        if (fate === 'transient') {
          const before = seen.failures.get(index) ?? 0
          if (before < failures) {
            seen.failures.set(index, before + 1)
            throw Object.assign(new Error('connection reset'), { code: 'ECONNRESET' })
          }
        }
        tx.set(key, String(n))
        seen.handled[index] = (seen.handled[index] as number) + 1
        seen.finished++
        if (mix.cleanKeys.has(key)) seen.latencies.push(nowMs() - dueMs)
      } finally {
        seen.running.delete(key)
      }
    },
  )
  const witness = service(stage.name('witness')).on(Orders.Placed, ({ index }) => {
    seen.other[index] = (seen.other[index] as number) + 1
    seen.others++
  })
  const publish = (app: RunningApp, index: number, dueMs: number): Promise<unknown> => {
    const { key, n } = mix.records[index] as Planned
    return app.publish(Orders.Placed({ key, n, index, dueMs }))
  }
  return { Orders, store, seen, worker, witness, publish }
}

/** How many records a second go in and out at once, with as much in flight as there may be. */
async function measureCapacity(options: FailureMixOptions): Promise<number> {
  const { capacityRecords, partitions } = options
  const whole = plan({ ...options, records: capacityRecords })
  const mix = { ...whole, records: whole.records.map((record) => ({ ...record, fate: 'well' as const })) }
  await using stage = new Stage(options.bootstrapServers)
  const { store, seen, worker, witness, publish } = cast(stage, mix, partitions)
  const first = await stage.open([worker, witness], store)
  const second = await stage.open([worker], store)
  await stage.assigned(worker.name, partitions, [first, second])
  const inFlightMax = 2_000
  // Half of it warms up.
  let halfMs = 0
  const half = Math.floor(capacityRecords / 2)
  for (let index = 0; index < capacityRecords; index++) {
    while (index - seen.finished >= inFlightMax) await sleep(1)
    if (index === half) halfMs = performance.now()
    void publish(first, index, nowMs())
  }
  const atHalf = half - inFlightMax
  await until('the capacity run is handled', patienceMs, () => seen.finished === capacityRecords)
  return (capacityRecords - atHalf) / ((performance.now() - halfMs) / 1_000)
}

async function play(options: FailureMixOptions, mix: Mix, ratePerSecond: number) {
  const { partitions, rebalanceEveryMs, say } = options
  const total = mix.records.length
  await using stage = new Stage(options.bootstrapServers)
  const { Orders, store, seen, worker, witness, publish } = cast(stage, mix, partitions)
  const first = await stage.open([worker, witness], store)
  const second = await stage.open([worker], store)
  await stage.assigned(worker.name, partitions, [first, second])

  // A third member comes and goes.
  let publishing = true
  let rebalances = 0
  const moving = (async () => {
    let third: RunningApp | null = null
    while (publishing) {
      await sleep(rebalanceEveryMs)
      if (third === null) third = await stage.open([worker], store)
      else {
        await stage.close(third)
        third = null
      }
      rebalances++
    }
    if (third !== null) await stage.close(third)
  })()
  const stored: Promise<unknown>[] = []
  await paced(total, ratePerSecond, (index) => {
    stored.push(publish(first, index, nowMs()))
  })
  await Promise.all(stored)
  publishing = false
  await moving
  await until(`all ${total} records have ended`, patienceMs, () => {
    const { ended } = stage.books(worker.name)
    return (
      ended.handled + ended.deadLettered + ended.heldInDlq + ended.duplicate >= total &&
      openNow(stage, worker.name) === 0
    )
  })
  await until('the other group has seen them', patienceMs, () => seen.others >= total)

  const latency = { p50Ms: percentile(seen.latencies, 0.5), p99Ms: percentile(seen.latencies, 0.99) }
  say(`${rebalances} rebalances: p50 ${latency.p50Ms.toFixed(1)} ms, p99 ${latency.p99Ms.toFixed(1)} ms`)
  // Dead letters are the first failing record of each key and what came after it, and nothing else.
  const log = await stage.read<z.infer<typeof order>>(Orders.name)
  assert.equal(log.length, total)
  const stopped = new Set<string>()
  const expected = new Map<string, number>()
  for (const { partition, position, key, value } of log) {
    const { fate } = mix.records[value.index] as Planned
    if (fate === 'poison' || fate === 'broken') stopped.add(key)
    if (stopped.has(key)) expected.set(`${partition}@${position}`, value.index)
  }
  const before = stage.books(worker.name)
  const answer = await stage.desk(worker.name, async (desk) => {
    const letters = await desk.letters()
    const origins = letters.map(({ letter }) => `${letter.facts.origin?.partition}@${letter.facts.origin?.position}`)
    assert.deepEqual(
      origins.sort(),
      [...expected.keys()].sort(),
      'dead letters are the poison and what waits behind it',
    )
    assert.equal(new Set(origins).size, origins.length)
    for (const index of expected.values()) assert.equal(seen.handled[index], 0, 'what is dead-lettered was not handled')
    const handledOnce = seen.handled.reduce((sum, times) => sum + (times === 1 ? 1 : 0), 0)
    assert.equal(handledOnce, total - expected.size, 'everything else was handled once')
    if (letters.length === 0) return { redriven: 0 }
    say(`${letters.length} dead letters, ${desk.plan(letters).length} keys held; redriving`)
    const othersBefore = seen.others
    seen.mended = true
    const asked = await desk.redrive(letters, { reason: 'mended', perSecond: 500, waitMs: patienceMs })
    assert.deepEqual(asked.outcomes, { handled: expected.size })
    assert.deepEqual([asked.open, asked.stoppedBefore], [0, 0])
    assert.deepEqual(await desk.letters(), [], 'no dead letter is open any more')
    for (const index of expected.values()) assert.equal(seen.handled[index], 1, 'each was handled once when redriven')
    assert.equal(seen.others - othersBefore, 0, 'the other group has got nothing of the redrive')
    return { redriven: asked.outcomes.handled ?? 0 }
  })
  assert.deepEqual(seen.violations, [], 'handlers of a key neither overlap nor leave their order')
  // It has no store: what it had in hand when its session was lost comes again, and that is no redrive.
  const once = seen.other.reduce((sum, times) => sum + (times > 0 ? 1 : 0), 0)
  assert.equal(once, total, 'the other group has got every record')
  const { fetched, ended, open } = stage.books(witness.name)
  assert.equal(fetched - ended.skipped - ended['returned.lost'] - ended['returned.revoked'] - open, seen.others)
  assert.equal((await stage.read(Orders.name)).length, total, 'nothing was written to the topic of the events')
  return {
    latency,
    rebalances,
    deadLettered: before.ended.deadLettered,
    held: before.ended.heldInDlq,
    redriven: answer.redriven,
    books: [
      `before the redrive: ${textOf(worker.name, before)}`,
      `after it: ${stage.booksText(worker.name)}`,
      `the other group: ${stage.booksText(witness.name)}`,
    ],
  }
}

function openNow(stage: Stage, name: string): number {
  return stage.books(name).open
}

function textOf(name: string, books: ReturnType<Stage['books']>): string {
  const words = Object.entries(books.ended).filter(([, count]) => count > 0)
  return `${name}: fetched ${books.fetched} = ${words.map(([ending, count]) => `${ending} ${count}`).join(' + ')} + open ${books.open}; ${books.retries} retries`
}
