/** What a service redoes after its offsets were changed, on the embedded broker. */
import { test } from 'node:test'
import { startBroker } from '../../src/broker/embedded.ts'
import { changedOffsetsAreRedoneWhole } from './offset-reset-scenario.ts'

test('after a change of offsets a service redoes everything from the new one on, and believes no older map', async () => {
  await using broker = await startBroker()
  await changedOffsetsAreRedoneWhole(broker.bootstrapServers)
})
