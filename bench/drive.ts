/** How arms publish, the same for all of them: so many at once, the next as soon as one is confirmed. */
import type { Meter } from './meter.ts'

/** Calls `publish(0)` … `publish(count - 1)` with `window` of them unconfirmed. Each call is for `size` messages. */
export async function publishAll(
  run: { readonly count: number; readonly window: number; readonly size: number; readonly meter: Meter },
  publish: (index: number) => Promise<unknown>,
): Promise<void> {
  const { count, window, size, meter } = run
  let next = 0
  let done = 0
  const lane = async (): Promise<void> => {
    while (next < count) {
      await publish(next++)
      done += size
      meter.reached(done)
    }
  }
  await Promise.all(Array.from({ length: Math.min(window, count) }, lane))
}

/** One after another, each timed; the first `warmUp` are not. */
export async function publishAlone(
  count: number,
  warmUp: number,
  publish: (index: number) => Promise<unknown>,
): Promise<number[]> {
  const latenciesMs: number[] = []
  for (let i = 0; i < count; i++) {
    const startMs = performance.now()
    await publish(i)
    if (i >= warmUp) latenciesMs.push(performance.now() - startMs)
  }
  return latenciesMs
}

/** In flight on line 3. */
export const singleWindow = 1000
/** Messages of one array, and arrays in flight, on line 4. */
export const arraySize = 100
export const arrayWindow = 5
