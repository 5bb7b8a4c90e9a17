/** Producer and consumer group on Apache Kafka while the network and the brokers misbehave: see proxy-scenario.ts. */
import { describe, test } from 'node:test'
import { faultCases, playFault } from './proxy-scenario.ts'

const servers = process.env['OTTLA_LIVE_KAFKA'] ?? ''

describe('safe and going on after a fault, on Apache Kafka', {
  skip: servers === '' ? 'OTTLA_LIVE_KAFKA is not set' : false,
  concurrency: 6,
}, () => {
  for (const [index, fault] of faultCases.entries()) {
    test(fault.name, { timeout: 90_000 }, () =>
      playFault(fault, `fault-${process.pid}-${Date.now()}-${index}`, servers),
    )
  }
})
