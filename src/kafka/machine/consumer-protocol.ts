/**
 * What consumers of a group tell each other through the coordinator: subscriptions up, assignments down.
 *
 * The coordinator passes these bytes on without reading them, so they come from other members, perhaps of another
 * client. A two-byte version stands in front; of a newer version the fields known here are read, as Java does.
 */
import { malformed } from '../../wire/malformed.ts'
import { decodeMessage, encodeMessage } from '../../wire/protocol.ts'
import { Reader } from '../../wire/reader.ts'
import type { MemberAssignment, TopicPartitions } from './assignors/assignor.ts'

/** The name under which consumers of any client meet. */
export const consumerProtocolType = 'consumer'

const newestVersion = 3
const subscriptionVersion = 3
const assignmentVersion = 0

/** What a member says of itself when it joins. */
export interface Subscription {
  readonly topics: readonly string[]
  /** What it holds and keeps meanwhile; nothing in the eager protocol. */
  readonly owned: readonly TopicPartitions[]
  /** The generation in which it held that; -1 when it does not say. */
  readonly generation: number
  /** What the assignor has to say besides. */
  readonly userData: Uint8Array | null
}

export function encodeSubscription({ topics, owned, generation, userData }: Subscription): Uint8Array {
  return versioned(
    subscriptionVersion,
    encodeMessage('ConsumerProtocolSubscription', subscriptionVersion, {
      topics: [...topics].sort(),
      userData,
      ownedPartitions: owned,
      generationId: generation,
      rackId: null,
    }),
  )
}

/** What a member wants and holds. Throws OTTLA_WIRE_MALFORMED. */
export function decodeSubscription(bytes: Uint8Array): Subscription {
  const { version, body } = split(bytes)
  const { topics, ownedPartitions, generationId, userData } = decodeMessage(
    'ConsumerProtocolSubscription',
    version,
    body,
  )
  return { topics, owned: ownedPartitions, generation: generationId, userData }
}

export function encodeAssignment(assignment: MemberAssignment): Uint8Array {
  const assignedPartitions = [...assignment].map(([topic, partitions]) => ({ topic, partitions }))
  return versioned(
    assignmentVersion,
    encodeMessage('ConsumerProtocolAssignment', assignmentVersion, { assignedPartitions, userData: null }),
  )
}

/** What the leader gave us; no bytes at all mean nothing. Throws OTTLA_WIRE_MALFORMED. */
export function decodeAssignment(bytes: Uint8Array): readonly TopicPartitions[] {
  if (bytes.length === 0) return []
  const { version, body } = split(bytes)
  return decodeMessage('ConsumerProtocolAssignment', version, body).assignedPartitions
}

function versioned(version: number, body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(body.length + 2)
  new DataView(bytes.buffer).setInt16(0, version)
  bytes.set(body, 2)
  return bytes
}

function split(bytes: Uint8Array): { version: number; body: Uint8Array } {
  const version = new Reader(bytes).int16()
  if (version < 0) throw malformed(`a member speaks version ${version} of the consumer protocol`)
  return { version: Math.min(version, newestVersion), body: bytes.subarray(2) }
}
