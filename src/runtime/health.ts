/**
 * Three plain addresses for whoever watches a process: `/livez`, `/readyz`, `/metrics`. A function from `Request` to
 * `Response`, to be mounted in any server.
 */
import type { Health } from './app.ts'

/** What probes need of an app. */
export interface Probed {
  health(): Health
}

/** Renders the metrics of an app. `openMetrics`: the reader accepts that format. */
export type RenderMetrics = (options: { readonly openMetrics: boolean }) => Promise<string>

const text = 'text/plain; version=0.0.4; charset=utf-8'
const openMetricsText = 'application/openmetrics-text; version=1.0.0; charset=utf-8'

/** Answers GET and HEAD of `/livez`, `/readyz`, `/metrics`; 404 for any other path. */
export function answerProbes(app: Probed, render: RenderMetrics): (request: Request) => Promise<Response> {
  return async (request) => {
    const { pathname } = new URL(request.url)
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      return new Response('only GET and HEAD\n', { status: 405, headers: { allow: 'GET, HEAD' } })
    }
    switch (pathname) {
      case '/livez': {
        const { live, reasons } = app.health()
        return verdict(live, reasons)
      }
      case '/readyz': {
        const { ready, reasons } = app.health()
        return verdict(ready, reasons)
      }
      case '/metrics': {
        const openMetrics = (request.headers.get('accept') ?? '').includes('application/openmetrics-text')
        const body = await render({ openMetrics })
        return new Response(body, { headers: { 'content-type': openMetrics ? openMetricsText : text } })
      }
      default:
        return new Response('not found\n', { status: 404 })
    }
  }
}

function verdict(good: boolean, reasons: readonly string[]): Response {
  const body = `${[good ? 'ok' : 'not ok', ...reasons].join('\n')}\n`
  return new Response(body, { status: good ? 200 : 503, headers: { 'cache-control': 'no-store' } })
}
