/** Memory under large records in its short form; the whole of it is `large-records.soak.test.ts`. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { largeRecords } from './large-records-scenario.ts'

const bootstrapServers = process.env['OTTLA_LIVE_KAFKA']
const skip = bootstrapServers === undefined ? 'OTTLA_LIVE_KAFKA is not set' : false
const growthMaxMiB = 256

for (const kind of ['flowing', 'parked'] as const) {
  test(`records of one MiB and slow handlers stay within the memory budget (${kind})`, { skip }, async (t) => {
    const say = (line: string) => t.diagnostic(line)
    const sizes = { partitions: 12, handlerMs: 500, lastsMs: 3_000, preload: 150 }
    const report = await largeRecords({ bootstrapServers: bootstrapServers!, ...sizes, kind, say })
    assert.ok(report.peakMiB <= report.baseMiB + growthMaxMiB, `${report.baseMiB} MiB grew to ${report.peakMiB} MiB`)
  })
}
