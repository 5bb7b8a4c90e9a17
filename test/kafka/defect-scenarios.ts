/**
 * Ways in which Kafka clients for Node were seen to break a promise, each as a scenario on Apache Kafka.
 *
 * A scenario plays a client and returns what is wrong with it, in words: nothing for ours. Played with a client that is
 * known to have the defect it must return something, or it would not see (`peers.soak.test.ts`).
 */
import { spawn } from 'node:child_process'
import { createSign, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { startFaultProxy } from '../../src/testing/fault-proxy.ts'
import { type Ground, SlowMember, until, within } from './ground.ts'
import { type GivenRecord, type Subject, wholeText } from './subject.ts'
import { TransactionWriter } from './transaction-writer.ts'

/** What a scenario needs beside three brokers. `control`: brokers that may be killed, on this machine. */
export type Need = 'control' | 'secure' | 'jars'

export interface DefectScenario {
  /** The number of the defect, as in the tests' names. */
  readonly id: string
  /** What must hold, as a sentence. */
  readonly promise: string
  readonly needs: readonly Need[]
  /** Kills brokers: nothing else may be played on them meanwhile. */
  readonly kills?: true
  /** Plays it; what was wrong, in words. Throws only when it could not be played. */
  play(subject: Subject, ground: Ground): Promise<readonly string[]>
}

/** How long a client may take over anything that brokers do not hold up. */
const patienceMs = 20_000

const d1: DefectScenario = {
  id: 'D1',
  promise: 'a partition that moves off its broker is read on, and its neighbour there is read all the while',
  needs: [],
  async play(subject, ground) {
    const flaws: string[] = []
    const [from = 0, to = 0] = await ground.brokers()
    const topic = await ground.topic('d1', 2, { replicas: 1 })
    for (const partition of [0, 1]) await ground.place(topic, partition, [from])
    const seen = [0, 0]
    const lastMs = [performance.now(), performance.now()]
    let silenceMs = 0
    await using load = ground.load(topic, [0, 1], 10)
    await using session = subject.connect({ bootstrapServers: ground.bootstrapServers })
    const member = await session.member({
      group: topic,
      topics: [topic],
      handle: ({ partition }) => {
        seen[partition] = (seen[partition] ?? 0) + 1
        lastMs[partition] = performance.now()
      },
    })
    await until('both partitions flow', () => seen.every((count) => count > 20))
    await ground.place(topic, 0, [to])
    const movedMs = performance.now()
    const [atMove = 0, neighbour = 0] = seen
    await within(patienceMs, () => {
      silenceMs = Math.max(silenceMs, performance.now() - Math.max(movedMs, lastMs[1] ?? 0))
      if (member.failures.length > 0) return true
      const flowed = (seen[0] ?? 0) > atMove + 50 && (seen[1] ?? 0) > neighbour + 50
      return flowed && performance.now() - movedMs > 1_000
    })
    if (member.failures.length > 0) flaws.push(`reading ended: ${member.failures[0]}`)
    if ((seen[0] ?? 0) <= atMove + 50) flaws.push('the moved partition stayed silent')
    if (silenceMs > 5_000) flaws.push(`the neighbour was silent for ${Math.round(silenceMs)} ms`)
    await load.stop()
    return flaws
  },
}

const d2: DefectScenario = {
  id: 'D2',
  promise: 'a killed broker takes only its own partitions with it: the others of the topic are written and read',
  needs: ['control'],
  kills: true,
  async play(subject, ground) {
    const flaws: string[] = []
    const brokers = await ground.brokers()
    const [dead = 0] = brokers
    const topic = await ground.topic('d2', 3, { replicas: 1 })
    for (const [partition, broker] of brokers.entries()) await ground.place(topic, partition, [broker])
    const safe = await ground.topic('d2-safe', 3, { replicas: 3 })
    for (const partition of [0, 1, 2]) await ground.fill(topic, partition, ['before'])
    const values = new Map<string, number>()
    const handle = (who: string) => (record: GivenRecord) => {
      const key = `${who} ${record.topic === topic ? 'half' : 'safe'}`
      values.set(key, (values.get(key) ?? 0) + 1)
    }
    const count = (key: string): number => values.get(key) ?? 0
    await using session = subject.connect({ bootstrapServers: ground.bootstrapServers })
    const producer = session.producer()
    await producer.send({ topic, partition: 1, value: 'before' })
    const member = await session.member({ group: topic, topics: [topic, safe], handle: handle('old') })
    await using load = ground.load(safe, [0, 1, 2], 20)
    await until('the member reads', () => count('old half') >= 4 && count('old safe') > 20)
    try {
      await ground.nodes.kill(dead)
      await until('the cluster knows', async () => {
        await ground.client.cluster.refresh().catch(() => undefined)
        return ground.leader(topic, 0) < 0 && [0, 1, 2].every((p) => ![dead, -1].includes(ground.leader(safe, p)))
      })
      await using late = subject.connect({ bootstrapServers: ground.bootstrapServers })
      for (const [who, sender] of [
        ['a producer that knew the topic', producer],
        ['a new producer', late.producer()],
      ] as const) {
        const why = await outcome(sender.send({ topic, partition: 1, value: 'after' }), patienceMs)
        if (why !== null) flaws.push(`${who} cannot write to a healthy partition: ${why}`)
      }
      const before = count('old safe')
      if (!(await within(patienceMs, () => count('old safe') > before + 50))) {
        flaws.push(`a member that read the topic reads nothing more: ${member.failures[0] ?? 'silence'}`)
      }
      // A new group whose coordinator lives, or the scenario would be about finding one.
      const joined = late.member({ group: ground.unique('d2'), topics: [topic, safe], handle: handle('new') })
      const why = await outcome(joined, patienceMs)
      if (why !== null) flaws.push(`a new member cannot join: ${why}`)
      else if (!(await within(patienceMs, () => count('new half') >= 2 && count('new safe') > 50))) {
        flaws.push('a new member reads nothing from the healthy partitions')
      }
    } finally {
      await ground.nodes.start(dead)
    }
    await load.stop()
    await ground.allInSync(safe)
    return flaws
  },
}

const d3: DefectScenario = {
  id: 'D3',
  promise: 'nothing of a partition is handled by its old owner once the new one has begun, and nothing twice',
  needs: [],
  async play(subject, ground) {
    const each = 300
    const topic = await ground.topic('d3', 2)
    for (const partition of [0, 1]) {
      await ground.fill(
        topic,
        partition,
        Array.from({ length: each }, (_, n) => `${partition}-${n}`),
      )
    }
    const seen: { readonly who: string; readonly partition: number; readonly value: string }[] = []
    const handle =
      (who: string) =>
      async ({ partition, value }: GivenRecord) => {
        seen.push({ who, partition, value })
        await sleep(4)
      }
    await using one = subject.connect({ bootstrapServers: ground.bootstrapServers })
    await using two = subject.connect({ bootstrapServers: ground.bootstrapServers })
    await one.member({ group: topic, topics: [topic], handle: handle('first') })
    await until('the first member works', () => seen.length > 60)
    await two.member({ group: topic, topics: [topic], handle: handle('second') })
    const values = () => new Set(seen.map(({ value }) => value)).size
    const flaws: string[] = []
    if (!(await within(patienceMs, () => values() === 2 * each && seen.some(({ who }) => who === 'second')))) {
      flaws.push(`${values()} of ${2 * each} records were handled`)
    }
    // Whoever still has old records in hand gets the time to show them.
    const atEnd = seen.length
    await within(3_000, () => seen.length > atEnd + 100)
    let late = 0
    for (const partition of [0, 1]) {
      const mine = seen.filter((record) => record.partition === partition)
      const begun = mine.findIndex(({ who }) => who === 'second')
      if (begun >= 0) late += mine.slice(begun).filter(({ who }) => who === 'first').length
    }
    if (late > 0) flaws.push(`${late} records were handled by the old owner after the new one had begun`)
    const twice = seen.length - values()
    if (twice > 0) flaws.push(`${twice} records were handled twice`)
    return flaws
  },
}

const d4: DefectScenario = {
  id: 'D4',
  promise: "a commit for a partition that moved on is refused and leaves the new owner's offset alone",
  needs: [],
  async play(subject, ground) {
    const flaws: string[] = []
    const topic = await ground.topic('d4', 2)
    const values = Array.from({ length: 100 }, (_, n) => String(n))
    for (const partition of [0, 1]) await ground.fill(topic, partition, values)
    const seen = { first: 0, second: 0 }
    await using one = subject.connect({ bootstrapServers: ground.bootstrapServers })
    await using two = subject.connect({ bootstrapServers: ground.bootstrapServers })
    const first = await one.member({ group: topic, topics: [topic], handle: () => void seen.first++ })
    await until('the first holds both and reads', () => first.held().length === 2 && seen.first > 10)
    const second = await two.member({ group: topic, topics: [topic], handle: () => void seen.second++ })
    await until('each holds one', () => first.held().length === 1 && second.held().length === 1)
    const moved = Number(second.held()[0]?.split('/')[1])
    await second.commit(topic, moved, 50)
    const refused = await outcome(first.commit(topic, moved, 10), patienceMs)
    if (refused === null) flaws.push('the commit was taken')
    const offset = await ground.committed(topic, topic, moved)
    if (offset !== 50) flaws.push(`the committed offset went from 50 to ${offset}`)
    return flaws
  },
}

const d5: DefectScenario = {
  id: 'D5',
  promise: 'records of aborted transactions are never given to a reader of committed ones',
  needs: [],
  async play(subject, ground) {
    const flaws: string[] = []
    const topic = await ground.topic('d5', 1)
    const writer = new TransactionWriter(ground.client, topic)
    await writer.begin(ground.unique('d5'))
    const expected: string[] = []
    for (const [round, ending] of (['abort', 'commit', 'abort', 'abort', 'commit'] as const).entries()) {
      for (let n = 0; n < 12; n++) {
        const value = `${ending}-${round}-${n}-${'x'.repeat(700)}`
        await writer.append(value)
        if (ending === 'commit') expected.push(value)
      }
      await writer.end(ending === 'commit')
    }
    await ground.fill(topic, 0, ['end'])
    expected.push('end')
    await using session = subject.connect({ bootstrapServers: ground.bootstrapServers })
    for (const maxBytesPerPartition of [4_096, 1_048_576]) {
      const got: string[] = []
      await using member = await session.member({
        group: ground.unique('d5'),
        topics: [topic],
        maxBytesPerPartition,
        handle: ({ value }) => void got.push(value),
      })
      await within(patienceMs, () => got.includes('end') || member.failures.length > 0)
      const aborted = got.filter((value) => value.startsWith('abort')).length
      if (aborted > 0) flaws.push(`${aborted} aborted records were given, ${maxBytesPerPartition} bytes a fetch`)
      else if (got.join() !== expected.join())
        flaws.push(
          `${got.length} of ${expected.length} committed records, ${maxBytesPerPartition} bytes a fetch: ${member.failures}`,
        )
    }
    return flaws
  },
}

const d6: DefectScenario = {
  id: 'D6',
  promise: 'an idempotent producer loses, repeats and reorders nothing over elections under a send every 4 ms',
  needs: [],
  async play(subject, ground) {
    const brokers = await ground.brokers()
    const topic = await ground.topic('d6', 1, { configs: { 'min.insync.replicas': '2' } })
    await using session = subject.connect({ bootstrapServers: ground.bootstrapServers })
    const producer = session.producer()
    await producer.send({ topic, partition: 0, value: '-1' })
    const acknowledged = new Set<number>([-1])
    const failures: string[] = []
    const sends: Promise<void>[] = []
    let n = 0
    const timer = setInterval(() => {
      const number = n++
      const sent = producer.send({ topic, partition: 0, value: String(number) })
      sends.push(
        sent.then(
          () => void acknowledged.add(number),
          (error: unknown) => void failures.push(wholeText(error)),
        ),
      )
    }, 4)
    try {
      for (let move = 0; move < 3; move++) {
        await sleep(700)
        const leader = ground.leader(topic, 0)
        const others = brokers.filter((broker) => broker !== leader)
        await ground.place(topic, 0, [...others, leader])
      }
      await sleep(700)
    } finally {
      clearInterval(timer)
    }
    const answered = await within(patienceMs, () => acknowledged.size + failures.length > n)
    return [
      ...(answered ? [] : [`${n + 1 - acknowledged.size - failures.length} sends were never answered`]),
      ...(failures.length === 0 ? [] : [`${failures.length} sends failed: ${failures[0]}`]),
      ...judgeLog(
        (await ground.log(topic, 0)).map(({ value }) => Number(value)),
        acknowledged,
      ),
    ]
  },
}

/** What is wrong with numbers sent in ascending order, as they are stored. */
export function judgeLog(stored: readonly number[], acknowledged: ReadonlySet<number>): string[] {
  const flaws: string[] = []
  const distinct = new Set(stored)
  let back = 0
  for (let i = 1; i < stored.length; i++) if ((stored[i] ?? 0) < (stored[i - 1] ?? 0)) back++
  const missing = [...acknowledged].filter((number) => !distinct.has(number)).length
  if (back > 0) flaws.push(`the log of ${stored.length} goes back ${back} times`)
  if (missing > 0) flaws.push(`${missing} of ${acknowledged.size} acknowledged records are missing`)
  if (distinct.size < stored.length) flaws.push(`${stored.length - distinct.size} records are stored twice`)
  return flaws
}

const d15: DefectScenario = {
  id: 'D15',
  promise: 'no record is given twice when the leader moves without a rebalance',
  needs: [],
  async play(subject, ground) {
    const brokers = await ground.brokers()
    const topic = await ground.topic('d15', 2)
    const offsets: string[] = []
    await using load = ground.load(topic, [0, 1], 2)
    await using session = subject.connect({ bootstrapServers: ground.bootstrapServers })
    const member = await session.member({
      group: topic,
      topics: [topic],
      handle: ({ partition, offset }) => void offsets.push(`${partition}@${offset}`),
    })
    await until('records flow', () => offsets.length > 100)
    for (let move = 0; move < 4; move++) {
      for (const partition of [0, 1]) {
        const leader = ground.leader(topic, partition)
        await ground.place(topic, partition, [...brokers.filter((broker) => broker !== leader), leader])
      }
      await sleep(400)
    }
    await load.stop()
    const flaws: string[] = []
    const all = () => new Set(offsets).size >= load.acknowledged.size
    if (!(await within(patienceMs, all))) {
      flaws.push(`${new Set(offsets).size} of ${load.acknowledged.size} records were given: ${member.failures}`)
    }
    const twice = offsets.length - new Set(offsets).size
    if (twice > 0) flaws.push(`${twice} of ${offsets.length} records were given twice`)
    return flaws
  },
}

const d16: DefectScenario = {
  id: 'D16',
  promise: 'a topic that only one member subscribes to is read by that member, whoever leads the group',
  needs: [],
  async play(subject, ground) {
    const common = await ground.topic('d16', 4)
    const special = await ground.topic('d16-special', 2)
    for (const partition of [0, 1]) await ground.fill(special, partition, ['x'])
    let read = 0
    const handle = ({ topic }: GivenRecord): void => {
      if (topic === special) read++
    }
    await using one = subject.connect({ bootstrapServers: ground.bootstrapServers })
    await using two = subject.connect({ bootstrapServers: ground.bootstrapServers })
    const leader = await one.member({ group: common, topics: [common], handle })
    await until('the leader holds all', () => leader.held().length === 4)
    const other = await two.member({ group: common, topics: [common, special], handle })
    const whole = (): boolean => {
      const [a, b] = [leader.held(), other.held()]
      return read === 2 && new Set([...a, ...b]).size === 6 && a.length + b.length === 6
    }
    if (await within(10_000, whole)) return []
    return [`${read} of 2 records were read, the leader holds ${leader.held()}, the other ${other.held()}`]
  },
}

const d17: DefectScenario = {
  id: 'D17',
  promise: 'partitions added to a topic are noticed by the group and read',
  needs: [],
  async play(subject, ground) {
    const topic = await ground.topic('d17', 2)
    const read = new Set<number>()
    const options = { bootstrapServers: ground.bootstrapServers, metadataMaxAgeMs: 500 }
    await using session = subject.connect(options)
    const handle = ({ partition }: GivenRecord): void => void read.add(partition)
    const member = await session.member({ group: topic, topics: [topic], handle })
    await until('it holds two', () => member.held().length === 2)
    await ground.client.admin().createPartitions([{ topic, partitions: 4 }])
    await until('the new partitions are there', async () => {
      await ground.client.cluster.refresh()
      return ground.leader(topic, 3) >= 0
    })
    for (const partition of [0, 1, 2, 3]) await ground.fill(topic, partition, ['x'])
    if (await within(10_000, () => read.size === 4)) return []
    return [`only of partitions ${[...read].sort()} anything was read in 10 s`]
  },
}

const d20: DefectScenario = {
  id: 'D20',
  promise: 'a join that others hold up for longer than the request timeout goes through',
  needs: [],
  async play(subject, ground) {
    const topic = await ground.topic('d20', 2)
    for (const partition of [0, 1]) await ground.fill(topic, partition, ['x'])
    let read = 0
    await using slow = new SlowMember(ground, { id: topic, topic, protocol: subject.protocol, holdMs: 5_000 })
    await until('the slow member leads the group', () => slow.joined)
    await using session = subject.connect({ bootstrapServers: ground.bootstrapServers, requestTimeoutMs: 1_000 })
    const failures: (readonly string[])[] = []
    const joined = session.member({
      group: topic,
      topics: [topic],
      rebalanceTimeoutMs: 60_000,
      handle: () => void read++,
    })
    const why = await outcome(
      joined.then((member) => void failures.push(member.failures)),
      patienceMs,
    )
    const done = why === null && (await within(patienceMs, () => read === 2))
    const told = failures.flat()
    return [
      ...(why === null ? [] : [`joining failed: ${why}`]),
      ...(done ? [] : [`${read} of 2 records were read`]),
      ...(told.length === 0 ? [] : [`errors were told: ${told[0]}`]),
    ]
  },
}

const d21: DefectScenario = {
  id: 'D21',
  promise: 'a partition that the topic does not have is refused, and nothing is stored elsewhere',
  needs: [],
  async play(subject, ground) {
    const topic = await ground.topic('d21', 3)
    await using session = subject.connect({ bootstrapServers: ground.bootstrapServers })
    const producer = session.producer()
    await producer.send({ topic, partition: 0, value: 'right' })
    const why = await outcome(producer.send({ topic, partition: 7, value: 'wrong' }), patienceMs)
    const flaws = why === null ? ['a send to partition 7 of 3 was acknowledged'] : []
    for (const partition of [0, 1, 2]) {
      const stored = await ground.log(topic, partition)
      if (stored.some(({ value }) => value === 'wrong')) flaws.push(`the record is in partition ${partition}`)
    }
    return flaws
  },
}

const d22: DefectScenario = {
  id: 'D22',
  promise: "keys go to the partitions that Java's producer chooses",
  needs: ['jars'],
  async play(subject, ground) {
    const keys = Array.from({ length: 300 }, () => randomUUID())
    const partitions = 6
    const javas = await ground.topic('d22-java', partitions)
    const ours = await ground.topic('d22', partitions)
    await runJava(
      'org.apache.kafka.tools.ConsoleProducer',
      [
        ...['--bootstrap-server', ground.bootstrapServers, '--topic', javas],
        ...['--reader-property', 'parse.key=true', '--reader-property', 'key.separator=:'],
      ],
      keys.map((key) => `${key}:x\n`).join(''),
    )
    await using session = subject.connect({ bootstrapServers: ground.bootstrapServers })
    const producer = session.producer()
    await Promise.all(keys.map((key) => producer.send({ topic: ours, key, value: 'x' })))
    const places = async (topic: string): Promise<ReadonlyMap<string, number>> => {
      const found = new Map<string, number>()
      for (let partition = 0; partition < partitions; partition++) {
        for (const { key } of await ground.log(topic, partition)) found.set(key ?? '', partition)
      }
      return found
    }
    const [theirs, mine] = [await places(javas), await places(ours)]
    const different = keys.filter((key) => theirs.get(key) !== mine.get(key)).length
    return different === 0 ? [] : [`${different} of ${keys.length} keys are elsewhere`]
  },
}

const d23: DefectScenario = {
  id: 'D23',
  promise: "a batch whose bytes changed on the broker's disk is not given to anybody, and the neighbour is read",
  needs: ['control'],
  async play(subject, ground) {
    const topic = await ground.topic('d23', 2, { replicas: 1 })
    for (const partition of [0, 1]) await ground.fill(topic, partition, [`whole-${partition}`])
    await ground.fill(topic, 0, ['right'])
    ground.flipLastByte(topic, 0)
    const got: string[] = []
    await using session = subject.connect({ bootstrapServers: ground.bootstrapServers })
    const handle = ({ value }: GivenRecord): void => void got.push(value)
    const member = await session.member({ group: topic, topics: [topic], handle })
    await within(patienceMs, () => got.length >= 2 && (got.length > 2 || member.failures.length > 0))
    const wrong = got.filter((value) => !['whole-0', 'whole-1'].includes(value))
    const flaws = wrong.length === 0 ? [] : [`${wrong} was given for right`]
    if (!got.includes('whole-1') || !got.includes('whole-0')) flaws.push(`of what is whole only ${got} was given`)
    if (wrong.length === 0 && !member.failures.some((text) => text.startsWith(`${topic}/0`))) {
      flaws.push(`nobody was told: ${member.failures}`)
    }
    return flaws
  },
}

const d24: DefectScenario = {
  id: 'D24',
  promise: 'a hung broker fills no memory without bound, and closing delivers what was sent',
  needs: [],
  async play(subject, ground) {
    const flaws: string[] = []
    const topic = await ground.topic('d24', 1)
    const sends = 600
    const value = 'x'.repeat(262_144)
    {
      await using proxy = await startFaultProxy(ground.bootstrapServers)
      proxy.fault({ api: 'Produce', times: Number.POSITIVE_INFINITY, action: { do: 'silence' } })
      await using session = subject.connect({ bootstrapServers: proxy.bootstrapServers })
      const producer = session.producer({ deliveryTimeoutMs: 3_500 })
      let refused = 0
      for (let n = 0; n < sends; n++) {
        producer.send({ topic, partition: 0, value }).catch(() => refused++)
        if (n % 100 === 0) await sleep(1)
      }
      await within(1_500, () => refused > sends / 2)
      const takenMiB = Math.round(((sends - refused) * value.length) / 1024 / 1024)
      if (takenMiB > 80) flaws.push(`${takenMiB} MiB were taken, from ${sends} sends to a broker that answers nothing`)
    }
    await using proxy = await startFaultProxy(ground.bootstrapServers)
    await using session = subject.connect({ bootstrapServers: proxy.bootstrapServers })
    const producer = session.producer()
    await producer.send({ topic, partition: 0, value: 'warm' })
    proxy.fault({ api: 'Produce', times: Number.POSITIVE_INFINITY, action: { do: 'delay', delayMs: 300 } })
    const last = [1, 2, 3, 4, 5].map((n) =>
      outcome(producer.send({ topic, partition: 0, value: `last-${n}` }), patienceMs),
    )
    await outcome(producer.close(), patienceMs)
    const failed = (await Promise.all(last)).filter((why) => why !== null)
    if (failed.length > 0) flaws.push(`closing gave up ${failed.length} of 5 sends: ${failed[0]}`)
    return flaws
  },
}

const d25: DefectScenario = {
  id: 'D25',
  promise: 'a rejected token is said to be one, within 2 s',
  needs: ['secure'],
  async play(subject, ground) {
    const flaws: string[] = []
    const { signingKey, keyId, issuer, audience, bootstrapServers } = ground.secure.oauth
    const now = Math.floor(Date.now() / 1_000)
    const token = (claims: object): string => {
      const all = { sub: 'alice', iss: issuer, aud: audience, iat: now - 60, exp: now + 600, ...claims }
      const body = [{ alg: 'RS256', typ: 'JWT', kid: keyId }, all]
        .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
        .join('.')
      return `${body}.${createSign('RSA-SHA256').update(body).sign(signingKey, 'base64url')}`
    }
    const { caFile } = ground.secure
    const login = async (claims: object): Promise<string | null> => {
      await using session = subject.connect({ bootstrapServers, token: { value: token(claims), caFile } })
      return await outcome(session.ask(), patienceMs)
    }
    const right = await login({})
    if (right !== null) throw new Error(`a good token does not get in: ${right}`)
    for (const [what, claims] of [
      ['an expired token', { exp: now - 300 }],
      ['a token for somebody else', { aud: 'elsewhere' }],
    ] as const) {
      const startMs = performance.now()
      const why = await login(claims)
      const tookMs = Math.round(performance.now() - startMs)
      if (why === null) flaws.push(`${what} got in`)
      else if (!/invalid_token/.test(why)) flaws.push(`${what} is told as: ${why}`)
      if (tookMs > 2_000) flaws.push(`${what} took ${tookMs} ms`)
    }
    return flaws
  },
}

export const defectScenarios: readonly DefectScenario[] = [
  ...[d1, d2, d3, d4, d5, d6],
  ...[d15, d16, d17],
  ...[d20, d21, d22, d23, d24, d25],
]

/** Null when it was fulfilled in time, else why not. */
async function outcome(work: Promise<unknown>, limitMs: number): Promise<string | null> {
  const limit = new AbortController()
  const late = sleep(limitMs, `nothing in ${limitMs} ms`, { signal: limit.signal }).catch(() => null)
  const done = work.then(
    () => null,
    (error: unknown) => wholeText(error),
  )
  const first = await Promise.race([done, late])
  limit.abort()
  return first
}

/** Runs one of Kafka's own tools to its end. Throws when it fails. */
export async function runJava(mainClass: string, args: readonly string[], input = ''): Promise<string> {
  const folder = process.env['OTTLA_LIVE_JARS'] ?? ''
  const jars = readdirSync(folder).filter((name) => name.endsWith('.jar'))
  const classPath = jars
    .sort()
    .map((name) => path.join(folder, name))
    .join(path.delimiter)
  const quick = ['-Xmx256m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1']
  const java = [...quick, '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn', '-cp', classPath, mainClass, ...args]
  const child = spawn('java', java, { stdio: ['pipe', 'pipe', 'pipe'] })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (said += text))
  child.stdin.on('error', () => undefined)
  child.stdin.end(input)
  const [code] = await once(child, 'close')
  if (code !== 0) throw new Error(`${mainClass} ended with ${code}: ${said}`)
  return said
}
