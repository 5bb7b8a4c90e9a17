/** Held keys and redrives on the embedded broker. */
import { test } from 'node:test'
import { startBroker } from '../../src/broker/embedded.ts'
import { heldKeysAreRedriven } from './holds-scenario.ts'

test('keys held by one member are released in order by the next, and no other group sees a redrive', async () => {
  await using broker = await startBroker({ nodes: 2 })
  await heldKeysAreRedriven(broker.bootstrapServers)
})
