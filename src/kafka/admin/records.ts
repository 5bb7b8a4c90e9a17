/** Records: deleted from the beginning of a partition on. */
import type { OttlaError } from '../../contract/errors.ts'
import { Api } from '../../wire/protocol.ts'
import { type AdminCallOptions, type AdminCalls, byTopic, type PartitionName } from './calls.ts'

export interface RecordDeletion extends PartitionName {
  /** Everything before it goes; -1: all there is. */
  readonly beforeOffset: number
}

export interface RecordDeletionResult extends PartitionName {
  /** The first offset now; -1 with an error. */
  readonly lowWatermark: number
  readonly error?: OttlaError
}

export async function deleteRecords(
  calls: AdminCalls,
  records: readonly RecordDeletion[],
  options: AdminCallOptions,
): Promise<readonly RecordDeletionResult[]> {
  return calls.leaders<RecordDeletion, RecordDeletionResult>(
    records,
    {
      ask: async (leader, asked, call) => {
        const { body } = await calls.cluster.request(
          leader,
          Api.DeleteRecords,
          {
            topics: byTopic(asked, (r) => ({ partitionIndex: r.partition, offset: r.beforeOffset })),
            timeoutMs: calls.timeoutMs(options),
          },
          call,
        )
        return ({ topic, partition }) => {
          const told = body.topics.find((t) => t.name === topic)?.partitions.find((p) => p.partitionIndex === partition)
          if (told === undefined) return -1
          return told.errorCode === 0 ? { topic, partition, lowWatermark: told.lowWatermark } : told.errorCode
        }
      },
      failed: ({ topic, partition }, error) => ({ topic, partition, lowWatermark: -1, error }),
      what: ({ topic, partition }) => `Deleting records of ${topic}-${partition}`,
    },
    options,
  )
}
