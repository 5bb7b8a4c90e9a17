/** Promises that other clients for Node were seen to break, on Apache Kafka: see defect-scenarios.ts. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { defectScenarios } from './defect-scenarios.ts'
import { Ground } from './ground.ts'
import { reasonToSkip } from './scenario-needs.ts'
import { ottla } from './subject-ottla.ts'

for (const scenario of defectScenarios) {
  test(`${scenario.id}: ${scenario.promise}`, { skip: reasonToSkip(scenario), timeout: 150_000 }, async () => {
    await using ground = new Ground(process.env['OTTLA_LIVE_KAFKA'] ?? '')
    assert.deepEqual(await scenario.play(ottla, ground), [])
  })
}
