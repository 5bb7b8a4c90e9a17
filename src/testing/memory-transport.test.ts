import { transportConformance } from './conformance/transport.ts'
import { MemoryLog, memoryTransport } from './memory-transport.ts'

transportConformance('memory', async () => {
  const log = new MemoryLog()
  return { connect: () => memoryTransport(log), [Symbol.asyncDispose]: async () => undefined }
})
