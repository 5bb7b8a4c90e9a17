/** A bad deploy over many partitions: `node tools/test.ts soak bad-deploy`. */
import { test } from 'node:test'
import { badDeploy } from './bad-deploy-scenario.ts'

const bootstrapServers = process.env['OTTLA_LIVE_KAFKA']
const skip = bootstrapServers === undefined ? 'OTTLA_LIVE_KAFKA is not set' : false
const records = 50_000
const partitions = 12

for (const kind of ['permanent', 'bugOfFewKeys', 'bug'] as const) {
  test(`a bad deploy (${kind}) can be mended and loses nothing`, { skip }, async (t) => {
    const say = (line: string) => t.diagnostic(line)
    await badDeploy({ bootstrapServers: bootstrapServers!, records, partitions, kind, say })
  })
}
