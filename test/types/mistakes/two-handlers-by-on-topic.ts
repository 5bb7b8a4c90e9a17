// says: Type '() => void' is not assignable to type '"Service s already handles stock.StockRejected. One service handles an event once"'
import { service } from '../../../src/runtime/service.ts'
import { Stock } from '../contracts.ts'

// right
const once = service('s').on(Stock.StockRejected, () => {})
service('t').onTopic(Stock, { StockReserved: () => {}, StockRejected: () => {} })

// wrong
once.onTopic(Stock, { StockReserved: () => {}, StockRejected: () => {} })
