import { test } from 'node:test'
import { kafka } from '../../adapters/kafka/transport.ts'
import { transportConformance } from './transport.ts'

const bootstrapServers = process.env['OTTLA_LIVE_KAFKA']

if (bootstrapServers === undefined) {
  test('transport: Apache Kafka', { skip: 'OTTLA_LIVE_KAFKA is not set' }, () => undefined)
} else {
  transportConformance('Apache Kafka', async () => ({
    connect: () => kafka({ bootstrapServers, consumer: { heartbeatIntervalMs: 300, sessionTimeoutMs: 6_000 } }),
    [Symbol.asyncDispose]: async () => undefined,
  }))
}
