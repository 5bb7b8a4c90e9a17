/** The kill test in its short form: a few random kills, and one inside each durable step. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { findProgram } from './command.ts'
import { killTest, namedSteps } from './kill/harness.ts'

const bootstrapServers = process.env['OTTLA_LIVE_KAFKA']
const postgresUrl = process.env['OTTLA_LIVE_POSTGRES']
const skip =
  bootstrapServers === undefined || postgresUrl === undefined
    ? 'OTTLA_LIVE_KAFKA and OTTLA_LIVE_POSTGRES are not set'
    : findProgram('kcat') === null
      ? 'no kcat on PATH'
      : false
const servers = { bootstrapServers: bootstrapServers ?? '', postgresUrl: postgresUrl ?? '' }

test('nothing is lost, doubled or disordered by kills at random moments and in every durable step', {
  skip,
}, async (t) => {
  const say = (line: string) => t.diagnostic(line)
  const report = await killTest({ ...servers, randomKills: 3, steps: namedSteps, say })
  t.diagnostic(`${report.orders} orders, ${report.mails} mails, ${report.repeatedEvents} repeated events`)
  assert.deepEqual(report.violations, [])
  assert.ok(
    report.openAtKill.every((open) => open >= 10),
    `open at kills: ${report.openAtKill.join(', ')}`,
  )
})

test('the same test finds out that the inbox is missing', { skip }, async (t) => {
  const steps = ['db.after_commit', 'relay.after_ack', 'offset.before_commit']
  const report = await killTest({
    ...servers,
    randomKills: 0,
    steps,
    withoutInbox: true,
    say: (line) => t.diagnostic(line),
  })
  t.diagnostic(report.violations.join('; '))
  assert.ok(report.violations.some((line) => line.startsWith('orders decided more than once')))
})
