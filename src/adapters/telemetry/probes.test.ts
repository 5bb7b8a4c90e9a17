import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { topic } from '../../contract/topic.ts'
import { RunningApp } from '../../runtime/app.ts'
import type { Operations } from '../../runtime/operations.ts'
import { service } from '../../runtime/service.ts'
import { MemoryStore, memory } from '../../testing/memory-store.ts'
import { memoryTransport } from '../../testing/memory-transport.ts'
import { systemClock } from '../system/clock.ts'
import { probes } from './probes.ts'

const Orders = topic('orders', { key: 'id', partitions: 1, events: { Placed: z.object({ id: z.string() }) } })
const silent = { debug() {}, info() {}, warn() {}, error() {} }

function make() {
  const store = new MemoryStore()
  const worker = service('worker', { store: memory }).on(Orders.Placed, async ({ id }) => {
    if (id.startsWith('fail')) throw new Error('no')
  })
  const app = new RunningApp(
    { transport: memoryTransport(), store, services: [worker] },
    { clock: systemClock, log: silent, random: () => 0.001, instance: 'test' },
  )
  const probe = probes(app as unknown as Operations)
  const get = async (path: string, accept = '*/*') => {
    const response = await probe(new Request(`http://x${path}`, { headers: { accept } }))
    return { status: response.status, type: response.headers.get('content-type'), body: await response.text() }
  }
  return { app, store, get, probe }
}

async function untilEnded(app: RunningApp, count: number): Promise<void> {
  const endMs = performance.now() + 5_000
  const ended = () => app.ledger().reduce((sum, row) => sum + row.fetched - row.open, 0)
  while (ended() < count) {
    assert.ok(performance.now() < endMs, 'records end')
    await new Promise((done) => setTimeout(done, 2))
  }
}

test('readiness begins with the group and ends with the drain; liveness outlasts both', async () => {
  const { app, get } = make()
  assert.deepEqual([(await get('/livez')).status, (await get('/readyz')).status], [200, 503])
  await app.start()
  const endMs = performance.now() + 5_000
  while ((await get('/readyz')).status !== 200) assert.ok(performance.now() < endMs, 'it becomes ready')
  await app[Symbol.asyncDispose]()
  const { status, body } = await get('/readyz')
  assert.equal(status, 503)
  assert.match(body, /the app is stopped/)
  assert.equal((await get('/livez')).status, 200)
})

test('metrics show ledger, lag, attempts, durations and outbox, in both formats, and hold no key and no id', async () => {
  const { app, store, get } = make()
  await app.start()
  for (const id of ['secret-1', 'secret-2', 'fail-secret']) await app.publish(Orders.Placed({ id }))
  await untilEnded(app, 3)
  const plain = await get('/metrics')
  assert.match(plain.type ?? '', /version=0\.0\.4/)
  for (const line of [
    'ottla_records_fetched_total{service="worker",topic="orders",partition="0"} 3',
    'ottla_records_ended_total{service="worker",topic="orders",partition="0",ending="handled"} 2',
    'ottla_records_ended_total{service="worker",topic="orders",partition="0",ending="deadLettered"} 1',
    'ottla_handler_attempts_total{service="worker",event="orders.Placed",outcome="retry"} 4',
    'ottla_outbox_pending 0',
    'ottla_store_up 1',
    'ottla_live 1',
  ]) {
    assert.ok(plain.body.includes(`${line}\n`), `${line}\n---\n${plain.body}`)
  }
  assert.match(plain.body, /messaging_process_duration_seconds_bucket\{.*le="\+Inf"\} 3\n/)
  assert.match(plain.body, /ottla_consumer_lag_records\{/)
  assert.ok(!plain.body.includes('secret'))
  assert.match(plain.body, /^# TYPE ottla_records_fetched_total counter$/m)
  const open = await get('/metrics', 'application/openmetrics-text')
  assert.match(open.body, /^# TYPE ottla_records_fetched counter$/m)
  assert.ok(open.body.endsWith('# EOF\n'))
  store.away = true
  assert.ok(
    (await get('/metrics')).body.includes('ottla_store_up 0\n'),
    'a store that is away takes no other metric along',
  )
  store.away = false
  await app[Symbol.asyncDispose]()
})

test('other paths are not found and other methods not allowed', async () => {
  const { app, get, probe } = make()
  assert.equal((await get('/')).status, 404)
  assert.equal((await probe(new Request('http://x/livez', { method: 'POST' }))).status, 405)
  await app[Symbol.asyncDispose]()
})
