/** The results as tables for people. */
import type { SeriesReport } from './client-lines.ts'
import type { SleepArm, SleepReport } from './sleep-lines.ts'
import type { BootReport, ImportReport } from './start-lines.ts'
import type { Spread } from './statistics.ts'

export interface LineReport {
  readonly line: number
  readonly series?: readonly SeriesReport[]
  readonly sleepers?: readonly SleepReport[]
  readonly boot?: BootReport
  readonly imports?: readonly ImportReport[]
}

export interface Report {
  readonly atMs: number
  readonly machine: {
    readonly cpu: string
    readonly cores: number
    readonly node: string
    readonly platform: string
    readonly loadBefore: number
    readonly loadAfter: number
  }
  readonly versions: Readonly<Record<string, string>>
  readonly lines: readonly LineReport[]
  /** Floors and gates that do not hold. */
  readonly failures: readonly string[]
}

const digits = (value: number): string => value.toFixed(Math.abs(value) < 10 ? 2 : Math.abs(value) < 100 ? 1 : 0)
const range = ({ median, min, max }: Spread): string => `${digits(median)} [${digits(min)}..${digits(max)}]`

function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  const line = (row: readonly string[]): string =>
    `| ${row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(' | ')} |`
  const [head, ...body] = rows.map(line)
  return [head, line(widths.map((width) => '-'.repeat(width))), ...body].join('\n')
}

const goal = (reached: boolean | null): string => (reached === null ? '' : reached ? 'reached' : 'missed')

function seriesText(series: SeriesReport): string {
  const rows = [
    ['', series.unit, 'messages/s', 'RSS MiB', 'times ours', 'floor', '', 'goal', ''],
    ...series.arms.map((arm) => [
      arm.arm,
      range(arm.cost),
      arm.messagesPerSecond === null ? '' : `${Math.round(arm.messagesPerSecond / 1000)}k`,
      arm.rssMiB.toFixed(0),
      arm.ratio === null ? '' : range(arm.ratio),
      arm.floor === null ? '' : digits(arm.floor),
      arm.verdict ?? '',
      arm.goal === null ? '' : digits(arm.goal),
      goal(arm.reachesGoal),
    ]),
  ]
  const gates = series.gates.map(
    ({ name, value, most, holds }) =>
      `${holds ? 'holds' : 'FAILS'}: ${name}: ${digits(value)} (at most ${digits(most)})`,
  )
  const compression = series.compression === 'none' ? '' : `, ${series.compression}`
  return [
    `${series.title}${compression}; ${series.count} messages, ${series.rounds} rounds; ours over ours ${range(series.control)}`,
    '',
    table(rows),
    ...(gates.length === 0 ? [] : ['', ...gates]),
  ].join('\n')
}

function sleepersText(sleepers: readonly SleepReport[]): string {
  const cells = ({ wallMs, efficiency, cpuUsPerMessage, meanSleepMs }: SleepArm) => [
    range(wallMs),
    range(meanSleepMs),
    range(efficiency),
    range(cpuUsPerMessage),
  ]
  const times = (ratio: Spread, least: number) =>
    `${range(ratio)}, goal ${digits(least)}: ${goal(ratio.median >= least)}`
  const rows = sleepers.flatMap(({ title, ours, floor, verdict, goal: aim, reachesGoal, peer }) => [
    [
      title,
      ...cells(ours),
      floor === null ? '' : digits(floor),
      verdict ?? '',
      aim === null ? '' : digits(aim),
      goal(reachesGoal),
    ],
    ...(peer === null
      ? []
      : [
          ['  Parallel Consumer', ...cells(peer), '', '', '', ''],
          ['  times our wall time', times(peer.wallRatio, peer.goals.wall), '', '', '', '', '', '', ''],
          ['  times our CPU', times(peer.cpuRatio, peer.goals.cpu), '', '', '', '', '', '', ''],
          ['  ours, payload left as bytes like there', ...cells(peer.alike), '', '', '', ''],
          ['  times that wall time', times(peer.alikeWallRatio, peer.goals.wall), '', '', '', '', '', '', ''],
          ['  times that CPU', times(peer.alikeCpuRatio, peer.goals.cpu), '', '', '', '', '', '', ''],
        ]),
  ])
  const gates = sleepers.flatMap(({ title, gates: ofOne }) =>
    ofOne.map(
      ({ name, value, most, holds }) =>
        `${holds ? 'holds' : 'FAILS'}: ${title}: ${name}: ${digits(value)} (at most ${digits(most)})`,
    ),
  )
  const head = [
    'ordered by key, handlers that sleep',
    'wall ms',
    'sleep ms',
    'efficiency',
    'µs CPU',
    'floor',
    '',
    'goal',
    '',
  ]
  return [table([head, ...rows]), '', ...gates].join('\n')
}

function bootText(boot: BootReport): string {
  return table([
    ['embedded broker, spawn to first accepted record', 'wall ms', 'floor', '', 'goal', ''],
    ['ottla', range(boot.wallMs), digits(boot.floorMs), boot.verdict, digits(boot.goalMs), goal(boot.reachesGoal)],
    ['a Node that does nothing', range(boot.bareNodeMs), '', '', '', ''],
    ['ottla: CPU ms', range(boot.cpuMs), '', '', '', ''],
    ['ottla: RSS MiB', range(boot.rssMiB), '', '', '', ''],
  ])
}

function importsText(imports: readonly ImportReport[]): string {
  return table([
    ['import, over a bare Node', 'CPU ms', 'wall ms', 'floor', '', 'goal'],
    ...imports.map((one) => [
      one.name,
      range(one.cpuMs),
      range(one.wallMs),
      one.floorMs === null ? '' : digits(one.floorMs),
      one.verdict ?? '',
      goal(one.reachesGoal),
    ]),
  ])
}

export function reportText(report: Report): string {
  const { machine, versions } = report
  const parts = [
    `${machine.cpu}, ${machine.cores} cores, ${machine.platform}, Node ${machine.node}; load ${digits(machine.loadBefore)} before, ${digits(machine.loadAfter)} after`,
    Object.entries(versions)
      .map(([name, version]) => `${name} ${version}`)
      .join(', '),
  ]
  for (const { line, series, sleepers, boot, imports } of report.lines) {
    parts.push(`── line ${line} ──`)
    for (const one of series ?? []) parts.push(seriesText(one))
    if (sleepers !== undefined) parts.push(sleepersText(sleepers))
    if (boot !== undefined) parts.push(bootText(boot))
    if (imports !== undefined) parts.push(importsText(imports))
  }
  parts.push(
    report.failures.length === 0
      ? 'every floor and gate that was judged holds'
      : `FAILED\n${report.failures.join('\n')}`,
  )
  return parts.join('\n\n')
}

/** What makes the run fail: floors and gates, never goals, never noise. */
export function failuresOf(lines: readonly LineReport[]): string[] {
  const failures: string[] = []
  for (const { line, series, sleepers, boot, imports } of lines) {
    for (const { arms, gates, title } of series ?? []) {
      for (const { arm, verdict, ratio, floor } of arms) {
        if (verdict === 'fails') {
          failures.push(
            `line ${line}, ${title}: ${arm} costs ${digits(ratio?.median ?? Number.NaN)} times ours, floor ${floor}`,
          )
        }
      }
      for (const { name, value, most, holds } of gates) {
        if (!holds) failures.push(`line ${line}, ${title}: ${name}: ${digits(value)}, at most ${most}`)
      }
    }
    for (const { title, ours, floor, verdict, gates } of sleepers ?? []) {
      if (verdict === 'fails') {
        failures.push(`line ${line}, ${title}: efficiency ${digits(ours.efficiency.max)} at best, floor ${floor}`)
      }
      for (const { name, value, most, holds } of gates) {
        if (!holds) failures.push(`line ${line}, ${title}: ${name}: ${digits(value)}, at most ${most}`)
      }
    }
    if (boot?.verdict === 'fails')
      failures.push(`line ${line}: ${digits(boot.wallMs.min)} ms at best, floor ${boot.floorMs}`)
    for (const { name, cpuMs, verdict, floorMs } of imports ?? []) {
      if (verdict === 'fails') failures.push(`line ${line}: ${name} +${digits(cpuMs.min)} ms at best, floor ${floorMs}`)
    }
  }
  return failures
}
