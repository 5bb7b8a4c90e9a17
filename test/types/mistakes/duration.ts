// says: Type '"30 sec"' is not assignable to type 'Duration | undefined'
import { service } from '../../../src/runtime/service.ts'
import { Orders } from '../contracts.ts'

// right
service('a').on(Orders.OrderErased, () => {}, { timeout: '30s' })

// wrong
service('b').on(Orders.OrderErased, () => {}, { timeout: '30 sec' })
