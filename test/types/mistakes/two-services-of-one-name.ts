// says: is not assignable to type '"Two services are called a. A service is a consumer group: give each its own name"'
import { service } from '../../../src/runtime/service.ts'
import { app, transport } from '../wiring.ts'

// right
app({ transport, services: [service('a'), service('b')] })

// wrong
app({ transport, services: [service('a'), service('a')] })
