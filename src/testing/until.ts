/** Waiting in tests for something that happens by itself: until a condition is so, not for a time that is long enough. */

/**
 * Makes the `until` of a test file. It resolves once `condition` is true, which is looked at every 2 ms, and rejects with
 * `what` was waited for after `maxMs` milliseconds, by default `defaultMs`.
 */
export function untilWithin(
  defaultMs: number,
): (condition: () => boolean, what: string, maxMs?: number) => Promise<void> {
  return async (condition, what, maxMs = defaultMs) => {
    const endMs = performance.now() + maxMs
    while (!condition()) {
      if (performance.now() > endMs) throw new Error(`waited in vain for: ${what}`)
      await new Promise((done) => setTimeout(done, 2))
    }
  }
}
