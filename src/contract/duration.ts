/** Durations and sizes as people write them: `'30s'`, `'5m'`, `'1MiB'`, or plain milliseconds and bytes. */
import { OttlaError } from './errors.ts'

/** Milliseconds, or a number with its unit. */
export type Duration = number | `${number}${'ms' | 's' | 'm' | 'h' | 'd'}`

/** Bytes, or a number with its unit: powers of 1024 with `i`, of 1000 without. */
export type Size = number | `${number}${'B' | 'kB' | 'MB' | 'GB' | 'KiB' | 'MiB' | 'GiB'}`

const durationUnits: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }
const sizeUnits: Readonly<Record<string, number>> = {
  B: 1,
  kB: 1000,
  MB: 1000 ** 2,
  GB: 1000 ** 3,
  KiB: 1024,
  MiB: 1024 ** 2,
  GiB: 1024 ** 3,
}

const form = /^(\d+(?:\.\d+)?)([A-Za-z]+)$/

/** A duration in milliseconds. Throws OTTLA_CONFIG_INVALID, naming `option`. */
export function durationMs(duration: Duration, option: string): number {
  return read(duration, durationUnits, `${option} expects milliseconds or a duration like '30s', '5m'`)
}

/** A size in whole bytes. Throws OTTLA_CONFIG_INVALID, naming `option`. */
export function sizeBytes(size: Size, option: string): number {
  return Math.round(read(size, sizeUnits, `${option} expects bytes or a size like '64KiB', '1MiB'`))
}

function read(value: unknown, units: Readonly<Record<string, number>>, expectation: string): number {
  if (typeof value === 'number' && Number.isFinite(value) && value >= 0) return value
  if (typeof value === 'string') {
    const match = form.exec(value)
    const factor = match === null ? undefined : Object.hasOwn(units, match[2]!) ? units[match[2]!] : undefined
    if (match !== null && factor !== undefined) return Number(match[1]) * factor
  }
  throw new OttlaError('OTTLA_CONFIG_INVALID', `${expectation}; it got ${JSON.stringify(value) ?? String(value)}`)
}
