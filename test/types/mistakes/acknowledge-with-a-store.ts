// says: A service with a store acknowledges with its transaction. Leave acknowledge out, or the store
import { service } from '../../../src/runtime/service.ts'

import { Orders } from '../contracts.ts'
import { postgres } from '../wiring.ts'

// right
service('telemetry').on(Orders.OrderPlaced, () => {}, { acknowledge: 'before-handling' })
// wrong
service('inventory', { store: postgres }).on(Orders.OrderPlaced, () => {}, { acknowledge: 'before-handling' })
