/** Outages behind breakers on the embedded broker. */
import { test } from 'node:test'
import { startBroker } from '../../src/broker/embedded.ts'
import { outagesAreWaitedFor } from './breaker-scenario.ts'

test('an outage stands partitions still over a rebalance, gives nothing up, and all is handled in order after it', async () => {
  await using broker = await startBroker({ nodes: 2 })
  await outagesAreWaitedFor(broker.bootstrapServers)
})
