import { test } from 'node:test'
import { postgresConformance } from '../../testing/conformance/postgres.ts'
import { postgresFixture } from '../../testing/conformance/postgres-fixture.ts'
import { storeConformance } from '../../testing/conformance/store.ts'
import { embeddedPostgres } from '../../testing/embedded-postgres.ts'

const url = process.env['OTTLA_LIVE_POSTGRES']

if (!url) {
  test('the store on a PostgreSQL of the machine', { skip: 'OTTLA_LIVE_POSTGRES is not set' }, () => undefined)
} else {
  storeConformance('live PostgreSQL', async () => {
    const server = await embeddedPostgres({ url })
    const fixture = await postgresFixture(await server.createDatabase())
    return {
      ...fixture,
      [Symbol.asyncDispose]: async () => {
        await fixture[Symbol.asyncDispose]()
        await server[Symbol.asyncDispose]()
      },
    }
  })
  postgresConformance('live', () => embeddedPostgres({ url }))
}
