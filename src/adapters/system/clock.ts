/** Time as the machine tells it. */
import type { Clock } from '../../runtime/ports.ts'

/** Monotonic and wall clock of this process, and its timers. */
export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, delayMs)
    return { [Symbol.dispose]: () => clearTimeout(timer) }
  },
}
