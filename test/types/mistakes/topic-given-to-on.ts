// says: '"This is the topic orders, not an event of it. Write onTopic(topic, { … }) to handle all its events"'
import { service } from '../../../src/runtime/service.ts'
import { Orders } from '../contracts.ts'

// right
service('a').on(Orders.OrderPlaced, () => {})

// wrong
service('b').on(Orders, () => {})
