/**
 * Messages on their way out: encoded, given a partition where the contract's number of partitions decides, and handed to
 * the writer or to the outbox.
 */
import type { EncodedMessage } from '../contract/message.ts'
import { showUtf8 } from '../contract/text.ts'
import { declaredPartition } from '../core/partition.ts'
import { type Published, published } from './channels.ts'
import type { OutboxRecord, Sent, TopicFacts, Writer } from './ports.ts'

/** An encoded message as the outbox or the writer takes it. */
export function toRecord(encoded: EncodedMessage, facts: ReadonlyMap<string, TopicFacts>): OutboxRecord {
  const { topic, key, value, headers, timestampMs, id, type, source, partitions } = encoded
  const onBroker = facts.get(topic)?.partitions ?? 0
  // With equal numbers the writer's own choice is the same one; only a grown topic needs the contract's.
  const partition =
    partitions !== null && key !== null && onBroker > partitions ? declaredPartition(key, partitions) : null
  return { topic, partition, key, value, headers, timestampMs, id, type, source }
}

/** Publishes one record, waits until it is stored, and says so on the channel. */
export async function send(
  writer: Writer,
  record: OutboxRecord,
  options: { readonly signal?: AbortSignal } = {},
): Promise<Sent> {
  const sent = await writer.send(record, options)
  if (published.hasSubscribers) {
    published.publish({
      source: record.source,
      topic: record.topic,
      partition: sent.partition,
      position: sent.position,
      type: record.type,
      id: record.id,
      key: record.key === null ? null : showUtf8(record.key),
    } satisfies Published)
  }
  return sent
}

/** Publishes several in order and waits for all, so that none is in flight when it rejects with the first failure. */
export async function sendAll(
  writer: Writer,
  records: readonly OutboxRecord[],
  options: { readonly signal?: AbortSignal } = {},
): Promise<readonly Sent[]> {
  if (records.length === 1) return [await send(writer, records[0]!, options)]
  const results = await Promise.allSettled(records.map((record) => send(writer, record, options)))
  return results.map((result) => {
    if (result.status === 'rejected') throw result.reason
    return result.value
  })
}
