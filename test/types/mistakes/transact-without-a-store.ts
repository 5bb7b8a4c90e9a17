// says: parameter of type '"Service b has no store, so there is nothing to transact"'
import { service } from '../../../src/runtime/service.ts'
import { app, postgres, transport } from '../wiring.ts'

// right
const a = service('a', { store: postgres })
const b = service('b')
const shop = app({ transport, services: [a, b] })
shop.transact(a, async () => {})

// wrong
shop.transact(b, async () => {})
