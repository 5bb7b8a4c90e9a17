/** A bad deploy in its short form; the whole of it is `bad-deploy.soak.test.ts`. */
import { test } from 'node:test'
import { badDeploy } from './bad-deploy-scenario.ts'

const bootstrapServers = process.env['OTTLA_LIVE_KAFKA']
const skip = bootstrapServers === undefined ? 'OTTLA_LIVE_KAFKA is not set' : false

for (const kind of ['permanent', 'bugOfFewKeys', 'bug'] as const) {
  test(`a bad deploy (${kind}) fills no dead letters, says why it stands, and drains when it is mended`, {
    skip,
  }, async (t) => {
    const say = (line: string) => t.diagnostic(line)
    await badDeploy({ bootstrapServers: bootstrapServers!, records: 2_000, partitions: 4, kind, say })
  })
}
