import { postgresConformance } from '../../testing/conformance/postgres.ts'
import { embeddedPostgres } from '../../testing/embedded-postgres.ts'

postgresConformance('embedded', () => embeddedPostgres())
