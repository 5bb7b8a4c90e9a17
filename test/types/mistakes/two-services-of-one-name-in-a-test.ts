// says: is not assignable to type '"Two services are called a. A service is a consumer group: give each its own name"'
import { service } from '../../../src/runtime/service.ts'
import { testApp } from '../wiring.ts'

// right
testApp({ services: [service('a'), service('b')] })

// wrong
testApp({ services: [service('a'), service('a')] })
