import { kafka } from '../../adapters/kafka/transport.ts'
import { startBroker } from '../../broker/embedded.ts'
import { transportConformance } from './transport.ts'

for (const nodes of [1, 3]) {
  transportConformance(`embedded broker, ${nodes} nodes`, async () => {
    const broker = await startBroker({ nodes })
    return {
      connect: () =>
        kafka({
          bootstrapServers: broker.bootstrapServers,
          consumer: { heartbeatIntervalMs: 50, sessionTimeoutMs: 5_000 },
        }),
      [Symbol.asyncDispose]: () => broker[Symbol.asyncDispose](),
    }
  })
}
