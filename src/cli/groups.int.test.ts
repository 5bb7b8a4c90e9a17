import assert from 'node:assert/strict'
import path from 'node:path'
import { test } from 'node:test'
import { groupsAreLookedAfter } from '../../test/kafka/groups-command.ts'
import { run } from '../../test/live/command.ts'
import { startBroker } from '../broker/embedded.ts'
import { KafkaClient } from '../kafka/client.ts'

const main = path.resolve(import.meta.dirname, 'main.ts')

test('groups are listed, described, moved after a look, and deleted', async () => {
  await using broker = await startBroker({ nodes: 2 })
  await groupsAreLookedAfter(broker.bootstrapServers)
})

test('a group is moved to a time, some partitions alone, and wrong usage is exit code 2', async () => {
  await using broker = await startBroker({ topics: [{ topic: 'orders', partitions: 3 }] })
  const reset = (...args: string[]) =>
    run(process.execPath, [main, 'groups', 'reset-offsets', 'billing', ...args, '-b', broker.bootstrapServers])
  await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
  const stamps = ['2026-01-01T00:00:00Z', '2026-01-02T00:00:00Z'].map((text) => Date.parse(text))
  for (const timestampMs of stamps) {
    for (const partition of [0, 1, 2])
      await client.producer().send({ topic: 'orders', partition, value: '', timestampMs })
  }
  const moved = await reset('--topic', 'orders:0,2', '--to-datetime', '2026-01-01T12:00:00+02:00', '--execute')
  assert.equal(moved.code, 0, moved.stderr)
  const committed = await client.admin().fetchOffsets('billing')
  assert.deepEqual(
    committed.map(({ partition, offset }) => [partition, offset]),
    [
      [0, 1],
      [2, 1],
    ],
  )
  const wrong = [
    ['--to-latest'],
    ['--topic', 'orders'],
    ['--topic', 'orders', '--to-latest', '--to-earliest'],
    ['--topic', 'orders', '--to-latest', '--execute', '--dry-run'],
    ['--topic', 'orders', '--to-datetime', '2026-01-01T00:00:00'],
    ['--topic', 'orders', '--by-duration', 'P1D'],
  ]
  const results = await Promise.all(wrong.map((args) => reset(...args)))
  assert.deepEqual(
    results.map(({ code }) => code),
    wrong.map(() => 2),
  )
})
