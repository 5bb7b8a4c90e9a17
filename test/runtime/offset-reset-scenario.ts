/**
 * What a service redoes after its offsets were changed, over the real protocol, on any Kafka. Names are of this run
 * alone, so that a shared cluster can be used.
 */
import assert from 'node:assert/strict'
import { z } from 'zod'
import { kafka } from '../../src/adapters/kafka/transport.ts'
import { systemClock } from '../../src/adapters/system/clock.ts'
import { topic } from '../../src/contract/topic.ts'
import type { OffsetTarget } from '../../src/kafka/admin/offset-plan.ts'
import { KafkaClient } from '../../src/kafka/client.ts'
import { RunningApp } from '../../src/runtime/app.ts'
import { service } from '../../src/runtime/service.ts'

const quiet = { debug() {}, info() {}, warn() {}, error() {} }
const count = 10
const stuckAt = 2

async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const endMs = performance.now() + 30_000
  while (!(await condition())) {
    if (performance.now() > endMs) throw new Error(`waited in vain for: ${what}`)
    await new Promise((done) => setTimeout(done, 10))
  }
}

/**
 * A service finishes everything but one record and stops: the map beside its offset says so, and whoever comes next does
 * that record alone. After a change of offsets, to the very same one too, everything from the new offset on is redone.
 */
export async function changedOffsetsAreRedoneWhole(bootstrapServers: string): Promise<void> {
  const run = Date.now().toString(36)
  const group = `reset-${run}`
  const Orders = topic(`reset-orders-${run}`, {
    key: 'id',
    partitions: 1,
    events: { Placed: z.object({ id: z.string(), n: z.int() }) },
  })
  const state = { stuck: true, handled: [] as number[] }
  const worker = service(group).on(Orders.Placed, async ({ n }, { signal }) => {
    if (state.stuck && n === stuckAt) {
      await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
    }
    state.handled.push(n)
  })
  const open = () => {
    state.handled = []
    return new RunningApp(
      {
        transport: kafka({
          bootstrapServers,
          embedded: true,
          consumer: { heartbeatIntervalMs: 50, sessionTimeoutMs: 6_000, fetchMaxWaitMs: 50 },
        }),
        services: [worker],
        drainTimeout: 200,
      },
      { clock: systemClock, log: quiet, random: () => 0.01, instance: `test-${Math.random()}` },
    ).start()
  }
  await using client = new KafkaClient({ bootstrapServers })
  const admin = client.admin()
  const place = { topic: `reset-orders-${run}`, partition: 0 }
  const committed = async () => (await admin.fetchOffsets(group, [place]))[0]
  /** Leaves the group as it was in the beginning of the story: at the stuck record, with a map of what lies beyond. */
  const leaveMap = async (): Promise<void> => {
    const back = await admin.planOffsets(group, [{ ...place, to: 'earliest' }])
    await admin.alterOffsets(back)
    state.stuck = true
    {
      await using _ = await open()
      await until(() => state.handled.length === count - 1, 'everything but one')
    }
    await until(async () => (await admin.describeGroups([group]))[0]?.members.length === 0, 'an empty group')
    const told = await committed()
    assert.equal(told?.offset, stuckAt)
    assert.match(told?.metadata ?? '', /^o1\./)
    state.stuck = false
  }
  const redo = async (to: OffsetTarget | null): Promise<number[]> => {
    await leaveMap()
    if (to !== null) {
      const plan = await admin.planOffsets(group, [{ ...place, to }])
      assert.match(plan.offsets[0]?.metadata ?? '', /^o1\./)
      assert.deepEqual(
        (await admin.alterOffsets(plan)).map((each) => each.error),
        [undefined],
      )
      assert.equal((await committed())?.metadata, '')
    }
    await using app = await open()
    await until(() => app.lag().length === 1 && app.lag().every((lag) => lag.records === 0), 'the end')
    return state.handled.toSorted((a, b) => a - b)
  }
  const from = (first: number) => Array.from({ length: count - first }, (_, index) => first + index)

  {
    await using app = await open()
    for (let n = 0; n < count; n++) await app.publish(Orders.Placed({ id: `${n}`, n }))
  }
  assert.deepEqual(await redo(null), [stuckAt], 'without a change the map is honoured')
  assert.deepEqual(await redo({ offset: stuckAt }), from(stuckAt))
  assert.deepEqual(await redo({ shift: -2 }), from(0))
  assert.deepEqual(await redo({ shift: 3 }), from(stuckAt + 3))
  await admin.deleteGroups([group])
  await admin.deleteTopics([place.topic, `dlq.${group}`, `ottla.control.${group}`])
}
