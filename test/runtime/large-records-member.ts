/** The process whose memory is looked at while it handles large records slowly. Started by `fork`, see the scenario. */
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { kafka } from '../../src/adapters/kafka/transport.ts'
import { app } from '../../src/adapters/system/app.ts'
import { topic } from '../../src/contract/topic.ts'
import { alarm } from '../../src/runtime/channels.ts'
import { service } from '../../src/runtime/service.ts'
import { quiet } from './stage.ts'

/** What it is told. `mend`: from now on the parked record can be handled, and nothing waits. */
export interface ToLargeRecords {
  readonly type: 'pause' | 'resume' | 'mend' | 'end'
}

/** What it tells, ten times a second. */
export interface FromLargeRecords {
  /** Partitions in its hands. */
  readonly assigned: number
  /** Bytes. */
  readonly rss: number
  readonly handled: number
  readonly open: number
  readonly alarms: readonly string[]
}

const given = JSON.parse(process.env['OTTLA_SHOW'] ?? '{}') as {
  readonly bootstrapServers: string
  readonly topic: string
  readonly service: string
  readonly partitions: number
  readonly handlerMs: number
  readonly kind: 'flowing' | 'parked'
}

const Large = topic(given.topic, {
  key: 'key',
  partitions: given.partitions,
  events: { Placed: z.object({ key: z.string(), n: z.int(), text: z.string() }) },
})
let mended = false
let handled = 0
let alarms: string[] = []
alarm.subscribe((message) => alarms.push((message as { readonly error: Error }).error.message))

const eater = service(given.service, { afterDeadLetter: 'hold' }).on(Large.Placed, async ({ key }) => {
  if (!mended) {
    if (key === 'parked') throw Object.assign(new Error('connection refused'), { code: 'ECONNREFUSED' })
    await sleep(given.handlerMs)
  }
  handled++
})
const running = await app({
  transport: kafka({ bootstrapServers: given.bootstrapServers }),
  services: [eater],
  topics: 'create',
  durability: 'single',
  log: quiet,
}).start()

const timer = setInterval(() => {
  const rows = running.ledger()
  const message: FromLargeRecords = {
    assigned: rows.filter(({ state }) => state === 'running').length,
    rss: process.memoryUsage.rss(),
    handled,
    open: rows.reduce((sum, row) => sum + row.open, 0),
    alarms,
  }
  alarms = []
  process.send?.(message)
}, 100)

process.on('message', (message: ToLargeRecords) => {
  switch (message.type) {
    case 'pause':
      running.pause(given.service)
      break
    case 'resume':
      running.resume(given.service)
      break
    case 'mend':
      mended = true
      break
    case 'end':
      clearInterval(timer)
      void running[Symbol.asyncDispose]().then(() => process.exit(0))
      break
    default:
      message.type satisfies never
  }
})
process.once('disconnect', () => process.exit(1))
