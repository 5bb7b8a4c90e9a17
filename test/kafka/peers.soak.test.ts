/**
 * The scenarios of defect-scenarios.ts played with a client that is known to have the defect: each must see it. Run by
 * hand, with the clients that `npm run bench` measures installed: `(cd bench && npm ci)`.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { defectScenarios } from './defect-scenarios.ts'
import { Ground } from './ground.ts'
import { reasonToSkip } from './scenario-needs.ts'
import { loadPlatformatic, missingPlatformatic } from './subject-platformatic.ts'

for (const scenario of defectScenarios) {
  const skip = missingPlatformatic ?? reasonToSkip(scenario)
  test(`${scenario.id}: seen in @platformatic/kafka`, { skip, timeout: 300_000 }, async (context) => {
    const peer = await loadPlatformatic()
    await using ground = new Ground(process.env['OTTLA_LIVE_KAFKA'] ?? '')
    const flaws = await scenario.play(peer, ground)
    for (const flaw of flaws) context.diagnostic(flaw)
    assert.notDeepEqual(flaws, [], 'the scenario sees nothing')
  })
}
