/**
 * Notices partitions that make no progress although there is something to do and nothing says why not.
 *
 * Progress is a record that has ended, not a fetch or a heartbeat: those go on while nothing gets done. There is something
 * to do when records run or could run, and also when the log holds more although nothing is in hand. What stands still for
 * a reason that is told elsewhere (a pause, a breaker, a brake, a retry whose time has not come) is left alone.
 */
import type { Partition } from './partition.ts'

export class ProgressWatch {
  /** What was there to do, at the first look that found it, and when. */
  readonly #since = new WeakMap<Partition, number>()
  readonly #limitMs: number

  /** `limitMs`: how long is too long. */
  constructor(limitMs: number) {
    this.#limitMs = limitMs
  }

  /** How often to look: often enough to notice in time. */
  get intervalMs(): number {
    return Math.max(250, Math.min(15_000, this.#limitMs / 4))
  }

  /** For how long the partition has made no progress, once that is too long; else 0. `lag`: records not finished. */
  look(partition: Partition, lag: number, nowMs: number): number {
    if (!hasWork(partition, lag)) {
      this.#since.delete(partition)
      return 0
    }
    const sinceMs = this.#since.get(partition) ?? nowMs
    this.#since.set(partition, sinceMs)
    const stillMs = nowMs - Math.max(sinceMs, partition.progressMs)
    return stillMs >= this.#limitMs ? stillMs : 0
  }
}

function hasWork(partition: Partition, lag: number): boolean {
  const { state, standing, full, paused, undue } = partition
  if (state !== 'running' || standing !== null) return false
  if (partition.open === 0) return lag > 0 && !paused && undue.empty
  // Full, what was fetched and is in no lane waits for those that stand still.
  const { running, queued } = full ? partition.lanes.counts() : partition.counts()
  return running + queued > 0
}
