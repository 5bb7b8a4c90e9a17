// says: With retry: 'topics' keys have no order that could be held. Leave afterDeadLetter out
import { service } from '../../../src/runtime/service.ts'

// right
service('inventory', { afterDeadLetter: 'hold' })
// wrong
service('inventory', { retry: 'topics', unordered: true, afterDeadLetter: 'hold' })
