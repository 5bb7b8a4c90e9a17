/**
 * One record from its lane to its end: decode, run the handler (inside the store's transaction when there is a store),
 * decide what its failure means, and carry that out.
 *
 * Whatever happens to a started record, exactly one of three things is called for it: `settle` (it ended), `park` (it
 * gives its slot back and waits), or, when its partition is gone meanwhile, `free`. A handler that returns without a
 * promise and emits nothing is settled in the same turn: no promise is made for it.
 *
 * A handler with a fallback has two parts: the handler, and, when that has failed for good or a breaker is open, the
 * fallback, run the same way in the slot that the record already has.
 */
import type { HoldRecord, ResultOutcome } from '../contract/control.ts'
import { readDeadLetter } from '../contract/dead-letter.ts'
import { type Envelope, type Origin, readHeaders } from '../contract/envelope.ts'
import { OttlaError } from '../contract/errors.ts'
import { type Decoded, decodeRecord } from '../contract/message.ts'
import { backoffMs, handlerBackoff } from '../core/backoff.ts'
import { refused } from '../core/circuit-breaker.ts'
import { classify } from '../core/classify.ts'
import { standingOf } from '../core/holds.ts'
import type { Ending } from '../core/ledger.ts'
import {
  asProbe,
  atBreaker,
  type DeadLetterCause,
  decide,
  type FailurePolicy,
  handled,
  type Outcome,
  speaksOfTheService,
} from '../core/outcome.ts'
import { type Breaker, openBreakerOf } from './breaker.ts'
import { type Ended, ended } from './channels.ts'
import { HandlerContext } from './context.ts'
import { deadLetter, errorCode } from './dead-letter.ts'
import { noHandlers, type Partition, type Work } from './partition.ts'
import type { HandlerPlan, ServicePlan, Surroundings } from './plan.ts'
import type { Fence, OutboxRecord, Sent } from './ports.ts'
import { sendAll } from './publish.ts'
import { RecordInPlace } from './record-in-place.ts'
import { originalView, retryRecord, returned } from './retry.ts'
import type { AttemptOutcome, ServiceStats } from './stats.ts'

/** What the service loop does for dispatch. */
export interface DispatchEvents {
  /** A started record has ended. The books are done; go on. */
  settled(partition: Partition): void
  /** A started record waits in its lane until `atMs`; null: until something else wakes it. */
  parked(work: Work, atMs: number | null): void
  /** The store is away for this partition: nothing starts until then. */
  storeAway(partition: Partition, untilMs: number): void
  storeBack(partition: Partition): void
  /** A started record met an open breaker and is about to be parked until that lets it go. */
  breakerOpen(work: Work, breaker: Breaker): void
  /** The dead letter could not be stored. */
  deadLettersAway(partition: Partition, untilMs: number, error: unknown): void
  /** The record could not be stored in a retry topic. */
  retryTopicsAway(partition: Partition, untilMs: number, error: unknown): void
  /** A record is on its way to a retry topic; then, that it was stored with this append time, or null: was not. */
  appending(): void
  appended(timestampMs: number | null): void
  /** An attempt is in hand that did not start with the others: it is to be watched for its deadline. */
  handStarted(): void
  /** Resolves once a checkpoint is stored in which this record is finished; false: its partition is gone. */
  acknowledged(work: Work): Promise<boolean>
  /** The hold of a record's key; null when it flows. */
  heldBy(work: Work): HoldRecord | null
  /** May no further key be held? Then the partition stands still. */
  holdsFull(partition: Partition): boolean
  /** Holds the key of a record whose dead letter is stored. Rejects when that cannot be put on record. */
  hold(work: Work, letter: Sent, error: string): Promise<void>
  /** A redriven letter has ended; the entry waits at the head of its lane. */
  letterEnded(work: Work, outcome: ResultOutcome, error: string): void
  /** A redrive needs its next letter. */
  redriveNext(work: Work): void
  /** A redrive leaves its lane. */
  redriveOver(work: Work): void
  /** Too many dead letters: stand still until somebody looks. */
  braked(partition: Partition): void
  /** A transaction was refused because its fence is not the newest. */
  fenced(partition: Partition, fence: Fence): void
  /** Something that must never happen; the partition is stopped. */
  defect(partition: Partition, error: unknown): void
}

/** How the dead letters are written. */
export interface DeadLetterPlan {
  readonly maxRecordBytes: number
}

/** A turn of the event loop that takes this long is said aloud. */
export const slowTurnMs = 1_000
/** What a good attempt tells the service's own breaker, which knows no slow ones. */
const good = { failed: false, durationMs: 0, key: null }

export class Dispatch {
  readonly #plan: ServicePlan
  readonly #surroundings: Surroundings
  readonly #stats: ServiceStats
  readonly #breaker: Breaker
  readonly #events: DispatchEvents
  /** Started and not yet free: these hold the slots, those of partitions that are gone too. */
  running = 0
  /** Attempts that wait for something, watched for their deadline. */
  readonly inHand = new Hand()
  /** Handlers that were in hand since somebody last cleared this. */
  readonly recent = new Set<string>()
  /** The last failure in a word, for the alarm of a breaker. */
  lastFailure = 'none'
  /** Failures in a row to write a dead letter. */
  #deadLetterFailures = 0
  /** The same, to move a record to a retry topic. */
  #moveFailures = 0

  constructor(
    plan: ServicePlan,
    surroundings: Surroundings,
    beside: { readonly stats: ServiceStats; readonly breaker: Breaker; readonly events: DispatchEvents },
  ) {
    this.#plan = plan
    this.#surroundings = surroundings
    this.#stats = beside.stats
    this.#breaker = beside.breaker
    this.#events = beside.events
  }

  /** Begins a record that its lane has just handed out, at `nowMs` (monotonic). */
  start(work: Work, nowMs: number): void {
    this.running++
    work.startedMs = nowMs
    if (work.redrive !== null && work.redrive.letter === null) {
      this.#betweenLetters(work)
      return
    }
    const decoded = this.#decode(work)
    if (work.moving !== null) {
      this.#detached(work, this.#move(work, decoded.envelope, work.moving))
      return
    }
    if (work.givenUp !== null) {
      this.#detached(work, this.#writeDeadLetter(work, decoded.envelope, work.givenUp))
      return
    }
    if (work.redrive === null && this.#isHeld(work, decoded)) return
    switch (decoded.kind) {
      case 'event':
        this.#attempt(work, decoded)
        return
      case 'unknownType':
        this.#settle(work, 'ignored.unknownType', decoded.envelope)
        return
      case 'noHandler':
        this.#settle(work, 'ignored.noHandler', decoded.envelope)
        return
      case 'unprepared':
        this.#detached(work, this.#prepare(work, decoded))
        return
      case 'invalid':
        if (work.edited) {
          this.#letterEnded(work, decoded.envelope, { outcome: 'invalid', ending: null, error: decoded.error.code })
          return
        }
        // Bytes do not become better by waiting.
        this.#carryOut(work, this.#undecodable(decoded), decoded.envelope)
        return
      default:
        decoded satisfies never
    }
  }

  /** Looks for attempts beyond their deadline. Returns those that ignored it for as long again. */
  watch(nowMs: number): readonly Work[] {
    const stuck: Work[] = []
    for (const work of this.inHand) {
      const { handler, context } = work
      if (handler === null || context === null) continue
      const lastedMs = nowMs - work.startedMs
      if (lastedMs < handler.timeoutMs) continue
      if (context.expiry === null) {
        context.expire(
          new OttlaError('OTTLA_RUNTIME_DEADLINE', `${handler.name} took longer than ${handler.timeoutMs} ms`, {
            details: { service: this.#plan.name, handler: handler.name, timeoutMs: handler.timeoutMs },
          }),
          { commit: true },
        )
      } else if (lastedMs >= 2 * handler.timeoutMs && !work.stuck) {
        work.stuck = true
        stuck.push(work)
      }
    }
    return stuck
  }

  /** Tells the attempts of a partition that it is taken away. */
  abort(partition: Partition): void {
    for (const work of [...this.inHand]) {
      if (work.partition !== partition) continue
      work.context?.expire(
        new OttlaError('OTTLA_RUNTIME_STOPPING', 'The partition was taken away before the handler had finished'),
      )
    }
  }

  #decode(work: Work): Decoded {
    const { partition } = work
    if (partition.reader === null) return this.#decodeReturned(work)
    return partition.reader!.read(new RecordInPlace(partition.held, work.batch, work.index))
  }

  /** A record of a retry topic, as the record that it was. */
  #decodeReturned(work: Work): Decoded {
    const { batch, index, partition } = work
    if (work.returned === null) {
      work.returned = returned(batch, index, this.#plan.topics)
      const { attempts, transient, transientForMs } = work.returned.facts
      work.counted = Math.max(work.counted, attempts)
      work.transient = transient
      if (transient > 0) {
        work.transientSinceMs = this.#surroundings.clock.monotonicMs() - transientForMs - partition.retry!.delayMs
      }
    }
    const { facts, topic } = work.returned
    const { origin } = facts
    if (origin !== null && topic !== null) {
      const view = originalView(batch, index, { facts, origin })
      return decodeRecord(topic, view, this.#plan.handlers.get(topic.name) ?? noHandlers)
    }
    const { topicId, partition: number } = partition.held
    const view = {
      topicId,
      partition: number,
      position: work.position,
      timestampMs: batch.timestampMs(index),
      key: batch.key(index),
      value: batch.value(index),
      headers: batch.headers(index),
    }
    const text =
      origin === null
        ? 'The record does not say where it comes from'
        : `The record comes from ${origin.topic}, which ${this.#plan.name} does not read`
    const error = new OttlaError('OTTLA_CONTRACT_CODEC', text)
    return { kind: 'invalid', event: null, error, envelope: readHeaders(view, () => null).envelope }
  }

  #undecodable({ event, error }: Extract<Decoded, { kind: 'invalid' }>): Outcome {
    const handler = event === null ? undefined : this.#plan.handlers.get(event.topic)?.get(event.name)
    if (handler?.policy.finally === 'drop') return { kind: 'drop', reason: 'undecodable' }
    return { kind: 'deadLetter', cause: 'undecodable', error }
  }

  #attempt(work: Work, decoded: Extract<Decoded, { kind: 'event' }>): void {
    const { name, payload, envelope } = decoded
    const from = work.returned?.topic ?? null
    work.handler = (from === null ? work.partition.handlers : this.#plan.handlers.get(from.name)!).get(name)!
    if (work.redrive?.late === true && !work.handler.late) {
      this.#letterEnded(work, envelope, { outcome: 'stale', ending: null, error: '' })
      return
    }
    work.payload = payload
    if (work.fallingBack === null) {
      work.permit = this.#breaker.admit(work.startedMs)
      if (work.permit === refused) {
        this.#failed(work, this.#breaker.refusal(), envelope)
        return
      }
    }
    if (work.handler.early && work.early?.stored !== true && work.redrive === null) {
      this.#detached(work, this.#acknowledge(work, envelope))
      return
    }
    this.#run(work, envelope)
  }

  /** The record counts as done, on record, before its handler starts. */
  async #acknowledge(work: Work, envelope: Envelope): Promise<void> {
    if (!(await this.#events.acknowledged(work))) {
      this.#free(work)
      return
    }
    // Its time begins now, not with the wait for the checkpoint.
    work.startedMs = this.#surroundings.clock.monotonicMs()
    this.#run(work, envelope)
    if (this.inHand.size > 0) this.#events.handStarted()
  }

  /** Runs the handler or, when the record is falling back, the fallback. */
  #run(work: Work, envelope: Envelope): void {
    const handler = work.handler!
    const context = new HandlerContext(this.#plan, this.#surroundings, envelope, {
      handler: handler.name,
      topic: work.returned?.topic?.name ?? work.partition.held.topic,
      type: handler.event,
      position: envelope.record.position,
      attempt: work.counted + 1,
      redrive: work.redrive !== null,
    })
    work.context = context
    if (this.#plan.store !== null) {
      this.inHand.add(work)
      this.#detached(work, this.#runInStore(work, envelope))
      return
    }
    let result: unknown
    try {
      result = this.#invoke(work, work.startedMs)
    } catch (error) {
      context.close()
      this.#failed(work, error, envelope)
      return
    }
    if (isThenable(result)) {
      this.inHand.add(work)
      this.#awaitHandler(work, result, envelope)
      return
    }
    const records = context.close()
    if (records.length === 0) {
      this.#carryOut(work, handled, envelope)
      return
    }
    this.inHand.add(work)
    this.#detached(work, this.#sendEmitted(work, records, envelope))
  }

  /** One turn of the user's code: up to its first `await`. */
  #invoke(work: Work, beganMs: number): unknown {
    const { clock, guards } = this.#surroundings
    try {
      return guards === null ? call(work) : guards.run(work.context!, call, work)
    } finally {
      const tookMs = clock.monotonicMs() - beganMs
      if (tookMs >= slowTurnMs) this.#warnOfSlowTurn(work.handler!, tookMs)
    }
  }

  // ── without a store ──

  /** One promise beside the handler's own, and two functions. */
  #awaitHandler(work: Work, result: PromiseLike<unknown>, envelope: Envelope): void {
    const promise = result instanceof Promise ? result : Promise.resolve(result)
    promise.then(
      () => {
        try {
          this.#handlerSettled(work, envelope)
        } catch (error) {
          this.#events.defect(work.partition, error)
        }
      },
      (error: unknown) => {
        try {
          this.#handlerFailed(work, error, envelope)
        } catch (defect) {
          this.#events.defect(work.partition, defect)
        }
      },
    )
  }

  #handlerSettled(work: Work, envelope: Envelope): void {
    const context = work.context!
    const records = context.close()
    // It overran its deadline and came back all the same: what it emitted since was refused, so the attempt failed.
    if (context.expiry !== null) this.#failed(work, context.expiry, envelope)
    else if (records.length > 0) this.#detached(work, this.#sendEmitted(work, records, envelope))
    else this.#carryOut(work, handled, envelope)
  }

  #handlerFailed(work: Work, error: unknown, envelope: Envelope): void {
    const context = work.context!
    context.close()
    this.#failed(work, context.expiry ?? error, envelope)
  }

  /** The record counts as handled once what it emitted is stored. */
  async #sendEmitted(work: Work, records: readonly OutboxRecord[], envelope: Envelope): Promise<void> {
    if (work.partition.gone) {
      // The next owner handles the record again and emits the same ids.
      this.#free(work)
      return
    }
    try {
      await sendAll(this.#surroundings.writer, records)
    } catch (error) {
      this.#failed(work, error, envelope)
      return
    }
    this.#carryOut(work, handled, envelope)
  }

  // ── with a store ──

  async #runInStore(work: Work, envelope: Envelope): Promise<void> {
    const { partition } = work
    const { clock } = this.#surroundings
    const context = work.context!
    const fence = partition.fence!
    try {
      const result = await this.#plan.store!.handle(
        {
          delivery: {
            service: this.#plan.name,
            source: envelope.source,
            id: envelope.id,
            timeMs: envelope.timeMs,
          },
          fence,
          signal: context.signal,
        },
        async (tx) => {
          context.begin(tx)
          try {
            await this.#invoke(work, clock.monotonicMs())
          } finally {
            context.close()
          }
          if (context.expiry !== null) throw context.expiry
          return context.close()
        },
      )
      switch (result) {
        case 'committed':
          this.#events.storeBack(partition)
          this.#carryOut(work, handled, envelope)
          return
        case 'duplicate':
          this.#events.storeBack(partition)
          this.#stats.handler(work.handler!.name).attempts.duplicate++
          this.#settle(work, 'duplicate', envelope)
          return
        case 'fenced':
          this.#stats.handler(work.handler!.name).attempts.fenced++
          this.#park(work, clock.monotonicMs())
          this.#events.fenced(partition, fence)
          return
        default:
          result satisfies never
      }
    } catch (error) {
      this.#failed(work, context.expiry ?? error, envelope)
    }
  }

  // ── outcomes ──

  async #prepare(work: Work, decoded: Extract<Decoded, { kind: 'unprepared' }>): Promise<void> {
    try {
      await decoded.codec.prepare([decoded.schemaId])
      // Its lane hands it out again at once; then the bytes can be read.
      this.#park(work, this.#surroundings.clock.monotonicMs())
    } catch (error) {
      this.#failed(work, error, decoded.envelope)
    }
  }

  #failed(work: Work, error: unknown, envelope: Envelope): void {
    // Its bytes may be sent elsewhere, and whoever overran a deadline may still look at them.
    work.fetched?.keep()
    if (work.partition.gone) {
      this.#free(work)
      return
    }
    if (work.fallingBack !== null) {
      this.#fallbackFailed(work, error, envelope)
      return
    }
    const outcome = this.#judge(work, error)
    this.#surroundings.log.debug('attempt failed', {
      service: this.#plan.name,
      topic: work.partition.held.topic,
      partition: work.partition.held.partition,
      position: work.position,
      outcome: outcome.kind,
      error,
    })
    this.#tellBreaker(work, outcome)
    if (work.handler?.fallback != null && mayFallBack(outcome)) {
      this.#stats.handler(work.handler.name).attempts.fallback++
      this.#withdraw(work)
      work.fallingBack = { error, outcome }
      work.stuck = false
      work.startedMs = this.#surroundings.clock.monotonicMs()
      this.#run(work, envelope)
      return
    }
    this.#carryOut(work, outcome, envelope, error)
  }

  /** What the failure of an attempt means. */
  #judge(work: Work, error: unknown): Outcome {
    const { clock, random, log } = this.#surroundings
    work.met = openBreakerOf(error)
    // Asked before the service's own `classify`: an open breaker must not be able to empty a topic into the dead letters.
    if (work.met !== null) return atBreaker
    this.lastFailure = failureWord(error)
    if (work.probing !== null) {
      // It stood for all others. How long what they need is away must not be counted against it.
      work.transient = 0
      work.transientSinceMs = 0
    }
    // Acknowledged already: whatever happens to it now, it is not handled again.
    if (work.early !== null) return { kind: 'drop', reason: 'acknowledgedBeforeHandling' }
    const now = { nowMs: clock.monotonicMs(), random: random() }
    const policy = this.#policyOf(work)
    let outcome: Outcome
    try {
      outcome = decide(error, work, policy, now)
    } catch (broken) {
      // The service's own `classify` threw: its opinion is missing, the record still needs an end.
      log.error('classify threw', { service: this.#plan.name, error: broken })
      const { classify: _, ...ours } = policy
      outcome = decide(error, work, ours, now)
    }
    return work.probing !== null && work.probing.breaker.state !== 'closed' ? asProbe(outcome, policy, now) : outcome
  }

  /** A redriven record is retried in its place: whoever asked waits for what becomes of it. */
  #policyOf(work: Work): FailurePolicy {
    const { policy } = work.handler ?? this.#anyHandler(work)
    return work.redrive === null || policy.delays === 0 ? policy : { ...policy, delays: 0 }
  }

  /** The record goes where it would have gone without a fallback, except that a store that is away is waited for. */
  #fallbackFailed(work: Work, error: unknown, envelope: Envelope): void {
    const { error: before, outcome } = work.fallingBack!
    this.#surroundings.log.warn('a fallback failed', {
      service: this.#plan.name,
      handler: work.handler!.name,
      topic: work.partition.held.topic,
      partition: work.partition.held.partition,
      position: work.position,
      error,
    })
    if (classify(error) === 'store') {
      this.#carryOut(work, this.#judge(work, error), envelope)
      return
    }
    work.fallingBack = null
    // The breaker may have closed meanwhile; then this is a passing failure like any other.
    this.#carryOut(work, outcome === atBreaker ? this.#judge(work, before) : outcome, envelope, before)
  }

  /** The one place where an outcome becomes deed. */
  #carryOut(work: Work, outcome: Outcome, envelope: Envelope, error?: unknown): void {
    if (work.handler !== null) this.#stats.handler(work.handler.name).attempts[countedAs(outcome)]++
    const { partition } = work
    if (partition.gone) {
      this.#free(work)
      return
    }
    switch (outcome.kind) {
      case 'handled':
        this.#settle(work, 'handled', envelope)
        return
      case 'retry':
        work.counted++
        // What fails for a passing reason for too long does not begin a new hour with each attempt.
        if (!outcome.aged) work.transient = work.transientSinceMs = 0
        partition.ledger.retry(outcome.endless)
        partition.remember(work)
        this.#park(work, outcome.atMs)
        return
      case 'move':
        if (outcome.counted) {
          work.counted++
          work.transient = work.transientSinceMs = 0
        } else {
          work.transient++
          if (work.transientSinceMs === 0) work.transientSinceMs = this.#surroundings.clock.monotonicMs()
        }
        partition.ledger.retry(outcome.endless)
        work.moving = { delay: outcome.delay, error }
        this.#detached(work, this.#move(work, envelope, work.moving))
        return
      case 'park':
        partition.ledger.retry()
        if (outcome.scope === 'breaker') {
          work.transient = 0
          work.transientSinceMs = 0
          this.#events.breakerOpen(work, work.met!)
          this.#park(work, null)
          return
        }
        work.transient++
        if (work.transientSinceMs === 0) work.transientSinceMs = this.#surroundings.clock.monotonicMs()
        this.#park(work, outcome.atMs)
        if (outcome.scope === 'partition') this.#events.storeAway(partition, outcome.atMs)
        return
      case 'deadLetter':
        if (work.redrive !== null && work.redrive.walk !== null) {
          // Written anew it would stand behind its own followers: it stays where it is, and its key held.
          const code = errorCode(outcome.cause, outcome.error)
          this.#letterEnded(work, envelope, { outcome: 'failed', ending: 'heldInDlq', error: code })
          return
        }
        work.givenUp = outcome
        this.#detached(work, this.#writeDeadLetter(work, envelope, outcome))
        return
      case 'drop':
        this.#settle(work, 'dropped', envelope, outcome.reason)
        return
      default:
        outcome satisfies never
    }
  }

  async #writeDeadLetter(
    work: Work,
    envelope: Envelope,
    { cause, error }: { readonly cause: DeadLetterCause; readonly error: unknown },
  ): Promise<void> {
    const { partition, redrive } = work
    work.fetched?.keep()
    const code = errorCode(cause, error)
    // How many are redriven is limited by whoever asks for it.
    const braking = redrive === null ? partition.brake : null
    // One that is stored already, and only its hold is not, has its place.
    if (braking !== null && work.letterAt === null && !braking.take(code)) {
      // Whoever lets the partition go on has mended something: then the handler is asked once more.
      if (cause !== 'processDied') work.givenUp = null
      this.#park(work, null)
      this.#events.braked(partition)
      return
    }
    const holds = redrive === null && this.#plan.afterDeadLetter === 'hold' && envelope.record.key !== null
    if (holds && this.#events.holdsFull(partition)) {
      if (work.letterAt === null) braking?.giveBack(code)
      this.#park(work, null)
      return
    }
    try {
      work.letterAt ??= await this.#sendLetter(work, envelope, { cause, error, partition: null })
      // The key is held before its followers may start.
      if (holds && !partition.gone) await this.#events.hold(work, work.letterAt, code)
    } catch (failure) {
      if (work.letterAt === null) braking?.giveBack(code)
      this.#letterAway(work, failure)
      return
    }
    this.#deadLetterFailures = 0
    braking?.ended(true)
    this.#settle(work, 'deadLettered', envelope)
  }

  /** Into a retry topic, acknowledged before the record counts as moved: a crash between the two repeats it. */
  async #move(work: Work, envelope: Envelope, { delay, error }: NonNullable<Work['moving']>): Promise<void> {
    const { clock, random, writer } = this.#surroundings
    const record = retryRecord({
      to: this.#plan.retryTopics[delay]!,
      envelope,
      origin: this.#originOf(work, envelope),
      attempts: work.counted,
      transient: work.transient,
      transientForMs: work.transientSinceMs === 0 ? 0 : clock.monotonicMs() - work.transientSinceMs,
      error: errorCode('attemptsExhausted', error),
      failedAtMs: clock.wallMs(),
    })
    this.#events.appending()
    try {
      this.#events.appended((await writer.send(record)).timestampMs)
    } catch (failure) {
      this.#events.appended(null)
      const untilMs = clock.monotonicMs() + backoffMs(handlerBackoff, ++this.#moveFailures, random())
      this.#park(work, untilMs)
      this.#events.retryTopicsAway(work.partition, untilMs, failure)
      return
    }
    this.#moveFailures = 0
    this.#settle(work, 'moved', envelope)
  }

  /** Where a record was first stored. */
  #originOf(work: Work, { record }: Envelope): Origin {
    const { topic, topicId, partition } = work.partition.held
    const first = work.redrive?.letter?.facts.origin
    if (first) return { ...first, topicId: first.topicId ?? topicId }
    return work.returned?.facts.origin ?? { topic, topicId, partition, position: record.position }
  }

  /** The failure of the failure path: the record stays at the head of its lane, nothing is skipped. */
  #letterAway(work: Work, failure: unknown): void {
    const { clock, random } = this.#surroundings
    const untilMs = clock.monotonicMs() + backoffMs(handlerBackoff, ++this.#deadLetterFailures, random())
    const { partition } = work
    this.#park(work, untilMs)
    this.#events.deadLettersAway(partition, untilMs, failure)
  }

  #sendLetter(
    work: Work,
    envelope: Envelope,
    what: { readonly cause: DeadLetterCause; readonly error: unknown; readonly partition: number | null },
  ): Promise<Sent> {
    const { clock, facts, writer } = this.#surroundings
    const { topic, topicId, partition } = this.#originOf(work, envelope)
    const letter = deadLetter({
      topic: this.#plan.deadLetterTopic,
      service: this.#plan.name,
      held: { ...work.partition.held, topic, topicId, partition },
      envelope,
      cause: what.cause,
      error: what.error,
      attempts: what.cause === 'held' ? 0 : work.counted + 1,
      failedAtMs: clock.wallMs(),
      maxRecordBytes: facts.get(this.#plan.deadLetterTopic)?.maxRecordBytes ?? 1_048_588,
      ...this.#redrivesOf(work, envelope),
    })
    return writer.send({ ...letter, partition: what.partition })
  }

  /** How often it has come back by now; a record that was written to its source topic once more says it itself. */
  #redrivesOf(work: Work, { record }: Envelope): { readonly redrives?: number } {
    if (work.redrive !== null) return { redrives: (work.redrive.letter?.facts.redrives ?? 0) + 1 }
    const { redrives } = readDeadLetter(record.headers)
    return redrives === 0 ? {} : { redrives }
  }

  // ── held keys and redrives ──

  /** Is the record's key held behind a dead letter? Then it is taken care of. */
  #isHeld(work: Work, decoded: Decoded): boolean {
    if (decoded.kind === 'unknownType' || decoded.kind === 'noHandler') return false
    const hold = this.#events.heldBy(work)
    if (hold === null) return false
    const standing = standingOf(hold, work.position)
    switch (standing) {
      case 'before':
        return false
      case 'failed':
        this.#settle(work, 'deadLettered', decoded.envelope)
        return true
      case 'settled':
        this.#settle(work, 'heldInDlq', decoded.envelope)
        return true
      case 'behind':
        this.#detached(work, this.#writeHeld(work, decoded.envelope, hold))
        return true
      default:
        return standing satisfies never
    }
  }

  async #writeHeld(work: Work, envelope: Envelope, hold: HoldRecord): Promise<void> {
    work.fetched?.keep()
    const error = new Error(
      `an earlier record of its key is a dead letter: ${hold.topic}-${hold.partition}@${hold.head}`,
    )
    try {
      await this.#sendLetter(work, envelope, { cause: 'held', error, partition: hold.letter.partition })
    } catch (failure) {
      this.#letterAway(work, failure)
      return
    }
    this.#deadLetterFailures = 0
    this.#settle(work, 'heldInDlq', envelope)
  }

  /** A redrive at the head of its lane, with no letter in hand. */
  #betweenLetters(work: Work): void {
    const { partition } = work
    if (partition.gone) {
      this.#free(work)
      return
    }
    if (!work.redrive!.over) {
      this.#park(work, null)
      this.#events.redriveNext(work)
      return
    }
    this.#leave(work)
    this.#events.redriveOver(work)
    partition.lanes.settle(work)
    // It was counted in advance for one letter more than there was.
    partition.ledger.fetched(-1)
    partition.redriving--
    this.#events.settled(partition)
  }

  /** A redriven letter has ended; the lane stays with the redrive until there is no other. */
  #letterEnded(work: Work, envelope: Envelope, how: LetterEnding): void {
    const { partition } = work
    if (partition.gone) {
      this.#free(work)
      return
    }
    if (how.ending !== null) {
      partition.ledger.fetched(1)
      if (how.ending === 'dropped') partition.ledger.drop(how.error)
      else partition.ledger.end(how.ending)
    }
    this.#tellEnded(work, envelope, {
      outcome: `redrive.${how.outcome}`,
      nowMs: this.#surroundings.clock.monotonicMs(),
    })
    this.#events.letterEnded(work, how.outcome, how.error)
    this.#park(work, null)
    this.#events.redriveNext(work)
  }

  #settle(work: Work, ending: Ending, envelope: Envelope, dropReason = ''): void {
    const { partition } = work
    const nowMs = this.#surroundings.clock.monotonicMs()
    if (ending === 'handled' && work.permit !== refused) {
      this.#breaker.settle(work.permit, good, nowMs)
      work.permit = refused
    }
    const fallback = ending === 'handled' && work.fallingBack !== null
    if (fallback && !partition.gone) partition.ledger.fallback()
    if (work.redrive !== null) {
      this.#letterEnded(work, envelope, { outcome: outcomeOf(ending), ending, error: dropReason })
      return
    }
    this.#leave(work)
    if (partition.gone) {
      this.#events.settled(partition)
      return
    }
    partition.lanes.settle(work)
    if (work.early === null) partition.tracker.finish(work.ticket)
    else partition.settleEarly(work)
    if (ending === 'dropped') partition.ledger.drop(dropReason)
    else partition.ledger.end(ending)
    if (ending !== 'deadLettered' && ending !== 'heldInDlq') partition.brake.ended(false)
    partition.tried.delete(work)
    partition.budget.give(work.bytes)
    partition.endedSince++
    partition.dirty = true
    this.#stats.badHeaders += envelope.badHeaders
    partition.progressMs = nowMs
    const attempts = work.counted + (ending === 'handled' || ending === 'deadLettered' ? 1 : 0)
    const outcome = ending === 'dropped' ? `dropped.${dropReason}` : ending
    this.#tellEnded(work, envelope, { outcome, nowMs, attempts, fallback })
    // Last: until here its bytes may be asked for.
    work.fetched?.ended()
    this.#events.settled(partition)
  }

  #tellEnded(
    work: Work,
    envelope: Envelope,
    about: {
      readonly outcome: string
      readonly nowMs: number
      readonly attempts?: number
      readonly fallback?: boolean
    },
  ): void {
    const { partition } = work
    const { outcome, nowMs, attempts = work.counted + 1, fallback = false } = about
    const durationMs = work.handler === null ? 0 : nowMs - work.startedMs
    if (work.handler !== null) this.#stats.handler(work.handler.name).duration.add(durationMs)
    if (ended.hasSubscribers) {
      ended.publish({
        service: this.#plan.name,
        topic: partition.held.topic,
        partition: partition.held.partition,
        position: work.position,
        type: envelope.type ?? '',
        id: envelope.id,
        key: envelope.keyText,
        outcome,
        attempts,
        durationMs,
        fallback,
      } satisfies Ended)
    }
  }

  #park(work: Work, atMs: number | null): void {
    this.#leave(work)
    work.fetched?.keep()
    work.context = null
    // Next time the breaker may be closed, and then the handler is asked again.
    if (work.fallingBack?.outcome === atBreaker) work.fallingBack = null
    const { partition } = work
    if (partition.gone) {
      this.#events.settled(partition)
      return
    }
    partition.lanes.park(work)
    this.#events.parked(work, atMs)
  }

  /** Its partition is gone: another owner handles it, here only the slot is given back. */
  #free(work: Work): void {
    this.#leave(work)
    this.#events.settled(work.partition)
  }

  /** What is not awaited still must not fail unseen: any error here is a defect of ours. */
  #detached(work: Work, running: Promise<void>): void {
    running.catch((error: unknown) => this.#events.defect(work.partition, error))
  }

  #leave(work: Work): void {
    this.running--
    if (this.inHand.delete(work) && work.handler !== null) this.recent.add(work.handler.name)
    this.#withdraw(work)
    if (work.context?.shown === true) work.fetched?.keep()
    // An entry that waited long is old to the garbage collector: what it still held would outlive it.
    work.payload = undefined
    work.context = null
  }

  /** What a failed attempt says to the service's own breaker. */
  #tellBreaker(work: Work, outcome: Outcome): void {
    const failed = speaksOfTheService(outcome)
    if (work.permit === refused || failed === null) return
    const gate = work.probing
    // What a named breaker waits for has a wait of its own: its probes must not open the service's breaker too.
    if (failed && gate !== null && gate.breaker !== this.#breaker && gate.breaker.state !== 'closed') return
    const nowMs = this.#surroundings.clock.monotonicMs()
    this.#breaker.settle(work.permit, { failed, durationMs: nowMs - work.startedMs, key: work.laneKey }, nowMs)
    work.permit = refused
  }

  /** The attempt is over: where it stood for others, it does no longer. */
  #withdraw(work: Work): void {
    if (work.permit !== refused) {
      this.#breaker.abandon(work.permit)
      work.permit = refused
    }
    if (work.probing === null) return
    const gate = work.probing
    work.probing = null
    gate.probeLeft()
  }

  /** For a failure before a handler was found: the strictest policy of the topic is as good as any. */
  #anyHandler(work: Work): HandlerPlan {
    const topic = work.returned?.topic?.name ?? work.partition.held.topic
    return this.#plan.handlers.get(topic)!.values().next().value!
  }

  #warnOfSlowTurn(handler: HandlerPlan, tookMs: number): void {
    this.#surroundings.log.warn('a handler blocked the event loop', {
      service: this.#plan.name,
      handler: handler.name,
      durationMs: Math.round(tookMs),
    })
  }
}

/** Attempts that wait for something. A set, whose adding and taking out leave nothing for the garbage collector. */
class Hand {
  readonly #works: Work[] = []

  get size(): number {
    return this.#works.length
  }

  add(work: Work): void {
    if (work.handAt >= 0) return
    work.handAt = this.#works.push(work) - 1
  }

  /** False when it was not in it. */
  delete(work: Work): boolean {
    const at = work.handAt
    if (at < 0) return false
    const last = this.#works.pop()!
    if (last !== work) {
      this.#works[at] = last
      last.handAt = at
    }
    work.handAt = -1
    return true
  }

  [Symbol.iterator](): Iterator<Work> {
    return this.#works.values()
  }
}

/** The user's code. */
function call({ fallingBack, handler, context, payload }: Work): unknown {
  return fallingBack === null
    ? handler!.handle(payload, context!)
    : handler!.fallback!(payload, context!, fallingBack.error)
}

/** Attempts used up, or nothing to attempt. A record that is itself the mistake is nobody's to handle instead. */
function mayFallBack(outcome: Outcome): boolean {
  switch (outcome.kind) {
    case 'handled':
    case 'retry':
    case 'move':
      return false
    case 'park':
      return outcome.scope === 'breaker'
    case 'deadLetter':
      return outcome.cause === 'attemptsExhausted'
    case 'drop':
      return outcome.reason === 'attemptsExhausted' || outcome.reason === 'acknowledgedBeforeHandling'
    default:
      return outcome satisfies never
  }
}

/** Endless retry counts under its own name. */
function countedAs(outcome: Outcome): AttemptOutcome {
  const endless = (outcome.kind === 'retry' || outcome.kind === 'move') && outcome.endless
  return endless ? 'retryForever' : outcome.kind
}

/** Bounded and free of content: a code where there is one, else the name of the error. */
function failureWord(error: unknown): string {
  const code = typeof error === 'object' && error !== null ? (error as { readonly code?: unknown }).code : undefined
  return typeof code === 'string' && /^[A-Z0-9_]{1,64}$/.test(code) ? code : errorCode('attemptsExhausted', error)
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function'
}

interface LetterEnding {
  readonly outcome: ResultOutcome
  /** How the books have it; null: it was not handled, nothing ended. */
  readonly ending: Ending | null
  readonly error: string
}

function outcomeOf(ending: Ending): ResultOutcome {
  switch (ending) {
    case 'handled':
    case 'duplicate':
    case 'deadLettered':
    case 'dropped':
      return ending
    default:
      return 'ignored'
  }
}
