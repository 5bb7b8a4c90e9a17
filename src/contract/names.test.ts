import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { OttlaError } from './errors.ts'
import { serviceNames, topicNameProblem } from './names.ts'

describe('the names of a service', () => {
  test('all hold its name, so that one prefixed ACL per kind is enough', () => {
    const names = serviceNames('inventory')
    assert.equal(names.group, 'inventory')
    assert.equal(names.deadLetters, 'dlq.inventory')
    assert.equal(names.control, 'ottla.control.inventory')
    assert.equal(names.retry('30s'), 'retry.inventory.30s')
    assert.equal(names.clientId('pod-1'), 'inventory@pod-1')
  })

  test('all stand behind the namespace when there is one', () => {
    const names = serviceNames('inventory', 'acme')
    assert.deepEqual(
      [names.group, names.deadLetters, names.control, names.retry('5m'), names.clientId('x')],
      [
        'acme.inventory',
        'acme.dlq.inventory',
        'acme.ottla.control.inventory',
        'acme.retry.inventory.5m',
        'acme.inventory@x',
      ],
    )
  })

  test('are refused for a service or namespace outside the grammar', () => {
    for (const bad of ['', 'Inventory', '1st', '-a', 'a.b', 'a_b', 'a b', 'ä', 'a'.repeat(64)]) {
      const refused = (error: unknown) => error instanceof OttlaError && error.code === 'OTTLA_CONTRACT_DEFINITION'
      assert.throws(() => serviceNames(bad), refused, bad)
      assert.throws(() => serviceNames('a', bad), refused, bad)
    }
    assert.equal(serviceNames('a'.repeat(63)).group.length, 63)
  })
})

test('topic names are those that Kafka takes', () => {
  for (const good of ['orders', 'Orders_v2', 'a.b-c', 'x'.repeat(249)]) assert.equal(topicNameProblem(good), null)
  for (const bad of ['', '.', '..', 'a b', 'a/b', 'ä', 'x'.repeat(250)])
    assert.notEqual(topicNameProblem(bad), null, bad)
})
