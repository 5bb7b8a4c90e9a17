import assert from 'node:assert/strict'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { z } from 'zod'
import { run } from '../../test/live/command.ts'
import { kafka } from '../adapters/kafka/transport.ts'
import { systemClock } from '../adapters/system/clock.ts'
import { type EmbeddedBroker, startBroker } from '../broker/embedded.ts'
import { PermanentError } from '../contract/errors.ts'
import { topic } from '../contract/topic.ts'
import { RunningApp } from '../runtime/app.ts'
import { service } from '../runtime/service.ts'
import { MemoryStore, memory } from '../testing/memory-store.ts'

const Orders = topic('orders', {
  key: 'id',
  partitions: 2,
  events: { Placed: z.object({ id: z.string(), n: z.int() }) },
})
const quiet = { debug() {}, info() {}, warn() {}, error() {} }
const main = path.resolve(import.meta.dirname, 'main.ts')
const state = { looseBroken: true, broken: new Set(['a', 'b', 'c', 'd']), handled: [] as string[] }
let broker: EmbeddedBroker
let app: RunningApp

before(async () => {
  broker = await startBroker()
  const worker = service('worker', { store: memory }).on(Orders.Placed, ({ id, n }) => {
    if (state.broken.has(id)) throw new PermanentError(`no customer ${id}\u001b[2J`)
    state.handled.push(`${id}${n}`)
  })
  const loose = service('loose').on(Orders.Placed, ({ id, n }) => {
    if (id === 'loose' && state.looseBroken) throw new PermanentError('never')
    if (id === 'loose') state.handled.push(`${id}${n}`)
  })
  app = await new RunningApp(
    {
      transport: kafka({ bootstrapServers: broker.bootstrapServers, embedded: true }),
      store: new MemoryStore(),
      services: [worker, loose],
    },
    { clock: systemClock, log: quiet, random: () => 0.01, instance: 'test' },
  ).start()
  for (const id of ['a', 'b', 'c', 'd']) for (const n of [0, 1]) await app.publish(Orders.Placed({ id, n }))
  await until(() => ended('deadLettered') === 4 && ended('heldInDlq') === 4, 'dead letters')
})
after(async () => {
  await app[Symbol.asyncDispose]()
  await broker[Symbol.asyncDispose]()
})

const ended = (ending: 'deadLettered' | 'heldInDlq') => app.ledger().reduce((sum, row) => sum + row.ended[ending], 0)

async function until(condition: () => boolean, what: string): Promise<void> {
  const endMs = performance.now() + 15_000
  while (!condition()) {
    if (performance.now() > endMs) throw new Error(`waited in vain for: ${what}`)
    await new Promise((done) => setTimeout(done, 5))
  }
}

const ottla = (...args: string[]) =>
  run(process.execPath, [main, ...args], {
    env: { KAFKA_BOOTSTRAP_SERVERS: broker.bootstrapServers },
    timeoutMs: 60_000,
  })

async function lines(...args: string[]): Promise<string[]> {
  const { code, stdout, stderr } = await ottla(...args)
  assert.equal(code, 0, stderr)
  return stdout.split('\n').filter((line) => line !== '')
}

interface Listed {
  readonly letter: string
  readonly key: string
  readonly held: boolean
  readonly cause: string
}
const listed = async (...args: string[]): Promise<Listed[]> =>
  (await lines('dlq', 'list', 'worker', '--letters', '-o', 'json', ...args)).map((line) => JSON.parse(line) as Listed)

test('letters are grouped by cause and shown with everything, and nothing in them steers the terminal', async () => {
  const [document] = await lines('dlq', 'list', 'worker', '-o', 'json')
  const groups = JSON.parse(document!) as { cause: string; count: number; topics: string[] }[]
  assert.deepEqual(groups.map(({ cause, count, topics }) => [cause, count, topics]).sort(), [
    ['Held', 4, ['orders']],
    ['OTTLA_RUNTIME_PERMANENT', 4, ['orders']],
  ])
  const text = await lines('dlq', 'list', 'worker')
  assert.match(text[0]!, /^letters\s+cause\s+held/)
  const [first] = await listed('--key', 'a', '--cause', 'OTTLA_RUNTIME_PERMANENT')
  const shown = (await lines('dlq', 'show', 'worker', first!.letter)).join('\n')
  assert.match(shown, /message: no customer a/)
  assert.match(shown, /value: \{"id":"a","n":0\}/)
  assert.ok(!shown.includes('\u001b'))
})

test('a dry run asks for nothing, and a held key counts once', async () => {
  const would = await lines('dlq', 'redrive', 'worker', '--key', 'a', '--dry-run')
  assert.equal(would.length, 1)
  assert.match(would[0]!, /would redrive \d+\/\d+ \(orders-\d@\d+\): its key from the first letter on/)
  assert.equal((await listed()).length, 8)
})

test('a redrive that fails ends with 1 and says so; a mended one empties the key in order', async () => {
  const failed = await ottla('dlq', 'redrive', 'worker', '--key', 'a')
  assert.deepEqual([failed.code, failed.stdout], [1, '1 failed\n'], failed.stderr)
  state.broken.delete('a')
  assert.deepEqual(await lines('dlq', 'redrive', 'worker', '--key', 'a'), ['2 handled'])
  assert.deepEqual(state.handled, ['a0', 'a1'])
  assert.equal((await listed('--key', 'a')).length, 0)
})

test('an edited payload is handled in the place of the stored one', async () => {
  const [head] = await listed('--key', 'b')
  const wrong = await ottla('dlq', 'edit', 'worker', head!.letter, '--value', '{"id":"b"}', '--reason', 'typo')
  assert.deepEqual([wrong.code, wrong.stdout], [1, '1 invalid\n'], wrong.stderr)
  state.broken.delete('b')
  await lines('dlq', 'edit', 'worker', head!.letter, '--value', '{"id":"b","n":9}', '--reason', 'typo')
  assert.deepEqual(state.handled.slice(2), ['b9', 'b1'])
})

test('a discard needs a reason and lets the key go with its last letter', async () => {
  assert.equal((await ottla('dlq', 'discard', 'worker', '--key', 'c')).code, 2)
  assert.deepEqual(await lines('dlq', 'discard', 'worker', '--key', 'c', '--reason', 'test data'), ['2 discarded'])
  assert.equal((await listed('--key', 'c')).length, 0)
  state.broken.delete('c')
  await until(() => app.parked().length === 0, 'probe')
  await app.publish(Orders.Placed({ id: 'c', n: 2 }))
  await until(() => state.handled.at(-1) === 'c2', 'flows')
})

test('pause stands all members still until resume', async () => {
  assert.deepEqual(await lines('pause', 'worker', '--reason', 'deploy', '--dry-run'), ['would pause worker'])
  assert.deepEqual(await lines('resume', 'worker', '--topic', 'orders', '--dry-run'), [
    'would resume worker orders',
    'no pause stands there; the dead-letter brake may',
  ])
  await lines('pause', 'worker', '--reason', 'deploy')
  await until(() => app.ledger().filter(({ standing }) => standing === 'asked').length === 2, 'stands')
  await app.publish(Orders.Placed({ id: 'c', n: 3 }))
  await lines('pause', 'worker', '--topic', 'orders', '--reason', 'twice')
  assert.ok(!state.handled.includes('c3'))
  await lines('resume', 'worker')
  await until(() => state.handled.at(-1) === 'c3', 'goes on')
})

test('what is not there is exit code 3, what is not said is 2', async () => {
  assert.equal((await ottla('dlq', 'list', 'nobody')).code, 3)
  assert.equal((await ottla('dlq', 'show', 'worker', '0/99999')).code, 3)
  assert.equal((await ottla('dlq', 'show', 'worker', 'first')).code, 2)
  assert.equal((await ottla('dlq', 'redrive', 'worker')).code, 2)
  assert.equal((await ottla('pause', 'worker')).code, 2)
})

test('to the source goes only what says why, and the groups that see it again are named', async () => {
  await app.publish(Orders.Placed({ id: 'loose', n: 1 }))
  await until(() => ended('deadLettered') === 5, 'dead letter')
  assert.equal((await ottla('dlq', 'redrive', 'loose', '--all', '--to-source')).code, 2)
  const would = await lines('dlq', 'redrive', 'loose', '--all', '--to-source', '--reason', 'why', '--dry-run')
  assert.deepEqual(would, ['orders: seen again by loose, worker', 'would write 1 letters'])
  state.looseBroken = false
  const done = await ottla('dlq', 'redrive', 'loose', '--all', '--to-source', '--reason', 'worker lost its table')
  assert.deepEqual([done.code, done.stdout], [0, '1 sentToSource\n'], done.stderr)
  assert.match(done.stderr, /orders: seen again by loose, worker/)
  await until(() => state.handled.filter((each) => each === 'loose1').length >= 2, 'handled by both groups')
  assert.deepEqual(await lines('dlq', 'list', 'loose', '--letters', '-o', 'json'), [])
})
