/** The shop does what its README says: run, order, see the mail. */
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import { startBroker } from 'ottla/broker'
import { embeddedPostgres } from 'ottla/testing'
import { demo } from './demo.ts'
import { openShop } from './shop.ts'
import { smtpSink } from './smtp-sink.ts'

const patienceMs = 60_000
/** What must not leak in from outside: each test says itself what the shop stands on. */
const outside = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !/^(KAFKA_|DATABASE_URL|SMTP_URL|PORT$|NODE_)/.test(name)),
)

/** A shop in a process of its own, with everything it has printed. */
class RunningShop implements AsyncDisposable {
  readonly #child: ChildProcess
  readonly #exited: Promise<unknown>
  #output = ''
  #look = (): void => undefined

  constructor(environment: Readonly<Record<string, string>> = {}, args: readonly string[] = []) {
    const main = join(import.meta.dirname, 'main.ts')
    this.#child = spawn(process.execPath, ['--conditions=@ottla/source', main, ...args], {
      env: { ...outside, PORT: '0', ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#output += text
        this.#look()
      })
    }
    this.#exited = once(this.#child, 'close')
    this.#child.once('close', () => this.#look())
  }

  get output(): string {
    return this.#output
  }

  /** Waits until what is printed matches, and answers with the match. */
  async prints(pattern: RegExp): Promise<RegExpExecArray> {
    const deadlineMs = performance.now() + patienceMs
    for (;;) {
      const match = pattern.exec(this.#output)
      if (match !== null) return match
      const leftMs = deadlineMs - performance.now()
      const gone = this.#child.exitCode !== null || this.#child.signalCode !== null
      if (gone || leftMs <= 0)
        assert.fail(`${pattern} was not printed${gone ? ' before the end' : ''}:\n${this.#output}`)
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, leftMs)
        this.#look = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name)
  }

  async exitCode(): Promise<number | null> {
    await this.#exited
    return this.#child.exitCode
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill('SIGKILL')
    await this.#exited
  }
}

async function post(url: string, body: string): Promise<{ readonly status: number; readonly answer: any }> {
  const response = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
  return { status: response.status, answer: await response.json() }
}

describe('npm start', () => {
  test('opens from nothing, orders, mails, says how to go on, and closes with 0 on Ctrl-C', async () => {
    await using shop = new RunningShop()
    await shop.prints(/^The shop is open after \d+ ms: Kafka \S+ \(embedded\), PostgreSQL \(embedded\), SMTP/m)
    await shop.prints(/POST \/orders: 202/)
    await shop.prints(/\+\d+ ms {2}OrderPlaced +orders-\d@0 +published by orders/)
    await shop.prints(/\+\d+ ms {2}OrderPlaced +orders-\d@0 +handled by inventory/)
    await shop.prints(/\+\d+ ms {2}StockReserved +stock-\d@0 +published by inventory/)
    await shop.prints(/\+\d+ ms {2}mail +ada@example\.com +"Your order [0-9a-f-]{36}"/)
    await shop.prints(/\+\d+ ms {2}StockReserved +stock-\d@0 +handled by notification/)

    const [, curl] = await shop.prints(/another order +curl (\S+) -H 'content-type: application\/json' -d '(.*)'/)
    const [, , json] = /another order +curl (\S+) -H \S+ \S+ -d '(.*)'/.exec(shop.output) as unknown as string[]
    const url = curl as string
    const placed = await post(url, json as string)
    assert.equal(placed.status, 202)
    await shop.prints(new RegExp(`mail +you@example\\.com +"Your order ${placed.answer.orderId}"`))

    const unknown = await post(url, '{"customer":"you@example.com","sku":"unicorn","quantity":1}')
    assert.equal(unknown.status, 202)
    await shop.prints(/StockRejected +stock-\d@\d+ +handled by notification/)
    await shop.prints(new RegExp(`mail +you@example\\.com +"Sorry, your order ${unknown.answer.orderId}"`))

    const bad = await post(url, '{"customer":"you","sku":"ink","quantity":1.5,"colour":"red"}')
    assert.equal(bad.status, 400)
    assert.deepEqual(
      bad.answer.issues.map(({ field }: { field: string }) => field),
      ['customer', 'quantity', ''],
    )
    for (const { expected } of bad.answer.issues) assert.match(expected, /\w{4}/)
    assert.deepEqual((await post(url, '{')).answer.issues, [{ field: '', expected: 'a body of JSON' }])

    const [, ready] = await shop.prints(/ready +(http\S+)/)
    assert.equal((await fetch(ready as string)).status, 200)
    const [, metrics] = await shop.prints(/metrics +(http\S+)/)
    assert.match(await (await fetch(metrics as string)).text(), /service="notification"/)
    await shop.prints(/watch +kcat -C -b 127\.0\.0\.1:\d+ -t orders/)

    const signalledMs = performance.now()
    shop.signal('SIGINT')
    shop.signal('SIGINT') // as npm does
    assert.equal(await shop.exitCode(), 0, shop.output)
    const closingMs = performance.now() - signalledMs
    // 2 s on a quiet machine; on a busy one not longer than it took to open.
    const [, openedMs] = await shop.prints(/open after (\d+) ms/)
    assert.ok(closingMs < Math.max(2000, Number(openedMs)), `it took ${closingMs} ms to close`)
    assert.match(shop.output, /closed\n$/)
  })

  test('accepts orders while Kafka is away, says so, and delivers them when it is back', async () => {
    await using broker = await startBroker()
    await using postgres = await embeddedPostgres()
    await using sink = await smtpSink()
    await using shop = new RunningShop({
      KAFKA_BOOTSTRAP_SERVERS: broker.bootstrapServers,
      DATABASE_URL: await postgres.createDatabase(),
      SMTP_URL: sink.url,
    })
    const [, url] = await shop.prints(/another order +curl (\S+)/)
    await broker.stopNode(1)
    const placed: string[] = []
    for (let i = 0; i < 5; i++) {
      const { status, answer } = await post(url as string, '{"customer":"you@example.com","sku":"ink","quantity":1}')
      assert.equal(status, 202)
      placed.push(answer.orderId)
    }
    await shop.prints(/^Kafka is away \(.+\): orders are accepted, \d+ events? waits? in the outbox/m)
    await broker.startNode(1)
    await shop.prints(/^Kafka is back/m)
    for (const orderId of placed) await shop.prints(new RegExp(`mail +you@example\\.com +"Your order ${orderId}"`))
    const subjects = sink.mails.map(({ headers }) => headers.get('subject'))
    for (const orderId of placed)
      assert.equal(subjects.filter((subject) => subject === `Your order ${orderId}`).length, 1)
    shop.signal('SIGTERM')
    assert.equal(await shop.exitCode(), 0, shop.output)
  })

  test('says what is wrong and ends with 1 when it cannot open', async () => {
    await using shop = new RunningShop({ DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none' })
    assert.equal(await shop.exitCode(), 1)
    assert.match(shop.output, /ECONNREFUSED/)
  })
})

describe('npm run demo', () => {
  test('ends with 0 when every trace is there, on parts from outside', async () => {
    await using broker = await startBroker({ nodes: 3 })
    await using postgres = await embeddedPostgres()
    await using sink = await smtpSink()
    const environment = {
      KAFKA_BOOTSTRAP_SERVERS: broker.bootstrapServers,
      DATABASE_URL: await postgres.createDatabase(),
      SMTP_URL: sink.url,
    }
    for (const round of [1, 2]) {
      await using shop = new RunningShop(environment, ['--once'])
      assert.equal(await shop.exitCode(), 0, shop.output)
      assert.equal(shop.output.match(/^ok /gm)?.length, 8)
      assert.equal(sink.mails.length, round)
    }
  })

  test('says what is missing or too much', async () => {
    await using shop = await openShop({
      environment: { ...outside, PORT: '0' },
      onRequest: () => undefined,
      log: { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined },
    })
    await shop.pool.query(`update stock set free = 1 where sku = 'pen'`)
    const checks = await demo(shop, 3000)
    const wrong = checks.filter(({ expected, found }) => !isDeepStrictEqual(expected, found)).map(({ what }) => what)
    assert.deepEqual(wrong, ['stock row', 'stock movement', 'events published', 'inbox rows', 'mail'])
  })
})
