// says: parameter of type '"Service c is not part of this app. Add it to services"'
import { service } from '../../../src/runtime/service.ts'
import { app, postgres, transport } from '../wiring.ts'

// right
const a = service('a', { store: postgres })
const b = service('b')
const shop = app({ transport, services: [a, b] })
shop.transact(a, async () => {})

// wrong
shop.transact(service('c', { store: postgres }), async () => {})
