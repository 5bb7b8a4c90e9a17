/** Our arm of line 5 in a process of its own: a service whose handler sleeps. Prints the outcome as its last line. */
import type { Codec } from '../src/contract/codec.ts'
import { countFromNowOn } from './counters.ts'
import { kafkaOf, ottlaOf } from './library.ts'
import { namesIn, Order } from './orders.ts'
import { SleepBook, type SleepOutcome, type SleepTask } from './sleeping.ts'

const task = JSON.parse(process.argv[2] ?? '') as SleepTask
const counted = task.mode === 'count' ? countFromNowOn() : null
const { app, service, topic } = await ottlaOf(task.library)
const { kafka } = await kafkaOf(task.library)
const { promise: done, resolve } = Promise.withResolvers<SleepOutcome>()
const book = new SleepBook(task)

async function handle(order: Pick<Order, 'orderId' | 'customerId'>): Promise<void> {
  const beganMs = book.begin(order)
  await new Promise<void>((wake) => setTimeout(wake, task.sleepMs))
  const outcome = book.end(order, beganMs)
  if (outcome !== null) resolve({ ...outcome, counters: counted === null ? null : counted() })
}

/** Payloads as they are. */
const bytes: Codec = {
  contentType: 'application/json',
  accepts: () => true,
  missing: () => null,
  prepare: () => Promise.resolve(),
  decode: (value) => value,
  encode: (value) => value as Uint8Array,
}
const AnyBytes = {
  '~standard': { version: 1, vendor: 'bench', validate: (value: unknown) => ({ value: value as Uint8Array }) },
} as const

const name = `s${task.topic}-${process.pid}`
const Orders = topic(task.topic, { key: 'customerId', events: { OrderPlaced: Order } })
const Raw = topic(task.topic, {
  key: { OrderPlaced: (value) => namesIn(value as Uint8Array).customerId },
  events: { OrderPlaced: AnyBytes },
  codec: bytes,
})
const sleeper =
  task.payload === 'order'
    ? service(name).on(Orders.OrderPlaced, handle)
    : service(name).on(Raw.OrderPlaced, (value) => handle(namesIn(value as Uint8Array)))
await using _running = await app({
  transport: kafka({ bootstrapServers: task.servers }),
  services: [sleeper],
  topics: 'create',
  durability: 'single',
  concurrency: task.concurrency,
  guards: task.payload === 'order',
}).start()
const outcome = await done
process.stdout.write(`${JSON.stringify(outcome)}\n`, () => process.exit(0))
