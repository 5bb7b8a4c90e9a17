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
import { isLetterHeader } from '../contract/dead-letter.ts'
import { originText, ownHeader } from '../contract/envelope.ts'
import { OttlaError } from '../contract/errors.ts'
import { newId } from '../contract/id.ts'
import { serviceNames } from '../contract/names.ts'
import { ErrorSpike, mayRedrive, Pace } from '../core/redrive.ts'
import { ControlLog } from './control.ts'
import { entryOf, type Letter, type LetterEntry, LetterReader, LetterScan } from './letters.ts'
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
  /** Where it is and what it says; `read` brings what it holds. */
  readonly letter: LetterEntry
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

/** How letters are written to their source topics once more. */
export interface ToSourceOptions extends Pick<AskOptions, 'perSecond' | 'force' | 'onResult'> {
  /** Why every group has to see them again; stays in the audit. */
  readonly reason: string
}

/** What came of that. */
export interface SentToSource {
  /** The groups that see them again, by topic. */
  readonly groups: Readonly<Record<string, readonly string[]>>
  readonly sent: number
  /** Not sent: came back too often; its key is held, so that it would only go behind the others; cannot be told where from. */
  readonly refused: { readonly loop: number; readonly held: number; readonly missing: number }
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
/** Open letters that are listed at once, each with at most about 1 KiB. More are seen when these are settled. */
export const openLettersMax = 100_000
const failures: ReadonlySet<ResultOutcome> = new Set(['failed', 'deadLettered', 'invalid', 'loop', 'processDied'])
/** After these a letter of that origin is settled. */
const settling: ReadonlySet<ResultOutcome> = new Set([
  'handled',
  'duplicate',
  'ignored',
  'dropped',
  'discarded',
  'sentToSource',
])

export class DeadLetterDesk implements AsyncDisposable {
  readonly #options: DeskOptions
  readonly #control: ControlLog
  readonly #writer: Writer
  readonly #deadLetters: string
  readonly #reader: LetterReader
  /** Results by letter, and by origin the time of the last one that settles it. */
  readonly #byLetter = new Map<string, Pick<ResultRecord, 'outcome' | 'error'>>()
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
    this.#reader = new LetterReader(transport, clock, names.deadLetters)
    this.#control = new ControlLog({ topic: names.control, transport, writer, clock, log, random: () => 0.5 })
    this.#control.onResult = (result) => this.#took(result)
  }

  /** Reads the control topic of the service. Throws when a topic is missing or cannot be reached. */
  static async open(options: DeskOptions): Promise<DeadLetterDesk> {
    const names = serviceNames(options.service, options.namespace)
    const maxRecordBytes = Number.MAX_SAFE_INTEGER
    const writer = await options.transport.writer({ clientId: `desk-${options.by}`, maxRecordBytes })
    const desk = new DeadLetterDesk(options, writer, names)
    try {
      await desk.#control.ready()
    } catch (error) {
      await desk[Symbol.asyncDispose]()
      throw error
    }
    return desk
  }

  /**
   * The open letters, by source partition and position: at most 100,000, the oldest of each dead-letter partition. Where
   * there are more, a warning says so. What a letter holds is not kept: `read` it.
   */
  async letters({ max = openLettersMax }: { readonly max?: number } = {}): Promise<readonly OpenLetter[]> {
    const partitions = (await this.#options.transport.describe([this.#deadLetters]))[0]?.partitions ?? 0
    /** By origin: a crash may have written one twice, and a redrive that failed writes it again. The last one counts. */
    const found = new Map<string, LetterEntry>()
    let more = 0
    for (let partition = 0; partition < partitions; partition++) {
      const scan = new LetterScan(this.#options.transport, this.#options.clock, {
        topic: this.#deadLetters,
        partition,
        from: 0,
        take: (at, records, index) => {
          const letter = entryOf(at, records, index)
          return this.#isSettled(letter) ? null : letter
        },
      })
      try {
        for (let letter = await scan.next(); letter !== null; letter = await scan.next()) {
          const origin = originKey(letter)
          if (found.size >= max && !found.has(origin)) more++
          else found.set(origin, letter)
        }
      } finally {
        await scan[Symbol.asyncDispose]()
      }
    }
    if (more > 0) {
      this.#options.log.warn(`there are more open letters than ${max}: about ${more} are not listed`)
    }
    return [...found.values()].sort(bySource).map((letter) => ({
      letter,
      held: this.#holdOf(letter) !== undefined,
      lastError: this.#byLetter.get(placeKey(letter))?.error || null,
    }))
  }

  /** A letter with all that it holds; null when it is there no more. */
  read({ letter }: OpenLetter): Promise<Letter | null> {
    return this.#reader.read(letter)
  }

  /** The groups that would see these letters again if they were written to their source topics, by topic. */
  async groupsOf(letters: readonly OpenLetter[]): Promise<Readonly<Record<string, readonly string[]>>> {
    const topics = [...new Set(letters.flatMap(({ letter }) => letter.facts.origin?.topic ?? []))].sort()
    const groups = await Promise.all(topics.map((topic) => this.#options.transport.groupsOf(topic)))
    return Object.fromEntries(topics.map((topic, index) => [topic, groups[index]!]))
  }

  /**
   * Writes letters to their source topics once more, with the same ids, for **every** group that reads those; `redrive`
   * has them handled by the service that failed and nobody else. They come after everything that is there by then.
   * Throws OTTLA_CONFIG_INVALID without a reason, and what the transport throws.
   */
  async toSource(letters: readonly OpenLetter[], options: ToSourceOptions): Promise<SentToSource> {
    if (options.reason.trim() === '') {
      throw new OttlaError('OTTLA_CONFIG_INVALID', 'to write letters to their source topic needs a reason')
    }
    const { clock, transport, by } = this.#options
    const groups = await this.groupsOf(letters)
    const facts = new Map((await transport.describe(Object.keys(groups))).map((each) => [each.topic, each]))
    const pace = new Pace(options.perSecond ?? 10)
    const refused = { loop: 0, held: 0, missing: 0 }
    let sent = 0
    for (const open of letters) {
      const { origin, redrives } = open.letter.facts
      const source = origin === null ? undefined : facts.get(origin.topic)
      if (this.#holdOf(open.letter) !== undefined) refused.held++
      else if (!mayRedrive(redrives, options.force === true)) refused.loop++
      else if (origin === null || source?.exists !== true) refused.missing++
      else {
        const letter = await this.read(open)
        if (letter === null) {
          refused.missing++
          continue
        }
        const waitMs = pace.take(clock.monotonicMs())
        if (waitMs > 0) await new Promise<void>((done) => void clock.after(waitMs, done))
        await this.#writer.send({
          topic: origin.topic,
          // Where its key has always been; a topic made again chooses anew.
          partition: origin.topicId === source.id ? origin.partition : null,
          key: letter.key,
          value: letter.value,
          headers: [
            ...letter.headers.filter(({ key }) => !isLetterHeader(key)),
            ownHeader('redrives', String(redrives + 1)),
          ],
        })
        const result: ResultRecord = {
          kind: 'result',
          id: newId(clock.wallMs()),
          action: 'toSource',
          outcome: 'sentToSource',
          letter: { partition: letter.partition, position: letter.position },
          origin: originText({ ...origin, topicId: origin.topicId ?? '-' }),
          error: '',
          by,
          reason: options.reason,
          atMs: clock.wallMs(),
          instance: `desk-${by}`,
          last: true,
          groups: groups[origin.topic]!,
        }
        await this.#control.write(result)
        sent++
        options.onResult?.(result)
      }
    }
    return { groups, sent, refused }
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

  /** Says that nobody will handle these. Rejects with OTTLA_CONFIG_INVALID without a reason. */
  async discard(letters: readonly OpenLetter[], options: AskOptions): Promise<Asked> {
    if (options.reason.trim() === '') throw new OttlaError('OTTLA_CONFIG_INVALID', 'to discard letters needs a reason')
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
    await this.#reader[Symbol.asyncDispose]()
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
    if (result.outcome !== 'released') {
      this.#byLetter.set(place, { outcome: result.outcome, error: result.error })
    }
    if (settling.has(result.outcome) && result.origin !== '') {
      this.#settledAt.set(result.origin, Math.max(this.#settledAt.get(result.origin) ?? 0, result.atMs))
    }
    this.#waiting.get(result.id)?.(result)
  }

  #isSettled(letter: LetterEntry): boolean {
    const result = this.#byLetter.get(placeKey(letter))
    if (result !== undefined && (settling.has(result.outcome) || result.outcome === 'deadLettered')) return true
    const atMs = this.#settledAt.get(originKey(letter))
    return atMs !== undefined && (letter.facts.failedAtMs ?? 0) <= atMs
  }

  #holdOf({ key, facts: { origin } }: LetterEntry) {
    if (key === null || origin === null || origin.topicId === null) return undefined
    const hold = this.#control.holds.get(origin.topicId, origin.partition, keyText(key))
    return hold !== undefined && origin.position >= hold.head ? hold : undefined
  }
}

function placeKey(letter: LetterEntry): string {
  return `${letter.partition}/${letter.position}`
}

function originKey(letter: LetterEntry): string {
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
