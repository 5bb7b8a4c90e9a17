/**
 * The scenarios of defects.live.test.ts, again and again: `OTTLA_REPEAT` times each, 20 unless it is set, in rounds so
 * that each follows upon each.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { defectScenarios } from './defect-scenarios.ts'
import { Ground } from './ground.ts'
import { reasonToSkip } from './scenario-needs.ts'
import { ottla } from './subject-ottla.ts'

const rounds = Number(process.env['OTTLA_REPEAT'] ?? 20)

for (let round = 1; round <= rounds; round++) {
  for (const scenario of defectScenarios) {
    const name = `round ${round} of ${rounds}, ${scenario.id}: ${scenario.promise}`
    test(name, { skip: reasonToSkip(scenario), timeout: 150_000 }, async () => {
      await using ground = new Ground(process.env['OTTLA_LIVE_KAFKA'] ?? '')
      assert.deepEqual(await scenario.play(ottla, ground), [])
    })
  }
}
