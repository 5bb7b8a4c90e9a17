/**
 * The scenarios of defect-scenarios.ts played with clients that are known to have the defect: each must see it. And with
 * one that is known not to have it, where there is one: then it must see nothing, or it would judge something else. Run
 * by hand, with the clients that `npm run bench` measures installed: `(cd bench && npm ci)`.
 */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { defectScenarios } from './defect-scenarios.ts'
import { Ground } from './ground.ts'
import { reasonToSkip } from './scenario-needs.ts'
import type { Subject } from './subject.ts'
import { loadKafkajs, missingKafkajs } from './subject-kafkajs.ts'
import { loadPlatformatic, missingPlatformatic } from './subject-platformatic.ts'

interface Peer {
  readonly name: string
  readonly missing: string | null
  readonly load: () => Promise<Subject> | Subject
  readonly fails: readonly string[]
  readonly passes: readonly string[]
}

const peers: readonly Peer[] = [
  {
    name: '@platformatic/kafka',
    missing: missingPlatformatic,
    load: loadPlatformatic,
    fails: defectScenarios.map(({ id }) => id),
    passes: [],
  },
  {
    name: 'kafkajs',
    missing: missingKafkajs,
    load: loadKafkajs,
    fails: ['D4', 'D6', 'D16', 'D21', 'D23', 'D24', 'D25'],
    passes: ['D1', 'D5', 'D15', 'D20', 'D22'],
  },
]

for (const peer of peers) {
  describe(peer.name, () => {
    for (const scenario of defectScenarios) {
      const fails = peer.fails.includes(scenario.id)
      if (!fails && !peer.passes.includes(scenario.id)) continue
      const skip = peer.missing ?? reasonToSkip(scenario)
      const name = `${scenario.id} ${fails ? 'is seen' : 'is not seen'} in ${peer.name}: ${scenario.promise}`
      test(name, { skip, timeout: 300_000 }, async (context) => {
        await using ground = new Ground(process.env['OTTLA_LIVE_KAFKA'] ?? '')
        const flaws = await scenario.play(await peer.load(), ground)
        for (const flaw of flaws) context.diagnostic(flaw)
        if (fails) assert.notDeepEqual(flaws, [], 'the scenario sees nothing')
        else assert.deepEqual(flaws, [])
      })
    }
  })
}
