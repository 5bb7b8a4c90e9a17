/**
 * KafkaJS. `eachBatch` is its fast way to consume, `eachMessage` its usual one. One idempotent request in flight, as its
 * manual asks for. It brings no zstd codec: it is given the one of Node.
 */

import { promisify } from 'node:util'
import { zstdCompress, zstdDecompress } from 'node:zlib'
import kafkajs, { type Consumer } from 'kafkajs'
import { arraySize, publishAll, publishAlone, singleWindow } from '../drive.ts'
import type { Meter } from '../meter.ts'
import type { ArmResult, Task } from '../task.ts'
import { contentType, isOrder, makeWorkload, Tally } from '../workload.ts'

const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = kafkajs

export async function runKafkajs(task: Task, meter: Meter): Promise<ArmResult> {
  const compress = promisify(zstdCompress)
  const decompress = promisify(zstdDecompress)
  CompressionCodecs[CompressionTypes.ZSTD] = () => ({
    compress: (encoder: { buffer: Buffer }) => compress(encoder.buffer),
    decompress: (bytes: Buffer) => decompress(bytes),
  })
  const kafka = new Kafka({ clientId: 'bench', brokers: [task.servers], logLevel: logLevel.NOTHING })
  if (task.job === 'consume')
    return consume(task, meter, kafka.consumer({ groupId: `bench-${task.topic}-${process.pid}` }))
  const { topic } = task
  const compression = task.compression === 'zstd' ? CompressionTypes.ZSTD : CompressionTypes.None
  const workload = makeWorkload()
  const isArrays = task.job === 'arrays'
  const producer = kafka.producer({ idempotent: isArrays, ...(isArrays ? { maxInFlightRequests: 1 } : {}) })
  await producer.connect()
  const headers = (index: number) => ({ traceparent: workload.traceparent(index), 'content-type': contentType })
  const sendEvent = (index: number) => {
    const event = workload.event(index)
    if (!isOrder(event)) throw new Error('not an order')
    const message = { key: workload.key(index), value: JSON.stringify(event), headers: headers(index) }
    return producer.send({ topic, acks: 1, compression, messages: [message] })
  }
  if (task.job === 'lone') return { latenciesMs: await publishAlone(task.count, task.warmUp, sendEvent) }
  if (task.job === 'single') {
    await publishAll({ count: task.count, window: singleWindow, size: 1, meter }, sendEvent)
    return {}
  }
  await publishAll({ count: task.count / arraySize, window: 1, size: arraySize, meter }, (array) =>
    producer.send({
      topic,
      acks: -1,
      compression,
      messages: Array.from({ length: arraySize }, (_, i) => {
        const index = array * arraySize + i
        return { key: workload.key(index), value: workload.value(index), headers: headers(index) }
      }),
    }),
  )
  return {}
}

async function consume(task: Task, meter: Meter, consumer: Consumer): Promise<ArmResult> {
  const tally = new Tally()
  await consumer.connect()
  await consumer.subscribe({ topics: [task.topic], fromBeginning: true })
  return new Promise((resolve, reject) => {
    const take = (message: { key: Buffer | null; value: Buffer | null }): void => {
      tally.take((message.key as Buffer).toString(), message.value as Buffer)
      meter.reached(tally.count)
      if (tally.count === task.count) resolve({ sums: tally.sums() })
    }
    consumer
      .run(
        task.variant === 'eachMessage'
          ? { autoCommit: false, eachMessage: async ({ message }) => take(message) }
          : {
              autoCommit: false,
              eachBatchAutoResolve: true,
              eachBatch: async ({ batch }) => {
                for (const message of batch.messages) take(message)
              },
            },
      )
      .catch(reject)
  })
}
