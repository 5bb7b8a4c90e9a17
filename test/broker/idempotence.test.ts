/** Idempotent producers: what is taken, what is recognised, what is refused. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Api } from '../../src/wire/protocol.ts'
import { batch, errorName, Harness } from './harness.ts'

const highest = 0x7fff_ffff

function setup() {
  const harness = new Harness()
  harness.topic('t')
  const send = (baseSequence: number, options: { epoch?: number; values?: string[]; producerId?: number } = {}) => {
    const { errorCode, baseOffset } = harness.produce(
      't',
      batch(options.values ?? ['x'], {
        producerId: options.producerId ?? 1000,
        producerEpoch: options.epoch ?? 0,
        baseSequence,
      }),
    )
    return errorCode === 0 ? baseOffset : errorName(errorCode)
  }
  return { harness, send }
}

test('each InitProducerId hands out another producer id at epoch 0', () => {
  const harness = new Harness()
  const init = () => harness.ask(Api.InitProducerId, { transactionalId: null, transactionTimeoutMs: 1000 })
  const [first, second] = [init(), init()]
  assert.notEqual(first.producerId, second.producerId)
  assert.deepEqual([first.errorCode, first.producerEpoch], [0, 0])
})

test('a transactional id is refused, because there are no transactions', () => {
  const harness = new Harness()
  const body = harness.ask(Api.InitProducerId, { transactionalId: 'tx', transactionTimeoutMs: 1000 })
  assert.equal(errorName(body.errorCode), 'INVALID_REQUEST')
})

test('a batch sent again is stored once and answered with its first offset', () => {
  const { harness, send } = setup()
  assert.equal(send(0, { values: ['a', 'b'] }), 0)
  assert.equal(send(2), 2)
  assert.equal(send(0, { values: ['a', 'b'] }), 0)
  assert.equal(send(2), 2)
  assert.equal(harness.cluster.topics.get('t')!.partitions[0]!.log.endOffset, 3)
})

test('the last five batches are recognised, the sixth is out of order', () => {
  const { send } = setup()
  for (let sequence = 0; sequence < 6; sequence++) assert.equal(send(sequence), sequence)
  for (let sequence = 1; sequence < 6; sequence++) assert.equal(send(sequence), sequence)
  assert.equal(send(0), 'OUT_OF_ORDER_SEQUENCE_NUMBER')
})

test('a gap is out of order, and nothing of it is stored', () => {
  const { harness, send } = setup()
  send(0)
  assert.equal(send(2), 'OUT_OF_ORDER_SEQUENCE_NUMBER')
  assert.equal(harness.cluster.topics.get('t')!.partitions[0]!.log.endOffset, 1)
  assert.equal(send(1), 1)
})

test('a producer the partition has never seen may begin anywhere', () => {
  const { send } = setup()
  assert.equal(send(17), 0)
  assert.equal(send(18), 1)
})

test('a new epoch begins at 0, and the old one is fenced', () => {
  const { send } = setup()
  send(0)
  assert.equal(send(1, { epoch: 1 }), 'OUT_OF_ORDER_SEQUENCE_NUMBER')
  assert.equal(send(0, { epoch: 1 }), 1)
  assert.equal(send(1), 'INVALID_PRODUCER_EPOCH')
})

test('after the highest sequence number comes 0, also inside a batch', () => {
  const { send } = setup()
  assert.equal(send(highest - 1), 0)
  assert.equal(send(highest, { values: ['a', 'b'] }), 1)
  assert.equal(send(1), 3)
  assert.equal(send(highest, { values: ['a', 'b'] }), 1)
})

test('producers do not disturb each other', () => {
  const { send } = setup()
  assert.equal(send(0), 0)
  assert.equal(send(0, { producerId: 1001 }), 1)
  assert.equal(send(1), 2)
  assert.equal(send(1, { producerId: 1001 }), 3)
})

test('a topic made again knows no producers', () => {
  const { harness, send } = setup()
  send(0)
  send(1)
  harness.cluster.deleteTopic(harness.cluster.topics.get('t')!, harness.nowMs)
  harness.topic('t')
  assert.equal(send(2), 0)
})
