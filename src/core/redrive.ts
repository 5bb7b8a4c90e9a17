/**
 * The commands of a service as its members see them, and how fast and how long dead letters are redriven.
 *
 *   asked ──(an owner begins: accepted + 1, on record before it starts)──► accepted ──(its result is on record)──► done
 *     ▲                                                                       │
 *     └──────────────── the owner died or lost the partition: open again ─────┘    after `acceptedMax` it is given up
 *
 * `CommandLog` holds the open ones only, oldest first, so memory follows what is asked and not what ever was.
 */

/** What the log needs to know of a command. */
export interface Command {
  readonly id: string
  readonly topic: string
  readonly partition: number
  readonly accepted: number
}

/** How often owners may die over one command. */
export const acceptedMax = 3
/** How often a record may come back to the dead letters before its redrive is refused. */
export const redrivesMax = 5
const openMax = 10_000

export class CommandLog<C extends Command = Command> {
  readonly #open = new Map<string, C>()

  /** A command was written, or written again by the owner who begins it. False: too many are open, it is left out. */
  asked(command: C): boolean {
    if (!this.#open.has(command.id) && this.#open.size >= openMax) return false
    this.#open.set(command.id, command)
    return true
  }

  /** Its last result is on record. */
  done(id: string): void {
    this.#open.delete(id)
  }

  get(id: string): C | undefined {
    return this.#open.get(id)
  }

  get size(): number {
    return this.#open.size
  }

  /** The open ones, oldest first. */
  [Symbol.iterator](): Iterator<C> {
    return this.#open.values()
  }
}

/** May a letter that came back `redrives` times be redriven? */
export function mayRedrive(redrives: number, force: boolean): boolean {
  return force || redrives < redrivesMax
}

/** At most so many per second, evenly. Says how long to wait before the next one. */
export class Pace {
  readonly #intervalMs: number
  #nextMs = 0

  constructor(perSecond: number) {
    this.#intervalMs = 1_000 / perSecond
  }

  /** Takes the next turn: milliseconds until it comes. */
  take(nowMs: number): number {
    const atMs = Math.max(nowMs, this.#nextMs)
    this.#nextMs = atMs + this.#intervalMs
    return atMs - nowMs
  }
}

/** Stops a redrive whose cause was not mended: too many of the last results failed. */
export class ErrorSpike {
  readonly #recent: boolean[] = []
  readonly #window: number
  readonly #failuresMax: number

  constructor(limits: { readonly window: number; readonly failuresMax: number } = { window: 20, failuresMax: 5 }) {
    this.#window = limits.window
    this.#failuresMax = limits.failuresMax
  }

  /** A result came. */
  ended(failed: boolean): void {
    this.#recent.push(failed)
    if (this.#recent.length > this.#window) this.#recent.shift()
  }

  /** Have too many failed? */
  get tripped(): boolean {
    return this.#recent.filter(Boolean).length >= this.#failuresMax
  }
}
