/**
 * Kills without warning while keys are parked and held. What each process did is in its diary, what was on record when it
 * died is in the committed offset: the next process must begin where that says, and know what it says.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { decodeCheckpoint } from '../../src/adapters/kafka/checkpoint.ts'
import { topic } from '../../src/contract/topic.ts'
import { KafkaClient } from '../../src/kafka.ts'
import { service } from '../../src/runtime/service.ts'
import { Diary, type Entry, type Life } from './diary.ts'
import { Stage, until } from './stage.ts'

export interface KillHoldsOptions {
  readonly bootstrapServers: string
  readonly kills: number
  readonly partitions: number
  readonly keys: number
  readonly recordsPerSecond: number
  readonly say: (line: string) => void
}

/** Records of each partition that must have ended in a life before it is killed, and the longest it lives after that. */
const settledMin = 3
const moreMaxMs = 1_500
/** How long each step may take on a machine that does other things too. */
const patienceMs = 180_000
/** Every so many records a key becomes bad and another one poison; a few are away for as long as the show lasts. */
const generation = 250

interface Place {
  readonly partition: number
  readonly position: number
}

/** Plays it and checks it. Throws AssertionError. */
export async function killHolds(options: KillHoldsOptions): Promise<void> {
  const { bootstrapServers, kills, partitions, keys, recordsPerSecond, say } = options
  await using stage = new Stage(bootstrapServers)
  await using client = new KafkaClient({ bootstrapServers })
  const Orders = topic(stage.name('mortal'), {
    key: 'key',
    partitions,
    events: { Placed: z.object({ key: z.string(), n: z.int() }) },
  })
  const name = stage.name('mortals')
  stage.own(Orders.name, name)
  const feeder = service(stage.name('feeder'), { emits: [Orders] })
  const feeding = await stage.open([feeder])
  await using diary = new Diary({ bootstrapServers, topic: Orders.name, service: name, partitions, handlerMs: 2 })

  /** Where each record is stored, and which record is stored at each place. */
  const places = new Map<string, Place>()
  const names = new Map<string, string>()
  const counts = new Map<string, number>()
  const publish = async (index: number): Promise<void> => {
    const number = Math.floor(index / generation)
    let key = `good-${index % keys}`
    if (index % 25 === 3) key = `bad-${number}`
    if (index % 50 === 5) key = `poison-${number}`
    if (index % 50 === 4) key = `away-${number % 3}`
    const n = counts.get(key) ?? 0
    counts.set(key, n + 1)
    const { partition, position } = await feeding.publish(Orders.Placed({ key, n }))
    places.set(`${key} ${n}`, { partition, position })
    names.set(`${partition}@${position}`, `${key} ${n}`)
  }
  let publishing = true
  const stored: Promise<void>[] = []
  const feed = (async () => {
    const beganMs = performance.now()
    for (let index = 0; publishing; await sleep(10)) {
      const due = ((performance.now() - beganMs) / 1_000) * recordsPerSecond
      for (; index < due; index++) stored.push(publish(index))
    }
  })()

  const [described] = await client.admin().describeTopics([Orders.name])
  const topicId = described!.id
  /** What a committed offset has said is finished: below, and in ranges. */
  const finished: { low: number; ranges: number[] }[] = Array.from({ length: partitions }, () => ({
    low: 0,
    ranges: [],
  }))
  const parkedAtKill: number[] = []
  const believed = { maps: 0, attempts: 0 }
  const remember = async () => {
    for (const { partition, offset, leaderEpoch, metadata } of await client.admin().fetchOffsets(name)) {
      if (offset < 0) continue
      const facts = { topicId, offset, leaderEpoch, logEnd: Number.MAX_SAFE_INTEGER, metadata }
      const map = decodeCheckpoint(facts)
      if ((map?.finished.length ?? 0) > 0) believed.maps++
      if ((map?.attempts.length ?? 0) > 0) believed.attempts++
      const known = finished[partition]!
      assert.ok(offset >= known.low, `the offset of ${partition} went back from ${known.low} to ${offset}`)
      finished[partition] = { low: offset, ranges: [...(map?.finished ?? [])] }
    }
  }
  const wrong: string[] = []
  const check = (life: Life, before: readonly { low: number; ranges: number[] }[]) => {
    for (const { what, key, n } of life.entries()) {
      const place = what === 'start' ? places.get(`${key} ${n}`) : undefined
      if (place === undefined) continue
      const { low, ranges } = before[place.partition]!
      const inMap = ranges.some(
        (from, at) => at % 2 === 0 && place.position >= from && place.position < ranges[at + 1]!,
      )
      if (place.position < low || inMap) {
        wrong.push(`life ${life.number}: ${key} ${n} at ${place.partition}@${place.position} was finished, low ${low}`)
      }
    }
  }

  for (let kill = 0; kill < kills; kill++) {
    const before = structuredClone(finished)
    const life = diary.begin()
    await until(`life ${life.number} gets something done`, patienceMs, () => {
      assert.equal(life.process.exitCode, null, 'a member does not end by itself')
      const settled = new Array<number>(partitions).fill(0)
      for (const { what, n } of life.entries()) if (what === 'settled') settled[n] = (settled[n] ?? 0) + 1
      return settled.every((count) => count >= settledMin)
    })
    await sleep(Math.random() * moreMaxMs)
    const exited = once(life.process, 'exit')
    life.process.kill('SIGKILL')
    await exited
    await Promise.all(stored)
    check(life, before)
    await remember()
    parkedAtKill.push(waitingAtTheEnd(life.entries()))
  }
  publishing = false
  await feed
  await Promise.all(stored)

  // What the last kill left half done is done again before anything is mended: a letter may be stored and its hold not.
  const total = [...counts.values()].reduce((sum, count) => sum + count, 0)
  const goods = [...places.keys()].filter((record) => record.startsWith('good'))
  const ends = () => {
    const found = new Set<string>()
    for (const { what, key, n } of diary.entries()) if (what === 'end') found.add(`${key} ${n}`)
    return found
  }
  const last = diary.begin()
  try {
    await until('every good record is handled', patienceMs, () => {
      const found = ends()
      return goods.every((record) => found.has(record))
    })
  } catch (error) {
    await remember()
    const found = ends()
    for (const record of goods.filter((each) => !found.has(each)).slice(0, 20)) {
      say(`not handled: ${record} at ${places.get(record)?.partition}@${places.get(record)?.position}`)
    }
    say(`on record: ${JSON.stringify(finished)}`)
    throw error
  }
  const settled = () => last.entries().filter(({ what }) => what === 'settled').length
  for (let before = -1; before < settled(); await sleep(2_000)) before = settled()
  last.process.send('mend')
  const letters = await stage.desk(name, async (desk) => {
    let open = await desk.letters()
    await until('all that is not dead-lettered is handled', patienceMs, async () => {
      const found = ends()
      open = await desk.letters()
      for (const { letter } of open) {
        const { origin } = letter.facts
        found.add(names.get(`${origin?.partition}@${origin?.position}`) ?? 'a letter of nobody')
      }
      return found.size === total
    })
    const causes = new Set(open.map(({ letter }) => letter.facts.cause))
    const expected = ['Error', 'Held', 'OTTLA_RUNTIME_PERMANENT']
    assert.deepEqual(
      [...causes].filter((cause) => !expected.includes(cause ?? '')),
      [],
      'nobody else is blamed',
    )
    // A redrive runs again what is finished, because it was asked for.
    check(last, finished)
    const asked = await desk.redrive(open, { reason: 'mended', perSecond: 200, waitMs: patienceMs })
    assert.deepEqual(asked.outcomes, { handled: open.length })
    return open.length
  })
  const exited = once(last.process, 'exit')
  last.process.send('end')
  await exited

  const entries = diary.entries()
  const handled = ends()
  say(
    `${kills} kills, ${total} records, ${entries.filter(({ what }) => what === 'end').length} ends; parked keys at the kills: ${parkedAtKill.join(', ')}; ${letters} letters redriven; ${believed.maps} maps and ${believed.attempts} attempts in checkpoints`,
  )
  assert.deepEqual(wrong, [], 'nothing that was on record as finished ran again')
  assert.equal(handled.size, total, 'every record was handled')
  for (const life of diary.lives) assert.deepEqual(disorder(life.entries()), [], `order in life ${life.number}`)
  assert.deepEqual(restarts(entries), [], 'attempts of a record never begin anew')
  assert.ok(letters > 0 && parkedAtKill.some((count) => count > 0), 'keys were held and parked when processes died')
  assert.ok(believed.maps > 0 && believed.attempts > 0, 'checkpoints held maps and attempts')
}

/** Keys whose last attempt failed. */
function waitingAtTheEnd(entries: readonly Entry[]): number {
  const last = new Map<string, string>()
  for (const { what, key } of entries) if (key !== '-') last.set(key, what)
  return [...last.values()].filter((what) => what === 'fail').length
}

/** Handlers of a key one at a time, and each record after the one before it. */
function disorder(entries: readonly Entry[]): string[] {
  const wrong: string[] = []
  const running = new Set<string>()
  const at = new Map<string, { n: number; done: boolean }>()
  for (const { what, key, n } of entries) {
    if (what === 'start') {
      const before = at.get(key)
      if (running.has(key)) wrong.push(`${key}: ${n} started while ${before?.n} was running`)
      if (before !== undefined && n !== (before.done ? before.n + 1 : before.n))
        wrong.push(`${key}: ${n} after ${before.n}`)
      running.add(key)
      at.set(key, { n, done: false })
    } else if (what === 'end' || what === 'fail') {
      running.delete(key)
      if (what === 'end') at.set(key, { n, done: true })
    }
  }
  return wrong
}

/** Over all lives: once a later attempt has begun there is no earlier one. Until it is redriven: then it is new. */
function restarts(entries: readonly Entry[]): string[] {
  const wrong: string[] = []
  const highest = new Map<string, number>()
  for (const { what, key, n, attempt } of entries) {
    if (what !== 'start' || !key.startsWith('bad')) continue
    const before = highest.get(`${key} ${n}`) ?? 0
    if (before >= 5) continue
    if (attempt < before) wrong.push(`${key} ${n}: attempt ${attempt} after ${before}`)
    highest.set(`${key} ${n}`, Math.max(before, attempt))
  }
  return wrong
}
