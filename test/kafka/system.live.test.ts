/** A replicated topic while its leader is stopped and the controller is killed; the long form is system.soak.test.ts. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { reasonToSkip } from './scenario-needs.ts'
import { playSystem } from './system-scenario.ts'

test('a leader stopped and a controller killed: nothing lost, nothing twice, the order kept', {
  skip: reasonToSkip({ needs: ['control'] }),
  timeout: 240_000,
}, async (context) => {
  const report = await playSystem(
    process.env['OTTLA_LIVE_KAFKA'] ?? '',
    [
      { target: 'leader', how: 'stop' },
      { target: 'controller', how: 'kill' },
    ],
    { java: false, say: (line) => context.diagnostic(line) },
  )
  context.diagnostic(`${report.acknowledged} records acknowledged`)
  assert.deepEqual(report.flaws, [])
})
