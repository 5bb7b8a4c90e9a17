/** Our arm of line 5 in a process of its own: a service whose handler sleeps. Prints the outcome as its last line. */
import { countFromNowOn } from './counters.ts'
import { kafkaOf, ottlaOf } from './library.ts'
import { Order } from './orders.ts'
import { SleepBook, type SleepOutcome, type SleepTask } from './sleeping.ts'

const task = JSON.parse(process.argv[2] ?? '') as SleepTask
const counted = task.mode === 'count' ? countFromNowOn() : null
const { app, service, topic } = await ottlaOf(task.library)
const { kafka } = await kafkaOf(task.library)
const { promise: done, resolve } = Promise.withResolvers<SleepOutcome>()
const book = new SleepBook(task)
const Orders = topic(task.topic, { key: 'customerId', events: { OrderPlaced: Order } })
const sleeper = service(`s${task.topic}-${process.pid}`).on(Orders.OrderPlaced, async (order) => {
  const beganMs = book.begin(order)
  await new Promise<void>((wake) => setTimeout(wake, task.sleepMs))
  const outcome = book.end(order, beganMs)
  if (outcome !== null) resolve({ ...outcome, counters: counted === null ? null : counted() })
})
await using _running = await app({
  transport: kafka({ bootstrapServers: task.servers }),
  services: [sleeper],
  topics: 'create',
  durability: 'single',
  concurrency: task.concurrency,
  guards: true,
}).start()
const outcome = await done
process.stdout.write(`${JSON.stringify(outcome)}\n`, () => process.exit(0))
