import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Duration, durationMs, type Size, sizeBytes } from './duration.ts'
import { OttlaError } from './errors.ts'

test('durations are read with their units', () => {
  const cases: [Duration, number][] = [
    [250, 250],
    ['250ms', 250],
    ['30s', 30_000],
    ['1.5s', 1500],
    ['5m', 300_000],
    ['2h', 7_200_000],
    ['1d', 86_400_000],
    ['0s', 0],
  ]
  for (const [duration, ms] of cases) assert.equal(durationMs(duration, 'timeout'), ms)
})

test('sizes are read with their units', () => {
  const cases: [Size, number][] = [
    [1, 1],
    ['10B', 10],
    ['1kB', 1000],
    ['64KiB', 65_536],
    ['1MiB', 1_048_576],
    ['1.5MB', 1_500_000],
    ['1GiB', 1_073_741_824],
    ['1GB', 1_000_000_000],
  ]
  for (const [size, bytes] of cases) assert.equal(sizeBytes(size, 'maxBytes'), bytes)
})

test('anything else is refused with the option, what it expects and what it got', () => {
  for (const bad of [
    '30 sec',
    '30',
    's',
    '-1s',
    '1e3s',
    '',
    -1,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    null,
    '1constructor',
  ]) {
    assert.throws(
      () => durationMs(bad as Duration, 'timeout'),
      (error: unknown) =>
        error instanceof OttlaError &&
        error.code === 'OTTLA_CONFIG_INVALID' &&
        /^timeout expects .*; it got /.test(error.message),
    )
  }
  assert.throws(
    () => sizeBytes('1mib' as Size, 'maxBytes'),
    /maxBytes expects bytes or a size like '64KiB', '1MiB'; it got "1mib"/,
  )
})
