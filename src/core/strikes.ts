/**
 * Whom to blame when owners of a partition die one after the other.
 *
 *   calm ──the first handler may start──► counted: strikes + 1 is on record ──the front passes the suspect──► calm, 0 strikes
 *     ▲                                        ▲                                                                  │
 *     │                                        └──a record that stood still at or before the suspect runs again───┘
 *     └──beyond the careful span, and nothing may start──┐
 *   gained with 3 strikes or more ──► careful: one handler at a time, and whose it is on record before it starts
 *
 * The **front** is the lowest position whose record may yet do harm: neither finished nor standing still behind a failure,
 * for such a one has run and the process lives. The **suspect** is the front of the last owner that made progress: as
 * long as none goes beyond it, each death is one more strike. A record that waits an hour holds up neither.
 *
 * Calm, the culprit is only known to be at or beyond the suspect, since others ran beside it. Careful, it is the one on
 * record: when owners have died three times under it, it is given up.
 */

/** Deaths of owners, and where. */
export interface Strike {
  readonly strikes: number
  readonly suspect: number
}

/** From this many owners lost without progress the partition is handled one record at a time. */
const carefulFrom = 3
/** A record under which this many careful owners died is given up. */
export const diedMax = 3
/** Careful mode covers this many positions from the suspect on. */
const carefulSpan = 1_000
const nobody = -1

export class Strikes {
  readonly #start: Strike
  #carefulUntil: number
  /** This owner has started something. */
  #begun = false
  /** Its death would be counted: calm, while nothing shows progress. */
  #counted = false
  /** Careful: the record whose handler runs or may start at once. */
  #accused = nobody
  /** Nothing at or before the suspect is open any more. */
  #over = false

  constructor(start: Strike) {
    this.#start = start
    this.#carefulUntil = start.strikes >= carefulFrom ? start.suspect + carefulSpan : 0
  }

  get careful(): boolean {
    return this.#carefulUntil > 0
  }

  /** Must it be asked before a handler starts, and told when one has ended? */
  get alert(): boolean {
    return !this.#over
  }

  /** Was anything put on record that a peaceful end takes back? */
  get begun(): boolean {
    return this.#begun
  }

  /** Would its death now be blamed on a record? */
  get blames(): boolean {
    return this.careful ? this.#accused !== nobody : this.#counted
  }

  /** Careful: that it starts could not be put on record. */
  retract(): void {
    this.#accused = nobody
  }

  /** Careful owners have died under it too often. */
  givesUp(position: number): boolean {
    return position === this.#start.suspect && this.#start.strikes >= carefulFrom + diedMax
  }

  /** Is on record what its death would mean, so that it may start? A redrive is at no position: null. */
  mayStart(position: number | null): boolean {
    if (this.careful) return position === null || position === this.#accused
    return this.#counted || (this.#begun && (position === null || position > this.#start.suspect))
  }

  /** The next thing that goes on record is that this one starts. */
  begin(position: number | null): void {
    this.#begun = true
    if (!this.careful) this.#counted = true
    else if (position !== null) this.#accused = position
  }

  /** A record has ended or stands still; `next` is the first position not fetched. True when that should go on record at once. */
  survived(front: number, next: number): boolean {
    if (!this.blames) return false
    if (this.careful) {
      this.#accused = nobody
      return true
    }
    // Where nothing that was fetched may do harm, nobody is to blame either.
    if (front <= this.#start.suspect && front < next) return false
    this.#counted = false
    return true
  }

  /** Nothing may start of what lies before `next`. True when careful mode ends by that. */
  quiet(next: number): boolean {
    if (!this.spanEnds(next)) return false
    this.#carefulUntil = 0
    return true
  }

  /** Everything below is finished. */
  finishedBelow(low: number): void {
    if (!this.careful && this.#begun && !this.#counted && low > this.#start.suspect) this.#over = true
  }

  /** Does `next` lie beyond the careful span, so that what lies before it must come to its end first? */
  spanEnds(next: number): boolean {
    return this.careful && next >= this.#carefulUntil
  }

  /** What to put on record. `leaving`: given back in peace, so this owner was not lost. */
  at(front: number, leaving: boolean): Strike {
    const { strikes, suspect } = this.#start
    if (!this.careful) {
      if (front > suspect) return { strikes: 0, suspect: front }
      // Whoever was careful has seen them survive; the count begins anew.
      const before = Math.min(strikes, carefulFrom - 1)
      return { strikes: this.#counted && !leaving ? before + 1 : before, suspect }
    }
    const accused = this.#accused
    if (accused !== nobody && !leaving)
      return { strikes: (accused === suspect ? strikes : carefulFrom) + 1, suspect: accused }
    return front > suspect ? { strikes: carefulFrom, suspect: front } : { strikes, suspect }
  }
}
