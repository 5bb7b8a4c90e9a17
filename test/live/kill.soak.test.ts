/** The kill test in full: `npm run soak:kill`. `OTTLA_KILLS` says how many random kills, 20 when it says nothing. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { killTest, namedSteps } from './kill/harness.ts'

const bootstrapServers = process.env['OTTLA_LIVE_KAFKA']
const postgresUrl = process.env['OTTLA_LIVE_POSTGRES']
const skip =
  bootstrapServers === undefined || postgresUrl === undefined
    ? 'OTTLA_LIVE_KAFKA and OTTLA_LIVE_POSTGRES are not set'
    : false

test('nothing is lost, doubled or disordered by many kills under load', { skip }, async (t) => {
  const report = await killTest({
    bootstrapServers: bootstrapServers as string,
    postgresUrl: postgresUrl as string,
    randomKills: Number(process.env['OTTLA_KILLS'] ?? 20),
    steps: namedSteps,
    say: (line) => t.diagnostic(line),
  })
  t.diagnostic(`${report.orders} orders, ${report.mails} mails, ${report.repeatedEvents} repeated events`)
  t.diagnostic(`requests open at the random kills: ${report.openAtKill.join(', ')}`)
  t.diagnostic(`requests open at the steps: ${JSON.stringify(report.openAtStep)}`)
  assert.deepEqual(report.violations, [])
  assert.ok(report.openAtKill.every((open) => open >= 10))
})
