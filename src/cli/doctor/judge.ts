/**
 * What `ottla doctor` thinks of the facts: pure, one function per check.
 *
 * `fail`: records can be lost or a service cannot work. `warn`: it works, until something happens that does happen.
 * `skipped`: it could not be looked at, and why.
 */
import type { ClockFacts, DoctorFacts, PartitionProgress, TopicFacts } from './facts.ts'
import { soonShare, timeLimitMs } from './facts.ts'

export type CheckName =
  | 'brokers'
  | 'replication'
  | 'in-sync'
  | 'elections'
  | 'auto-create'
  | 'offsets-topic'
  | 'retention'
  | 'dead-letters'
  | 'control'
  | 'rights'
  | 'clock'
  | 'store'

export type Status = 'ok' | 'warn' | 'fail' | 'skipped'

export interface Finding {
  readonly check: CheckName
  /** `topic orders`, `broker 2`, `group billing`, `cluster`. */
  readonly subject: string
  readonly status: Status
  readonly what: string
  /** What to do about it; null when nothing. */
  readonly todo: string | null
}

type Judge = (facts: DoctorFacts) => readonly Finding[]

const dayMs = 86_400_000
/** What a dead letter carries beyond the record: headers with cause and stack. */
const deadLetterRoomBytes = 64 * 1024
const clockWarnMs = 5_000
const clockFailMs = 60_000
const offsetsRetentionMinutesMin = 7 * 24 * 60
/** Releases by the first `metadata.version` they have, newest first. */
const releases: readonly (readonly [number, string])[] = [
  [31, 'after 4.3'],
  [30, '4.3'],
  [28, '4.2'],
  [26, '4.1'],
  [22, '4.0'],
  [21, '3.9'],
]

const finding = (
  check: CheckName,
  subject: string,
  told: { readonly status: Status; readonly what: string; readonly todo?: string },
): Finding => ({ check, subject, status: told.status, what: told.what, todo: told.todo ?? null })

/** Everything that is to be said, check by check; a check with nothing to complain of says so in one finding. */
export function judge(facts: DoctorFacts): readonly Finding[] {
  return [
    brokers,
    replication,
    inSync,
    elections,
    autoCreate,
    offsetsTopic,
    retention,
    deadLetters,
    control,
    rights,
    clock,
    store,
  ].flatMap((check) => check(facts))
}

const brokers: Judge = (facts) => {
  const findings = facts.brokers
    .filter(({ unreachable }) => unreachable !== null)
    .map(({ id, address, unreachable }) =>
      finding('brokers', `broker ${id}`, {
        status: 'fail',
        what: `${address} cannot be asked: ${unreachable}`,
        todo: 'Check that it runs, and that its advertised.listeners can be reached from here.',
      }),
    )
  const answering = facts.brokers.filter(({ unreachable }) => unreachable === null)
  const versions = new Set(answering.map(({ protocol, metadataVersion }) => `${metadataVersion} ${protocol}`))
  if (versions.size > 1) {
    findings.push(
      finding('brokers', 'cluster', {
        status: 'warn',
        what: 'the brokers do not speak the same versions of the protocol',
        todo: 'Finish the rolling upgrade; until then clients use what all of them know.',
      }),
    )
  }
  if (findings.length > 0) return findings
  const level = answering[0]?.metadataVersion ?? null
  const release = level === null ? undefined : releases.find(([first]) => level >= first)?.[1]
  const version = level === null ? '' : `, metadata.version ${level}${release === undefined ? '' : ` (${release})`}`
  const what = `${answering.map(({ id, address }) => `${id} at ${address}`).join(', ')}${version}`
  return [finding('brokers', 'cluster', { status: 'ok', what })]
}

const replication: Judge = ({ topics, brokers: nodes }) => {
  const wanted = Math.min(3, nodes.length)
  const findings: Finding[] = []
  for (const { topic, exists, replicas, partitions } of topics) {
    if (!exists) continue
    const subject = `topic ${topic}`
    const leaderless = partitions.filter(({ leader }) => leader < 0).map(({ partition }) => partition)
    if (leaderless.length > 0) {
      findings.push(
        finding('replication', subject, {
          status: 'fail',
          what: `partitions ${leaderless.join(', ')} have no leader: they can be neither read nor written`,
          todo: 'Bring the brokers of their replicas back.',
        }),
      )
    }
    if (replicas < wanted) {
      findings.push(
        finding('replication', subject, {
          status: nodes.length >= 3 ? 'fail' : 'warn',
          what: `${replicas} of ${wanted} replicas: losing ${replicas === 1 ? 'one disk' : `${replicas} disks`} loses records`,
          todo: 'Add replicas with kafka-reassign-partitions, or make the topic again.',
        }),
      )
    }
    const behind = partitions.filter(({ leader, isr, replicas: all }) => leader >= 0 && isr.length < all.length)
    if (behind.length > 0) {
      findings.push(
        finding('replication', subject, {
          status: 'warn',
          what: `${behind.length} partitions have replicas that are not in sync`,
          todo: 'Find out which broker is down or slow.',
        }),
      )
    }
  }
  const told = nodes.find(({ settings }) => settings !== null)?.settings?.['default.replication.factor']
  if (told !== undefined && Number(told) < wanted) {
    findings.push(
      finding('replication', 'cluster', {
        status: 'warn',
        what: `default.replication.factor is ${told}: a topic made without saying how often has ${told} replicas`,
        todo: `Set it to ${wanted} on every broker.`,
      }),
    )
  }
  if (nodes.length < 3) {
    findings.push(
      finding('replication', 'cluster', {
        status: 'warn',
        what: `${nodes.length} broker${nodes.length === 1 ? '' : 's'}: good for development; three survive the loss of one`,
        todo: 'Use three brokers or more in production.',
      }),
    )
  }
  return orFine(
    findings,
    'replication',
    `${topics.filter((t) => t.exists).length} topics, each with ${wanted} replicas or more`,
  )
}

const inSync: Judge = ({ topics, brokers: nodes }) => {
  const findings: Finding[] = []
  for (const { topic, exists, replicas, partitions, configs } of topics) {
    if (!exists) continue
    const subject = `topic ${topic}`
    const told = configs['min.insync.replicas']
    if (told === undefined) {
      findings.push(unreadable('in-sync', topic))
      continue
    }
    const least = Number(told)
    const short = partitions.filter(({ leader, isr }) => leader >= 0 && isr.length < Math.min(least, replicas))
    if (least > replicas) {
      findings.push(
        finding('in-sync', subject, {
          status: 'warn',
          what: `min.insync.replicas is ${least} and there are ${replicas} replicas: older brokers refuse every write, newer ones ask for all of them`,
          todo: `ottla topics alter ${topic} -c min.insync.replicas=${Math.max(1, replicas - 1)}, or add replicas`,
        }),
      )
    } else if (short.length > 0) {
      findings.push(
        finding('in-sync', subject, {
          status: 'fail',
          what: `${short.length} partitions have fewer than ${least} replicas in sync: they cannot be written now`,
          todo: 'Bring the missing brokers back.',
        }),
      )
    } else if (replicas >= 2 && least < 2) {
      findings.push(
        finding('in-sync', subject, {
          status: nodes.length >= 3 ? 'fail' : 'warn',
          what: 'min.insync.replicas is 1: acks=all is answered when one disk has the record',
          todo: `ottla topics alter ${topic} -c min.insync.replicas=2`,
        }),
      )
    } else if (replicas >= 2 && least === replicas) {
      findings.push(
        finding('in-sync', subject, {
          status: 'warn',
          what: `min.insync.replicas is ${least}, as many as there are replicas: one broker away stops writing`,
          todo: `ottla topics alter ${topic} -c min.insync.replicas=${replicas - 1}, or add a replica`,
        }),
      )
    }
  }
  return orFine(findings, 'in-sync', 'acks=all means two disks or more wherever there are two')
}

const elections: Judge = ({ topics }) => {
  const findings = topics
    .filter(({ exists, configs }) => exists && configs['unclean.leader.election.enable'] === 'true')
    .map(({ topic }) =>
      finding('elections', `topic ${topic}`, {
        status: 'fail',
        what: 'unclean.leader.election.enable is true: a replica that lacks records may become leader, and they are gone',
        todo: `ottla topics alter ${topic} -c unclean.leader.election.enable=false`,
      }),
    )
  return orFine(findings, 'elections', 'no topic allows unclean leader elections')
}

const autoCreate: Judge = ({ brokers: nodes }) => {
  const readable = nodes.filter(({ settings }) => settings !== null)
  if (readable.length === 0) return [finding('auto-create', 'cluster', unread('DescribeConfigs on the cluster'))]
  const on = readable.filter(({ settings }) => settings?.['auto.create.topics.enable'] === 'true')
  if (on.length === 0)
    return [finding('auto-create', 'cluster', { status: 'ok', what: 'topics are made on purpose only' })]
  return [
    finding('auto-create', 'cluster', {
      status: 'warn',
      what: 'auto.create.topics.enable is true: a name mistyped somewhere becomes a topic',
      todo: 'Set it to false on every broker, and make topics on purpose.',
    }),
  ]
}

const offsetsTopic: Judge = ({ offsetsTopic: topic, brokers: nodes }) => {
  const findings: Finding[] = []
  const wanted = Math.min(3, nodes.length)
  const subject = 'topic __consumer_offsets'
  if (topic === null) {
    findings.push(
      finding('offsets-topic', subject, {
        status: 'skipped',
        what: 'not there (the first group makes it), or not to be seen',
      }),
    )
  } else if (topic.replicas < wanted) {
    findings.push(
      finding('offsets-topic', subject, {
        status: nodes.length >= 3 ? 'fail' : 'warn',
        what: `${topic.replicas} of ${wanted} replicas: losing them loses what every group has committed`,
        todo: 'Add replicas with kafka-reassign-partitions; set offsets.topic.replication.factor for new clusters.',
      }),
    )
  }
  const told = nodes.find(({ settings }) => settings !== null)?.settings?.['offsets.retention.minutes']
  if (told !== undefined && Number(told) < offsetsRetentionMinutesMin) {
    findings.push(
      finding('offsets-topic', 'cluster', {
        status: 'warn',
        what: `offsets.retention.minutes is ${told}: a service that stands still longer forgets where it was`,
        todo: `Set it to ${offsetsRetentionMinutesMin} (7 days, Kafka's default) or more.`,
      }),
    )
  }
  return orFine(findings, 'offsets-topic', 'committed offsets are kept safely')
}

const retention: Judge = ({ groups, topics }) => {
  const findings: Finding[] = []
  for (const { description, progress, unread: why } of groups) {
    const subject = `group ${description.group}`
    if (why !== null) {
      findings.push(finding('retention', subject, { status: 'skipped', what: `its offsets cannot be read: ${why}` }))
      continue
    }
    if (description.state === 'Dead') {
      findings.push(
        finding('retention', subject, { status: 'skipped', what: 'no such group: nobody has committed yet' }),
      )
    }
    for (const topic of new Set(progress.map((each) => each.topic))) {
      const told = topics.find((each) => each.topic === topic)
      const trouble = retentionTrouble(progress.filter((each) => each.topic === topic))
      if (trouble === null) {
        if (told !== undefined && told.configs['retention.ms'] === undefined)
          findings.push(unreadable('retention', topic))
        continue
      }
      const more = `Let it catch up (more members, mended handlers), or keep longer: ottla topics alter ${topic} -c retention.ms=…`
      findings.push(finding('retention', subject, { ...trouble, what: `${topic}: ${trouble.what}`, todo: more }))
    }
  }
  return orFine(
    findings,
    'retention',
    groups.length === 0 ? 'no group was looked at' : 'no group is near the end of a retention',
  )
}

function retentionTrouble(
  partitions: readonly PartitionProgress[],
): { readonly status: Status; readonly what: string } | null {
  const sum = (before: (partition: PartitionProgress) => number | null): number =>
    partitions.reduce((all, each) => all + Math.max(0, (before(each) ?? 0) - each.committed), 0)
  const gone = sum(({ logStart }) => logStart)
  const expired = sum(({ expiredBefore, logStart }) => expiredBefore ?? logStart) - gone
  const soon = sum(({ expiringBefore, logStart }) => expiringBefore ?? logStart) - gone - expired
  if (gone > 0) return { status: 'fail', what: `${gone} records were deleted before they were handled` }
  if (expired > 0) {
    return {
      status: 'fail',
      what: `${expired} records not handled yet are older than the retention: they may go at any time`,
    }
  }
  if (soon <= 0) return null
  return {
    status: 'warn',
    what: `${soon} records not handled yet are older than ${soonShare * 100} % of the retention`,
  }
}

const deadLetters: Judge = ({ topics, services, groups, brokers: nodes }) => {
  const findings: Finding[] = []
  const of = roleTopics(
    topics,
    services.map((each) => each.deadLetters),
    /(^|\.)dlq\.[a-z][a-z0-9-]*$/,
  )
  for (const { name, topic } of of) {
    const subject = `topic ${name}`
    const service = services.find((each) => each.deadLetters === name)
    const sources = service === undefined ? [] : sourcesOf(service.group, { groups, topics })
    const roomBytes = Math.max(0, ...sources.map((each) => Number(each.configs['max.message.bytes'] ?? 0)))
    const needBytes = (roomBytes === 0 ? 1_048_588 : roomBytes) + deadLetterRoomBytes
    if (topic === null) {
      findings.push(
        missing('dead-letters', name, {
          how: `-c retention.ms=-1 -c retention.bytes=-1 -c max.message.bytes=${needBytes}`,
          brokers: nodes.length,
        }),
      )
      continue
    }
    const { configs } = topic
    if (configs['cleanup.policy'] === undefined) {
      findings.push(unreadable('dead-letters', name))
      continue
    }
    const wrong: string[] = []
    const set: string[] = []
    const want = (setting: string, isGood: boolean, value: string): void => {
      if (isGood) return
      wrong.push(`${setting} is ${configs[setting]}`)
      set.push(`-c ${setting}=${value}`)
    }
    const isDeleting = configs['cleanup.policy'].split(',').includes('delete')
    want('cleanup.policy', !configs['cleanup.policy'].split(',').includes('compact'), 'delete')
    want('retention.ms', !isDeleting || configs['retention.ms'] === '-1', '-1')
    want('retention.bytes', !isDeleting || configs['retention.bytes'] === '-1', '-1')
    if (wrong.length > 0) {
      findings.push(
        finding('dead-letters', subject, {
          status: 'fail',
          what: `it forgets dead letters: ${wrong.join(', ')}`,
          todo: `ottla topics alter ${name} ${set.join(' ')}`,
        }),
      )
    }
    if (roomBytes > 0 && Number(configs['max.message.bytes']) < needBytes) {
      findings.push(
        finding('dead-letters', subject, {
          status: Number(configs['max.message.bytes']) < roomBytes ? 'fail' : 'warn',
          what: `max.message.bytes is ${configs['max.message.bytes']}, its sources allow ${roomBytes}: large records do not fit`,
          todo: `ottla topics alter ${name} -c max.message.bytes=${needBytes}`,
        }),
      )
    }
  }
  return orFine(
    findings,
    'dead-letters',
    of.length === 0 ? 'no dead-letter topic was looked at' : `dead letters are kept for ever (${of.length})`,
  )
}

const control: Judge = ({ topics, services, brokers: nodes }) => {
  const findings: Finding[] = []
  const of = roleTopics(
    topics,
    services.map((each) => each.control),
    /(^|\.)ottla\.control\.[a-z][a-z0-9-]*$/,
  )
  for (const { name, topic } of of) {
    const subject = `topic ${name}`
    if (topic === null) {
      findings.push(missing('control', name, { how: '-p 1 -c cleanup.policy=compact', brokers: nodes.length }))
      continue
    }
    const policy = topic.configs['cleanup.policy']
    if (policy === undefined) findings.push(unreadable('control', name))
    else if (policy !== 'compact') {
      findings.push(
        finding('control', subject, {
          status: 'fail',
          what: `cleanup.policy is ${policy}: held keys would be forgotten, and their followers handled out of order`,
          todo: `ottla topics alter ${name} -c cleanup.policy=compact`,
        }),
      )
    }
    if (topic.partitions.length !== 1) {
      findings.push(
        finding('control', subject, {
          status: 'fail',
          what: `${topic.partitions.length} partitions: ottla reads one`,
          todo: 'Stop the service, delete the topic, and make it again with one partition.',
        }),
      )
    }
  }
  return orFine(
    findings,
    'control',
    of.length === 0
      ? 'no control topic was looked at'
      : `control topics are compacted, one partition each (${of.length})`,
  )
}

const rights: Judge = ({ topics, services, groups }) => {
  if (services.length === 0)
    return [finding('rights', 'cluster', { status: 'skipped', what: 'name a service: --service' })]
  const findings: Finding[] = []
  for (const { service, group, deadLetters: dead, control: steering } of services) {
    const read = readBy(group, { groups, topics }).map((each) => each.topic)
    const wanted = [
      ...read.map((topic) => [topic, retryTopic.test(topic) ? ['Read', 'Write'] : ['Read']] as const),
      [dead, ['Read', 'Write']] as const,
      [steering, ['Read', 'Write']] as const,
    ]
    for (const [name, operations] of wanted) {
      const topic = topics.find((each) => each.topic === name)
      const denied = topic?.error?.code === 'OTTLA_KAFKA_AUTHORIZATION'
      if (topic === undefined || (!topic.exists && !denied)) continue
      const lacking = operations.filter(
        (operation) => denied || (operation === 'Read' ? topic.mayRead : topic.mayWrite) === false,
      )
      if (denied || lacking.length > 0) {
        findings.push(
          finding('rights', `topic ${name}`, {
            status: 'fail',
            what: denied ? 'this principal may not even see it' : `this principal may not ${lacking.join(' and ')}`,
            todo: `Allow ${(denied ? operations : lacking).join(' and ')} on topic ${name} to the principal of ${service}.`,
          }),
        )
      } else if (topic.mayRead === null) {
        findings.push(
          finding('rights', `topic ${name}`, { status: 'skipped', what: 'the broker does not tell rights' }),
        )
      }
    }
    const description = groups.find((each) => each.description.group === group)?.description
    if (description?.error?.code === 'OTTLA_KAFKA_AUTHORIZATION' || description?.mayRead === false) {
      findings.push(
        finding('rights', `group ${group}`, {
          status: 'fail',
          what: 'this principal may not join it',
          todo: `Allow Read on group ${group} to the principal of ${service}.`,
        }),
      )
    }
  }
  return orFine(findings, 'rights', 'topics and groups may be used as the services do')
}

const clock: Judge = ({ clock: controller, topics }) => {
  const findings = [...clockFindings('clock', 'controller', controller)]
  for (const { topic, newestAheadMs } of topics) {
    if (newestAheadMs === null || newestAheadMs < clockFailMs) continue
    findings.push(
      finding('clock', `topic ${topic}`, {
        status: 'warn',
        what: `its newest record is stamped ${seconds(newestAheadMs)} in the future: retention by time keeps its segment as much longer`,
        todo: 'Set the clock of whoever writes it (or of this machine).',
      }),
    )
  }
  return orFine(findings, 'clock', 'the controller and this machine agree')
}

const store: Judge = ({ store: facts, groups, topics }) => {
  if (facts === null) return [finding('store', 'database', { status: 'skipped', what: 'no --database-url' })]
  const findings = [...clockFindings('store', 'database', facts.clock)]
  if (facts.version === null || facts.version < facts.wanted) {
    findings.push(
      finding('store', 'database', {
        status: 'fail',
        what:
          facts.version === null
            ? 'it has no schema ottla'
            : `schema ottla is at version ${facts.version}, not ${facts.wanted}`,
        todo: 'ottla store migrate',
      }),
    )
  }
  const read = new Set(
    groups.flatMap((group) => sourcesOf(group.description.group, { groups, topics }).map((t) => t.topic)),
  )
  for (const { topic, configs } of topics.filter((each) => read.has(each.topic))) {
    if (configs['retention.ms'] === undefined) continue
    const limitMs = timeLimitMs(configs)
    const needDays = limitMs === null ? null : Math.ceil(limitMs / dayMs) + 1
    if (needDays !== null && needDays <= facts.inboxRetentionDays) continue
    findings.push(
      finding('store', `topic ${topic}`, {
        status: 'warn',
        what:
          needDays === null
            ? `it keeps records for ever, the inbox ${facts.inboxRetentionDays} days: going back further handles events twice`
            : `it keeps records ${needDays - 1} days, the inbox ${facts.inboxRetentionDays}: going back further handles events twice`,
        todo:
          needDays === null
            ? 'Do not reset this group further back than the inbox remembers.'
            : `Give the store inboxRetentionDays: ${needDays} or more.`,
      }),
    )
  }
  return orFine(
    findings,
    'store',
    `schema ottla is at version ${facts.version}, the inbox remembers longer than topics keep`,
  )
}

function clockFindings(check: CheckName, subject: string, told: ClockFacts): readonly Finding[] {
  if ('unknown' in told)
    return [finding(check, subject, { status: 'skipped', what: `its clock is not known: ${told.unknown}` })]
  const offMs = Math.max(0, Math.abs(told.aheadMs) - told.uncertainMs)
  if (offMs < clockWarnMs) return []
  return [
    finding(check, subject, {
      status: offMs < clockFailMs ? 'warn' : 'fail',
      what: `its clock is ${seconds(Math.abs(told.aheadMs))} ${told.aheadMs > 0 ? 'ahead of' : 'behind'} this machine's`,
      todo: 'Have both synchronised (chrony, ntpd).',
    }),
  ]
}

/** `retry.<service>.<delay>`: where records of a service wait. It reads and writes them itself. */
const retryTopic = /(^|\.)retry\.[a-z][a-z0-9-]*\.[^.]+$/

/** What a group reads that others write. */
function sourcesOf(group: string, facts: Pick<DoctorFacts, 'groups' | 'topics'>): readonly TopicFacts[] {
  return readBy(group, facts).filter(({ topic }) => !retryTopic.test(topic))
}

/** What a group reads, as far as its offsets and members tell. */
function readBy(group: string, { groups, topics }: Pick<DoctorFacts, 'groups' | 'topics'>): readonly TopicFacts[] {
  const facts = groups.find((each) => each.description.group === group)
  const names = new Set(facts?.progress.map((each) => each.topic))
  for (const { assignment } of facts?.description.members ?? []) for (const { topic } of assignment) names.add(topic)
  return topics.filter((each) => names.has(each.topic))
}

/** Topics with a role: those that services name, there or not, and others that are called so. */
function roleTopics(
  topics: readonly TopicFacts[],
  named: readonly string[],
  pattern: RegExp,
): readonly { readonly name: string; readonly topic: TopicFacts | null }[] {
  const others = topics.filter(({ topic, exists }) => exists && pattern.test(topic) && !named.includes(topic))
  return [
    ...named.flatMap((name) => {
      const topic = topics.find((each) => each.topic === name)
      // One that may not be seen is a matter of rights.
      if (topic?.error?.code === 'OTTLA_KAFKA_AUTHORIZATION') return []
      return [{ name, topic: topic?.exists === true ? topic : null }]
    }),
    ...others.map((topic) => ({ name: topic.topic, topic })),
  ]
}

function missing(check: CheckName, name: string, made: { readonly how: string; readonly brokers: number }): Finding {
  const how = made.brokers >= 3 ? `${made.how} -c min.insync.replicas=2` : made.how
  return finding(check, `topic ${name}`, {
    status: 'fail',
    what: 'it does not exist',
    todo: `ottla topics create ${name} ${how}, or start the service with topics: 'create'`,
  })
}

function unreadable(check: CheckName, topic: string): Finding {
  return finding(check, `topic ${topic}`, unread(`DescribeConfigs on topic ${topic}`))
}

function unread(right: string): { readonly status: Status; readonly what: string; readonly todo: string } {
  return { status: 'skipped', what: 'its configuration may not be read', todo: `Allow ${right} to see this check.` }
}

/** The findings, with the good news when nothing is worse than skipped. */
function orFine(findings: readonly Finding[], check: CheckName, what: string): readonly Finding[] {
  const isFine = findings.every(({ status }) => status === 'skipped')
  return isFine && findings.length > 0
    ? findings
    : isFine
      ? [finding(check, 'cluster', { status: 'ok', what })]
      : findings
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1_000)} s`
}
