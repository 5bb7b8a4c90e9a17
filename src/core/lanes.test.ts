import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { LaneEntry, Lanes } from './lanes.ts'

class Item extends LaneEntry {
  readonly key: string | null
  readonly order: number
  constructor(key: string | null, order: number) {
    super()
    this.key = key
    this.order = order
  }
}

const key = (text: string | null) => (text === null ? null : Buffer.from(text))

type Command = 'offer-a' | 'offer-b' | 'offer-c' | 'offer-null' | 'next' | 'settle' | 'park' | 'wake'
const commands: readonly Command[] = ['offer-a', 'offer-b', 'offer-c', 'offer-null', 'next', 'settle', 'park', 'wake']

test('per key records settle in the order offered and never two are in hand, whatever is parked and woken', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.constantFrom(...commands), fc.nat(7)), { maxLength: 200 }), (steps) => {
      const lanes = new Lanes<Item>()
      const running: Item[] = []
      const waiting: Item[] = []
      const settled = new Map<string, number>()
      let offered = 0
      let ended = 0
      const inHand = () => [...running, ...waiting]
      const pick = (from: Item[], n: number) => (from.length === 0 ? undefined : from.splice(n % from.length, 1)[0])
      const settle = (item: Item) => {
        lanes.settle(item)
        ended++
        if (item.key === null) return
        assert.ok(item.order > (settled.get(item.key) ?? -1), `key ${item.key} went backwards`)
        settled.set(item.key, item.order)
      }
      for (const [command, n] of steps) {
        if (command === 'next') {
          const item = lanes.next()
          if (item !== undefined) {
            assert.ok(item.key === null || !inHand().some((other) => other.key === item.key), 'two of one key in hand')
            running.push(item)
          }
        } else if (command === 'settle') {
          const item = pick(running, n)
          if (item !== undefined) settle(item)
        } else if (command === 'park') {
          const item = pick(running, n)
          if (item !== undefined) {
            lanes.park(item)
            waiting.push(item)
          }
        } else if (command === 'wake') {
          const item = pick(waiting, n)
          if (item !== undefined) lanes.wake(item)
        } else {
          const name = command.slice('offer-'.length)
          lanes.offer(name === 'null' ? null : key(name), new Item(name === 'null' ? null : name, offered++))
        }
        const counts = lanes.counts()
        assert.equal(counts.running, running.length)
        assert.equal(counts.waiting, waiting.length)
        assert.equal(counts.running + counts.queued + counts.waiting + counts.parked, offered - ended)
        assert.equal(lanes.open, offered - ended)
      }
      for (const item of waiting.splice(0)) lanes.wake(item)
      for (;;) {
        while (running.length > 0) settle(running.pop()!)
        const item = lanes.next()
        if (item === undefined) break
        running.push(item)
      }
      assert.equal(ended, offered)
      assert.equal(lanes.open, 0)
    }),
    { numRuns: 300 },
  )
})

test('a waiting key lets every other key run and keeps its followers parked', () => {
  const lanes = new Lanes<Item>()
  const first = new Item('a', 0)
  lanes.offer(key('a'), first)
  lanes.offer(key('a'), new Item('a', 1))
  lanes.offer(key('b'), new Item('b', 2))
  assert.equal(lanes.next(), first)
  lanes.park(first)
  assert.deepEqual(lanes.counts(), { running: 0, queued: 1, waiting: 1, parked: 1 })
  assert.equal(lanes.next()?.key, 'b')
  assert.equal(lanes.next(), undefined)
  lanes.wake(first)
  assert.equal(lanes.next(), first)
})

test('records without a key run side by side', () => {
  const lanes = new Lanes<Item>()
  for (let order = 0; order < 3; order++) lanes.offer(null, new Item(null, order))
  assert.deepEqual([lanes.next()?.order, lanes.next()?.order, lanes.next()?.order], [0, 1, 2])
})

test('settling what is not running is an error and not a miscount', () => {
  const lanes = new Lanes<Item>()
  const item = new Item('a', 0)
  lanes.offer(key('a'), item)
  assert.throws(() => lanes.settle(item), /expected running/)
  lanes.next()
  lanes.settle(item)
  assert.throws(() => lanes.settle(item), /in no lane/)
})

test('clearing forgets all and says how many', () => {
  const lanes = new Lanes<Item>()
  for (const name of ['a', 'a', 'b', null]) lanes.offer(key(name), new Item(name, 0))
  lanes.next()
  assert.equal(lanes.clear(), 4)
  assert.equal(lanes.open, 0)
  assert.equal(lanes.next(), undefined)
})

test('a lane with a long queue takes turns with all others, and neither keeps the other waiting', () => {
  const lanes = new Lanes<Item>()
  for (let i = 0; i < 60; i++) lanes.offer(key('hot'), new Item('hot', i))
  for (let i = 0; i < 100; i++) lanes.offer(key(`cold-${i}`), new Item(`cold-${i}`, i))
  const started: string[] = []
  for (let i = 0; i < 60; i++) {
    const item = lanes.next()!
    started.push(item.key === 'hot' ? 'hot' : 'cold')
    lanes.settle(item)
  }
  // It was the first of all, and long only from then on.
  const later = started.slice(1)
  assert.equal(later.filter((kind) => kind === 'hot').length, 30)
  assert.ok(!later.join(' ').includes('hot hot') && !later.join(' ').includes('cold cold'))
})
