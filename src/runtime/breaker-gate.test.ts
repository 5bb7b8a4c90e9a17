import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { systemClock } from '../adapters/system/clock.ts'
import { renderMetrics } from '../adapters/telemetry/prometheus.ts'
import { type OttlaError, PermanentError } from '../contract/errors.ts'
import { topic } from '../contract/topic.ts'
import { balances, type Ending } from '../core/ledger.ts'
import { MemoryStore, memory } from '../testing/memory-store.ts'
import { MemoryLog, memoryTransport } from '../testing/memory-transport.ts'
import { untilWithin } from '../testing/until.ts'
import { RunningApp } from './app.ts'
import { Breaker, breakerSettings } from './breaker.ts'
import { alarm, ended as endedChannel } from './channels.ts'
import type { AnyService } from './service.ts'
import { service } from './service.ts'
import type { LooseDefinition } from './wiring.ts'

const Orders = topic('orders', {
  key: 'id',
  partitions: 4,
  events: { Placed: z.object({ id: z.string(), n: z.int() }) },
})
const Users = topic('users', { key: 'id', partitions: 1, events: { Joined: z.object({ id: z.string() }) } })

const quietLog = { debug() {}, info() {}, warn() {}, error() {} }
const machine = { clock: systemClock, log: quietLog, random: () => 0.001, instance: 'test' }

const until = untilWithin(10_000)

async function start(services: readonly AnyService[], more: Partial<LooseDefinition> = {}) {
  const log = new MemoryLog()
  const app = new RunningApp({ transport: memoryTransport(log), services, drainTimeout: 500, ...more }, machine)
  await app.start()
  const sum = (of: (row: ReturnType<typeof app.ledger>[number]) => number) =>
    app.ledger().reduce((total, row) => total + of(row), 0)
  return {
    app,
    log,
    ended: (ending: Ending) => sum((row) => row.ended[ending]),
    fallback: () => sum((row) => row.fallback),
    standing: (name: string) => app.ledger().filter((row) => row.standing === `breaker ${name}`).length,
    place: async (from: number, to: number, key = (n: number) => `key-${n}`) => {
      for (let n = from; n < to; n++) await app.publish(Orders.Placed({ id: key(n), n }))
    },
    close: async () => {
      await app[Symbol.asyncDispose]()
      for (const row of app.ledger()) assert.ok(balances(row) && row.open === 0, `${row.topic}-${row.partition}`)
    },
  }
}

function namedBreaker(openForMs: number): Breaker {
  const options = { minimumCalls: 4, windowCalls: 10, openFor: openForMs, openForMax: openForMs }
  return new Breaker('webhook', breakerSettings('webhook', options), machine)
}

const refusedConnection = () => Object.assign(new Error('down'), { code: 'ECONNREFUSED' })

test('a named breaker that is open stands the partitions still: nothing is dead-lettered or counted, and one record probes', async () => {
  const webhook = namedBreaker(60)
  let down = true
  let calls = 0
  let atOnce = 0
  let most = 0
  let probing = false
  const attempts = new Map<string, number[]>()
  const handled: string[] = []
  const worker = service('worker').on(Orders.Placed, async ({ id }, { message, signal }) => {
    attempts.set(id, [...(attempts.get(id) ?? []), message.attempt])
    if (probing) most = Math.max(most, ++atOnce)
    try {
      await webhook.call(
        async () => {
          calls++
          await new Promise((done) => setTimeout(done, 1))
          if (down) throw new Error('503')
        },
        { signal },
      )
      handled.push(id)
    } finally {
      if (probing) atOnce--
    }
  })
  const alarms: string[] = []
  const onAlarm = (message: unknown) => alarms.push((message as { error: OttlaError }).error.code)
  alarm.subscribe(onAlarm)
  // Eight at once fail before it is open: too few for the service's own breaker.
  const { app, log, ended, standing, place, close } = await start([worker], { concurrency: 8 })
  await place(0, 300)
  await until(() => standing('webhook') === 4, 'all partitions of the topic stand')
  assert.ok(app.health().reasons.some((reason) => reason.endsWith('stands still: breaker webhook')))
  assert.ok(app.parked().some(({ why }) => why === 'breaker webhook'))
  await until(() => app.stats()[0]!.inFlight === 0, 'what ran has ended')
  probing = true
  const before = { calls, opened: webhook.counts.changes.open }
  await until(() => webhook.counts.changes.open >= before.opened + 3, 'three probes fail')
  assert.equal(most, 1, 'one record at a time')
  assert.ok(calls - before.calls <= 4, `${calls - before.calls} calls for three probes`)
  assert.equal(ended('deadLettered'), 0)
  assert.equal(handled.length, 0)
  down = false
  probing = false
  await until(() => ended('handled') === 300, 'all handled')
  assert.equal(standing('webhook'), 0)
  assert.equal(log.records('dlq.worker').length, 0)
  assert.ok(alarms.every((code) => code === 'OTTLA_BREAKER_OPEN') && alarms.length >= 1)
  // Refusals are not counted: most never failed an attempt of their own.
  const firsts = [...attempts.values()].filter((each) => each.every((attempt) => attempt === 1)).length
  assert.ok(firsts > 200, `${firsts} of 300 were never blamed`)
  alarm.unsubscribe(onAlarm)
  await close()
})

test('other topics of the service go on while a breaker is open, and per key the order holds through it', async () => {
  const webhook = namedBreaker(30)
  let down = true
  const joined: string[] = []
  const seen = new Map<string, number[]>()
  const worker = service('worker')
    .on(Orders.Placed, async ({ id, n }) => {
      await webhook.call(() => {
        if (down) throw refusedConnection()
      })
      seen.set(id, [...(seen.get(id) ?? []), n])
    })
    .on(Users.Joined, ({ id }) => {
      joined.push(id)
    })
  const { app, standing, ended, place, close } = await start([worker])
  await place(0, 120, (n) => `key-${n % 11}`)
  await until(() => standing('webhook') === 4, 'orders stand')
  for (const id of ['a', 'b', 'c']) await app.publish(Users.Joined({ id }))
  await until(() => joined.length === 3, 'users go on')
  assert.equal(standing('webhook'), 4)
  down = false
  await until(() => ended('handled') === 123, 'all handled')
  for (const order of seen.values()) {
    assert.deepEqual(
      order,
      order.toSorted((a, b) => a - b),
    )
  }
  await close()
})

test('a success anywhere in the process lifts the pause, before the next probe of the service is due', async () => {
  const webhook = namedBreaker(40)
  let down = true
  const worker = service('worker').on(Orders.Placed, async () => {
    await webhook.call(() => {
      if (down) throw refusedConnection()
    })
  })
  const { standing, ended, place, close } = await start([worker])
  await place(0, 20)
  await until(() => standing('webhook') === 4, 'standing')
  down = false
  await until(() => webhook.waitMs() === 0 || webhook.state === 'closed', 'a probe is due')
  await webhook.call(() => 'from an HTTP route').catch(() => undefined)
  await until(() => ended('handled') === 20, 'all handled')
  await close()
})

test("the service's own breaker opens when half of the attempts fail over five keys, probes with one record, and closes", async () => {
  let down = true
  let running = 0
  let most = 0
  let measured = false
  let calls = 0
  const worker = service('worker').on(Orders.Placed, async () => {
    running++
    calls++
    if (measured) most = Math.max(most, running)
    await new Promise((done) => setTimeout(done, 1))
    running--
    if (down) throw refusedConnection()
  })
  const { app, log, ended, standing, place, close } = await start([worker])
  await place(0, 200)
  await until(() => standing('worker') === 4, 'all partitions stand')
  await until(() => running === 0, 'what ran has ended')
  measured = true
  const before = calls
  assert.ok(before < 200, `${before} attempts before it opened`)
  const own = app.breakers()[0]!
  await until(() => own.counts.changes['half-open'] === 1 && own.state === 'open', 'one probe fails')
  assert.equal(calls, before + 1)
  const page = await renderMetrics(app, { openMetrics: false })
  assert.match(page, /^ottla_breaker_state\{kind="service",breaker="worker",state="open"\} 1$/m)
  assert.match(page, /^ottla_breaker_transitions_total\{kind="service",breaker="worker",to="open"\} 2$/m)
  own.subscribe(({ to }) => {
    if (to === 'closed') measured = false
  })
  down = false
  await until(() => own.state === 'closed', 'a probe succeeds')
  assert.equal(most, 1, 'probes come one at a time')
  await until(() => ended('handled') === 200, 'all handled')
  assert.equal(log.records('dlq.worker').length, 0)
  await close()
})

test('failures of four keys do not open it, however many, and neither do records that are to blame themselves', async () => {
  const handled: string[] = []
  const worker = service('worker').on(Orders.Placed, ({ id }) => {
    if (id.startsWith('dead')) throw refusedConnection()
    if (id.startsWith('bad')) throw new PermanentError('no such thing')
    handled.push(id)
  })
  const { app, ended, place, close } = await start([worker])
  await place(0, 200, (n) => `dead-${n % 4}`)
  await place(0, 40, (n) => `bad-${n}`)
  await until(() => ended('deadLettered') === 40, 'bad ones')
  await until(() => (app.stats()[0]!.stats.handler('orders.Placed').attempts.park ?? 0) > 60, 'many failures')
  await place(0, 50)
  await until(() => handled.length === 50, 'good ones')
  assert.deepEqual(app.breakers()[0]!.counts.changes, { closed: 0, open: 0, 'half-open': 0 })
  await close()
})

test('a named breaker and the own one open together: no record is left behind either of them', async () => {
  const webhook = namedBreaker(30)
  let down = true
  const worker = service('worker').on(Orders.Placed, async () => {
    await webhook.call(async () => {
      await new Promise((done) => setTimeout(done, 1))
      if (down) throw refusedConnection()
    })
  })
  const { app, ended, log, place, close } = await start([worker])
  const own = app.breakers()[0]!
  await place(0, 100)
  await until(() => own.counts.changes.open >= 1 && webhook.counts.changes.open >= 1, 'both open')
  await until(() => own.counts.changes['half-open'] >= 1, 'a probe of the own one')
  assert.equal(app.pause('worker'), 4)
  assert.equal(app.resume('worker'), 4)
  down = false
  await until(() => ended('handled') === 100, 'all handled')
  assert.equal(log.records('dlq.worker').length, 0)
  await close()
})

test('a probe of the own breaker that meets a named one proves nothing, and the next probe proves it', async () => {
  const webhook = namedBreaker(1_400)
  let phase: 'failing' | 'calling' = 'failing'
  const worker = service('worker').on(Orders.Placed, async () => {
    if (phase === 'failing') throw refusedConnection()
    await webhook.call(() => 1)
  })
  const { app, standing, ended, place, close } = await start([worker])
  const own = app.breakers()[0]!
  await place(0, 60)
  await until(() => own.state === 'open', 'the own one is open')
  phase = 'calling'
  for (let n = 0; n < 4; n++) await assert.rejects(webhook.call(() => Promise.reject(refusedConnection())))
  await until(() => standing('webhook') > 0, 'its probe meets the named one')
  assert.equal(own.state, 'half-open')
  assert.equal(own.counts.abandoned > 0, true)
  await until(() => ended('handled') === 60, 'all handled')
  assert.equal(own.state, 'closed')
  await close()
})

test('partitions that were paused and resumed behind an open breaker still probe, although all they have waits for it', async () => {
  const webhook = namedBreaker(100)
  const worker = service('worker').on(Orders.Placed, async () => {
    await webhook.call(() => 1)
  })
  const { app, standing, ended, place, close } = await start([worker])
  for (let n = 0; n < 4; n++) await assert.rejects(webhook.call(() => Promise.reject(refusedConnection())))
  await place(0, 3)
  await until(() => standing('webhook') === 4 && app.parked().length === 3, 'all wait')
  assert.equal(app.pause('worker'), 4)
  assert.equal(app.resume('worker'), 4)
  await until(() => ended('handled') === 3, 'all handled')
  await close()
})

test('an operator may pause and resume through an open breaker, and a partition taken away leaves its gate', async () => {
  const webhook = namedBreaker(30)
  let down = true
  const worker = service('worker').on(Orders.Placed, async () => {
    await webhook.call(() => {
      if (down) throw refusedConnection()
    })
  })
  const { app, standing, ended, place, close } = await start([worker])
  await place(0, 40)
  await until(() => standing('webhook') === 4, 'standing')
  assert.equal(app.resume('worker'), 0, 'resume is not for what passes by itself')
  assert.equal(app.pause('worker'), 4)
  down = false
  await webhook.call(() => 1).catch(() => undefined)
  await until(() => webhook.waitMs() === 0, 'due')
  await webhook.call(() => 1)
  assert.equal(webhook.state, 'closed')
  assert.equal(ended('handled'), 0)
  assert.equal(app.resume('worker'), 4)
  await until(() => ended('handled') === 40, 'all handled')
  down = true
  await place(40, 80)
  await until(() => standing('webhook') === 4, 'standing again')
  await close()
  assert.ok(ended('returned.revoked') > 0)
})

test('a fallback handles what the attempts could not, with a label in the ledger and on the channel', async () => {
  const seen: string[] = []
  const channel: string[] = []
  const onEnded = (message: unknown) => {
    const { outcome, fallback, key } = message as { outcome: string; fallback: boolean; key: string }
    channel.push(`${key} ${outcome} ${fallback}`)
  }
  endedChannel.subscribe(onEnded)
  const worker = service('worker').on(
    Orders.Placed,
    ({ id }) => {
      if (id === 'bug') throw new Error('bug')
      if (id === 'bad') throw new PermanentError('bad')
    },
    {
      attempts: 3,
      fallback: async ({ id, n }, { message }, error) => {
        seen.push(`${id}${n} ${message.attempt} ${(error as Error).message}`)
      },
    },
  )
  const { app, ended, fallback, place, close } = await start([worker])
  for (const id of ['bug', 'good', 'bad']) await place(0, 1, () => id)
  await until(() => ended('handled') === 2 && ended('deadLettered') === 1, 'all ended')
  assert.deepEqual(seen, ['bug0 3 bug'])
  assert.equal(fallback(), 1)
  assert.deepEqual(channel.toSorted(), ['bad deadLettered false', 'bug handled true', 'good handled false'])
  assert.match(await renderMetrics(app, { openMetrics: false }), /ottla_records_fallback_total\{.*\} 1\n/)
  endedChannel.unsubscribe(onEnded)
  await close()
})

test('with a fallback an open breaker pauses nothing: the fallback takes over until a probe succeeds', async () => {
  const webhook = namedBreaker(50)
  let down = true
  let refusals = 0
  const worker = service('worker').on(
    Orders.Placed,
    async () => {
      await webhook.call(() => {
        if (down) throw refusedConnection()
      })
    },
    {
      fallback: (_order, _context, error) => {
        if ((error as OttlaError).code === 'OTTLA_BREAKER_OPEN') refusals++
      },
    },
  )
  const { ended, fallback, standing, place, close } = await start([worker])
  // Opened by others, so that no record of this service fails by itself.
  for (let n = 0; n < 4; n++) await assert.rejects(webhook.call(() => Promise.reject(refusedConnection())))
  await place(0, 30)
  await until(() => ended('handled') >= 29, 'handled')
  assert.ok(refusals >= 20, `${refusals} were refused`)
  assert.equal(standing('webhook'), 0)
  assert.equal(fallback(), refusals)
  down = false
  await until(() => webhook.waitMs() === 0 || webhook.state === 'closed', 'due')
  const before = fallback()
  await place(30, 60)
  await until(() => ended('handled') >= 59, 'handled')
  assert.equal(webhook.state, 'closed')
  assert.ok(fallback() - before < 30, 'the handler is asked again')
  await close()
})

test("where every handler has a fallback, the service's own breaker pauses nothing either", async () => {
  const worker = service('worker').on(
    Orders.Placed,
    async () => {
      throw refusedConnection()
    },
    { fallback: () => undefined },
  )
  const { app, ended, fallback, standing, place, close } = await start([worker])
  await place(0, 200)
  await until(() => app.breakers()[0]!.counts.changes.open === 1, 'open')
  await until(() => ended('handled') > 150, 'the fallback handles')
  assert.equal(standing('worker'), 0)
  assert.equal(fallback(), ended('handled'))
  await close()
})

test('a fallback that fails sends the record where it would have gone, and its emits and writes are one transaction', async () => {
  const store = new MemoryStore()
  const worker = service('worker', { store: memory }).on(
    Orders.Placed,
    async (_order, { tx }) => {
      tx.set('by', 'handler')
      throw new Error('bug')
    },
    {
      attempts: 2,
      fallback: async ({ id }, { tx }) => {
        tx.set(id, 'fallback')
        if (id === 'worse') throw new Error('worse')
      },
    },
  )
  const { log, ended, fallback, place, close } = await start([worker], { store })
  await place(0, 1, () => 'saved')
  await place(0, 1, () => 'worse')
  await until(() => ended('handled') === 1 && ended('deadLettered') === 1, 'both ended')
  assert.equal(fallback(), 1)
  assert.deepEqual([...store.rows], [['saved', 'fallback']])
  const [letter] = log.records('dlq.worker')
  const message = letter!.headers.find(({ key }) => key === '__dlq.errors.message')!.value!
  assert.equal(Buffer.from(message).toString(), 'bug', 'the cause is the handler’s, not the fallback’s')
  await close()
})
