/**
 * A bad deploy: every record throws. It must empty no topic into the dead letters, say why it stands, and go on where it
 * stands once somebody says so.
 */
import assert from 'node:assert/strict'
import { z } from 'zod'
import { PermanentError } from '../../src/contract/errors.ts'
import { topic } from '../../src/contract/topic.ts'
import { service } from '../../src/runtime/service.ts'
import { paced, Stage, until } from './stage.ts'

/**
 * `bug`: any error, of many keys: the service's own breaker knows whose fault it is, before the brake does.
 * `bugOfFewKeys`: too few for the breaker to blame the service. `permanent`: the breaker is not concerned; both brake.
 */
export type BadDeployKind = 'bug' | 'bugOfFewKeys' | 'permanent'

export interface BadDeployOptions {
  readonly bootstrapServers: string
  readonly records: number
  readonly partitions: number
  readonly kind: BadDeployKind
  readonly say: (line: string) => void
}

/** SEMANTICS' number: no partition writes more dead letters than this before it stands. */
const deadLettersMax = 50

/** A bug of the kind a deploy brings: no error of the network, and not the record's fault either. */
class MissingColumnError extends Error {
  override readonly name = 'MissingColumnError'
}

/** Plays it and checks it. Throws AssertionError. */
export async function badDeploy(options: BadDeployOptions): Promise<void> {
  const { bootstrapServers, records, partitions, kind, say } = options
  await using stage = new Stage(bootstrapServers)
  const Orders = topic(stage.name('deploy'), {
    key: 'key',
    partitions,
    events: { Placed: z.object({ key: z.string(), n: z.int() }) },
  })
  const seen = { broken: true, handled: new Set<number>(), attempts: 0 }
  const worker = service(stage.name('deployed')).on(
    Orders.Placed,
    async ({ n }) => {
      seen.attempts++
      await Promise.resolve()
      if (seen.broken && kind === 'permanent') throw new PermanentError('no such currency')
      if (seen.broken) throw new MissingColumnError('column "total" does not exist')
      seen.handled.add(n)
    },
    { attempts: 1 },
  )
  const app = await stage.open([worker])
  await stage.assigned(worker.name, partitions, [app])
  const keys = kind === 'bugOfFewKeys' ? 4 : records
  const key = (n: number) => `key-${n % keys}`
  const stored: Promise<unknown>[] = []
  await paced(records, 5_000, (n) => stored.push(app.publish(Orders.Placed({ key: key(n), n }))))
  await Promise.all(stored)

  const rows = () => app.ledger().filter((row) => row.service === worker.name)
  const used = new Set((await stage.read(Orders.name)).map(({ partition }) => partition))
  await until('every partition with records stands', 120_000, () =>
    rows().every(({ partition, standing }) => !used.has(partition) || standing !== null),
  )
  // What was under way when it came to stand is over.
  await until('nothing runs', 30_000, () => rows().every(({ running }) => running === 0))
  const letters = rows().map(({ partition, ended }) => ({ partition, letters: ended.deadLettered }))
  say(`dead letters per partition: ${letters.map((each) => each.letters).join(', ')}; attempts: ${seen.attempts}`)
  for (const each of letters) {
    assert.ok(each.letters <= deadLettersMax, `partition ${each.partition} has ${each.letters} dead letters`)
  }
  const word = kind === 'bug' ? 'OTTLA_BREAKER_OPEN' : 'OTTLA_RUNTIME_BRAKE'
  const cause = kind === 'permanent' ? /OTTLA_RUNTIME_PERMANENT/ : /MissingColumnError/
  const alarms = stage.alarms.filter(({ error }) => error.code === word)
  assert.ok(alarms.length > 0, `an alarm ${word}, got ${stage.alarms.map(({ error }) => error.code).join(', ')}`)
  for (const { error } of alarms) assert.match(error.message, cause, 'the alarm names the cause')
  say(alarms[0]!.error.message)
  const reasons = app.health().reasons.filter((reason) => reason.includes('stands still'))
  assert.ok(reasons.length >= used.size, 'health says what stands')

  // The deploy is mended. A breaker finds out by itself; a brake waits for a word. With a bug of many keys both may stand:
  // what was running when the breaker opened can fill the allowance of one partition.
  seen.broken = false
  const braked = () => rows().filter(({ standing }) => standing === 'brake').length
  if (kind !== 'bug') assert.equal(braked(), used.size)
  const dead = () => rows().reduce((sum, { ended }) => sum + ended.deadLettered, 0)
  let resumed = false
  await until('everything is drained', 120_000, async () => {
    if (!resumed && braked() > 0) {
      resumed = true
      await stage.desk(worker.name, (desk) => desk.resume({ topic: null, partition: null }))
    }
    return seen.handled.size + dead() === records
  })
  assert.equal(
    rows().reduce((sum, { open }) => sum + open, 0),
    0,
  )
  say(stage.booksText(worker.name))
}
