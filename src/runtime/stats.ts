/** Counters of one service beyond its ledgers: attempts by outcome, durations, alarms. Bounded by the handlers there are. */
import { Histogram } from '../core/histogram.ts'
import type { Outcome } from '../core/outcome.ts'

export type AttemptOutcome = Outcome['kind'] | 'retryForever' | 'duplicate' | 'fenced' | 'fallback'

/** Counters of one handler. */
export class HandlerStats {
  readonly name: string
  readonly duration = new Histogram()
  readonly attempts: Record<AttemptOutcome, number> = {
    handled: 0,
    retry: 0,
    retryForever: 0,
    move: 0,
    park: 0,
    deadLetter: 0,
    drop: 0,
    duplicate: 0,
    fenced: 0,
    fallback: 0,
  }

  constructor(name: string) {
    this.name = name
  }
}

/** Counters of one service. */
export class ServiceStats {
  readonly #handlers = new Map<string, HandlerStats>()
  #asked: HandlerStats | null = null
  rebalances = 0
  alarms = 0
  badHeaders = 0

  handler(name: string): HandlerStats {
    // Asked twice for every record, nearly always about the same one.
    if (this.#asked?.name === name) return this.#asked
    let stats = this.#handlers.get(name)
    if (stats === undefined) {
      stats = new HandlerStats(name)
      this.#handlers.set(name, stats)
    }
    this.#asked = stats
    return stats
  }

  handlers(): Iterable<HandlerStats> {
    return this.#handlers.values()
  }
}
