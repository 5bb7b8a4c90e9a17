/** What the admin changes, on a three-broker Apache Kafka. */
import { describe, test } from 'node:test'
import * as scenario from './admin-scenario.ts'

const servers = process.env['OTTLA_LIVE_KAFKA'] as string
const skip = servers === undefined ? 'OTTLA_LIVE_KAFKA is not set' : false

describe('what the admin changes on Apache Kafka', { skip }, () => {
  test('configs change setting by setting, and a resource as a whole', () => scenario.configsChangeOneByOne(servers))
  test('brokers tell of themselves', () => scenario.brokersAreDescribed(servers))
  test('offsets change as planned, and one bad partition leaves its neighbours alone', () =>
    scenario.offsetsChangeAsPlanned(servers))
  test('a group with live members keeps its offsets', () => scenario.liveGroupsKeepTheirOffsets(servers))
  test('records are deleted per partition', () => scenario.recordsAreDeletedPerPartition(servers))
})
