/** The door `ottla/testing`: apps for tests, and the embedded and in-memory parts they stand on. */
export { type EmbeddedPostgres, type EmbeddedPostgresOptions, embeddedPostgres } from './testing/embedded-postgres.ts'
export { MemoryStore, type MemoryTx, memory } from './testing/memory-store.ts'
export {
  MemoryLog,
  type MemoryLogOptions,
  type MemoryReader,
  type MemoryRecord,
  type MemoryTransport,
  memoryTransport,
} from './testing/memory-transport.ts'
export { type OperableTestApp, type TestAppOptions, testApp } from './testing/test-app.ts'
