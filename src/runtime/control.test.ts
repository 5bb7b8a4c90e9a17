import assert from 'node:assert/strict'
import { test } from 'node:test'
import { systemClock } from '../adapters/system/clock.ts'
import type { HoldRecord } from '../contract/control.ts'
import { MemoryLog, memoryTransport } from '../testing/memory-transport.ts'
import { ControlLog } from './control.ts'

const quiet = { debug() {}, info() {}, warn() {}, error() {} }
const hold: HoldRecord = {
  kind: 'hold',
  topic: 'orders',
  topicId: 'T',
  partition: 0,
  key: 'YmFk',
  head: 0,
  letter: { partition: 0, position: 0 },
  done: -1,
  skip: [],
  redrives: 0,
  atMs: 1,
  error: 'x',
}

/** A control log whose acknowledgements come when the test says so. */
async function opened() {
  const log = new MemoryLog()
  const transport = memoryTransport(log)
  await transport.ensure([{ topic: 'control', partitions: 1 }])
  const acks: (() => void)[] = []
  log.delayAck = () => new Promise((done) => void acks.push(done))
  const writer = await transport.writer()
  const control = new ControlLog({
    topic: 'control',
    transport,
    writer,
    clock: systemClock,
    log: quiet,
    random: () => 0,
  })
  await control.ready()
  const isHeld = () => control.holds.get('T', 0, 'YmFk') !== undefined
  const until = async (condition: () => boolean): Promise<void> => {
    const endMs = performance.now() + 5_000
    while (!condition()) {
      assert.ok(performance.now() < endMs)
      await new Promise((done) => setTimeout(done, 1))
    }
  }
  return {
    control,
    acks,
    isHeld,
    until,
    async [Symbol.asyncDispose]() {
      for (const ack of acks) ack()
      await control[Symbol.asyncDispose]()
      await writer[Symbol.asyncDispose]()
    },
  }
}

test('a hold that is acknowledged after its key was let go does not hold it again', async () => {
  await using open = await opened()
  const writing = open.control.write(hold)
  await open.until(open.isHeld)
  open.control.release(hold)
  assert.equal(open.isHeld(), false)
  await open.until(() => open.acks.length === 2)
  open.acks.shift()!()
  await writing
  assert.equal(open.isHeld(), false)
  open.acks.shift()!()
  await open.control.ready()
  assert.equal(open.isHeld(), false)
})

test('a key that is held again while its release is being stored stays held', async () => {
  await using open = await opened()
  const first = open.control.write(hold)
  await open.until(() => open.acks.length === 1)
  open.acks.shift()!()
  await first
  open.control.release(hold)
  const again = open.control.write({ ...hold, head: 7 })
  await open.until(() => open.acks.length === 2)
  for (const ack of open.acks.splice(0)) ack()
  await again
  await open.control.ready()
  assert.equal(open.control.holds.get('T', 0, 'YmFk')?.head, 7)
})
