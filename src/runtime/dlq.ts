/**
 * The dead letters of a service, for whoever looks after them: lists those that are open, and asks the service to
 * redrive or discard them, to pause and to resume.
 *
 * Nothing is done here. What is asked goes to the control topic, the owner of the source partition does it, and its
 * results come back the same way; so it works from any process that reaches the log, and the results are the audit.
 */
import {
  type CommandAction,
  type CommandRecord,
  controlKey,
  type PauseRecord,
  type ResultOutcome,
  type ResultRecord,
} from '../contract/control.ts'
import { newId } from '../contract/id.ts'
import { serviceNames } from '../contract/names.ts'
import { ErrorSpike, Pace } from '../core/redrive.ts'
import { ControlLog } from './control.ts'
import { type Letter, LetterScan } from './letters.ts'
import type { Clock, Log, Transport, Writer } from './ports.ts'
import { keyText } from './redrive.ts'

export interface DeskOptions {
  readonly transport: Transport
  readonly service: string
  readonly namespace?: string
  readonly clock: Clock
  readonly log: Log
  /** Who asks: stands in the audit. */
  readonly by: string
}

/** An open dead letter. */
export interface OpenLetter {
  readonly letter: Letter
  /** Its key is held: redriving it redrives every letter of the key, in order. */
  readonly held: boolean
  /** The last failed redrive of it, if there was one. */
  readonly lastError: string | null
}

export interface LetterGroup {
  readonly cause: string
  readonly count: number
  readonly held: number
  readonly topics: readonly string[]
  readonly oldestMs: number | null
}

export interface AskOptions {
  readonly reason: string
  /** At most so many commands a second. Default 10. */
  readonly perSecond?: number
  /** Redrive also what has come back too often. */
  readonly force?: boolean
  /** Instead of the stored payload; for one letter only. */
  readonly edited?: Uint8Array
  /** How long to wait for results after the last command. Default 60,000 ms. */
  readonly waitMs?: number
  readonly onResult?: (result: ResultRecord) => void
}

/** What came of it. */
export interface Asked {
  readonly commands: number
  /** Letters by what became of them. */
  readonly outcomes: Readonly<Partial<Record<ResultOutcome, number>>>
  /** Commands without a result when the waiting ended: nobody owns the partition, or it takes longer. */
  readonly open: number
  /** Too many failed: so many were not asked for any more. */
  readonly stoppedBefore: number
}

/** Commands without a result at once: few, so that a cause that was not mended stops the redrive early. */
const inFlightMax = 8
const failures: ReadonlySet<ResultOutcome> = new Set(['failed', 'deadLettered', 'invalid', 'loop', 'processDied'])
/** After these a letter of that origin is settled. */
const settling: ReadonlySet<ResultOutcome> = new Set(['handled', 'duplicate', 'ignored', 'dropped', 'discarded'])

export class DeadLetterDesk implements AsyncDisposable {
  readonly #options: DeskOptions
  readonly #control: ControlLog
  readonly #writer: Writer
  readonly #deadLetters: string
  /** Results by letter, and by origin the time of the last one that settles it. */
  readonly #byLetter = new Map<string, ResultRecord>()
  readonly #settledAt = new Map<string, number>()
  readonly #waiting = new Map<string, (result: ResultRecord) => void>()

  private constructor(
    options: DeskOptions,
    writer: Writer,
    names: { readonly control: string; readonly deadLetters: string },
  ) {
    const { transport, clock, log } = options
    this.#options = options
    this.#writer = writer
    this.#deadLetters = names.deadLetters
    this.#control = new ControlLog({ topic: names.control, transport, writer, clock, log, random: () => 0.5 })
    this.#control.onResult = (result) => this.#took(result)
  }

  /** Reads the control topic of the service. Throws when a topic is missing or cannot be reached. */
  static async open(options: DeskOptions): Promise<DeadLetterDesk> {
    const names = serviceNames(options.service, options.namespace)
    const writer = await options.transport.writer({ clientId: `desk-${options.by}` })
    const desk = new DeadLetterDesk(options, writer, names)
    try {
      await desk.#control.ready()
    } catch (error) {
      await desk[Symbol.asyncDispose]()
      throw error
    }
    return desk
  }

  /** Every open letter, by source partition and position; values are there, so ask for few at a time when they are large. */
  async letters(): Promise<readonly OpenLetter[]> {
    const partitions = (await this.#options.transport.describe([this.#deadLetters]))[0]?.partitions ?? 0
    /** By origin: a crash may have written one twice, and a redrive that failed writes it again. The last one counts. */
    const found = new Map<string, Letter>()
    for (let partition = 0; partition < partitions; partition++) {
      const scan = new LetterScan(this.#options.transport, this.#options.clock, {
        topic: this.#deadLetters,
        partition,
        from: 0,
        wanted: () => true,
      })
      try {
        for (let letter = await scan.next(); letter !== null; letter = await scan.next()) {
          found.set(originKey(letter), letter)
        }
      } finally {
        await scan[Symbol.asyncDispose]()
      }
    }
    return [...found.values()]
      .filter((letter) => !this.#isSettled(letter))
      .sort(bySource)
      .map((letter) => ({
        letter,
        held: this.#holdOf(letter) !== undefined,
        lastError: this.#byLetter.get(placeKey(letter))?.error || null,
      }))
  }

  /** The open letters, counted by cause. */
  async groups(): Promise<readonly LetterGroup[]> {
    const groups = new Map<string, { count: number; held: number; topics: Set<string>; oldestMs: number | null }>()
    for (const { letter, held } of await this.letters()) {
      const cause = letter.facts.cause ?? 'unknown'
      let group = groups.get(cause)
      if (group === undefined) {
        group = { count: 0, held: 0, topics: new Set(), oldestMs: null }
        groups.set(cause, group)
      }
      group.count++
      if (held) group.held++
      if (letter.facts.origin !== null) group.topics.add(letter.facts.origin.topic)
      const atMs = letter.facts.failedAtMs
      if (atMs !== null) group.oldestMs = Math.min(group.oldestMs ?? atMs, atMs)
    }
    return [...groups]
      .map(([cause, { topics, ...rest }]) => ({ cause, ...rest, topics: [...topics].sort() }))
      .sort((a, b) => b.count - a.count)
  }

  /** Which letters stand for what would be redriven: of a held key one, the others follow by themselves. */
  plan(letters: readonly OpenLetter[]): readonly OpenLetter[] {
    const keys = new Set<string>()
    return letters.filter(({ letter, held }) => {
      const hold = held ? this.#holdOf(letter) : undefined
      // Not held, or let go since it was listed: then its letter says so itself when it is asked for.
      if (hold === undefined) return true
      const name = `${hold.topicId}/${hold.partition}/${hold.key}`
      return !keys.has(name) && keys.add(name)
    })
  }

  /** Asks the service to handle these once more, in order per key, and waits for what comes of it. */
  redrive(letters: readonly OpenLetter[], options: AskOptions): Promise<Asked> {
    return this.#ask('redrive', options.edited === undefined ? this.plan(letters) : letters, options)
  }

  /** Says that nobody will handle these. */
  discard(letters: readonly OpenLetter[], options: AskOptions): Promise<Asked> {
    return this.#ask('discard', letters, options)
  }

  /** Stands partitions still on every member, until `resume`, over restarts too. */
  async pause(what: Pick<PauseRecord, 'topic' | 'partition' | 'reason'>): Promise<void> {
    await this.#control.write({ kind: 'pause', ...what, by: this.#options.by, atMs: this.#options.clock.wallMs() })
  }

  /** Lets partitions go on that the brake or any `pause` within these stopped. */
  async resume(what: Pick<PauseRecord, 'topic' | 'partition'>): Promise<void> {
    for (const pause of this.#control.pauses) {
      const within = what.topic === null || (pause.topic === what.topic && what.partition === null)
      if (within) await this.#control.remove(controlKey(pause))
    }
    await this.#control.remove(controlKey({ kind: 'pause', ...what, by: '', reason: '', atMs: 0 }))
  }

  get pauses(): readonly PauseRecord[] {
    return this.#control.pauses
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#control[Symbol.asyncDispose]()
    await this.#writer[Symbol.asyncDispose]()
  }

  async #ask(action: CommandAction, letters: readonly OpenLetter[], options: AskOptions): Promise<Asked> {
    const { clock, by } = this.#options
    const pace = new Pace(options.perSecond ?? 10)
    const spike = new ErrorSpike()
    const outcomes: Partial<Record<ResultOutcome, number>> = {}
    const open = new Set<string>()
    let told: () => void = () => undefined
    let asked = 0
    const took = (result: ResultRecord): void => {
      // The end of a walk is no letter of its own, unless it failed.
      const counts = result.last ? result.outcome !== 'released' : true
      if (counts) {
        outcomes[result.outcome] = (outcomes[result.outcome] ?? 0) + 1
        spike.ended(failures.has(result.outcome))
      }
      if (result.last) {
        open.delete(result.id)
        this.#waiting.delete(result.id)
      }
      options.onResult?.(result)
      told()
    }
    const changed = (maxMs: number): Promise<void> =>
      new Promise((done) => {
        const timer = clock.after(maxMs, done)
        told = () => {
          timer[Symbol.dispose]()
          done()
        }
      })
    for (const { letter } of letters) {
      const origin = letter.facts.origin
      if (origin === null) {
        outcomes.missing = (outcomes.missing ?? 0) + 1
        continue
      }
      const waitMs = pace.take(clock.monotonicMs())
      if (waitMs > 0) await new Promise<void>((done) => void clock.after(waitMs, done))
      const untilMs = clock.monotonicMs() + (options.waitMs ?? 60_000)
      while (open.size >= inFlightMax && clock.monotonicMs() < untilMs) await changed(untilMs - clock.monotonicMs())
      if (spike.tripped || open.size >= inFlightMax) break
      const command: CommandRecord = {
        kind: 'command',
        id: newId(clock.wallMs()),
        action,
        letter: { partition: letter.partition, position: letter.position },
        topic: origin.topic,
        partition: origin.partition,
        by,
        reason: options.reason,
        atMs: clock.wallMs(),
        edited: options.edited === undefined ? null : keyText(options.edited),
        force: options.force === true,
        accepted: 0,
      }
      open.add(command.id)
      this.#waiting.set(command.id, took)
      asked++
      await this.#control.write(command)
    }
    const untilMs = clock.monotonicMs() + (options.waitMs ?? 60_000)
    while (open.size > 0 && clock.monotonicMs() < untilMs) await changed(untilMs - clock.monotonicMs())
    for (const id of open) this.#waiting.delete(id)
    const unread = outcomes.missing ?? 0
    return { commands: asked, outcomes, open: open.size, stoppedBefore: Math.max(0, letters.length - asked - unread) }
  }

  #took(result: ResultRecord): void {
    const place = `${result.letter.partition}/${result.letter.position}`
    if (result.outcome !== 'released') this.#byLetter.set(place, result)
    if (settling.has(result.outcome) && result.origin !== '') {
      this.#settledAt.set(result.origin, Math.max(this.#settledAt.get(result.origin) ?? 0, result.atMs))
    }
    this.#waiting.get(result.id)?.(result)
  }

  #isSettled(letter: Letter): boolean {
    const result = this.#byLetter.get(placeKey(letter))
    if (result !== undefined && (settling.has(result.outcome) || result.outcome === 'deadLettered')) return true
    const atMs = this.#settledAt.get(originKey(letter))
    return atMs !== undefined && (letter.facts.failedAtMs ?? 0) <= atMs
  }

  #holdOf({ key, facts: { origin } }: Letter) {
    if (key === null || origin === null || origin.topicId === null) return undefined
    const hold = this.#control.holds.get(origin.topicId, origin.partition, keyText(key))
    return hold !== undefined && origin.position >= hold.head ? hold : undefined
  }
}

function placeKey(letter: Letter): string {
  return `${letter.partition}/${letter.position}`
}

function originKey(letter: Letter): string {
  const { origin } = letter.facts
  if (origin === null) return placeKey(letter)
  return `${origin.topic}/${origin.topicId ?? '-'}/${origin.partition}/${origin.position}`
}

function bySource(a: OpenLetter['letter'], b: OpenLetter['letter']): number {
  const left = a.facts.origin
  const right = b.facts.origin
  if (left === null || right === null) return left === right ? a.position - b.position : left === null ? 1 : -1
  if (left.topic !== right.topic) return left.topic < right.topic ? -1 : 1
  return left.partition - right.partition || left.position - right.position
}
