/**
 * `ottla groups` from beginning to end, on any Kafka. Names are of this run alone, so that a shared cluster can be used.
 */
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import path from 'node:path'
import { KafkaClient } from '../../src/kafka/client.ts'
import { run } from '../live/command.ts'

const main = path.resolve(import.meta.dirname, '../../src/cli/main.ts')

interface Described {
  readonly state: string
  readonly lag: number
  readonly members: readonly { readonly clientId: string }[]
  readonly partitions: readonly {
    readonly partition: number
    readonly committed: number | null
    readonly logEnd: number
    readonly lag: number | null
    readonly memberId: string | null
  }[]
}

export async function groupsAreLookedAfter(bootstrapServers: string): Promise<void> {
  const group = `groups-${randomUUID()}`
  const topic = `groups-${randomUUID()}`
  const ottla = (...args: string[]) =>
    run(process.execPath, [main, 'groups', ...args], {
      env: { KAFKA_BOOTSTRAP_SERVERS: bootstrapServers },
      timeoutMs: 60_000,
    })
  const ok = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await ottla(...args)
    assert.equal(code, 0, `${args.join(' ')}\n${stdout}${stderr}`)
    return stdout
  }
  const described = async () => JSON.parse(await ok('describe', group, '-o', 'json')) as Described
  const offsets = async () => (await described()).partitions.map(({ committed }) => committed)

  await using client = new KafkaClient({ bootstrapServers, clientId: 'reader' })
  const admin = client.admin()
  const [made] = await admin.createTopics([{ topic, partitions: 2 }])
  assert.equal(made?.error, undefined)
  const producer = client.producer()
  for (let n = 0; n < 10; n++) await producer.send({ topic, partition: n % 2, value: `${n}` })

  // A group that does not exist yet can be told where to begin.
  const preview = await ottla('reset-offsets', group, '--topic', topic, '--to-offset', '2')
  assert.equal(preview.code, 0, preview.stderr)
  assert.match(preview.stdout, /\s0\s+-\s+2\s+skips 2\n.*\s1\s+-\s+2\s+skips 2\n/)
  assert.match(preview.stderr, /nothing was changed; say --execute/)
  assert.equal((await ottla('describe', group)).code, 3, 'a preview changed something')
  await ok('reset-offsets', group, '--topic', topic, '--to-offset', '2', '--execute')
  assert.deepEqual(await offsets(), [2, 2])

  const gained = Promise.withResolvers<void>()
  {
    await using _ = client.consumer(
      { groupId: group, topics: [topic] },
      {
        gained: () => gained.resolve(),
        batch: () => undefined,
        fault: (_where, error) => gained.reject(error),
      },
    )
    await gained.promise
    const live = await described()
    assert.deepEqual([live.state, live.lag, live.members.map(({ clientId }) => clientId)], ['Stable', 6, ['reader']])
    assert.ok(live.partitions.every(({ logEnd, lag, memberId }) => logEnd === 5 && lag === 3 && memberId !== null))
    const text = await ok('describe', group)
    assert.match(text, new RegExp(`^${group}  Stable, 1 member, assignor \\w+`))
    assert.match(text, new RegExp(`^${topic} +1 +2 +5 +3 +reader at `, 'm'))
    const refused = await ottla('reset-offsets', group, '--topic', topic, '--to-latest', '--execute')
    assert.equal(refused.code, 1)
    assert.match(refused.stderr, /^error: .*a live member.*\nOTTLA_KAFKA_GROUP_ACTIVE: .*stop its members/)
    const warned = await ottla('reset-offsets', group, '--topic', topic, '--to-latest')
    assert.deepEqual([warned.code, /--execute would be refused/.test(warned.stderr)], [1, true])
    assert.equal((await ottla('delete', group, '--dry-run')).code, 1)
    assert.match(await ok('list'), new RegExp(`^${group} +Stable`, 'm'))
  }
  const whole = ['--all-topics', '-o', 'json'] as const
  const moved = JSON.parse(await ok('reset-offsets', group, '--shift-by', '-1', ...whole, '--execute')) as {
    executed: boolean
    partitions: { from: number; to: number }[]
  }
  assert.deepEqual(
    [moved.executed, moved.partitions.map(({ from, to }) => [from, to])],
    [
      true,
      [
        [2, 1],
        [2, 1],
      ],
    ],
  )
  const halfBad = await ottla('reset-offsets', group, '--topic', `${topic}:0,9`, '--to-earliest', '--execute')
  assert.equal(halfBad.code, 1)
  assert.match(halfBad.stdout, /0 +1 +0 +redoes 1\n.* 9 +- +- +unchanged: .*UNKNOWN_TOPIC_OR_PARTITION/)
  assert.deepEqual((await offsets()).slice(0, 2), [0, 1])

  assert.equal(await ok('delete', group, '--dry-run'), `would delete group ${group}\n`)
  assert.equal(await ok('delete', group), `group ${group} deleted\n`)
  assert.equal((await ottla('describe', group)).code, 3)
  await admin.deleteTopics([topic])
}
