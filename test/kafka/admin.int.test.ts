/** What the admin changes, on the embedded broker. */
import { after, before, describe, test } from 'node:test'
import { type EmbeddedBroker, startBroker } from '../../src/broker/embedded.ts'
import * as scenario from './admin-scenario.ts'

describe('the admin on the embedded broker', () => {
  let broker: EmbeddedBroker
  before(async () => {
    broker = await startBroker({ nodes: 3 })
  })
  after(() => broker[Symbol.asyncDispose]())

  test('configs change setting by setting, and a resource as a whole', () =>
    scenario.configsChangeOneByOne(broker.bootstrapServers))
  test('brokers tell of themselves', () => scenario.brokersAreDescribed(broker.bootstrapServers))
  test('offsets change as planned, and one bad partition leaves its neighbours alone', () =>
    scenario.offsetsChangeAsPlanned(broker.bootstrapServers))
  test('a group with live members keeps its offsets', () =>
    scenario.liveGroupsKeepTheirOffsets(broker.bootstrapServers))
  test('records are deleted per partition', () => scenario.recordsAreDeletedPerPartition(broker.bootstrapServers))
})
