/** Just enough of a transactional producer, in single requests, to have aborted records to read. */
import type { KafkaClient } from '../../src/kafka/client.ts'
import { ErrorCode } from '../../src/wire/error-codes.ts'
import { Api } from '../../src/wire/protocol.ts'
import { RecordBatchBuilder } from '../../src/wire/record-batch.ts'
import { until } from './ground.ts'

export class TransactionWriter {
  readonly #client: KafkaClient
  readonly #topic: string
  #id = ''
  #coordinator = -1
  #producerId = -1
  #epoch = -1
  #sequence = 0

  /** The client must know the topic. */
  constructor(client: KafkaClient, topic: string) {
    this.#client = client
    this.#topic = topic
  }

  async begin(transactionalId: string): Promise<void> {
    this.#id = transactionalId
    const { cluster } = this.#client
    await until('a transaction coordinator is there', async () => {
      const body = { keyType: 1, coordinatorKeys: [transactionalId] }
      const answer = await cluster.request('any', Api.FindCoordinator, body, { minVersion: 4 })
      const found = answer.body.coordinators[0]
      this.#coordinator = found?.errorCode === 0 ? found.nodeId : -1
      return this.#coordinator >= 0
    })
    await until('a producer id is given', async () => {
      const { body } = await cluster.request(this.#coordinator, Api.InitProducerId, {
        transactionalId,
        transactionTimeoutMs: 60_000,
        producerId: -1,
        producerEpoch: -1,
      })
      this.#producerId = body.producerId
      this.#epoch = body.producerEpoch
      return body.errorCode === 0
    })
  }

  async append(value: string): Promise<void> {
    const { cluster } = this.#client
    await until('the partition joins the transaction', async () => {
      const { body } = await cluster.request(
        this.#coordinator,
        Api.AddPartitionsToTxn,
        {
          v3AndBelowTransactionalId: this.#id,
          v3AndBelowProducerId: this.#producerId,
          v3AndBelowProducerEpoch: this.#epoch,
          v3AndBelowTopics: [{ name: this.#topic, partitions: [0] }],
        },
        { maxVersion: 3 },
      )
      return body.resultsByTopicV3AndBelow[0]?.resultsByPartition[0]?.partitionErrorCode === 0
    })
    const builder = new RecordBatchBuilder()
    builder.append(null, Buffer.from(value), [], Date.now())
    const records = builder.build({
      producerId: this.#producerId,
      producerEpoch: this.#epoch,
      baseSequence: this.#sequence++,
      transactional: true,
    })
    const refresh = (): Promise<unknown> => cluster.refresh().catch(() => undefined)
    let code = -1
    await until(
      () => `the record is stored: ${code}`,
      async () => {
        const { body } = await cluster.request(
          cluster.metadata.partition(this.#topic, 0)?.leader ?? -1,
          Api.Produce,
          {
            transactionalId: this.#id,
            acks: -1,
            timeoutMs: 10_000,
            topicData: [{ name: this.#topic, partitionData: [{ index: 0, records }] }],
          },
          { maxVersion: 8 },
        )
        code = body.responses[0]?.partitionResponses[0]?.errorCode ?? -1
        if (code !== 0) await refresh()
        return code === 0 || code === ErrorCode.DUPLICATE_SEQUENCE_NUMBER
      },
    )
  }

  async end(committed: boolean): Promise<void> {
    await until('the transaction ends', async () => {
      const { body } = await this.#client.cluster.request(
        this.#coordinator,
        Api.EndTxn,
        { transactionalId: this.#id, producerId: this.#producerId, producerEpoch: this.#epoch, committed },
        { maxVersion: 3 },
      )
      return body.errorCode === 0
    })
  }
}
