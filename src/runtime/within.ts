/** Waiting with an end. */
import type { Clock } from './ports.ts'

/** Waits for `work`, but no longer than this. True when it ended in time; rejects when it did in time. */
export async function within(clock: Clock, maxMs: number, work: PromiseLike<unknown>): Promise<boolean> {
  let timer: Disposable | undefined
  const late = new Promise<false>((done) => {
    timer = clock.after(maxMs, () => done(false))
  })
  try {
    return await Promise.race([Promise.resolve(work).then(() => true), late])
  } finally {
    timer?.[Symbol.dispose]()
  }
}
