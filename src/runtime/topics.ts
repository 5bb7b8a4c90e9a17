/**
 * Are the topics there, and as the contract says? Asked once at start, before the first record is fetched; missing ones
 * are made where that is allowed. Every difference is listed in one error.
 */
import { OttlaError } from '../contract/errors.ts'
import type { AnyTopic } from '../contract/topic.ts'
import { alarm } from './channels.ts'
import { deadLetterRoomBytes } from './dead-letter.ts'
import type { RetryTopic, ServicePlan } from './plan.ts'
import type { Clock, Log, TopicFacts, TopicSpec, Transport } from './ports.ts'

export interface TopicCheck {
  readonly transport: Transport
  readonly plans: readonly ServicePlan[]
  readonly topics: ReadonlyMap<string, AnyTopic>
  readonly mode: 'verify' | 'create'
  readonly durability: 'single' | undefined
  readonly clock: Clock
  readonly log: Log
}

const appearMs = 10_000
const dayMs = 86_400_000
/** What a retry topic keeps beyond its delay: at least, and when it is made. */
const retryRetentionMinMs = dayMs
const retryRetentionMs = 7 * dayMs
const pollMs = 50
const defaultMaxRecordBytes = 1_048_588

/** What the broker says about every topic of the app. Throws OTTLA_RUNTIME_TOPIC with all differences. */
export async function checkTopics(check: TopicCheck): Promise<ReadonlyMap<string, TopicFacts>> {
  const { transport, topics, plans, mode } = check
  const reading = plans.filter((plan) => plan.topics.size > 0)
  const deadLetters = new Map(reading.map((plan) => [plan.deadLetterTopic, plan]))
  const problems: string[] = []
  let facts = await describe(transport, [...topics.keys()])
  if (mode === 'create') {
    await create(transport, missingSpecs(topics, facts), problems)
    facts = await describeUntilThere(check, [...topics.keys()], facts)
  }
  let dead = await describe(transport, [...deadLetters.keys()])
  if (mode === 'create') {
    const specs: TopicSpec[] = []
    for (const [name, plan] of deadLetters) {
      if (dead.get(name)?.exists !== true) specs.push(deadLetterSpec(name, plan, facts))
    }
    await create(transport, specs, problems)
    dead = await describeUntilThere(check, [...deadLetters.keys()], dead)
  }
  const retries = reading.flatMap((plan) => plan.retryTopics.map((retry) => ({ plan, retry })))
  const retryNames = retries.map(({ retry }) => retry.topic)
  let retry = await describe(transport, retryNames)
  if (mode === 'create') {
    const specs = retries
      .filter((each) => retry.get(each.retry.topic)?.exists !== true)
      .map((each) => retrySpec(each.retry, each.plan, facts))
    await create(transport, specs, problems)
    retry = await describeUntilThere(check, retryNames, retry)
  }
  const controls = reading.map((plan) => plan.controlTopic)
  let control = await describe(transport, controls)
  if (mode === 'create') {
    const missing = reading.filter((plan) => control.get(plan.controlTopic)?.exists !== true)
    await create(
      transport,
      missing.map((plan) => controlSpec(plan, facts)),
      problems,
    )
    control = await describeUntilThere(check, controls, control)
  }
  for (const name of controls) problems.push(...controlProblems(check, name, control.get(name)))
  for (const topic of topics.values()) {
    const readers = reading.filter((plan) => plan.topics.has(topic.name))
    const writers = plans.filter((plan) => plan.emits?.has(topic.name) === true)
    problems.push(...topicProblems(check, topic, facts.get(topic.name), { readers, writers }))
  }
  for (const [name, plan] of deadLetters) {
    problems.push(...deadLetterProblems(check, name, dead.get(name), limitOf(plan, facts)))
  }
  for (const each of retries) {
    problems.push(...retryProblems(check, each.retry, retry.get(each.retry.topic), limitOf(each.plan, facts)))
  }
  if (problems.length > 0) {
    throw new OttlaError('OTTLA_RUNTIME_TOPIC', `The topics are not as they should be:\n- ${problems.join('\n- ')}`, {
      details: { problems },
    })
  }
  return new Map([...facts, ...dead, ...retry])
}

/** Dead letters are expected to be redriven within this time. */
const deadLetterHorizonMs = 7 * dayMs

/**
 * Remembers the store what it has handled for as long as it may come again? Throws OTTLA_STORE_INBOX_RETENTION. Topics
 * that keep their records for ever can outlast any inbox: that is an alarm.
 */
export function checkInbox(
  plans: readonly ServicePlan[],
  facts: ReadonlyMap<string, TopicFacts>,
  { log }: { readonly log: Log },
): void {
  const problems: string[] = []
  for (const { name, store, topics, retryTopics } of plans) {
    const rememberedMs = store?.inboxRetentionMs ?? Number.POSITIVE_INFINITY
    if (rememberedMs === Number.POSITIVE_INFINITY) continue
    for (const topic of [...topics.keys(), ...retryTopics.map((each) => each.topic)]) {
      const keptMs = facts.get(topic)?.retentionMs ?? -1
      const neededMs = keptMs + deadLetterHorizonMs + dayMs
      if (keptMs >= 0 && rememberedMs < neededMs) {
        const days = Math.ceil(neededMs / dayMs)
        problems.push(`${name}: ${topic} keeps records for ${inDays(keptMs)}; the inbox needs ${days} days`)
      }
      if (keptMs >= 0) continue
      const text = `${name}: ${topic} keeps records for ever, the inbox what was handled for ${inDays(rememberedMs)}; older ones read again are handled again`
      const error = new OttlaError('OTTLA_STORE_INBOX_RETENTION', text, { details: { service: name, topic } })
      log.warn(error.message)
      alarm.publish({ service: name, topic, error })
    }
  }
  if (problems.length === 0) return
  throw new OttlaError('OTTLA_STORE_INBOX_RETENTION', `The inbox forgets too early:\n- ${problems.join('\n- ')}`, {
    details: { problems },
  })
}

function inDays(ms: number): string {
  return `${Math.round((ms / dayMs) * 10) / 10} days`
}

interface Users {
  readonly readers: readonly ServicePlan[]
  readonly writers: readonly ServicePlan[]
}

function topicProblems(
  check: TopicCheck,
  topic: AnyTopic,
  facts: TopicFacts | undefined,
  { readers, writers }: Users,
): string[] {
  const { name, partitions } = topic
  if (facts?.exists !== true) {
    return [`${name} does not exist${check.mode === 'verify' ? '; make it, or start with topics: "create"' : ''}`]
  }
  const problems = durabilityProblems(check, facts)
  if (partitions !== null && facts.partitions < partitions) {
    problems.push(`${name} has ${facts.partitions} partitions, the contract declares ${partitions}`)
  }
  if (partitions !== null && facts.partitions > partitions) {
    const error = new OttlaError(
      'OTTLA_RUNTIME_TOPIC',
      `${name} has ${facts.partitions} partitions, the contract declares ${partitions}: keys stay on the declared ones`,
    )
    check.log.warn(error.message)
    alarm.publish({ service: readers[0]?.name ?? writers[0]?.name ?? '', topic: name, error })
  }
  if (readers.length > 0 && !facts.mayRead) problems.push(`${name} may not be read by this principal`)
  if (writers.length > 0 && !facts.mayWrite) problems.push(`${name} may not be written by this principal`)
  return problems
}

function deadLetterProblems(
  check: TopicCheck,
  name: string,
  facts: TopicFacts | undefined,
  sourceLimitBytes: number,
): string[] {
  if (facts?.exists !== true) {
    const how = `--config retention.ms=-1 --config max.message.bytes=${sourceLimitBytes + deadLetterRoomBytes}`
    return [`${name}, where records go that cannot be handled, does not exist; make it with ${how}`]
  }
  const problems = durabilityProblems(check, facts)
  if (!facts.mayWrite) problems.push(`${name} may not be written by this principal`)
  if (facts.retentionMs !== -1) {
    problems.push(`${name} forgets dead letters after ${facts.retentionMs} ms; set its retention.ms to -1`)
  }
  if (facts.maxRecordBytes < sourceLimitBytes) {
    problems.push(
      `${name} takes records of ${facts.maxRecordBytes} bytes, its source of ${sourceLimitBytes}; raise max.message.bytes to ${sourceLimitBytes + deadLetterRoomBytes}`,
    )
  }
  return problems
}

/** A record that waits must not be forgotten before it is due, and its wait begins when the broker has it. */
function retryProblems(
  check: TopicCheck,
  { topic: name, delayMs }: RetryTopic,
  facts: TopicFacts | undefined,
  sourceLimitBytes: number,
): string[] {
  const maxBytes = sourceLimitBytes + deadLetterRoomBytes
  if (facts?.exists !== true) {
    const how = `--config message.timestamp.type=LogAppendTime --config max.message.bytes=${maxBytes}`
    return [`${name}, where failed records wait, does not exist; make it with ${how}`]
  }
  const problems = durabilityProblems(check, facts)
  if (!facts.mayRead) problems.push(`${name} may not be read by this principal`)
  if (!facts.mayWrite) problems.push(`${name} may not be written by this principal`)
  if (facts.appendTime === false)
    problems.push(`${name} keeps the writers' time; set message.timestamp.type=LogAppendTime`)
  if (facts.retentionMs >= 0 && facts.retentionMs < delayMs + retryRetentionMinMs) {
    problems.push(`${name} forgets after ${facts.retentionMs} ms; ${delayMs + retryRetentionMinMs} are the least`)
  }
  if (facts.maxRecordBytes < sourceLimitBytes) {
    problems.push(`${name} takes records of ${facts.maxRecordBytes} bytes; raise max.message.bytes to ${maxBytes}`)
  }
  return problems
}

function controlProblems(check: TopicCheck, name: string, facts: TopicFacts | undefined): string[] {
  if (facts?.exists !== true) {
    return [
      `${name}, where held keys and commands stand, does not exist; make it with --partitions 1 --config cleanup.policy=compact`,
    ]
  }
  const problems = durabilityProblems(check, facts)
  if (!facts.mayRead) problems.push(`${name} may not be read by this principal`)
  if (!facts.mayWrite) problems.push(`${name} may not be written by this principal`)
  if (facts.partitions !== 1) problems.push(`${name} has ${facts.partitions} partitions; it must have one`)
  if (facts.compacted === false) problems.push(`${name} forgets; set its cleanup.policy to compact`)
  return problems
}

function durabilityProblems(check: TopicCheck, facts: TopicFacts): string[] {
  if (check.durability === 'single' || (facts.brokers ?? 1) < 3) return []
  const problems: string[] = []
  if (facts.replicas < 3) {
    problems.push(
      `${facts.topic} has ${facts.replicas} replicas on ${facts.brokers} brokers; 3 are safe, or say durability: "single"`,
    )
  }
  if (facts.minInSync < 2) {
    problems.push(`${facts.topic} has min.insync.replicas ${facts.minInSync}; 2 is safe, or say durability: "single"`)
  }
  return problems
}

function missingSpecs(topics: ReadonlyMap<string, AnyTopic>, facts: ReadonlyMap<string, TopicFacts>): TopicSpec[] {
  return [...topics.values()]
    .filter(({ name }) => facts.get(name)?.exists !== true)
    .map(({ name, partitions }) => ({ topic: name, partitions: partitions ?? 1 }))
}

function deadLetterSpec(name: string, plan: ServicePlan, facts: ReadonlyMap<string, TopicFacts>): TopicSpec {
  return {
    topic: name,
    partitions: partitionsOf(plan, facts),
    configs: {
      'retention.ms': '-1',
      'retention.bytes': '-1',
      'max.message.bytes': String(limitOf(plan, facts) + deadLetterRoomBytes),
    },
  }
}

/** As long as the sources keep theirs, and the delay: a service that is away for less loses nothing. */
function retrySpec(
  { topic, delayMs }: RetryTopic,
  plan: ServicePlan,
  facts: ReadonlyMap<string, TopicFacts>,
): TopicSpec {
  const kept = [...plan.topics.keys()].map((source) => facts.get(source)?.retentionMs ?? -1)
  const retentionMs = kept.includes(-1) ? -1 : Math.max(retryRetentionMs, ...kept) + delayMs
  return {
    topic,
    partitions: partitionsOf(plan, facts),
    configs: {
      'message.timestamp.type': 'LogAppendTime',
      'retention.ms': String(retentionMs),
      'retention.bytes': '-1',
      'max.message.bytes': String(limitOf(plan, facts) + deadLetterRoomBytes),
    },
  }
}

function partitionsOf(plan: ServicePlan, facts: ReadonlyMap<string, TopicFacts>): number {
  return Math.max(1, ...[...plan.topics.keys()].map((topic) => facts.get(topic)?.partitions ?? 1))
}

function controlSpec(plan: ServicePlan, facts: ReadonlyMap<string, TopicFacts>): TopicSpec {
  return {
    topic: plan.controlTopic,
    partitions: 1,
    configs: {
      'cleanup.policy': 'compact',
      // An edited payload travels in a command, as base64.
      'max.message.bytes': String(Math.ceil((limitOf(plan, facts) * 4) / 3) + deadLetterRoomBytes),
    },
  }
}

/** The largest record a service can meet. */
function limitOf(plan: ServicePlan, facts: ReadonlyMap<string, TopicFacts>): number {
  const limits = [...plan.topics.keys()].map((topic) => facts.get(topic)?.maxRecordBytes ?? defaultMaxRecordBytes)
  return limits.length === 0 ? defaultMaxRecordBytes : Math.max(...limits)
}

async function create(transport: Transport, specs: readonly TopicSpec[], problems: string[]): Promise<void> {
  if (specs.length === 0) return
  for (const { topic, error } of await transport.ensure(specs)) {
    if (error !== undefined) problems.push(`${topic} could not be made: ${error.message}`)
  }
}

async function describe(transport: Transport, names: readonly string[]): Promise<ReadonlyMap<string, TopicFacts>> {
  if (names.length === 0) return new Map()
  return new Map((await transport.describe(names)).map((facts) => [facts.topic, facts]))
}

/** A topic just made takes a moment to be known everywhere. */
async function describeUntilThere(
  { transport, clock }: TopicCheck,
  names: readonly string[],
  known: ReadonlyMap<string, TopicFacts>,
): Promise<ReadonlyMap<string, TopicFacts>> {
  const there = (facts: ReadonlyMap<string, TopicFacts>) => names.every((name) => facts.get(name)?.exists === true)
  if (there(known)) return known
  const untilMs = clock.monotonicMs() + appearMs
  for (;;) {
    const facts = await describe(transport, names)
    if (there(facts) || clock.monotonicMs() >= untilMs) return facts
    await new Promise<void>((done) => void clock.after(pollMs, done))
  }
}
