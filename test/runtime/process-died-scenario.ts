/**
 * A record that takes every process with it, and three members that are started again each time, as an orchestrator does.
 * The record must end in the dead letters by name, and nothing else may.
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { z } from 'zod'
import { topic } from '../../src/contract/topic.ts'
import { service } from '../../src/runtime/service.ts'
import { Diary, type Life } from './diary.ts'
import { paced, Stage, until } from './stage.ts'

export interface ProcessDiedOptions {
  readonly bootstrapServers: string
  readonly members: number
  readonly partitions: number
  readonly records: number
  readonly keys: number
  readonly say: (line: string) => void
}

const killerKey = 'killer'
const patienceMs = 240_000

/** Plays it and checks it. Throws AssertionError. */
export async function processDied(options: ProcessDiedOptions): Promise<void> {
  const { bootstrapServers, members, partitions, records, keys, say } = options
  await using stage = new Stage(bootstrapServers)
  const Orders = topic(stage.name('deadly'), {
    key: 'key',
    partitions,
    events: { Placed: z.object({ key: z.string(), n: z.int() }) },
  })
  const name = stage.name('victims')
  stage.own(Orders.name, name)
  const feeding = await stage.open([service(stage.name('feeder'), { emits: [Orders] })])
  await using diary = new Diary({ bootstrapServers, topic: Orders.name, service: name, partitions, handlerMs: 2 })

  const counts = new Map<string, number>()
  const stored: Promise<unknown>[] = []
  await paced(records, 2_000, (index) => {
    const key = index === Math.floor(records / 4) ? killerKey : `key-${index % keys}`
    const n = counts.get(key) ?? 0
    counts.set(key, n + 1)
    stored.push(feeding.publish(Orders.Placed({ key, n })))
  })
  await Promise.all(stored)

  let deaths = 0
  let over = false
  const living = new Set<Life>()
  const raise = (): void => {
    const life = diary.begin()
    living.add(life)
    void once(life.process, 'exit').then(() => {
      living.delete(life)
      if (over) return
      deaths++
      say(`death ${deaths} after ${((performance.now() - beganMs) / 1_000).toFixed(1)} s; ${handled().size} handled`)
      raise()
    })
  }
  const handled = () => {
    const found = new Set<string>()
    for (const { what, key, n } of diary.entries()) if (what === 'end') found.add(`${key} ${n}`)
    return found
  }
  const beganMs = performance.now()
  for (let member = 0; member < members; member++) raise()
  await until('all but one are handled, and that one is dead-lettered', patienceMs, async () => {
    if (handled().size < records - 1) return false
    return (await stage.desk(name, (desk) => desk.letters())).length > 0
  })
  const tookMs = performance.now() - beganMs
  const letters = await stage.desk(name, (desk) => desk.letters())
  over = true
  const ends = [...living].map(({ process }) => {
    const exited = once(process, 'exit')
    process.send('end')
    return exited
  })
  await Promise.all(ends)
  say(
    `${deaths} processes died in ${(tookMs / 1_000).toFixed(1)} s; ${handled().size} of ${records} records were handled`,
  )
  assert.deepEqual(
    letters.map(({ letter }) => [letter.facts.cause, Buffer.from(letter.key ?? []).toString()]),
    [['ProcessDied', killerKey]],
    'the one record is dead-lettered by name',
  )
  assert.equal(handled().size, records - 1, 'all else is handled')
  assert.ok(!handled().has(`${killerKey} 0`))
  assert.ok(deaths >= 3, 'it was not given up before processes had died of it')
}
