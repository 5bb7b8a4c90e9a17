/**
 * Carries out what is asked about dead letters, for the partitions that this member owns.
 *
 *   command seen ──► letter read ──► accepted on record ──► its key is held? ──yes──► walk: all letters of the key,
 *                        │                                         │                  in order, until none is left
 *                        │ no such letter                          └──no──► that letter alone
 *                        └──► result                                                 │
 *                                                                  result on record, command removed
 *
 * A redrive goes to this service only: the letter is put into its key's lane here, nothing is written to the source
 * topic. It is one entry of the lane that is loaded with one letter after the other; between two it waits like a record
 * that waits for its retry, so followers of the key stand behind it and handlers of a key cannot overlap.
 *
 * Nothing here outlives the ownership of a partition: what was not finished is open still, and the next owner does it.
 */
import type { CommandRecord, HeldKey, HoldRecord, ResultOutcome } from '../contract/control.ts'
import { originText } from '../contract/envelope.ts'
import { isUnsettled } from '../core/holds.ts'
import { acceptedMax, mayRedrive } from '../core/redrive.ts'
import type { ControlLog } from './control.ts'
import { type Letter, LetterReader, LetterScan, letterOf, originalOf } from './letters.ts'
import { type Partition, Work } from './partition.ts'
import type { ServicePlan, Surroundings } from './plan.ts'
import type { BatchView, Transport } from './ports.ts'

/** A redrive under way, carried by its lane entry. */
export interface Redrive {
  readonly commands: CommandRecord[]
  /** The held key that it walks through; null: one letter by itself. */
  readonly walk: HeldKey | null
  /** Only finds out whether a letter is left: what discards do. */
  readonly probe: boolean
  /** Later records of the key may have been handled: the handler must want that. */
  readonly late: boolean
  /** The one under way; null between two. */
  letter: Letter | null
  /** Letters that are loaded next, beside those that the scan finds. */
  first: Letter | null
  scan: LetterScan<Letter> | null
  /** Nothing more is loaded: at its next turn the entry leaves its lane. */
  over: boolean
  outcome: ResultOutcome | null
  error: string
  /** Of the letter that decided it, when it was one by itself. */
  origin: string
  loading: boolean
  /** What the last letter still has to put on record. */
  recording: Promise<void>
}

export interface RedriverParts {
  readonly plan: ServicePlan
  readonly surroundings: Surroundings
  readonly transport: Transport
  readonly control: ControlLog
  /** The running partition of that name; undefined when it is not ours. */
  readonly partition: (topic: string, partition: number) => Partition | undefined
  /** The lane entry has something to do. */
  readonly wake: (work: Work) => void
}

/** Commands under way at once. */
const jobsMax = 16
const retryMs = 1_000

const nothing: BatchView = {
  count: 0,
  nextPosition: 0,
  byteLength: 0,
  position: () => 0,
  timestampMs: () => 0,
  key: () => null,
  value: () => null,
  headers: () => [],
  size: () => 0,
}

export class Redriver implements AsyncDisposable {
  readonly #parts: RedriverParts
  readonly #letters: LetterReader
  /** By command, the partition for which it is under way. */
  readonly #jobs = new Map<string, Partition>()
  readonly #walks = new Set<Work>()
  /** The change to a hold that is under way. */
  #changing: Promise<void> = Promise.resolve()

  constructor(parts: RedriverParts) {
    this.#parts = parts
    const { transport, surroundings, plan } = parts
    this.#letters = new LetterReader(transport, surroundings.clock, plan.deadLetterTopic)
  }

  /** Ends what is being read. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#letters[Symbol.asyncDispose]()
  }

  /** Looks for commands that concern partitions held here, and forgets those whose partition is gone. */
  consider(): void {
    for (const work of this.#walks) if (work.partition.gone) this.#forget(work)
    for (const [id, partition] of this.#jobs) if (partition.gone) this.#jobs.delete(id)
    for (const command of this.#parts.control.commands) {
      if (this.#jobs.size >= jobsMax) return
      if (this.#jobs.has(command.id)) continue
      const partition = this.#parts.partition(command.topic, command.partition)
      if (partition === undefined) continue
      this.#jobs.set(command.id, partition)
      void this.#begin(command, partition)
    }
  }

  /** A loaded letter has ended. Says what is next: another one, or nothing. */
  ended(work: Work, outcome: ResultOutcome, error: string): void {
    const redrive = work.redrive!
    const letter = redrive.letter!
    redrive.letter = null
    const hold = redrive.walk === null ? undefined : this.#holdOf(redrive.walk)
    if (hold === undefined) {
      redrive.over = true
      redrive.outcome = outcome
      redrive.error = error
      redrive.origin = textOf(letter)
      return
    }
    if (outcome === 'handled' || outcome === 'duplicate' || outcome === 'ignored' || outcome === 'dropped') {
      const done = letter.facts.origin!.position
      redrive.recording = this.#record(redrive, letter, outcome, (now) => ({
        ...now,
        done,
        letter: { partition: letter.partition, position: letter.position + 1 },
        skip: now.skip.filter((position) => position > done),
        redrives: 0,
      }))
      return
    }
    redrive.over = true
    redrive.outcome = outcome
    redrive.error = error
    const more = outcome === 'failed' ? 1 : 0
    redrive.recording = this.#record(redrive, letter, null, (now) => ({
      ...now,
      redrives: now.redrives + more,
      error: error || now.error,
    }))
  }

  /** The entry is at the head of its lane without a letter: finds the next one and wakes it. */
  next(work: Work): void {
    const redrive = work.redrive!
    if (redrive.loading) return
    redrive.loading = true
    void this.#load(work).catch((error: unknown) => {
      this.#warn('a dead letter could not be read; trying again', error)
      redrive.loading = false
      if (!work.partition.gone) work.partition.later(this.#clock, retryMs, () => this.next(work))
    })
  }

  /** The entry leaves its lane: a held key whose letters are all settled flows from now on. */
  over(work: Work): void {
    const redrive = work.redrive!
    const { partition } = work
    if (redrive.walk !== null && redrive.outcome === null) {
      if (this.#holdOf(redrive.walk) !== undefined) this.#parts.control.release(redrive.walk)
      redrive.outcome = 'released'
    }
    this.#forget(work)
    const outcome = redrive.outcome ?? 'missing'
    for (const command of redrive.commands) {
      void this.#conclude(partition, command, { outcome, error: redrive.error, origin: redrive.origin })
    }
  }

  get #clock() {
    return this.#parts.surroundings.clock
  }

  async #begin(command: CommandRecord, partition: Partition): Promise<void> {
    try {
      if (command.accepted >= acceptedMax) {
        await this.#conclude(partition, command, { outcome: 'processDied', error: 'ProcessDied', origin: '' })
        return
      }
      const letter = await this.#letters.read(command.letter)
      if (partition.gone) return
      const origin = letter?.facts.origin ?? null
      const { topic, topicId, partition: number } = partition.held
      if (letter === null || origin === null || origin.topic !== topic || origin.partition !== number) {
        await this.#conclude(partition, command, { outcome: 'missing', error: '', origin: '' })
        return
      }
      const sameTopic = origin.topicId === null || origin.topicId === topicId
      const held =
        letter.key === null || !sameTopic ? undefined : this.#holdOf({ ...partition.held, key: keyText(letter.key) })
      // Its own letter may be settled already when an owner died half way: the walk goes on where that one was.
      const hold = held !== undefined && origin.position >= held.head ? held : undefined
      // On record before it starts, so that a letter over which its owners die is not begun for ever.
      await this.#parts.control.write({ ...command, accepted: command.accepted + 1 })
      if (partition.gone) return
      if (command.action === 'discard') await this.#discard(command, partition, { letter, hold })
      else this.#offer(command, partition, { letter, hold, probe: false })
    } catch (error) {
      this.#warn('a command could not be begun; trying again', error)
      if (partition.gone) return
      partition.later(this.#clock, retryMs, () => {
        this.#jobs.delete(command.id)
        this.consider()
      })
    }
  }

  async #discard(
    command: CommandRecord,
    partition: Partition,
    { letter, hold }: { readonly letter: Letter; readonly hold: HoldRecord | undefined },
  ): Promise<void> {
    const origin = letter.facts.origin!
    if (hold !== undefined) {
      await this.#change(hold, (now) => ({ ...now, skip: [...now.skip, origin.position] }))
      if (partition.gone) return
    }
    await this.#conclude(partition, command, { outcome: 'discarded', error: '', origin: textOf(letter) })
    if (hold !== undefined && !partition.gone && this.#walkOf(hold) === undefined) {
      this.#offer(null, partition, { letter, hold, probe: true })
    }
  }

  #offer(
    command: CommandRecord | null,
    partition: Partition,
    {
      letter,
      hold,
      probe,
    }: { readonly letter: Letter; readonly hold: HoldRecord | undefined; readonly probe: boolean },
  ): void {
    const walking = hold === undefined ? undefined : this.#walkOf(hold)
    if (walking !== undefined && command !== null) {
      walking.redrive!.commands.push(command)
      return
    }
    const work = new Work(partition, { batch: nothing, index: 0, ticket: -1, fetched: null })
    work.redrive = {
      commands: command === null ? [] : [command],
      walk: hold ?? null,
      probe,
      late: hold === undefined && letter.key !== null,
      letter: null,
      first: hold === undefined ? letter : null,
      scan: null,
      over: false,
      outcome: null,
      error: '',
      origin: '',
      loading: false,
      recording: Promise.resolve(),
    }
    this.#walks.add(work)
    partition.offerRedrive(letter.key, work)
    this.#parts.wake(work)
  }

  async #load(work: Work): Promise<void> {
    const redrive = work.redrive!
    const { partition } = work
    await redrive.recording
    const letter = redrive.over ? null : await this.#following(work)
    redrive.loading = false
    if (partition.gone) return this.#forget(work)
    if (letter === null) redrive.over = true
    else if (redrive.probe) {
      redrive.over = true
      redrive.outcome = 'discarded'
    } else this.#loadLetter(work, letter)
    this.#parts.wake(work)
  }

  #loadLetter(work: Work, letter: Letter): void {
    const redrive = work.redrive!
    const hold = redrive.walk === null ? undefined : this.#holdOf(redrive.walk)
    const redrives = letter.facts.redrives + (hold?.redrives ?? 0)
    if (
      !mayRedrive(
        redrives,
        redrive.commands.some(({ force }) => force),
      )
    ) {
      redrive.over = true
      redrive.outcome = 'loop'
      return
    }
    const editing = redrive.commands.find(
      ({ edited, letter: place }) =>
        edited !== null && place.partition === letter.partition && place.position === letter.position,
    )
    const edited = editing === undefined ? null : { value: Buffer.from(editing.edited!, 'base64url'), by: editing.by }
    redrive.letter = letter
    work.load(originalOf(letter, { redrives: redrives + 1, edited }), { edited: edited !== null })
  }

  /** The next letter to be handled. */
  async #following(work: Work): Promise<Letter | null> {
    const redrive = work.redrive!
    if (redrive.walk === null) {
      const { first } = redrive
      redrive.first = null
      return first
    }
    const { walk } = redrive
    const hold = this.#holdOf(walk)
    if (hold === undefined) return null
    redrive.scan ??= new LetterScan(this.#parts.transport, this.#clock, {
      topic: this.#parts.plan.deadLetterTopic,
      partition: hold.letter.partition,
      from: hold.letter.position,
      take: (partition, records, index) => {
        const key = records.key(index)
        if (key === null || keyText(key) !== walk.key) return null
        const letter = letterOf(partition, records, index)
        const { origin } = letter.facts
        const isOfKey =
          origin !== null &&
          origin.topic === walk.topic &&
          origin.partition === walk.partition &&
          origin.topicId === walk.topicId
        return isOfKey ? letter : null
      },
    })
    for (;;) {
      const letter = await redrive.scan.next()
      if (letter === null || work.partition.gone) return null
      const now = this.#holdOf(walk)
      if (now !== undefined && isUnsettled(now, letter.facts.origin!.position)) return letter
    }
  }

  /** One letter of a walk is settled, or the hold has changed: on record before the next one begins. */
  async #record(
    redrive: Redrive,
    letter: Letter,
    outcome: ResultOutcome | null,
    update: (hold: HoldRecord) => HoldRecord,
  ): Promise<void> {
    const { control } = this.#parts
    try {
      const [command] = redrive.commands
      if (outcome !== null && command !== undefined) {
        await control.write({
          ...this.#result(command, { outcome, error: '', origin: textOf(letter) }),
          letter: { partition: letter.partition, position: letter.position },
          last: false,
        })
      }
      await this.#change(redrive.walk!, update)
    } catch (error) {
      // A crash now would have the letter handled once more.
      this.#warn('the progress of a redrive could not be stored', error)
    }
  }

  /** Changes to holds one after the other, each of what the last one left: none overwrites another. */
  #change(key: HeldKey, update: (hold: HoldRecord) => HoldRecord): Promise<void> {
    const turn = this.#changing.then(async () => {
      const hold = this.#holdOf(key)
      if (hold !== undefined) await this.#parts.control.write(update(hold))
    })
    this.#changing = turn.catch(() => undefined)
    return turn
  }

  async #conclude(partition: Partition, command: CommandRecord, what: Conclusion): Promise<void> {
    const { control } = this.#parts
    for (;;) {
      try {
        await control.write(this.#result(command, what))
        await control.remove(`command/${command.id}`)
        break
      } catch (error) {
        this.#warn('the result of a command could not be stored; trying again', error)
        if (partition.gone) break
        await new Promise<void>((done) => void this.#clock.after(retryMs, done))
      }
    }
    this.#jobs.delete(command.id)
    this.consider()
  }

  #result(command: CommandRecord, { outcome, error, origin }: Conclusion) {
    const { id, action, letter, by, reason } = command
    const { plan, surroundings } = this.#parts
    const atMs = surroundings.clock.wallMs()
    const instance = plan.clientId
    const common = { id, action, letter, by, reason, atMs, instance, outcome, error, origin }
    return { kind: 'result' as const, ...common, last: true }
  }

  #holdOf({ topicId, partition, key }: Pick<HeldKey, 'topicId' | 'partition' | 'key'>): HoldRecord | undefined {
    return this.#parts.control.holds.get(topicId, partition, key)
  }

  #walkOf(hold: HeldKey): Work | undefined {
    for (const work of this.#walks) {
      const walk = work.redrive?.walk
      if (walk?.key === hold.key && walk.partition === hold.partition && walk.topicId === hold.topicId) {
        if (!work.partition.gone && work.redrive?.over === false) return work
      }
    }
    return undefined
  }

  #forget(work: Work): void {
    this.#walks.delete(work)
    const { scan } = work.redrive!
    work.redrive!.scan = null
    void scan?.[Symbol.asyncDispose]().catch((error: unknown) => this.#warn('reading dead letters did not end', error))
  }

  #warn(text: string, error: unknown): void {
    this.#parts.surroundings.log.warn(text, { service: this.#parts.plan.name, error })
  }
}

interface Conclusion {
  readonly outcome: ResultOutcome
  readonly error: string
  readonly origin: string
}

/** The key of a hold. */
export function keyText(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.length).toString('base64url')
}

function textOf({ facts: { origin } }: Letter): string {
  return origin === null ? '' : originText({ ...origin, topicId: origin.topicId ?? '-' })
}
