/** Retry topics on the embedded broker. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { startBroker } from '../../src/broker/embedded.ts'
import { topic } from '../../src/contract/topic.ts'
import { service } from '../../src/runtime/service.ts'
import { testApp } from '../../src/testing/test-app.ts'
import { failedRecordsComeBack } from './retry-topics-scenario.ts'

test('failed records wait outside of their partition, over a change of owner, and all end as counted', async () => {
  await using broker = await startBroker({ nodes: 2 })
  await failedRecordsComeBack(broker.bootstrapServers)
})

test('a test app has settled when no record waits in a retry topic any more', async () => {
  const Orders = topic('orders', { key: 'id', events: { Placed: z.object({ id: z.string() }) } })
  const attempts: number[] = []
  const mailer = service('mailer', { retry: 'topics', unordered: true, retryDelays: ['200ms', '300ms'] }).on(
    Orders.Placed,
    (_, { message }) => {
      attempts.push(message.attempt)
      if (message.attempt < 3) throw new Error('not yet')
    },
  )
  await using t = await testApp({ services: [mailer], settleMs: 60_000 })
  await t.publish(Orders.Placed({ id: 'a' }))
  await t.settled()
  assert.deepEqual(attempts, [1, 2, 3])
})
