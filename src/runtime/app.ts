/**
 * An app: some services on one transport and one store, started and stopped as one.
 *
 *   new ──start()──► starting ──► running ──dispose──► draining ──► stopped
 *                       │ (a problem)                      services drain, relay stops, writer flushes,
 *                       └──► failed: all is closed         then transport and store are closed
 *
 * The app owns what it was given: disposing it closes transport and store. (The pool behind a store stays the user's.)
 *
 * With `guards: true` it owns the process too: what nobody caught is reported with the record it came from, the app
 * drains, and the process exits with 1.
 */
import { OttlaError } from '../contract/errors.ts'
import type { Message } from '../contract/event.ts'
import { newId } from '../contract/id.ts'
import { type EncodedMessage, encodeMessage } from '../contract/message.ts'
import type { PublishedAt, PublishOptions } from './app-types.ts'
import type { Breaker } from './breaker.ts'
import { alarm } from './channels.ts'
import { Emissions, type EmitOptions } from './context.ts'
import { ControlLog } from './control.ts'
import { type Blamed, Guards, type OwnedProcess } from './guards.ts'
import type { Surroundings } from './plan.ts'
import type { Clock, Lag, Log, TopicFacts, Writer } from './ports.ts'
import { send, toRecord } from './publish.ts'
import { type Relay, startRelay } from './relay.ts'
import type { AnyService } from './service.ts'
import { type LedgerRow, type Parked, ServiceLoop } from './service-loop.ts'
import type { ServiceStats } from './stats.ts'
import { checkInbox, checkTopics } from './topics.ts'
import { type LooseDefinition, type Wired, wire } from './wiring.ts'
import { within } from './within.ts'

/** What an app takes from the machine it runs on. */
export interface Machine {
  readonly clock: Clock
  readonly log: Log
  /** In [0, 1). */
  readonly random: () => number
  /** Tells the instances of one service apart: host and process. */
  readonly instance: string
  /** The process, for apps that own theirs. */
  readonly process?: OwnedProcess
}

/** A partition's lag, and whose. */
export interface ServiceLag extends Lag {
  readonly service: string
}

/** Is the app well? */
export interface Health {
  /** Can this process still do its work? False: only a restart helps. */
  readonly live: boolean
  /** Has it started, joined its groups, and is it not draining? */
  readonly ready: boolean
  /** Why not, and what stands still, in sentences. */
  readonly reasons: readonly string[]
}

type AppState = 'new' | 'starting' | 'running' | 'draining' | 'stopped' | 'failed'

/** How long relay, writer, transport and store may take to close, together, and each at least. */
const closeMs = 3_000
const closeMinMs = 500

/** How long after start a group may take to hand out nothing before readiness stops waiting for it. */
const joinPatienceMs = 15_000
/** After a fault: what the rest of the end may take beside the drain, before the process exits regardless. */
const faultExitMs = 5_000
const faultExitCode = 1

/** What runs behind `app(…)`. Its public face is `App` together with `Operations`. */
export class RunningApp implements AsyncDisposable {
  readonly #definition: LooseDefinition
  readonly #machine: Machine
  readonly #wired: Wired
  readonly #log: Log
  #state: AppState = 'new'
  #surroundings: Surroundings | null = null
  #facts = new Map<string, TopicFacts>()
  #writer: Writer | null = null
  #relay: Relay | null = null
  #loops: readonly ServiceLoop[] = []
  readonly #controls: ControlLog[] = []
  #startedMs = 0
  #stopping: Promise<void> | null = null
  readonly #guards: Guards | null
  #watch: Disposable | null = null
  /** Something in this process failed and nobody caught it. */
  #fault: OttlaError | null = null

  /** Throws OTTLA_RUNTIME_WIRING. */
  constructor(definition: LooseDefinition, machine: Machine) {
    this.#definition = definition
    this.#machine = machine
    this.#log = definition.log ?? machine.log
    this.#wired = wire(definition, machine.instance)
    this.#guards = definition.guards === true ? new Guards() : null
    if (this.#guards !== null && machine.process === undefined) {
      throw new OttlaError(
        'OTTLA_RUNTIME_WIRING',
        'guards: true is for an app that owns its process; this one does not',
      )
    }
  }

  async start(): Promise<this> {
    if (this.#state !== 'new') {
      throw new OttlaError('OTTLA_RUNTIME_STOPPING', `This app is ${this.#state}; an app is started once`)
    }
    this.#state = 'starting'
    if (this.#guards !== null) {
      this.#watch = this.#machine.process!.onFault((error) => this.#faulted(error, this.#guards!.blamed))
    }
    try {
      await this.#start()
    } catch (error) {
      this.#state = 'failed'
      await this.#closeAll()
      this.#watch?.[Symbol.dispose]()
      throw error
    }
    this.#state = 'running'
    return this
  }

  async #start(): Promise<void> {
    const { transport, store, durability } = this.#definition
    const { plans, topics } = this.#wired
    const { clock, random } = this.#machine
    const mode = this.#definition.topics ?? (transport.embedded ? 'create' : 'verify')
    const schema = this.#definition.schema ?? (mode === 'create' ? 'apply' : 'verify')
    const [facts] = await Promise.all([
      checkTopics({ transport, plans, topics, mode, durability, clock, log: this.#log }),
      store?.prepare(schema),
    ])
    this.#facts = new Map(facts)
    checkInbox(plans, this.#facts, { log: this.#log })
    // Whatever was read must fit into its dead letter, whose topic takes more than the one it came from.
    const maxRecordBytes = Math.max(0, ...[...facts.values()].map((topic) => topic.maxRecordBytes))
    this.#writer = await transport.writer({ clientId: this.#machine.instance, maxRecordBytes })
    this.#surroundings = {
      clock,
      random,
      log: this.#log,
      writer: this.#writer,
      guards: this.#guards,
      topics,
      facts: this.#facts,
    }
    if (store !== undefined) {
      this.#relay = startRelay({ store, transport, clock, log: this.#log, clientId: `relay@${this.#machine.instance}` })
      await this.#relay.opened
    }
    this.#loops = plans.map((plan) => {
      const control = plan.topics.size === 0 ? null : this.#openControl(plan.controlTopic)
      return new ServiceLoop(plan, this.#surroundings!, { transport, control, onStuck: () => this.#drain() })
    })
    this.#startedMs = clock.monotonicMs()
    for (const loop of this.#loops) loop.run()
  }

  #openControl(topic: string): ControlLog {
    const { clock, random } = this.#machine
    const { transport } = this.#definition
    const control = new ControlLog({ topic, transport, writer: this.#writer!, clock, log: this.#log, random })
    this.#controls.push(control)
    return control
  }

  async publish(message: Message, options: PublishOptions = {}): Promise<PublishedAt> {
    const { writer, topics, clock } = this.#running()
    const timeMs = clock.wallMs()
    const encoded = encodeMessage(
      message,
      { id: options.id ?? newId(timeMs), source: this.#wired.source, timeMs },
      topics,
    )
    await this.#learn(encoded)
    const sent = await send(writer, toRecord(encoded, this.#facts), options)
    return { id: encoded.id, topic: encoded.topic, partition: sent.partition, position: sent.position }
  }

  async transact<R>(
    as: AnyService,
    work: (door: {
      readonly tx: unknown
      readonly emit: (message: Message, options?: EmitOptions) => void
    }) => Promise<R>,
  ): Promise<R> {
    const surroundings = this.#running()
    const plan = this.#wired.plans.find(({ name }) => name === as.name)
    if (plan === undefined) {
      throw new OttlaError('OTTLA_RUNTIME_WIRING', `Service ${as.name} is not part of this app. Add it to services`)
    }
    if (plan.store === null) {
      throw new OttlaError('OTTLA_RUNTIME_WIRING', `Service ${as.name} has no store, so there is nothing to transact`)
    }
    return plan.store.transact(async (tx) => {
      let open = true
      const emissions = new Emissions(plan, surroundings, {
        idOf: () => newId(surroundings.clock.wallMs()),
        traceparent: null,
      })
      const emit = (message: Message, options?: EmitOptions): void => {
        if (!open) {
          throw new OttlaError(
            'OTTLA_RUNTIME_DEADLINE',
            'emit came after the transaction had ended; await what uses it',
          )
        }
        emissions.add(message, options)
      }
      try {
        const result = await work({ tx, emit })
        return { result, records: emissions.records }
      } finally {
        open = false
      }
    })
  }

  /** The loss ledger, per service and partition. */
  ledger(): readonly LedgerRow[] {
    return this.#loops.flatMap((loop) => loop.ledger())
  }

  /** How far behind, per service and partition held here. */
  lag(): readonly ServiceLag[] {
    return this.#loops.flatMap((loop) => loop.lag().map((lag) => ({ ...lag, service: loop.plan.name })))
  }

  /** Records that wait for a retry or for a person. */
  parked(): readonly Parked[] {
    return this.#loops.flatMap((loop) => loop.parkedRecords())
  }

  /** Lets a service's partitions go on that the brake or `pause` has stopped. Returns how many. */
  resume(service: string, topic?: string, partition?: number): number {
    return this.#loop(service).resume(topic, partition)
  }

  /** Stands a service's partitions still; running handlers finish. Returns how many. */
  pause(service: string, topic?: string, partition?: number): number {
    return this.#loop(service).pause(topic, partition)
  }

  health(): Health {
    const reasons: string[] = []
    let live = true
    let ready = true
    if (this.#state !== 'running') {
      ready = false
      reasons.push(`the app is ${this.#state}`)
    }
    if (this.#fault !== null) {
      live = false
      reasons.push(this.#fault.message)
    }
    const patient = this.#machine.clock.monotonicMs() - this.#startedMs < joinPatienceMs
    for (const loop of this.#loops) {
      const { name } = loop.plan
      if (loop.stuck !== null) {
        live = false
        reasons.push(`${name}: ${loop.stuck}`)
      }
      if (!loop.joined && (patient || loop.faulty)) {
        ready = false
        reasons.push(`${name} has not joined its group`)
      }
      if (loop.checkpointsFail) reasons.push(`${name}: checkpoints cannot be stored`)
      for (const { topic, partition, why } of loop.standing()) {
        reasons.push(`${name}: ${topic}-${partition} stands still: ${why}`)
      }
    }
    return { live, ready: ready && live, reasons }
  }

  /** @internal For metrics. */
  stats(): readonly { readonly service: string; readonly stats: ServiceStats; readonly inFlight: number }[] {
    return this.#loops.map((loop) => ({ service: loop.plan.name, stats: loop.stats, inFlight: loop.inFlight }))
  }

  /** @internal For metrics: the services' own breakers. */
  breakers(): readonly Breaker[] {
    return this.#loops.map((loop) => loop.breaker)
  }

  /** @internal For metrics: rows that wait in the outbox; null without a store. */
  async backlog(): Promise<{ readonly rows: number; readonly oldestSeconds: number } | null> {
    return (await this.#definition.store?.backlog()) ?? null
  }

  /** @internal The relay of the store's outbox; null without a store. */
  get relay(): Relay | null {
    return this.#relay
  }

  /** @internal For `settled()` and metrics. */
  get loops(): readonly ServiceLoop[] {
    return this.#loops
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping ??= this.#stop()
    await this.#stopping
  }

  /**
   * A handler ignores its deadline for as long again, and JavaScript cannot end it: others take over what this process
   * holds, and the process ends where it is the app's.
   */
  #drain(): void {
    if (this.#stopping !== null || this.#fault !== null) return
    this.#log.error('a handler ignores its deadline: the app drains')
    this.#stopping = this.#stop()
    if (this.#guards !== null) this.#exitAfter(this.#stopping)
  }

  /** The state of the process is no longer known, so it ends; but what is under way and well is finished. */
  #faulted(cause: unknown, blamed: Blamed | null): void {
    const whose =
      blamed === null
        ? 'nobody caught an error; no handler had started what failed'
        : `something that ${blamed.handler} of ${blamed.service} did not await failed; the record was ${blamed.topic}-${blamed.partition} at ${blamed.position}`
    const error = new OttlaError('OTTLA_RUNTIME_DETACHED', whose, { cause, details: { ...blamed } })
    this.#log.error(error.message, { code: error.code, ...blamed, error })
    const { service = '', topic, partition } = blamed ?? {}
    alarm.publish({ service, ...(topic === undefined ? {} : { topic, partition }), error })
    if (this.#fault !== null) return
    this.#fault = error
    this.#exitAfter(this[Symbol.asyncDispose]())
  }

  #exitAfter(stopping: Promise<void>): void {
    const { clock, process } = this.#machine
    const exit = (): void => {
      late[Symbol.dispose]()
      process!.exit(faultExitCode)
    }
    const late = clock.after(this.#wired.drainMs + faultExitMs, exit)
    void stopping.then(exit, exit)
  }

  async #stop(): Promise<void> {
    if (this.#state === 'failed' || this.#state === 'stopped') return
    this.#state = 'draining'
    await this.#closeAll()
    // After a fault the process is watched to its end: a second one must not cut the exit code off.
    if (this.#fault === null) this.#watch?.[Symbol.dispose]()
    this.#state = 'stopped'
  }

  /** In order; a step that fails or hangs does not keep the next ones from happening. */
  async #closeAll(): Promise<void> {
    const { transport, store } = this.#definition
    const { clock } = this.#machine
    await Promise.all(this.#loops.map((loop) => this.#close(`service ${loop.plan.name}`, loop.stop(), Infinity)))
    const endMs = clock.monotonicMs() + closeMs
    const parts = [
      ['relay', this.#relay],
      ...this.#controls.map((control) => ['control topic', control] as const),
      ['writer', this.#writer],
      ['transport', transport],
      ['store', store],
    ] as const
    for (const [name, part] of parts) {
      const leftMs = Math.max(closeMinMs, endMs - clock.monotonicMs())
      if (part) await this.#close(name, part[Symbol.asyncDispose](), leftMs)
    }
  }

  async #close(name: string, work: PromiseLike<unknown>, maxMs: number): Promise<void> {
    try {
      if (maxMs === Infinity) await work
      else if (!(await within(this.#machine.clock, maxMs, work))) this.#log.warn(`the ${name} did not close in time`)
    } catch (error) {
      this.#log.warn(`closing the ${name} failed`, { error })
    }
  }

  /** A topic that no service reads or declares: ask once how many partitions it has. */
  async #learn({ topic, partitions }: EncodedMessage): Promise<void> {
    if (partitions === null || this.#facts.has(topic)) return
    for (const facts of await this.#definition.transport.describe([topic])) this.#facts.set(topic, facts)
  }

  #running(): Surroundings {
    if (this.#state === 'running') return this.#surroundings!
    if (this.#state === 'new' || this.#state === 'starting') {
      throw new OttlaError('OTTLA_RUNTIME_NOT_STARTED', 'The app has not been started: await app(…).start()')
    }
    throw new OttlaError('OTTLA_RUNTIME_STOPPING', `The app is ${this.#state}`)
  }

  #loop(service: string): ServiceLoop {
    const loop = this.#loops.find(({ plan }) => plan.name === service)
    if (loop === undefined) throw new OttlaError('OTTLA_RUNTIME_WIRING', `There is no running service ${service}`)
    return loop
  }
}
