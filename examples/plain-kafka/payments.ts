/** `ottla/kafka` by itself: a topic, a producer, a group of readers, and how far behind they are. */
import { KafkaClient, OttlaError } from 'ottla/kafka'
import { eachRecord } from './each-record.ts'

/** Publishes payments, has them read by a group, and says what each customer paid. */
export async function payments(bootstrapServers: string, say: (line: string) => void): Promise<Map<string, number>> {
  await using client = new KafkaClient({ bootstrapServers, clientId: 'payments' })

  // Results come per item; what exists already is one of them, and no exception.
  const admin = client.admin()
  const [topic] = await admin.createTopics([{ topic: 'payments', partitions: 3 }])
  if (topic?.error !== undefined && topic.error.kafka?.name !== 'TOPIC_ALREADY_EXISTS') throw topic.error

  // Calls of one turn travel together: no batches to make. Each answers with where its record was stored.
  const producer = client.producer({ compression: 'zstd' })
  const customers = ['ada', 'grace', 'edsger']
  const stored = await Promise.all(
    Array.from({ length: 30 }, (_, n) =>
      producer.send({
        topic: 'payments',
        key: customers[n % customers.length] as string,
        value: JSON.stringify({ cents: n }),
        headers: [{ key: 'content-type', value: 'application/json' }],
      }),
    ),
  )
  say(
    `${stored.length} payments stored in partitions ${[...new Set(stored.map((s) => s.partition))].sort().join(', ')}`,
  )

  // What cannot be taken is told at once and never half done.
  const tooLarge = await producer.send({ topic: 'payments', value: 'x'.repeat(2_000_000) }).catch((error) => error)
  if (tooLarge instanceof OttlaError) say(`refused: ${tooLarge.code}`)

  const paid = new Map<string, number>()
  {
    const everything = Promise.withResolvers<void>()
    let left = stored.length
    await using _ = eachRecord(
      client,
      { groupId: 'accounting', topics: ['payments'] },
      {
        async handle({ key, value }) {
          const { cents } = JSON.parse(value ?? '{}') as { cents: number }
          paid.set(key ?? '', (paid.get(key ?? '') ?? 0) + cents)
          left -= 1
          if (left === 0) everything.resolve()
        },
        failed: everything.reject,
      },
    )
    await everything.promise
  }

  // The group has no members now, so its offsets say how far it came, and could be moved.
  const committed = await admin.fetchOffsets('accounting')
  const ends = await admin.listOffsets(committed.map(({ topic, partition }) => ({ topic, partition, at: 'latest' })))
  const lag = committed.reduce((sum, { offset }, i) => sum + (ends[i]?.offset ?? 0) - offset, 0)
  say(`accounting is ${lag} records behind`)
  const plan = await admin.planOffsets('accounting', [{ topic: 'payments', to: 'earliest' }])
  const redone = plan.offsets.reduce((sum, { from, to }) => sum + (from ?? 0) - to, 0)
  say(`going back to the beginning would redo ${redone} of them; admin.alterOffsets(plan) would do it`)
  return paid
}
