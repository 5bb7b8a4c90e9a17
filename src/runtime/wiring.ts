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
  budgetBytes: 32 * 1024 * 1024,
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
  const { offsetsVanished = null } = definition
  if (offsetsVanished !== null && offsetsVanished !== 'earliest' && offsetsVanished !== 'latest') {
    problems.push(`offsetsVanished is ${offsetsVanished}; it can be 'earliest' or 'latest'`)
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
    const { name, storeKind, subscriptions, emits, afterDeadLetter, retryDelays } = inner
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
        afterDeadLetter: afterDeadLetter ?? (own === null || retryDelays !== null ? 'continue' : 'hold'),
        retryTopics: (retryDelays ?? []).map((delay) => ({
          topic: names.retry(typeof delay === 'number' ? `${delay}ms` : delay),
          delayMs: durationMs(delay, 'retryDelays'),
        })),
        topics: new Map([...subscriptions.values()].map(({ topic }) => [topic.name, topic])),
        handlers: new Map(
          [...subscriptions].map(([topic, { handlers }]) => [
            topic,
            new Map(
              [...handlers].map(([event, subscription]) => [
                event,
                handlerPlan(subscription, { delays: retryDelays?.length ?? 0, store: own !== null }),
              ]),
            ),
          ]),
        ),
        emits: emits === undefined ? null : new Set(emits.keys()),
        offsetsVanished,
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

function handlerPlan(
  { event, handler, options }: Subscription,
  { delays, store }: { readonly delays: number; readonly store: boolean },
): HandlerPlan {
  const name = `${event.topic}.${event.name}`
  const wrong = (what: string): Error => new Error(`The handler of ${name}: ${what}`)
  const { attempts, timeout = defaults.timeoutMs, fallback = null, late, classify } = options
  const { onFailure = 'deadLetter', retry, acknowledge } = options
  if (fallback !== null && typeof fallback !== 'function') throw wrong('fallback is no function')
  if (classify !== undefined && typeof classify !== 'function') throw wrong('classify is no function')
  if (attempts !== undefined && (!Number.isInteger(attempts) || attempts < 1)) {
    throw wrong(`attempts is ${attempts}; a whole number from 1 is expected`)
  }
  if (late !== undefined && late !== 'accept') throw wrong(`late is ${late}; 'accept' is the only thing it can be`)
  if (onFailure !== 'deadLetter' && onFailure !== 'drop') {
    throw wrong(`onFailure is ${onFailure}; it can be 'deadLetter' or 'drop'`)
  }
  if (retry !== undefined && retry !== 'forever')
    throw wrong(`retry is ${retry}; 'forever' is the only thing it can be`)
  if (retry !== undefined && attempts !== undefined) throw wrong("retry: 'forever' has no attempts to end after")
  const early = acknowledge !== undefined
  if (early && (acknowledge as string) !== 'before-handling') {
    throw wrong(`acknowledge is ${acknowledge}; 'before-handling' is the only thing it can be`)
  }
  if (early && store) throw wrong('a service with a store acknowledges with its transaction')
  if (early && (attempts !== undefined || retry !== undefined || options.onFailure !== undefined)) {
    throw wrong(
      'acknowledged before handling it is tried once and then dropped; leave attempts, retry and onFailure out',
    )
  }
  const timeoutMs = durationMs(timeout, `The handler of ${name}: timeout`)
  if (timeoutMs <= 0) throw wrong('timeout must be longer than nothing')
  return {
    name,
    event: event.name,
    handle: handler,
    fallback,
    // Where order was given up, nothing can come too late.
    late: late === 'accept' || delays > 0,
    early,
    timeoutMs,
    policy: {
      attemptsMax: attempts ?? (delays > 0 ? delays + 1 : defaults.attempts),
      backoff: handlerBackoff,
      transientForMs: defaults.transientForMs,
      finally: onFailure,
      endless: retry === 'forever',
      delays,
      ...(classify === undefined ? {} : { classify }),
    },
  }
}
