/**
 * Metrics as text: Prometheus' format, and OpenMetrics for those who ask. One source: the same counters that `ledger()`,
 * `lag()` and the tests read. Labels are bounded by what was written down (services, topics, partitions, events,
 * outcomes, codes); they never hold keys, ids or texts.
 */
import { durationBoundsMs } from '../../core/histogram.ts'
import { endings } from '../../core/ledger.ts'
import type { RunningApp } from '../../runtime/app.ts'
import { type Breaker, namedBreakers } from '../../runtime/breaker.ts'

type Labels = Readonly<Record<string, string | number>>

type Kind = 'counter' | 'gauge' | 'histogram'

class Page {
  readonly #openMetrics: boolean
  readonly #lines: string[] = []

  constructor(openMetrics: boolean) {
    this.#openMetrics = openMetrics
  }

  /** Begins a family. A counter's samples end in `_total`, its family does not in OpenMetrics. */
  family(name: string, kind: Kind, help: string): void {
    const shown = kind === 'counter' && !this.#openMetrics ? `${name}_total` : name
    this.#lines.push(`# HELP ${shown} ${help}`, `# TYPE ${shown} ${kind}`)
  }

  sample(name: string, labels: Labels, value: number): void {
    const inner = Object.entries(labels).map(([label, text]) => `${label}="${escaped(String(text))}"`)
    this.#lines.push(`${name}${inner.length === 0 ? '' : `{${inner.join(',')}}`} ${value}`)
  }

  text(): string {
    return `${[...this.#lines, ...(this.#openMetrics ? ['# EOF'] : [])].join('\n')}\n`
  }
}

function escaped(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
}

/** The metrics of an app. */
export async function renderMetrics(
  app: Pick<RunningApp, 'ledger' | 'lag' | 'stats' | 'breakers' | 'health' | 'backlog'>,
  { openMetrics }: { readonly openMetrics: boolean },
): Promise<string> {
  const page = new Page(openMetrics)
  const ledger = app.ledger()
  const place = (row: { service: string; topic: string; partition: number }): Labels => ({
    service: row.service,
    topic: row.topic,
    partition: row.partition,
  })

  page.family('ottla_records_fetched', 'counter', 'Records that came in.')
  for (const row of ledger) page.sample('ottla_records_fetched_total', place(row), row.fetched)
  page.family('ottla_records_ended', 'counter', 'Records that ended, by how.')
  for (const row of ledger) {
    for (const ending of endings) {
      if (ending !== 'dropped' && (row.ended[ending] > 0 || ending === 'handled')) {
        page.sample('ottla_records_ended_total', { ...place(row), ending }, row.ended[ending])
      }
    }
    for (const [reason, count] of Object.entries(row.dropped)) {
      page.sample('ottla_records_ended_total', { ...place(row), ending: `dropped.${reason}` }, count)
    }
  }
  page.family('ottla_records_open', 'gauge', 'Records that have not ended, by what they wait for.')
  for (const row of ledger) {
    for (const state of ['running', 'queued', 'waiting', 'parked'] as const) {
      page.sample('ottla_records_open', { ...place(row), state }, row[state])
    }
  }
  page.family('ottla_records_expired', 'counter', 'Records that retention removed before they were read.')
  for (const row of ledger) page.sample('ottla_records_expired_total', place(row), row.expired)
  page.family('ottla_partition_standing', 'gauge', '1 while a partition starts nothing for a reason.')
  for (const row of ledger)
    if (row.state !== null) page.sample('ottla_partition_standing', place(row), row.standing === null ? 0 : 1)

  page.family('ottla_records_fallback', 'counter', 'Records that a fallback handled; they are part of handled.')
  for (const row of ledger) if (row.fallback > 0) page.sample('ottla_records_fallback_total', place(row), row.fallback)

  page.family('ottla_records_retries', 'counter', 'Attempts that failed and are repeated.')
  for (const row of ledger) page.sample('ottla_records_retries_total', place(row), row.retries)
  page.family('ottla_records_retries_forever', 'counter', "Of these, those that only retry: 'forever' allows.")
  for (const row of ledger) {
    if (row.retriesForever > 0) page.sample('ottla_records_retries_forever_total', place(row), row.retriesForever)
  }
  page.family('ottla_records_acknowledged_early', 'counter', 'Records acknowledged before their handler had started.')
  for (const row of ledger) {
    if (row.acknowledgedEarly > 0)
      page.sample('ottla_records_acknowledged_early_total', place(row), row.acknowledgedEarly)
  }

  const lag = app.lag()
  page.family('ottla_consumer_lag_records', 'gauge', 'Records between the checkpoint and the end of the log.')
  for (const each of lag) page.sample('ottla_consumer_lag_records', place(each), each.records)
  page.family('ottla_consumer_lag_seconds', 'gauge', 'Age of the oldest record not finished.')
  for (const each of lag) page.sample('ottla_consumer_lag_seconds', place(each), each.seconds)

  const services = app.stats()
  page.family('ottla_handler_attempts', 'counter', 'Attempts of handlers, by outcome.')
  for (const { service, stats } of services) {
    for (const { name, attempts } of stats.handlers()) {
      for (const [outcome, count] of Object.entries(attempts)) {
        if (count > 0) page.sample('ottla_handler_attempts_total', { service, event: name, outcome }, count)
      }
    }
  }
  page.family('ottla_handler_in_flight', 'gauge', 'Handlers that run now.')
  for (const { service, inFlight } of services) page.sample('ottla_handler_in_flight', { service }, inFlight)
  page.family(
    'messaging_process_duration_seconds',
    'histogram',
    'Time from the start of the last attempt to the end of its record.',
  )
  for (const { service, stats } of services) {
    for (const { name, duration } of stats.handlers()) {
      if (duration.count === 0) continue
      const labels = { messaging_system: 'kafka', messaging_consumer_group_name: service, event: name }
      const counts = duration.cumulative()
      for (const [index, bound] of durationBoundsMs.entries()) {
        page.sample('messaging_process_duration_seconds_bucket', { ...labels, le: bound / 1000 }, counts[index]!)
      }
      page.sample('messaging_process_duration_seconds_bucket', { ...labels, le: '+Inf' }, duration.count)
      page.sample('messaging_process_duration_seconds_sum', labels, duration.sumMs / 1000)
      page.sample('messaging_process_duration_seconds_count', labels, duration.count)
    }
  }
  breakerFamilies(page, [
    ...app.breakers().map((breaker) => ({ kind: 'service', breaker })),
    ...namedBreakers().map((breaker) => ({ kind: 'named', breaker })),
  ])
  page.family('ottla_rebalances', 'counter', 'Times that partitions were gained.')
  for (const { service, stats } of services) page.sample('ottla_rebalances_total', { service }, stats.rebalances)
  page.family('ottla_alarms', 'counter', 'Things that a person must look at.')
  for (const { service, stats } of services) page.sample('ottla_alarms_total', { service }, stats.alarms)
  page.family('ottla_bad_headers', 'counter', 'Headers that broke the grammar and counted as absent.')
  for (const { service, stats } of services) page.sample('ottla_bad_headers_total', { service }, stats.badHeaders)

  // A store that is away must not take the other metrics with it: its gauges are missing, and `up` says why.
  const backlog = await app.backlog().catch(() => 'away' as const)
  if (backlog !== null) {
    page.family('ottla_store_up', 'gauge', '1 while the store answers.')
    page.sample('ottla_store_up', {}, backlog === 'away' ? 0 : 1)
    if (backlog !== 'away') {
      page.family('ottla_outbox_pending', 'gauge', 'Rows of the outbox that are not published.')
      page.sample('ottla_outbox_pending', {}, backlog.rows)
      page.family('ottla_outbox_oldest_age_seconds', 'gauge', 'Age of the oldest of them.')
      page.sample('ottla_outbox_oldest_age_seconds', {}, backlog.oldestSeconds)
    }
  }
  const { live, ready } = app.health()
  page.family('ottla_live', 'gauge', '1 while this process can do its work.')
  page.sample('ottla_live', {}, live ? 1 : 0)
  page.family('ottla_ready', 'gauge', '1 while this process is started, joined and not draining.')
  page.sample('ottla_ready', {}, ready ? 1 : 0)
  return page.text()
}

const breakerStates = ['closed', 'half-open', 'open'] as const

/** `kind` tells a service's own breaker from a named one of the process, which may be called the same. */
function breakerFamilies(page: Page, breakers: readonly { readonly kind: string; readonly breaker: Breaker }[]): void {
  const each = breakers.map(({ kind, breaker }) => ({ breaker, labels: { kind, breaker: breaker.name } }))
  page.family('ottla_breaker_state', 'gauge', '1 for the state a breaker is in.')
  for (const { breaker, labels } of each) {
    for (const state of breakerStates) {
      page.sample('ottla_breaker_state', { ...labels, state }, breaker.state === state ? 1 : 0)
    }
  }
  page.family('ottla_breaker_transitions', 'counter', 'Changes of state, by the new one.')
  for (const { breaker, labels } of each) {
    for (const to of breakerStates) {
      page.sample('ottla_breaker_transitions_total', { ...labels, to }, breaker.counts.changes[to])
    }
  }
  page.family('ottla_breaker_calls', 'counter', 'Calls through a breaker, by how they ended.')
  for (const { breaker, labels } of each) {
    for (const outcome of ['succeeded', 'failed', 'refused', 'abandoned', 'retried'] as const) {
      page.sample('ottla_breaker_calls_total', { ...labels, outcome }, breaker.counts[outcome])
    }
  }
}
