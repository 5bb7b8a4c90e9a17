/** @platformatic/kafka: the `data` event is its fast way to consume. */
import { Consumer, ProduceAcks, Producer, stringDeserializer, stringSerializers } from '@platformatic/kafka'
import { arraySize, arrayWindow, publishAll, publishAlone, singleWindow } from '../drive.ts'
import type { Meter } from '../meter.ts'
import type { ArmResult, Task } from '../task.ts'
import { contentType, isOrder, makeWorkload, Tally } from '../workload.ts'

export async function runPlatformatic(task: Task, meter: Meter): Promise<ArmResult> {
  if (task.job === 'consume') return consume(task, meter)
  const { topic, compression } = task
  const workload = makeWorkload()
  const isIdempotent = task.job === 'arrays' || task.variant === 'idempotent'
  const producer = new Producer({
    clientId: 'bench',
    bootstrapBrokers: [task.servers],
    serializers: stringSerializers,
    compression,
    idempotent: isIdempotent,
  })
  const headers = (index: number) => ({ traceparent: workload.traceparent(index), 'content-type': contentType })
  const sendEvent = (index: number) => {
    const event = workload.event(index)
    if (!isOrder(event)) throw new Error('not an order')
    const message = { topic, key: workload.key(index), value: JSON.stringify(event), headers: headers(index) }
    return producer.send({ messages: [message], acks: isIdempotent ? ProduceAcks.ALL : ProduceAcks.LEADER })
  }
  if (task.job === 'lone') return { latenciesMs: await publishAlone(task.count, task.warmUp, sendEvent) }
  if (task.job === 'single') {
    await publishAll({ count: task.count, window: singleWindow, size: 1, meter }, sendEvent)
    return {}
  }
  await publishAll({ count: task.count / arraySize, window: arrayWindow, size: arraySize, meter }, (array) =>
    producer.send({
      acks: ProduceAcks.ALL,
      messages: Array.from({ length: arraySize }, (_, i) => {
        const index = array * arraySize + i
        return { topic, key: workload.key(index), value: workload.value(index), headers: headers(index) }
      }),
    }),
  )
  return {}
}

async function consume(task: Task, meter: Meter): Promise<ArmResult> {
  const tally = new Tally()
  const consumer = new Consumer({
    clientId: 'bench',
    groupId: `bench-${task.topic}-${process.pid}`,
    bootstrapBrokers: [task.servers],
    deserializers: { key: stringDeserializer },
    maxBytesPerPartition: 1024 * 1024,
  })
  const stream = await consumer.consume({ topics: [task.topic], mode: 'earliest', autocommit: false })
  return new Promise((resolve, reject) => {
    stream.on('error', reject)
    stream.on('data', (message) => {
      tally.take(message.key as string, message.value as Buffer)
      meter.reached(tally.count)
      if (tally.count === task.count) resolve({ sums: tally.sums() })
    })
  })
}
