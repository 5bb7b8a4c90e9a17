import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  type CommandRecord,
  type ControlRecord,
  controlKey,
  decodeControl,
  encodeControl,
  type HoldRecord,
  type PauseRecord,
  type ResultRecord,
} from './control.ts'
import { decodeUtf8, encodeUtf8 } from './text.ts'

const hold: HoldRecord = {
  kind: 'hold',
  topic: 'orders',
  topicId: 'AAAA-_1',
  partition: 3,
  key: 'a2V5',
  head: 17,
  letter: { partition: 2, position: 5 },
  done: -1,
  skip: [19],
  redrives: 0,
  atMs: 1_700_000_000_000,
  error: 'TypeError',
}
const pause: PauseRecord = { kind: 'pause', topic: null, partition: null, by: 'ann', reason: 'deploy', atMs: 1 }
const command: CommandRecord = {
  kind: 'command',
  id: '0190-a',
  action: 'redrive',
  letter: { partition: 2, position: 5 },
  topic: 'orders',
  partition: 3,
  by: 'ann',
  reason: 'mended',
  atMs: 2,
  edited: 'e30',
  force: false,
  accepted: 1,
}
const result: ResultRecord = {
  kind: 'result',
  id: '0190-a',
  action: 'redrive',
  outcome: 'handled',
  letter: { partition: 2, position: 5 },
  origin: 'orders/AAAA-_1/3/17',
  error: '',
  by: 'ann',
  reason: 'mended',
  atMs: 3,
  instance: 'host@1',
  last: true,
}
const all: readonly ControlRecord[] = [hold, pause, command, result, { ...result, last: false }]

test('what is written is read back, under keys that tell the records apart', () => {
  for (const record of all) {
    const { key, value } = encodeControl(record)
    assert.deepEqual(decodeControl(key, value), { kind: 'record', key: controlKey(record), record })
  }
  assert.equal(new Set(all.map(controlKey)).size, all.length)
  assert.deepEqual(decodeControl(encodeUtf8(controlKey(hold)), null), { kind: 'gone', key: controlKey(hold) })
})

test('what a later version adds is read past, and what it invents changes nothing', () => {
  const { key, value } = encodeControl(command)
  const later = { ...JSON.parse(decodeUtf8(value)!), v: 2, urgency: 'high', letter: { ...command.letter, epoch: 4 } }
  assert.deepEqual(decodeControl(key, encodeUtf8(JSON.stringify(later))), {
    kind: 'record',
    key: controlKey(command),
    record: command,
  })
  const unknown = { v: 2, kind: 'lease', id: 'x' }
  assert.equal(decodeControl(encodeUtf8('lease/x'), encodeUtf8(JSON.stringify(unknown))).kind, 'foreign')
  assert.equal(decodeControl(key, encodeUtf8(JSON.stringify({ ...later, action: 'teleport' }))).kind, 'foreign')
})

test('no record of the topic, however damaged, is more than foreign', () => {
  for (const record of all) {
    const { key, value } = encodeControl(record)
    const members = JSON.parse(decodeUtf8(value)!) as Record<string, unknown>
    for (const name of Object.keys(members)) {
      for (const wrong of [null, -1, 1.5, 'x/../y', [], {}, true, 2 ** 60]) {
        const entry = decodeControl(key, encodeUtf8(JSON.stringify({ ...members, [name]: wrong })))
        assert.ok(entry.kind === 'foreign' || entry.kind === 'record', `${name}: ${JSON.stringify(wrong)}`)
        if (entry.kind === 'record') assert.equal(entry.key, controlKey(record))
      }
    }
    for (let cut = 0; cut < value.length; cut += 7) {
      assert.equal(decodeControl(key, value.subarray(0, cut)).kind, 'foreign')
    }
    assert.equal(decodeControl(encodeUtf8('hold/other/0/a'), value).kind, 'foreign')
    assert.equal(decodeControl(null, value).kind, 'foreign')
    assert.equal(decodeControl(Uint8Array.of(0xff), value).kind, 'foreign')
  }
})
