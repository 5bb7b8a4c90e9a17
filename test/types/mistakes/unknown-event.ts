// says: Property 'OrderPlcaed' does not exist on type 'Topic<"orders",
// says: Did you mean 'OrderPlaced'?

import { service } from '../../../src/runtime/service.ts'
import { Orders } from '../contracts.ts'

// right
service('a').on(Orders.OrderPlaced, () => {})

// wrong
service('b').on(Orders.OrderPlcaed, () => {})
