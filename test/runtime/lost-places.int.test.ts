/** Lost places on the embedded broker. */
import { test } from 'node:test'
import { startBroker } from '../../src/broker/embedded.ts'
import { lostPlacesAreNoticed } from './lost-places-scenario.ts'

test('a vanished place is refused with the choices, and what expires while a service lags is counted', async () => {
  await using broker = await startBroker({ nodes: 2 })
  await lostPlacesAreNoticed(broker.bootstrapServers)
})
