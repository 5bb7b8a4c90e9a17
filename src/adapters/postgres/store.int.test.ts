import { postgresFixture } from '../../testing/conformance/postgres-fixture.ts'
import { storeConformance } from '../../testing/conformance/store.ts'
import { embeddedPostgres } from '../../testing/embedded-postgres.ts'

storeConformance('embedded PostgreSQL', async () => {
  const server = await embeddedPostgres()
  const fixture = await postgresFixture(await server.createDatabase())
  return {
    ...fixture,
    [Symbol.asyncDispose]: async () => {
      await fixture[Symbol.asyncDispose]()
      await server[Symbol.asyncDispose]()
    },
  }
})
