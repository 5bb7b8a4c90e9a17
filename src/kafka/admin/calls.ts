/**
 * How the admin asks: anybody, the controller, the coordinators of groups, the leaders of partitions.
 *
 * What is asked of many goes out as one request per broker. An answer about one item never touches its neighbours: a
 * passing error is asked again until the deadline, any other is that item's own. Thrown is only what concerns the whole
 * call: a refused login, a closed client, the caller's signal.
 */
import { OttlaError } from '../../contract/errors.ts'
import { ErrorCode } from '../../wire/error-codes.ts'
import type { ApiKey, Responses } from '../../wire/protocol.ts'
import { brokerError } from '../broker-error.ts'
import type { Answer, Cluster, RequestBody, RequestOptions } from '../io/cluster.ts'

export interface AdminCallOptions {
  readonly signal?: AbortSignal
  /** Default: the client's `requestTimeoutMs`. */
  readonly timeoutMs?: number
}

export interface PartitionName {
  readonly topic: string
  readonly partition: number
}

export interface ItemResult {
  readonly name: string
  readonly error?: OttlaError
}

type Body<A extends ApiKey> = RequestBody<A> | ((version: number) => RequestBody<A>)
type Versions = Pick<RequestOptions, 'minVersion' | 'maxVersion'>

/** A question to the coordinators of many groups. */
export interface GroupQuestion<A extends ApiKey> extends Versions {
  readonly api: A
  readonly body: (groups: readonly string[]) => Body<A>
  /** Kafka's code about one group in an answer. */
  readonly code: (answer: Responses[A], group: string) => number
  /** Asked again after it may have been done, it would be answered otherwise: so it is not. Default false. */
  readonly isOnce?: boolean
}

/** A question to the leaders of many partitions. */
export interface LeaderQuestion<I extends PartitionName, R> {
  /** Asks one leader about its items. What it gives says the result of each, or Kafka's code when it is none. */
  readonly ask: (leader: number, items: readonly I[], call: RequestOptions) => Promise<(item: I) => R | number>
  readonly failed: (item: I, error: OttlaError) => R
  /** "ListOffsets of x-3", for errors. */
  readonly what: (item: I) => string
}

const retryPauseMs = 100
const coordinatorAway: readonly number[] = [
  ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
  ErrorCode.COORDINATOR_NOT_AVAILABLE,
  ErrorCode.NOT_COORDINATOR,
  // Offsets of a transaction that is just ending.
  ErrorCode.UNSTABLE_OFFSET_COMMIT,
]
const wholeCall: readonly string[] = ['OTTLA_KAFKA_AUTHENTICATION', 'OTTLA_KAFKA_TLS', 'OTTLA_KAFKA_CLOSED']
/** Rounds about a partition whose leader cannot be asked; a topic nobody knows is believed after fewer. */
const roundsMax = 10
const roundsUnknown = 3

export class AdminCalls {
  readonly cluster: Cluster
  readonly #timeoutMs: number

  constructor(cluster: Cluster, timeoutMs: number) {
    this.cluster = cluster
    this.#timeoutMs = timeoutMs
  }

  timeoutMs(options: AdminCallOptions): number {
    return options.timeoutMs ?? this.#timeoutMs
  }

  /** The options of a request in terms of the cluster. */
  call(options: AdminCallOptions & Versions): RequestOptions {
    return {
      timeoutMs: this.timeoutMs(options),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
      ...(options.maxVersion === undefined ? {} : { maxVersion: options.maxVersion }),
      ...(options.minVersion === undefined ? {} : { minVersion: options.minVersion }),
    }
  }

  /** Asks whoever answers; a broker lost before it answered a question that changes nothing is no reason to fail. */
  async any<A extends ApiKey>(api: A, body: Body<A>, options: AdminCallOptions): Promise<Answer<A>> {
    for (let left = 2; ; left -= 1) {
      try {
        return await this.cluster.request('any', api, body, this.call(options))
      } catch (error) {
        if (left === 0 || (error as OttlaError).code !== 'OTTLA_KAFKA_CONNECTION') throw error
      }
    }
  }

  /** Any broker passes it on to the controller, except old ones, which say NOT_CONTROLLER. */
  async controller<A extends ApiKey>(
    api: A,
    body: Body<A>,
    codes: (answer: Responses[A]) => number[],
    options: AdminCallOptions,
  ): Promise<Answer<A>> {
    const answer = await this.cluster.request('any', api, body, this.call(options))
    if (!codes(answer.body).includes(ErrorCode.NOT_CONTROLLER)) return answer
    await this.cluster.refresh()
    return this.cluster.request(this.cluster.metadata.controller, api, body, this.call(options))
  }

  /** Asks the coordinators of groups, each once for all of its groups. Per group: the answer that tells of it, or why not. */
  async coordinators<A extends ApiKey>(
    groups: readonly string[],
    question: GroupQuestion<A>,
    options: AdminCallOptions,
  ): Promise<ReadonlyMap<string, Responses[A] | OttlaError>> {
    const deadlineMs = performance.now() + this.timeoutMs(options)
    const results = new Map<string, Responses[A] | OttlaError>()
    const troubles = new Map<string, OttlaError>()
    for (;;) {
      const isLast = (): boolean => performance.now() + retryPauseMs >= deadlineMs
      const left = leftOf(options, deadlineMs)
      const byNode = new Map<number, string[]>()
      await Promise.all(
        [...new Set(groups)]
          .filter((group) => !results.has(group))
          .map(async (group) => {
            try {
              const node = await this.cluster.coordinator(group, this.call(left))
              const others = byNode.get(node)
              if (others === undefined) byNode.set(node, [group])
              else others.push(group)
            } catch (error) {
              results.set(group, moreTelling(itemError(error, options), troubles.get(group)))
            }
          }),
      )
      await Promise.all(
        [...byNode].map(async ([node, asked]) => {
          try {
            const body = question.body(asked)
            const answer = await this.cluster.request(node, question.api, body, this.call({ ...question, ...left }))
            for (const group of asked) {
              const code = question.code(answer.body, group)
              if (isLast() || !coordinatorAway.includes(code)) results.set(group, answer.body)
              else if (code !== ErrorCode.COORDINATOR_LOAD_IN_PROGRESS) this.cluster.forgetCoordinator(group, node)
            }
          } catch (error) {
            const known = itemError(error, options)
            for (const group of asked) {
              if (known.retriable) this.cluster.forgetCoordinator(group, node)
              const mayRepeat = known.details['sent'] === false || (known.retriable && question.isOnce !== true)
              const trouble = moreTelling(known, troubles.get(group))
              troubles.set(group, trouble)
              if (isLast() || !mayRepeat) results.set(group, trouble)
            }
          }
        }),
      )
      if (groups.every((group) => results.has(group))) return results
      await pause(retryPauseMs)
    }
  }

  /** Asks the coordinator of one group. Throws what the cluster throws; codes in the answer are the caller's. */
  async coordinator<A extends ApiKey>(
    group: string,
    question: GroupQuestion<A>,
    options: AdminCallOptions,
  ): Promise<Responses[A]> {
    const result = (await this.coordinators([group], question, options)).get(group)
    if (result instanceof OttlaError) throw result
    return result as Responses[A]
  }

  /** Asks the leaders of partitions, again after a passing error, with fresh metadata. Answers in the order of the items. */
  async leaders<I extends PartitionName, R extends object>(
    items: readonly I[],
    question: LeaderQuestion<I, R>,
    options: AdminCallOptions,
  ): Promise<readonly R[]> {
    const deadlineMs = performance.now() + this.timeoutMs(options)
    const results = new Map<I, R>()
    const troubles = new Map<I, OttlaError>()
    await this.cluster.ensureTopics([...new Set(items.map((item) => item.topic))], this.call(options))
    for (let round = 0; results.size < items.length; round += 1) {
      if (round > 0) await this.cluster.refresh()
      const left = leftOf(options, deadlineMs)
      const fail = (item: I, failure: OttlaError): void => {
        const error = moreTelling(failure, troubles.get(item))
        const rounds = error.kafka?.code === ErrorCode.UNKNOWN_TOPIC_OR_PARTITION ? roundsUnknown : roundsMax
        troubles.set(item, error)
        if (error.retriable && performance.now() < deadlineMs && round < rounds) return
        results.set(item, question.failed(item, error))
      }
      const open = items.filter((item) => !results.has(item))
      await Promise.all(
        this.#byLeader(open).map(async ({ leader, items: asked }) => {
          if (leader < 0) {
            for (const item of asked) {
              const isKnown = this.cluster.metadata.partition(item.topic, item.partition) !== undefined
              const told = this.cluster.metadata.topic(item.topic)?.error ?? ErrorCode.NONE
              const code = isKnown ? ErrorCode.LEADER_NOT_AVAILABLE : told || ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
              fail(item, brokerError(code, question.what(item)))
            }
            return
          }
          try {
            const result = await question.ask(leader, asked, this.call(left))
            for (const item of asked) {
              const told = result(item)
              if (typeof told === 'number') fail(item, brokerError(told, question.what(item)))
              else results.set(item, told)
            }
          } catch (error) {
            const known = itemError(error, options)
            for (const item of asked) fail(item, known)
          }
        }),
      )
    }
    return items.map((item) => results.get(item) as R)
  }

  /** A request may name a partition once only, so a second question about it goes in a second request. */
  #byLeader<I extends PartitionName>(items: readonly I[]): { readonly leader: number; readonly items: I[] }[] {
    const requests: { readonly leader: number; readonly items: I[]; readonly names: Set<string> }[] = []
    for (const item of items) {
      const leader = this.cluster.metadata.partition(item.topic, item.partition)?.leader ?? -1
      const name = `${item.topic}\0${item.partition}`
      const request = requests.find((r) => r.leader === leader && !r.names.has(name))
      if (request === undefined) requests.push({ leader, items: [item], names: new Set([name]) })
      else {
        request.items.push(item)
        request.names.add(name)
      }
    }
    return requests
  }
}

/** That time was up while trying again says less than what went wrong before. */
function moreTelling(now: OttlaError, before: OttlaError | undefined): OttlaError {
  return now.code === 'OTTLA_KAFKA_TIMEOUT' && before !== undefined ? before : now
}

/** The same options with the time that is left. */
function leftOf(options: AdminCallOptions, deadlineMs: number): AdminCallOptions {
  return { ...options, timeoutMs: Math.max(1, Math.ceil(deadlineMs - performance.now())) }
}

/** Items of a list by topic, as most requests want them. */
export function byTopic<I extends PartitionName, P>(
  items: readonly I[],
  partition: (item: I) => P,
): { name: string; partitions: P[] }[] {
  const topics = new Map<string, P[]>()
  for (const item of items) {
    const partitions = topics.get(item.topic)
    if (partitions === undefined) topics.set(item.topic, [partition(item)])
    else partitions.push(partition(item))
  }
  return [...topics].map(([name, partitions]) => ({ name, partitions }))
}

/** An error that belongs to items; throws it when it ends the whole call. */
export function itemError(error: unknown, options: AdminCallOptions): OttlaError {
  if (options.signal?.aborted || !(error instanceof OttlaError) || wholeCall.includes(error.code)) throw error
  return error
}

/** What a broker says about one item of a list. */
export function item(name: string, code: number | undefined, what: string, text?: string | null): ItemResult {
  return code === 0 ? { name } : { name, error: brokerError(code ?? ErrorCode.UNKNOWN_SERVER_ERROR, what, text) }
}

/** The broker answered and left an item out. */
export function notMentioned(what: string): OttlaError {
  return brokerError(ErrorCode.UNKNOWN_SERVER_ERROR, what, 'the answer does not mention it')
}

export function pause(delayMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, delayMs))
}
