/**
 * Everything on: a service as users write one. Envelope, schema, lanes, ledger, checkpoints, metrics that are scraped, and,
 * unless the variant says otherwise, guards and a handler that is `async`.
 */
import { counted } from '../counted.ts'
import { kafkaOf, ottlaOf } from '../library.ts'
import type { Meter } from '../meter.ts'
import { Order } from '../orders.ts'
import type { ArmResult, Task } from '../task.ts'

/** As Prometheus usually does it, only more often. */
const scrapeMs = 1_000

export async function runService(task: Task, meter: Meter): Promise<ArmResult> {
  const { app, probes, service, topic } = await ottlaOf(task.library)
  const { kafka } = await kafkaOf(task.library)
  const { take, done, failed } = counted(task, meter)
  const Orders = topic(task.topic, { key: 'customerId', events: { OrderPlaced: Order } })
  const reader = service(`s${task.topic}-${process.pid}`)
  if (task.variant.includes('synchronous')) reader.on(Orders.OrderPlaced, take)
  else reader.on(Orders.OrderPlaced, async (order) => take(order))
  const running = app({
    transport: kafka({ bootstrapServers: task.servers }),
    services: [reader],
    topics: 'create',
    durability: 'single',
    guards: !task.variant.includes('no guards'),
    log: {
      debug: () => {},
      info: () => {},
      warn: console.warn,
      error: (text, fields) => failed(new Error(text, { cause: fields })),
    },
  })
  const probe = probes(running)
  await running.start()
  const scraping = setInterval(() => {
    probe(new Request('http://localhost/metrics'))
      .then((response) => response.text())
      .catch(failed)
  }, scrapeMs)
  const result = await done
  clearInterval(scraping)
  await running[Symbol.asyncDispose]()
  const ended = running.ledger().reduce((sum, row) => sum + row.ended.handled, 0)
  if (ended !== task.count) throw new Error(`the ledger says that ${ended} of ${task.count} were handled`)
  return result
}
