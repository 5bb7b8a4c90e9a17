import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { errorTable, OttlaError, PermanentError } from './errors.ts'

const page = join(import.meta.dirname, '../../docs/reference/errors.md')

/** The rows of the page, read from its text and not from what writes it. */
function documented(): Record<string, { retriable: boolean; fatal: boolean; help: string }> {
  const rows = [...readFileSync(page, 'utf8').matchAll(/^\| `(\w+)` \| (yes|no) \| (yes|no) \| (.+) \|$/gm)]
  return Object.fromEntries(
    rows.map(([, code, retriable, fatal, help]) => [
      code,
      { retriable: retriable === 'yes', fatal: fatal === 'yes', help: help?.replaceAll('\\|', '|') },
    ]),
  )
}

describe('the error table', () => {
  test('and docs/reference/errors.md say the same (else run node tools/docs.ts)', () => {
    assert.deepEqual(documented(), errorTable)
  })

  test('names every code OTTLA_<AREA>_<WHAT>, the codes of an area together', () => {
    const codes = Object.keys(errorTable)
    for (const code of codes) assert.match(code, /^OTTLA_[A-Z]+(_[A-Z]+)+$/)
    const areas = [...new Set(codes.map((code) => code.split('_')[1]))]
    assert.deepEqual(
      codes.map((code) => code.split('_')[1]),
      areas.flatMap((area) => codes.filter((code) => code.split('_')[1] === area).map(() => area)),
    )
  })

  test('gives every row a help that is a sentence', () => {
    for (const { help } of Object.values(errorTable)) assert.match(help, /^.{15,160}[.]$/)
  })
})

describe('an OttlaError', () => {
  test('carries what the table says, and what the thrower knows better', () => {
    const error = new OttlaError('OTTLA_KAFKA_BROKER', 'no', {
      cause: new Error('below'),
      kafka: { code: 3, name: 'UNKNOWN_TOPIC_OR_PARTITION' },
      retriable: true,
      details: { topic: 'orders' },
    })
    assert.equal(error.name, 'OttlaError')
    assert.equal(error.retriable, true)
    assert.equal(error.fatal, false)
    assert.equal(error.help, errorTable.OTTLA_KAFKA_BROKER.help)
    assert.deepEqual(error.kafka, { code: 3, name: 'UNKNOWN_TOPIC_OR_PARTITION' })
    assert.deepEqual(error.details, { topic: 'orders' })
    assert.equal((error.cause as Error).message, 'below')
  })

  test('is told from other errors and its subclasses from each other', () => {
    class Mine extends PermanentError {}
    assert.ok(new Mine('x') instanceof OttlaError && new Mine('x') instanceof PermanentError)
    assert.ok(new Mine('x') instanceof Mine)
    assert.ok(!(new PermanentError('x') instanceof Mine))
    assert.ok(!(new OttlaError('OTTLA_CONFIG_INVALID', 'x') instanceof PermanentError))
    for (const other of [new Error('x'), null, undefined, 'OttlaError', {}]) assert.ok(!(other instanceof OttlaError))
  })

  test('is recognised by another copy of the package in the same process', async () => {
    // A query makes the loader evaluate the module a second time.
    const copy = (await import(`${import.meta.resolve('./errors.ts')}?copy`)) as typeof import('./errors.ts')
    assert.notEqual(copy.OttlaError, OttlaError)
    assert.ok(new copy.OttlaError('OTTLA_CONFIG_INVALID', 'x') instanceof OttlaError)
    assert.ok(new OttlaError('OTTLA_CONFIG_INVALID', 'x') instanceof copy.OttlaError)
    assert.ok(new copy.PermanentError('x') instanceof PermanentError)
    assert.ok(new copy.PermanentError('x') instanceof OttlaError)
    assert.ok(!(new copy.OttlaError('OTTLA_CONFIG_INVALID', 'x') instanceof PermanentError))
  })
})
