/** Retry topics on the embedded broker. */
import { test } from 'node:test'
import { startBroker } from '../../src/broker/embedded.ts'
import { failedRecordsComeBack } from './retry-topics-scenario.ts'

test('failed records wait outside of their partition, over a change of owner, and all end as counted', async () => {
  await using broker = await startBroker({ nodes: 2 })
  await failedRecordsComeBack(broker.bootstrapServers)
})
