/** Promises that other clients for Node were seen to break, on Apache Kafka: see defect-scenarios.ts. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type DefectScenario, defectScenarios } from './defect-scenarios.ts'
import { Ground } from './ground.ts'
import { reasonToSkip } from './scenario-needs.ts'
import { ottla } from './subject-ottla.ts'

function play(scenario: DefectScenario): void {
  test(`${scenario.id}: ${scenario.promise}`, { skip: reasonToSkip(scenario), timeout: 150_000 }, async () => {
    await using ground = new Ground(process.env['OTTLA_LIVE_KAFKA'] ?? '')
    assert.deepEqual(await scenario.play(ottla, ground), [])
  })
}

describe('what other clients break', () => {
  // They mostly wait, and each has topics of its own.
  describe('while all brokers run', { concurrency: 4 }, () => {
    for (const scenario of defectScenarios) if (!scenario.kills) play(scenario)
  })
  describe('while brokers die', () => {
    for (const scenario of defectScenarios) if (scenario.kills) play(scenario)
  })
})
