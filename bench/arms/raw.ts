/**
 * Our own client by hand, with the same parse and the same check as the service: what is left between the two is what the
 * service costs. The variant `given back` also gives each batch's memory back, as the service does.
 */
import { counted } from '../counted.ts'
import { kafkaOf } from '../library.ts'
import type { Meter } from '../meter.ts'
import { Order } from '../orders.ts'
import type { ArmResult, Task } from '../task.ts'

export async function runRawTwin(task: Task, meter: Meter): Promise<ArmResult> {
  const { KafkaClient } = await kafkaOf(task.library)
  const client = new KafkaClient({ bootstrapServers: task.servers })
  const { take, done, failed } = counted(task, meter)
  const givesBack = task.variant.includes('given back')
  let committedMs = performance.now()
  const consumer = client.consumer(
    { groupId: `bench-${task.topic}-${process.pid}`, topics: [task.topic], start: 'earliest' },
    {
      batch(held, records) {
        for (let i = 0; i < records.count; i++) {
          take(Order.parse(JSON.parse((records.value(i) as Buffer).toString())))
        }
        const { nextPosition: offset } = records
        if (givesBack) records.release()
        if (performance.now() - committedMs < 1_000) return
        committedMs = performance.now()
        consumer.commit(held, { offset, metadata: '' }).catch(failed)
      },
      fault: (_where, error) => failed(error),
    },
  )
  return done
}
