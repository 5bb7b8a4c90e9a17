import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'

const root = join(import.meta.dirname, '../../..')

/** A process of its own, because what is tested is its end. */
async function run(failure: string, options = ''): Promise<{ readonly code: number | null; readonly said: string }> {
  const source = `
    import { z } from 'zod'
    import { app, service, topic } from 'ottla'
    import { memoryTransport } from './src/testing/memory-transport.ts'
    const Orders = topic('orders', { key: 'id', partitions: 1, events: { Placed: z.object({ id: z.string() }) } })
    const worker = service('worker').on(Orders.Placed, async () => { ${failure} }, { ${options} })
    const shop = app({ transport: memoryTransport(), services: [worker], guards: true, drainTimeout: 500 })
    await shop.start()
    await shop.publish(Orders.Placed({ id: 'a' }))
    setInterval(() => undefined, 1_000)
  `
  const child = spawn(
    process.execPath,
    ['--conditions=@ottla/source', '--input-type=module-typescript', '-e', source],
    {
      cwd: root,
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  )
  try {
    const [said, [code]] = await Promise.all([text(child.stderr), once(child, 'exit')])
    return { code: code as number | null, said }
  } finally {
    child.kill('SIGKILL')
  }
}

test('a rejected promise that a handler did not await ends the process with 1 and is reported with the record', async () => {
  const { code, said } = await run(`void (async () => { await null; throw new Error('detached') })()`)
  assert.equal(code, 1, said)
  assert.match(said, /orders\.Placed of worker did not await failed; the record was orders-0 at 0/)
  assert.match(said, /detached/)
})

test('an error thrown in a timer that a handler set is reported the same way', async () => {
  const { code, said } = await run(`setTimeout(() => { throw new Error('in a timer') }, 5)`)
  assert.equal(code, 1, said)
  assert.match(said, /orders\.Placed of worker did not await failed/)
})

test('a handler that ignores its deadline for as long again ends the process with 1, after the app has drained', async () => {
  const { code, said } = await run('await new Promise(() => undefined)', "timeout: '100ms'")
  assert.equal(code, 1, said)
  assert.match(said, /orders\.Placed has not settled 100 ms after its signal aborted/)
  assert.match(said, /a handler ignores its deadline: the app drains/)
})
