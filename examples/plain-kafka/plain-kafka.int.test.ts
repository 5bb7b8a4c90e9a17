import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startBroker } from 'ottla/broker'
import { KafkaClient } from 'ottla/kafka'
import { eachRecord } from './each-record.ts'
import { payments } from './payments.ts'

test('the example stores, reads and counts every payment once', async () => {
  await using broker = await startBroker({ nodes: 2 })
  const said: string[] = []
  const paid = await payments(broker.bootstrapServers, (line) => void said.push(line))
  assert.deepEqual(Object.fromEntries(paid), { ada: 135, grace: 145, edsger: 155 })
  assert.match(said[0] ?? '', /^30 payments stored in partitions \d(, \d)*$/)
  assert.deepEqual(said.slice(1), [
    'refused: OTTLA_PUBLISH_TOO_LARGE',
    'accounting is 0 records behind',
    'going back to the beginning would redo 30 of them; admin.alterOffsets(plan) would do it',
  ])
})

test('a record that fails stops its partition, the others go on, and the next process begins with it', async () => {
  await using broker = await startBroker({ topics: [{ topic: 'jobs', partitions: 2 }] })
  await using client = new KafkaClient({ bootstrapServers: broker.bootstrapServers })
  for (let n = 0; n < 6; n++) await client.producer().send({ topic: 'jobs', partition: n % 2, value: `${n}` })
  const run = async (broken: string | null, count: number): Promise<{ handled: string[]; failures: string[] }> => {
    const handled: string[] = []
    const failures: string[] = []
    const enough = Promise.withResolvers<void>()
    {
      await using _ = eachRecord(
        client,
        { groupId: 'workers', topics: ['jobs'] },
        {
          async handle({ value }) {
            if (value === broken) throw new Error(`cannot do ${value}`)
            handled.push(value ?? '')
            if (handled.length === count) enough.resolve()
          },
          failed: (error) => void failures.push((error as Error).message),
        },
      )
      await enough.promise
      const endMs = performance.now() + 10_000
      while (broken !== null && failures.length === 0 && performance.now() < endMs) {
        await new Promise((done) => setTimeout(done, 5))
      }
    }
    return { handled: handled.toSorted(), failures }
  }
  assert.deepEqual(await run('2', 4), { handled: ['0', '1', '3', '5'], failures: ['cannot do 2'] })
  assert.deepEqual(await run(null, 2), { handled: ['2', '4'], failures: [] })
})
