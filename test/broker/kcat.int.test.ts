/** kcat (librdkafka) against the embedded broker: metadata, produce, consume, groups. Skipped where it is not installed. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startBroker } from '../../src/broker.ts'
import { ForeignTool, installed } from './foreign-tool.ts'

const skip = installed('kcat', ['-V']) ? false : 'kcat is not installed'

async function kcat(bootstrapServers: string, args: readonly string[], input = ''): Promise<readonly string[]> {
  await using tool = new ForeignTool('kcat', ['-b', bootstrapServers, ...args])
  return await tool.end(input).output()
}

test('kcat lists brokers, topics and leaders', { skip, timeout: 30_000 }, async () => {
  await using broker = await startBroker({ nodes: 3, topics: [{ topic: 't', partitions: 3 }] })
  const lines = (await kcat(broker.bootstrapServers, ['-L'])).map((line) => line.trim())
  for (const [id, port] of broker.ports) {
    assert.ok(
      lines.some((line) => line.startsWith(`broker ${id} at 127.0.0.1:${port}`)),
      lines.join('\n'),
    )
  }
  assert.ok(lines.includes('partition 1, leader 2, replicas: 2,3,1, isrs: 2,3,1'))
})

for (const codec of ['none', 'gzip', 'snappy', 'lz4', 'zstd']) {
  test(`kcat reads back what kcat wrote: ${codec}, idempotent`, { skip, timeout: 30_000 }, async () => {
    await using broker = await startBroker({ nodes: 2, topics: [{ topic: 't', partitions: 3 }] })
    const sent = Array.from({ length: 5_000 }, (_, index) => `key${index % 50}:value ${index}`)
    const write = ['-P', '-t', 't', '-K', ':', '-z', codec, '-X', 'enable.idempotence=true', '-H', 'a=1', '-H', 'a=2']
    await kcat(broker.bootstrapServers, write, `${sent.join('\n')}\n`)
    const got = await kcat(broker.bootstrapServers, ['-C', '-t', 't', '-e', '-q', '-f', '%k:%s %h\n'])
    assert.deepEqual([...got].sort(), sent.map((line) => `${line} a=1,a=2`).sort())
  })
}

test('kcat consumes as a group, commits, and goes on where it stopped', { skip, timeout: 60_000 }, async () => {
  await using broker = await startBroker({ topics: [{ topic: 't', partitions: 2 }] })
  const write = (count: number) =>
    kcat(broker.bootstrapServers, ['-P', '-t', 't'], Array.from({ length: count }, (_, at) => `v${at}\n`).join(''))
  const read = (count: number) =>
    kcat(broker.bootstrapServers, ['-G', 'g', '-X', 'auto.offset.reset=earliest', '-q', '-c', String(count), 't'])
  await write(100)
  assert.equal((await read(100)).length, 100)
  const committed = () => broker.committed('g').reduce((sum, { offset }) => sum + Math.max(0, offset), 0)
  assert.equal(committed(), 100)
  await write(20)
  assert.equal((await read(20)).length, 20)
  assert.equal(committed(), 120)
  assert.equal(broker.group('g')!.state, 'Empty')
})

test('kcat goes on writing, in order, while leaders move', { skip, timeout: 60_000 }, async () => {
  await using broker = await startBroker({ nodes: 3, topics: [{ topic: 't', partitions: 1 }] })
  await using writer = new ForeignTool('kcat', [
    ...['-b', broker.bootstrapServers, '-P', '-t', 't'],
    ...['-X', 'enable.idempotence=true', '-X', 'linger.ms=1'],
  ])
  // kcat hands lines on only when its input buffer of a few KiB is full.
  const line = (index: number): string => `${index} ${'x'.repeat(200)}`
  for (let round = 0; round < 6; round++) {
    const before = broker.records('t').length
    writer.write(Array.from({ length: 50 }, (_, at) => `${line(round * 50 + at)}\n`).join(''))
    const untilMs = performance.now() + 20_000
    while (broker.records('t').length === before) {
      assert.ok(performance.now() < untilMs, `nothing arrived after leader move ${round}`)
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    broker.moveLeader('t', 0, ((round + 1) % 3) + 1)
  }
  await writer.end().output()
  const got = await kcat(broker.bootstrapServers, ['-C', '-t', 't', '-e', '-q'])
  assert.deepEqual(
    got,
    Array.from({ length: 300 }, (_, index) => line(index)),
  )
})
