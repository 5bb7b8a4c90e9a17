/**
 * One customer's webhook is dead: every call for that key times out. The key waits, nobody is blamed, and all others go on
 * as fast as if nothing were wrong. When the webhook answers again, the key is handled in order, from where it stood.
 */
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { topic } from '../../src/contract/topic.ts'
import { service } from '../../src/runtime/service.ts'
import { Stage, until } from './stage.ts'

export interface DeadWebhookOptions {
  readonly bootstrapServers: string
  readonly keys: number
  readonly partitions: number
  /** How long the webhook is dead, and how long it is well before and after, to compare. */
  readonly deadMs: number
  readonly wellMs: number
  /** How long a dead call takes to fail. */
  readonly timeoutMs: number
  /** Of the dead key in all: fewer than make its partition pause. */
  readonly deadRecords: number
  readonly say: (line: string) => void
}

export interface DeadWebhookReport {
  readonly wellPerSecond: number
  readonly deadPerSecond: number
  /** Calls of the dead webhook. */
  readonly timeouts: number
}

const deadKey = 'dead-webhook'
const callMs = 2
const inFlightMax = 1_000
/** A phase beyond five minutes is at full speed for so much of each minute and walks meanwhile, for the sake of the disk. */
const longMs = 300_000
const fullSpeedMs = 10_000
const walkInFlight = 2

/** Plays it and checks order and endings; how fast it went is in the report. */
export async function deadWebhook(options: DeadWebhookOptions): Promise<DeadWebhookReport> {
  const { bootstrapServers, keys, partitions, deadMs, wellMs, timeoutMs, deadRecords, say } = options
  await using stage = new Stage(bootstrapServers)
  const Orders = topic(stage.name('webhooks'), {
    key: 'key',
    partitions,
    events: { Placed: z.object({ key: z.string(), n: z.int() }) },
  })
  const seen = { dead: false, timeouts: 0, others: 0, calls: [] as number[], wrong: [] as string[] }
  const last = new Map<string, number>()
  const worker = service(stage.name('caller'), { afterDeadLetter: 'hold' }).on(Orders.Placed, async ({ key, n }) => {
    if (key === deadKey) {
      if (seen.dead) {
        await sleep(timeoutMs)
        seen.timeouts++
        throw new DOMException('The webhook of the customer did not answer', 'TimeoutError')
      }
      await sleep(callMs)
      seen.calls.push(n)
      return
    }
    await sleep(callMs)
    if (n <= (last.get(key) ?? -1)) seen.wrong.push(`${key}: ${n} after ${last.get(key)}`)
    last.set(key, n)
    seen.others++
  })
  const app = await stage.open([worker])
  await stage.assigned(worker.name, partitions, [app])
  let published = 0
  let publishedDead = 0
  const pending = new Set<Promise<unknown>>()
  const publish = (key: string, n: number) => {
    const sent = app.publish(Orders.Placed({ key, n })).finally(() => pending.delete(sent))
    pending.add(sent)
  }
  /** Keeps as much in flight as there may be, some of it of the dead key, and says how many a second came through. */
  const phase = async (maxMs: number, ofDeadKey = 0): Promise<number> => {
    const beganMs = performance.now()
    const beforeDead = publishedDead
    let fullMs = 0
    let through = 0
    for (let passedMs = 0; passedMs < maxMs; ) {
      const full = maxMs <= longMs || passedMs % 60_000 < fullSpeedMs
      const before = seen.others
      while (published - seen.others < (full ? inFlightMax : walkInFlight))
        publish(`key-${published % keys}`, published++)
      while (publishedDead - beforeDead < ofDeadKey * (passedMs / maxMs)) publish(deadKey, publishedDead++)
      await sleep(2)
      const lastedMs = performance.now() - beganMs - passedMs
      passedMs += lastedMs
      if (!full) continue
      fullMs += lastedMs
      through += seen.others - before
    }
    return through / (fullMs / 1_000)
  }
  await phase(2_000)
  const wellBefore = await phase(wellMs)
  seen.dead = true
  const deadPerSecond = await phase(deadMs, deadRecords)
  let standing = 0
  // Not while its call is under way.
  await until('one record waits, and the others of its key behind it', 10_000, () => {
    standing = app.ledger().reduce((sum, row) => sum + row.waiting + row.parked, 0)
    return standing > 1 && app.parked().length === 1
  })
  seen.dead = false
  const wellAfter = await phase(wellMs)
  await Promise.all(pending)
  await until('all is handled, the dead key too', 120_000, () => {
    return seen.others === published && seen.calls.length === publishedDead
  })
  const wellPerSecond = (wellBefore + wellAfter) / 2
  say(
    `well ${Math.round(wellBefore)}/s and ${Math.round(wellAfter)}/s, with a dead key ${Math.round(deadPerSecond)}/s; ${seen.timeouts} timeouts, ${standing} records waited`,
  )
  say(stage.booksText(worker.name))
  assert.ok(seen.timeouts > 1, 'the webhook was tried more than once')
  assert.deepEqual(
    seen.calls,
    Array.from({ length: publishedDead }, (_, n) => n),
    'the key was handled in order from where it stood',
  )
  assert.deepEqual(seen.wrong, [])
  const { ended } = stage.books(worker.name)
  assert.deepEqual([ended.deadLettered, ended.heldInDlq, ended.dropped], [0, 0, 0], 'nobody was given up')
  assert.deepEqual(
    stage.alarms.map(({ error }) => error.message),
    [],
    'one customer is no alarm',
  )
  return { wellPerSecond, deadPerSecond, timeouts: seen.timeouts }
}
