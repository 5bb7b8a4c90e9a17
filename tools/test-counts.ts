/** A reporter of node:test that prints nothing but the totals, as one line of JSON: `tools/test.ts` adds them up. */
import type { TestEvent } from 'node:test/reporters'

/** What one run of node's test runner counted. */
export interface TestCounts {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
}

export default async function* counts(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const event of source) {
    // The summary without a file is the one over all files.
    if (event.type !== 'test:summary' || event.data.file !== undefined) continue
    const { tests, passed, skipped, todo } = event.data.counts
    yield `${JSON.stringify({ passed, failed: tests - passed - skipped - todo, skipped } satisfies TestCounts)}\n`
  }
}
