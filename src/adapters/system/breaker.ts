/** `breaker`: a circuit breaker on this machine's clock and randomness. */
import { Breaker, type BreakerOptions, breakerSettings, register } from '../../runtime/breaker.ts'
import { systemClock } from './clock.ts'

/**
 * A circuit breaker for calls to one thing outside. Make it once, beside what it protects; its name stands in metrics.
 * A handler that fails because it is open is not blamed: the partitions it reads stand still until a probe succeeds.
 * Throws OTTLA_CONFIG_INVALID.
 */
export function breaker(name: string, options: BreakerOptions = {}): Breaker {
  const made = new Breaker(name, breakerSettings(name, options), { clock: systemClock, random: Math.random })
  register(made)
  return made
}
