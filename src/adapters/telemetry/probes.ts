/** The probes of an app with its metrics in Prometheus' text. */

import { OttlaError } from '../../contract/errors.ts'
import { RunningApp } from '../../runtime/app.ts'
import { answerProbes } from '../../runtime/health.ts'
import type { Operations } from '../../runtime/operations.ts'
import { renderMetrics } from './prometheus.ts'

/**
 * Answers `/livez`, `/readyz` and `/metrics` for an app. Mount it in any server that speaks `Request` and `Response`.
 *
 * ```ts
 * const probe = probes(shop)
 * server.all('/livez', (c) => probe(c.req.raw))
 * ```
 */
export function probes(app: Operations): (request: Request) => Promise<Response> {
  if (!(app instanceof RunningApp)) throw new OttlaError('OTTLA_RUNTIME_WIRING', 'probes expects what app(…) returned')
  return answerProbes(app, (options) => renderMetrics(app, options))
}
