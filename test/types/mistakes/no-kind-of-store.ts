// says: 'query' does not exist in type 'StoreKind<never>'
import { service } from '../../../src/runtime/service.ts'
import { postgres } from '../wiring.ts'

// right
service('a', { store: postgres })

// wrong
service('b', { store: { query: () => {} } })
