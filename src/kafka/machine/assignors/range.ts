/**
 * Kafka's range assignor: per topic, its subscribers in order, each a run of consecutive partitions.
 *
 * Equal to `org.apache.kafka.clients.consumer.RangeAssignor` for members without racks, so that a group may mix Java
 * members and ours; `test/fixtures/kafka/range-assignor.json` holds vectors made by the Java class.
 */

import { type Assignor, compareText, type GroupMember } from './assignor.ts'

const compareMembers = (a: GroupMember, b: GroupMember): number => {
  const left = a.instanceId ?? null
  const right = b.instanceId ?? null
  if (left !== null && right !== null) return compareText(left, right)
  if (left !== null) return -1
  if (right !== null) return 1
  return compareText(a.memberId, b.memberId)
}

export const rangeAssignor: Assignor = {
  name: 'range',
  cooperative: false,
  assign(members, partitions) {
    const result = new Map<string, Map<string, number[]>>()
    const subscribers = new Map<string, GroupMember[]>()
    for (const member of members) {
      result.set(member.memberId, new Map())
      for (const topic of new Set(member.topics)) {
        const list = subscribers.get(topic)
        if (list === undefined) subscribers.set(topic, [member])
        else list.push(member)
      }
    }
    for (const [topic, list] of subscribers) {
      const count = partitions.get(topic) ?? 0
      if (count === 0) continue
      list.sort(compareMembers)
      const each = Math.floor(count / list.length)
      const extra = count % list.length
      let next = 0
      for (const [index, member] of list.entries()) {
        const length = each + (index < extra ? 1 : 0)
        if (length === 0) continue
        const run = Array.from({ length }, (_, step) => next + step)
        result.get(member.memberId)?.set(topic, run)
        next += length
      }
    }
    return result
  },
}
