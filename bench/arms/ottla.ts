/** Our own client, as `ottla/kafka` gives it, from the built library. Always idempotent with acks=all: it has no other. */
import type { KafkaClient } from '../../src/kafka.ts'
import { arraySize, arrayWindow, publishAll, publishAlone, singleWindow } from '../drive.ts'
import { kafkaOf } from '../library.ts'
import type { Meter } from '../meter.ts'
import type { ArmResult, Task } from '../task.ts'
import { contentType, isOrder, makeWorkload, Tally } from '../workload.ts'

export async function runOttla(task: Task, meter: Meter): Promise<ArmResult> {
  const { KafkaClient } = await kafkaOf(task.library)
  const client = new KafkaClient({ bootstrapServers: task.servers })
  if (task.job === 'consume') return consume(task, meter, client)
  const { topic } = task
  const workload = makeWorkload()
  const producer = client.producer({ compression: task.compression })
  const headers = (index: number) => [
    { key: 'traceparent', value: workload.traceparent(index) },
    { key: 'content-type', value: contentType },
  ]
  const sendEvent = (index: number) => {
    const event = workload.event(index)
    if (!isOrder(event)) throw new Error('not an order')
    return producer.send({ topic, key: workload.key(index), value: JSON.stringify(event), headers: headers(index) })
  }
  if (task.job === 'lone') return { latenciesMs: await publishAlone(task.count, task.warmUp, sendEvent) }
  if (task.job === 'single') {
    await publishAll({ count: task.count, window: singleWindow, size: 1, meter }, sendEvent)
    return {}
  }
  await publishAll({ count: task.count / arraySize, window: arrayWindow, size: arraySize, meter }, (array) =>
    producer.sendMany(
      Array.from({ length: arraySize }, (_, i) => {
        const index = array * arraySize + i
        return { topic, key: workload.key(index), value: workload.value(index), headers: headers(index) }
      }),
    ),
  )
  return {}
}

function consume(task: Task, meter: Meter, client: KafkaClient): Promise<ArmResult> {
  const tally = new Tally()
  return new Promise((resolve, reject) => {
    client.consumer(
      { groupId: `bench-${task.topic}-${process.pid}`, topics: [task.topic], start: 'earliest' },
      {
        batch(_held, records) {
          for (let i = 0; i < records.count; i++) {
            tally.take(records.keyText(i) as string, records.value(i) as Buffer)
            meter.reached(tally.count)
          }
          // Nothing of the batch is kept, so its memory may be used again at once.
          records.release()
          if (tally.count === task.count) resolve({ sums: tally.sums() })
        },
        fault: (_where, error) => reject(error),
      },
    )
  })
}
