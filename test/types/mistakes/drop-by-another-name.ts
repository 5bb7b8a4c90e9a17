// says: Type '"ignore"' is not assignable to type '"deadLetter" | "drop" | undefined'
import { service } from '../../../src/runtime/service.ts'
import { Orders } from '../contracts.ts'

// right
service('telemetry').on(Orders.OrderPlaced, () => {}, { onFailure: 'drop' })
// wrong
service('telemetry').on(Orders.OrderPlaced, () => {}, { onFailure: 'ignore' })
