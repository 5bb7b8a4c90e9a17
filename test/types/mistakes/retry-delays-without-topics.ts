// says: retryDelays are those of retry: 'topics'. Write retry: 'topics' and unordered: true beside them
import { service } from '../../../src/runtime/service.ts'

// right
service('inventory', { retry: 'topics', unordered: true, retryDelays: ['10s'] })
// wrong
service('inventory', { retryDelays: ['10s'] })
