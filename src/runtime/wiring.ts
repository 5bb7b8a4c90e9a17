/**
 * From what a user wrote to what the engine runs: checks that services, topics and store fit together, listing every
 * problem at once, and fills in every default.
 */
import { durationMs } from '../contract/duration.ts'
import { OttlaError } from '../contract/errors.ts'
import { checkNamespace, serviceNames } from '../contract/names.ts'
import type { AnyTopic } from '../contract/topic.ts'
import { handlerBackoff } from '../core/backoff.ts'
import type { AppDefinition } from './app-types.ts'
import type { HandlerPlan, ServicePlan } from './plan.ts'
import type { Store } from './ports.ts'
import type { AnyService, Subscription } from './service.ts'

/** An app's definition without its types. */
export type LooseDefinition = Omit<AppDefinition<readonly AnyService[]>, 'services'> & {
  readonly services: readonly AnyService[]
}

/** What the definition comes to. */
export interface Wired {
  readonly plans: readonly ServicePlan[]
  /** Every topic that is read or declared as written, by name. */
  readonly topics: ReadonlyMap<string, AnyTopic>
  readonly source: string
  /** How long running handlers may take when the app stops. */
  readonly drainMs: number
}

const defaults = {
  concurrency: 64,
  timeoutMs: 60_000,
  attempts: 5,
  transientForMs: 3_600_000,
  drainMs: 10_000,
  checkpointIntervalMs: 1_000,
  standingMax: 1_000,
  budget: { maxRecords: 4_096, maxBytes: 16 * 1024 * 1024 },
  budgetBytes: 96 * 1024 * 1024,
  // Slow handlers have their deadline; keys count because one customer's trouble must not stop the others.
  breaker: {
    windowCalls: 100,
    windowMs: 60_000,
    callsMin: 20,
    failureRate: 0.5,
    slowRate: 1,
    slowMs: Number.POSITIVE_INFINITY,
    keysMin: 5,
    openMs: 1_000,
    openMaxMs: 30_000,
  },
} as const

/** Throws OTTLA_RUNTIME_WIRING with the whole list of problems. */
export function wire(definition: LooseDefinition, instance: string): Wired {
  const problems: string[] = []
  const note = (read: () => void): void => {
    try {
      read()
    } catch (error) {
      problems.push(error instanceof Error ? error.message : String(error))
    }
  }
  const { store = null, namespace, concurrency = defaults.concurrency } = definition
  if (!Number.isInteger(concurrency) || concurrency < 1) {
    problems.push(`concurrency is ${concurrency}; a whole number from 1 is expected`)
  }
  if (namespace !== undefined) note(() => checkNamespace(namespace))
  let drainMs: number = defaults.drainMs
  note(() => {
    drainMs = durationMs(definition.drainTimeout ?? drainMs, 'drainTimeout')
  })
  const topics = new Map<string, AnyTopic>()
  const meet = (topic: AnyTopic, service: string): void => {
    const known = topics.get(topic.name)
    if (known === undefined) topics.set(topic.name, topic)
    else if (known !== topic && JSON.stringify(known) !== JSON.stringify(topic)) {
      problems.push(`Service ${service}: its topic ${topic.name} is not the one another service calls ${topic.name}`)
    }
  }
  const seen = new Set<string>()
  const plans: ServicePlan[] = []
  for (const service of definition.services) {
    const inner = service['~definition']
    if (inner === undefined) {
      problems.push('services holds something that is no service')
      continue
    }
    const { name, storeKind, subscriptions, emits, afterDeadLetter } = inner
    if (seen.has(name)) problems.push(`Two services are called ${name}. Give each its own name`)
    seen.add(name)
    note(() => checkStore(name, storeKind, store))
    for (const { topic } of subscriptions.values()) meet(topic, name)
    for (const topic of emits?.values() ?? []) meet(topic, name)
    note(() => {
      const names = serviceNames(name, namespace)
      const own = storeKind === null ? null : store
      plans.push({
        name,
        group: names.group,
        clientId: names.clientId(instance),
        deadLetterTopic: names.deadLetters,
        controlTopic: names.control,
        afterDeadLetter: afterDeadLetter ?? (own === null ? 'continue' : 'hold'),
        topics: new Map([...subscriptions.values()].map(({ topic }) => [topic.name, topic])),
        handlers: new Map(
          [...subscriptions].map(([topic, { handlers }]) => [
            topic,
            new Map([...handlers].map(([event, subscription]) => [event, handlerPlan(subscription)])),
          ]),
        ),
        emits: emits === undefined ? null : new Set(emits.keys()),
        store: own,
        concurrency: own === null ? concurrency : Math.max(1, Math.min(concurrency, own.concurrencyMax)),
        budget: defaults.budget,
        budgetBytes: defaults.budgetBytes,
        breaker: defaults.breaker,
        standingMax: defaults.standingMax,
        checkpointIntervalMs: defaults.checkpointIntervalMs,
        drainMs,
      })
    })
  }
  if (problems.length > 0) {
    throw new OttlaError('OTTLA_RUNTIME_WIRING', `The app does not fit together:\n- ${problems.join('\n- ')}`, {
      details: { problems },
    })
  }
  return { plans, topics, source: definition.name ?? 'app', drainMs }
}

function checkStore(service: string, kind: string | null, store: Store | null): void {
  if (kind === null || store?.kind === kind) return
  const given = store === null ? 'the app was given none' : `the app was given ${store.kind}`
  throw new Error(`Service ${service} needs a store of the kind ${kind}, but ${given}. Write app({ store: … })`)
}

function handlerPlan({ event, handler, options }: Subscription): HandlerPlan {
  const name = `${event.topic}.${event.name}`
  const { attempts = defaults.attempts, timeout = defaults.timeoutMs, fallback = null, late } = options
  if (fallback !== null && typeof fallback !== 'function') {
    throw new Error(`The handler of ${name}: fallback is no function`)
  }
  if (!Number.isInteger(attempts) || attempts < 1) {
    throw new Error(`The handler of ${name}: attempts is ${attempts}; a whole number from 1 is expected`)
  }
  if (late !== undefined && late !== 'accept') {
    throw new Error(`The handler of ${name}: late is ${late}; 'accept' is the only thing it can be`)
  }
  const timeoutMs = durationMs(timeout, `The handler of ${name}: timeout`)
  if (timeoutMs <= 0) throw new Error(`The handler of ${name}: timeout must be longer than nothing`)
  return {
    name,
    event: event.name,
    handle: handler,
    fallback,
    late: late === 'accept',
    timeoutMs,
    policy: {
      attemptsMax: attempts,
      backoff: handlerBackoff,
      transientForMs: defaults.transientForMs,
      finally: 'deadLetter',
    },
  }
}
