/** When to close and when to end at once. */

/**
 * npm passes on the signal that the terminal has already sent; such an echo is not a second wish. Counted from the first
 * signal.
 */
export const echoMs = 500

/** What a signal asks for. */
export type Wish = 'close' | 'echo' | 'end at once'

/** Tells what each signal asks for, by the time at which it comes. */
export function signalWishes(): (atMs: number) => Wish {
  let firstAtMs: number | null = null
  return (atMs) => {
    if (firstAtMs === null) {
      firstAtMs = atMs
      return 'close'
    }
    return atMs - firstAtMs < echoMs ? 'echo' : 'end at once'
  }
}

/** Resolves at the first SIGINT or SIGTERM; a later one ends the process with 130. */
export function firstSignal(): Promise<void> {
  const wishOf = signalWishes()
  return new Promise((resolve) => {
    const onSignal = (): void => {
      const wish = wishOf(performance.now())
      switch (wish) {
        case 'close':
          resolve()
          break
        case 'echo':
          break
        case 'end at once':
          process.exit(130)
          break
        default:
          wish satisfies never
      }
    }
    process.on('SIGINT', onSignal)
    process.on('SIGTERM', onSignal)
  })
}
