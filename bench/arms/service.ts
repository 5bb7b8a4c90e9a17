/**
 * Everything on: a service as users write one. Envelope, schema, lanes, ledger, checkpoints, metrics that are scraped, and,
 * unless the variant says otherwise, guards, zod and a handler that is `async`.
 */
import { counted } from '../counted.ts'
import { kafkaOf, ottlaOf } from '../library.ts'
import type { Meter } from '../meter.ts'
import { Order } from '../orders.ts'
import type { ArmResult, Task } from '../task.ts'

/** As Prometheus usually does it, only more often. */
const scrapeMs = 1_000

/** The same order for a library that compiles its checks; loaded only where it is used. */
async function compiledOrder(): Promise<typeof Order> {
  const { type } = await import('arktype')
  const lines = type({ sku: 'string > 0', quantity: 'number.integer > 0', cents: 'number.integer' })
  const order = type({
    orderId: 'string > 0',
    customerId: 'string > 0',
    status: "'placed' | 'paid' | 'shipped'",
    currency: 'string == 3',
    totalCents: 'number.integer >= 0',
    placedAt: 'string',
    lines: lines.array().atLeastLength(1),
    note: 'string',
  })
  return order as unknown as typeof Order
}

export async function runService(task: Task, meter: Meter): Promise<ArmResult> {
  const { app, probes, service, topic } = await ottlaOf(task.library)
  const { kafka } = await kafkaOf(task.library)
  const { take, done, failed } = counted(task, meter)
  const schema = task.variant.includes('arktype') ? await compiledOrder() : Order
  const Orders = topic(task.topic, { key: 'customerId', events: { OrderPlaced: schema } })
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
