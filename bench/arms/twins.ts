/** What one would write by hand with a peer's client: parse, do not check, handle, leave committing to its default. */
import { Consumer, stringDeserializer } from '@platformatic/kafka'
import kafkajs from 'kafkajs'
import { counted } from '../counted.ts'
import type { Meter } from '../meter.ts'
import type { Order } from '../orders.ts'
import type { ArmResult, Task } from '../task.ts'

const { Kafka, logLevel } = kafkajs

export async function runKafkajsTwin(task: Task, meter: Meter): Promise<ArmResult> {
  const kafka = new Kafka({ clientId: 'bench', brokers: [task.servers], logLevel: logLevel.NOTHING })
  const consumer = kafka.consumer({ groupId: groupOf(task) })
  const { take, done } = counted(task, meter)
  await consumer.connect()
  await consumer.subscribe({ topics: [task.topic], fromBeginning: true })
  await consumer.run({
    eachMessage: async ({ message }) => take(JSON.parse((message.value as Buffer).toString()) as Order),
  })
  return done
}

export async function runPlatformaticTwin(task: Task, meter: Meter): Promise<ArmResult> {
  const consumer = new Consumer({
    clientId: 'bench',
    groupId: groupOf(task),
    bootstrapBrokers: [task.servers],
    deserializers: { key: stringDeserializer, value: (value) => JSON.parse((value as Buffer).toString()) as Order },
    maxBytesPerPartition: 1024 * 1024,
  })
  const { take, done } = counted(task, meter)
  const stream = await consumer.consume({ topics: [task.topic], mode: 'earliest' })
  stream.on('data', (message) => take(message.value as Order))
  return done
}

function groupOf(task: Task): string {
  return `bench-${task.topic}-${process.pid}`
}
