// says: Property 'StockRejected' is missing in type '{ StockReserved: () => void; }' but required in type
import { service } from '../../../src/runtime/service.ts'
import { Stock } from '../contracts.ts'

// right
service('a').onTopic(Stock, { StockReserved: () => {}, StockRejected: () => {} })

// wrong
service('b').onTopic(Stock, { StockReserved: () => {} })
