/**
 * Checks options and collects every problem before complaining, so that one run shows the whole list.
 *
 * An unknown name is a problem too, with the nearest known name beside it: a mistyped `lingerMS` must not be ignored.
 */
import { OttlaError } from '../contract/errors.ts'

export class OptionCheck {
  readonly #problems: string[] = []

  /** Names an option cannot have. Returns the object itself, or an empty one when it is none. */
  names(what: string, options: unknown, known: readonly string[]): Record<string, unknown> {
    if (options === undefined) return {}
    if (typeof options !== 'object' || options === null || Array.isArray(options)) {
      this.problem(what, 'an object', options)
      return {}
    }
    for (const name of Object.keys(options)) {
      if (known.includes(name)) continue
      const near = nearest(name, known)
      this.#problems.push(
        `${what}.${name} is not an option${near === undefined ? `; known are ${known.join(', ')}` : `; did you mean ${near}?`}`,
      )
    }
    return options as Record<string, unknown>
  }

  /** A whole number within bounds, or the default when left out. */
  integer(name: string, value: unknown, range: { default: number; min: number; max?: number }): number {
    if (value === undefined) return range.default
    const max = range.max ?? Number.MAX_SAFE_INTEGER
    if (typeof value === 'number' && Number.isInteger(value) && value >= range.min && value <= max) return value
    this.problem(
      name,
      range.max === undefined ? `a whole number from ${range.min}` : `a whole number from ${range.min} to ${max}`,
      value,
    )
    return range.default
  }

  text(name: string, value: unknown, fallback: string): string {
    if (value === undefined) return fallback
    if (typeof value === 'string' && value !== '') return value
    this.problem(name, 'a text that is not empty', value)
    return fallback
  }

  flag(name: string, value: unknown, fallback: boolean): boolean {
    if (value === undefined) return fallback
    if (typeof value === 'boolean') return value
    this.problem(name, 'true or false', value)
    return fallback
  }

  oneOf<const T extends string | number>(name: string, value: unknown, allowed: readonly T[], fallback: T): T {
    if (value === undefined) return fallback
    if (allowed.includes(value as T)) return value as T
    this.problem(name, `one of ${allowed.join(', ')}`, value)
    return fallback
  }

  problem(name: string, expected: string, got: unknown): void {
    this.#problems.push(`${name} must be ${expected}, got ${shown(got)}`)
  }

  /** A problem that needs more than "must be, got". */
  complain(sentence: string): void {
    this.#problems.push(sentence)
  }

  /** Throws OTTLA_CONFIG_INVALID with one line per problem, if there were any. */
  done(what: string): void {
    if (this.#problems.length === 0) return
    throw new OttlaError(
      'OTTLA_CONFIG_INVALID',
      `${what}: ${this.#problems.length === 1 ? 'one option is wrong' : `${this.#problems.length} options are wrong`}\n${this.#problems.map((p) => `  - ${p}`).join('\n')}`,
      { details: { problems: this.#problems } },
    )
  }
}

/** Short, and never the inside of an object, which could hold a secret. */
function shown(value: unknown): string {
  if (typeof value === 'string') return value.length > 60 ? `a text of ${value.length} characters` : `'${value}'`
  if (typeof value === 'number' || typeof value === 'boolean' || value === null || value === undefined) {
    return String(value)
  }
  return Array.isArray(value) ? 'an array' : `a value of type ${typeof value}`
}

/** The known name with the fewest edits, if it is near enough to have been meant. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  let best: string | undefined
  let bestDistance = Math.max(2, Math.floor(name.length / 3)) + 1
  for (const candidate of known) {
    const d = edits(name.toLowerCase(), candidate.toLowerCase())
    if (d < bestDistance) {
      best = candidate
      bestDistance = d
    }
  }
  return best
}

function edits(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i]
    for (let j = 1; j <= b.length; j += 1) {
      const swap = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(swap, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}
