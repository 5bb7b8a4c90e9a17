/** Time as the machine tells it. */
import { performance } from 'node:perf_hooks'
import type { Clock } from '../../runtime/ports.ts'

/** Beyond this Node's timers fire at once. */
const delayMsMax = 0x7fff_ffff

/** Monotonic and wall clock of this process, and its timers. */
export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, Math.min(delayMs, delayMsMax))
    return { [Symbol.dispose]: () => clearTimeout(timer) }
  },
}
