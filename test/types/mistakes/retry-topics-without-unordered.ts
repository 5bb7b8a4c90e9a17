// says: retry: 'topics' gives up the order of each key, and one handler at a time. Write unordered: true beside it
import { service } from '../../../src/runtime/service.ts'

// right
service('inventory', { retry: 'topics', unordered: true, retryDelays: ['10s', '5m'] })
service('shipping', { retry: 'topics', unordered: true, afterDeadLetter: 'continue' })
// wrong
service('inventory', { retry: 'topics' })
