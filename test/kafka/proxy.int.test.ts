/** Producer and consumer group on the embedded broker while the network misbehaves: see proxy-scenario.ts. */
import { describe, test } from 'node:test'
import { startBroker } from '../../src/broker.ts'
import { faultCases, playFault } from './proxy-scenario.ts'

/** Every third case: the rest is for Apache Kafka. */
const chosen = faultCases.filter((_, index) => index % 3 === 0 || index === faultCases.length - 1)

describe('safe and going on after a fault, on the embedded broker', { concurrency: 4 }, () => {
  for (const [index, fault] of chosen.entries()) {
    test(fault.name, { timeout: 60_000 }, async () => {
      await using broker = await startBroker({ nodes: 3 })
      await playFault(fault, `fault-${index}`, broker.bootstrapServers)
    })
  }
})
