/**
 * The kill test: a shop on Apache Kafka and PostgreSQL under load, killed again and again, and then counted.
 *
 * One process serves orders, takes stock and sends mails (`shop.ts`), another places orders (`load.ts`). The shop dies by
 * SIGKILL at random moments, and once inside each named durable step (`kill-at.ts`); each time it is started again. When
 * the load has stopped and everything has come to rest, `violations` says what of the promises does not hold.
 */
import { type ChildProcess, fork, spawn } from 'node:child_process'
import { randomBytes, randomInt } from 'node:crypto'
import { once } from 'node:events'
import { appendFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { run, runOk } from '../command.ts'
import { freePorts } from '../free-ports.ts'
import { type SmtpSink, startSmtpSink } from '../smtp-sink.ts'
import type { LoadOptions } from './load.ts'
import type { FromLoad, LoadReport, ToLoad } from './messages.ts'

/** The durable steps, in the order in which they happen to one event. */
export const namedSteps = [
  'db.before_commit',
  'db.after_commit',
  'relay.after_send',
  'relay.after_ack',
  'relay.after_mark',
  'offset.before_commit',
  'offset.after_commit',
] as const

export interface KillOptions {
  readonly bootstrapServers: string
  /** A database server; the test makes a database of its own there. */
  readonly postgresUrl: string
  /** Kills at random moments, with at least ten requests open. */
  readonly randomKills: number
  /** Steps to die in, each once. */
  readonly steps: readonly string[]
  /** Takes the inbox away: every row vanishes as it is written. The checks must find that out. */
  readonly withoutInbox?: boolean
  readonly say?: (line: string) => void
}

export interface KillReport {
  /** What of the promises does not hold; empty when all is well. */
  readonly violations: readonly string[]
  readonly orders: number
  readonly mails: number
  /** Copies of events in the topics beyond the first: the relay's repetitions, known by their ids. */
  readonly repeatedEvents: number
  /** Requests open at each kill at a random moment, and at each step. */
  readonly openAtKill: readonly number[]
  readonly openAtStep: Readonly<Record<string, number>>
}

const folder = import.meta.dirname
const root = path.resolve(folder, '../../..')
const ordersPerSecond = 50
const keys = 200
const startTimeoutMs = 60_000
const stepTimeoutMs = 90_000
const settleTimeoutMs = 120_000

/** Runs the whole test. Throws only when it cannot be carried out; broken promises are in the report. */
export async function killTest(options: KillOptions): Promise<KillReport> {
  await using sink = await startSmtpSink()
  const run = new KillRun(options, sink)
  try {
    return await run.play()
  } finally {
    await run.end()
  }
}

class KillRun {
  readonly #options: KillOptions
  readonly #sink: SmtpSink
  readonly #name = `kill-${randomBytes(4).toString('hex')}`
  readonly #say: (line: string) => void
  #port = 0
  #databaseUrl = ''
  #pool: pg.Pool | null = null
  #load: ChildProcess | null = null
  #shop: ChildProcess | null = null
  /** The last lines the shop printed, for when it does not come up. */
  #said: string[] = []
  /** Open requests told by the load since the last kill. */
  #broken: number[] = []

  constructor(options: KillOptions, sink: SmtpSink) {
    this.#options = options
    this.#sink = sink
    this.#say = (line) => {
      this.#log(`${line}\n`)
      options.say?.(line)
    }
  }

  async play(): Promise<KillReport> {
    await this.#makeDatabase()
    this.#port = (await freePorts(1))[0] as number
    // The first start makes tables and topics.
    await this.#start()
    if (this.#options.withoutInbox === true) await this.#takeInboxAway()
    const load = this.#startLoad()
    const report = new Promise<LoadReport>((resolve, reject) => {
      load.on('message', (message: FromLoad) => {
        if (message.type === 'broken') this.#broken.push(message.open)
        else resolve(message.report)
      })
      // The channel ends after its last message; the process may be gone before that.
      load.once('disconnect', () => reject(new Error('the load process ended without a report')))
    })
    // Rejects unheard when a kill fails first; the kill's own error is the one that counts.
    report.catch(() => {})

    const openAtKill: number[] = []
    for (let kill = 1; kill <= this.#options.randomKills; kill++) {
      // Most kills wait until this process has decided something: a record under which three owners in a row die without
      // any progress is given up (`ProcessDied`), and rightly so.
      if (kill % 5 !== 0) await this.#progress()
      await sleep(randomInt(100, 2_500))
      const open = await this.#kill()
      openAtKill.push(open)
      this.#say(`killed at random ${kill} of ${this.#options.randomKills}, ${open} requests open`)
      await this.#start()
    }
    const openAtStep: Record<string, number> = {}
    for (const step of this.#options.steps) {
      await this.#progress()
      await this.#stop()
      openAtStep[step] = await this.#dieAt(step, randomInt(3, 12))
      this.#say(`died at ${step}, ${openAtStep[step]} requests open`)
      await this.#start()
    }

    this.#tellLoad({ type: 'stop' })
    const load202 = await report
    await this.#settle()
    const counts = await this.#count(load202)
    await this.#stop()
    return { ...counts, openAtKill, openAtStep }
  }

  async end(): Promise<void> {
    for (const child of [this.#shop, this.#load]) {
      if (child === null || child.exitCode !== null || child.signalCode !== null) continue
      const exited = once(child, 'exit')
      child.kill('SIGKILL')
      await exited
    }
    await this.#pool?.end()
    if (this.#databaseUrl !== '') {
      await this.#onServer(`drop database if exists "${this.#name}" with (force)`)
    }
  }

  // ── the processes ──

  async #start(step?: string): Promise<void> {
    const preload = step === undefined ? [] : ['--import', path.join(folder, 'kill-at.ts')]
    const child = spawn(
      process.execPath,
      ['--conditions=@ottla/source', '--disable-warning=ExperimentalWarning', ...preload, path.join(folder, 'shop.ts')],
      {
        cwd: root,
        stdio: ['ignore', 'pipe', 'pipe'],
        env: {
          ...process.env,
          KAFKA_BOOTSTRAP_SERVERS: this.#options.bootstrapServers,
          DATABASE_URL: this.#databaseUrl,
          SMTP_URL: this.#sink.url,
          PORT: String(this.#port),
          OTTLA_KILL_RUN: this.#name,
          OTTLA_KILL_AT: step,
        },
      },
    )
    this.#shop = child
    this.#said = []
    const keep = (text: string) => {
      this.#log(text)
      this.#said = [...this.#said, ...text.split('\n')].slice(-60)
    }
    child.stdout.setEncoding('utf8').on('data', keep)
    child.stderr.setEncoding('utf8').on('data', keep)
    const deadlineMs = performance.now() + startTimeoutMs
    while (!(await this.#ready())) {
      // In a step run the process may die before anybody saw it ready.
      if (step !== undefined && child.signalCode === 'SIGKILL') return
      if (child.exitCode !== null || performance.now() > deadlineMs) {
        throw new Error(`the shop did not come up\n${this.#said.join('\n')}`)
      }
      await sleep(25)
    }
  }

  /** `OTTLA_KILL_LOG` names a file for all that the shop and the test say, for whoever looks into a failure. */
  #log(text: string): void {
    const file = process.env['OTTLA_KILL_LOG']
    if (file !== undefined) appendFileSync(file, text.replace(/^(?=.)/gm, `${new Date().toISOString()} `))
  }

  async #ready(): Promise<boolean> {
    const response = await fetch(`http://127.0.0.1:${this.#port}/readyz`).catch(() => null)
    return response?.ok === true
  }

  /** Kills the running shop while requests are open, and returns how many were. */
  async #kill(): Promise<number> {
    const child = this.#shop as ChildProcess
    const exited = once(child, 'exit')
    this.#broken = []
    this.#tellLoad({ type: 'kill', pid: child.pid as number })
    await exited
    return this.#openTold()
  }

  /** Starts a shop that dies in a step of its own accord, and waits for that. */
  async #dieAt(step: string, count: number): Promise<number> {
    this.#broken = []
    await this.#start(`${step}:${count}`)
    const child = this.#shop as ChildProcess
    if (child.exitCode === null && child.signalCode === null) {
      const exited = once(child, 'exit')
      const signal = AbortSignal.timeout(stepTimeoutMs)
      const late = once(signal, 'abort')
      await Promise.race([exited, late])
      if (signal.aborted) throw new Error(`the shop never came to ${step}:${count}\n${this.#said.join('\n')}`)
    }
    if (child.signalCode !== 'SIGKILL') {
      throw new Error(`the shop ended with ${child.exitCode} instead of at ${step}\n${this.#said.join('\n')}`)
    }
    return this.#openTold()
  }

  /** The load hears of broken connections a moment after the process is gone. */
  async #openTold(): Promise<number> {
    const deadlineMs = performance.now() + 2_000
    while (this.#broken.length === 0 && performance.now() < deadlineMs) await sleep(5)
    return this.#broken[0] ?? 0
  }

  /** A graceful end: what a deploy does. */
  async #stop(): Promise<void> {
    const child = this.#shop as ChildProcess
    const exited = once(child, 'exit')
    child.kill('SIGTERM')
    const [code] = (await exited) as [number | null]
    if (code !== 0) throw new Error(`the shop ended with ${code} on SIGTERM\n${this.#said.join('\n')}`)
  }

  #startLoad(): ChildProcess {
    const options: LoadOptions = {
      url: `http://127.0.0.1:${this.#port}/orders`,
      ordersPerSecond,
      keys,
      openMs: 300,
      burst: 12,
    }
    this.#load = fork(path.join(folder, 'load.ts'), [JSON.stringify(options)], {
      execArgv: ['--disable-warning=ExperimentalWarning'],
    })
    return this.#load
  }

  #tellLoad(message: ToLoad): void {
    this.#load?.send(message)
  }

  // ── the database ──

  async #makeDatabase(): Promise<void> {
    await this.#onServer(`create database "${this.#name}"`)
    const url = new URL(this.#options.postgresUrl)
    url.pathname = `/${this.#name}`
    this.#databaseUrl = url.href
    this.#pool = new pg.Pool({ connectionString: this.#databaseUrl, max: 2 })
    this.#pool.on('error', () => {
      // A resting connection that the server closed; the next question opens another.
    })
  }

  async #onServer(sql: string): Promise<void> {
    const client = new pg.Client({ connectionString: this.#options.postgresUrl })
    await client.connect()
    try {
      await client.query(sql)
    } finally {
      await client.end()
    }
  }

  async #takeInboxAway(): Promise<void> {
    await this.#pool?.query(`
      create function forget() returns trigger language plpgsql as $$ begin
        delete from ottla.inbox i
        where i.bucket = new.bucket and i.service = new.service and i.source = new.source and i.id = new.id;
        return null;
      end $$;
      create trigger forget after insert on ottla.inbox for each row execute function forget();`)
  }

  async #number(sql: string): Promise<number> {
    const result = await this.#pool?.query<{ n: string }>(`select (${sql})::text as n`)
    return Number(result?.rows[0]?.n)
  }

  /** Waits until the shop that was just started has decided an order. */
  async #progress(): Promise<void> {
    const decided = 'select (select count(*) from stock_movement) + (select count(*) from stock_rejection)'
    const enough = (await this.#number(decided)) + 1
    const deadlineMs = performance.now() + startTimeoutMs
    while ((await this.#number(decided)) < enough) {
      if (performance.now() > deadlineMs) throw new Error(`the shop decides nothing\n${this.#said.join('\n')}`)
      await sleep(50)
    }
  }

  /** Waits until every order is decided and mailed and the outbox is empty, and nothing has moved for a while. */
  async #settle(): Promise<void> {
    const deadlineMs = performance.now() + settleTimeoutMs
    let before = ''
    let sinceMs = performance.now()
    for (;;) {
      const orders = await this.#number('select count(*) from orders')
      const outbox = await this.#number('select count(*) from ottla.outbox')
      const decided = await this.#number(
        'select (select count(*) from stock_movement) + (select count(*) from stock_rejection)',
      )
      const now = `${orders} orders, ${decided} decided, ${outbox} in the outbox, ${this.#sink.mails.length} mails`
      if (now !== before) {
        before = now
        sinceMs = performance.now()
      }
      const done = outbox === 0 && decided >= orders && this.#sink.mails.length >= orders
      if (done && performance.now() - sinceMs > 3_000) return
      if (performance.now() > deadlineMs) {
        // Not an error of the test: what is missing shows in the counts.
        this.#say(`not at rest after ${settleTimeoutMs} ms: ${now}`)
        return
      }
      await sleep(200)
    }
  }

  // ── the counting ──

  async #count(load: LoadReport): Promise<Pick<KillReport, 'violations' | 'orders' | 'mails' | 'repeatedEvents'>> {
    const violations: string[] = []
    const equal = (what: string, found: number, expected: number) => {
      if (found !== expected) violations.push(`${what}: ${found}, expected ${expected}`)
    }
    const orders = await this.#number('select count(*) from orders')
    equal('accepted orders (202 read by the client)', new Set(load.accepted).size, load.placed)
    equal('order rows', orders, load.placed)
    const rows = await this.#pool?.query<{ order_id: string }>('select order_id from orders')
    const stored = new Set(rows?.rows.map((row) => row.order_id))
    equal('accepted orders without a row', load.accepted.filter((id) => !stored.has(id)).length, 0)
    const movements = await this.#number('select count(*) from stock_movement')
    const rejections = await this.#number('select count(*) from stock_rejection')
    equal('stock movements + rejections', movements + rejections, orders)
    equal(
      'orders decided more than once',
      await this.#number(
        'select count(*) from (select order_id from (select order_id from stock_movement union all select order_id from stock_rejection) d group by order_id having count(*) > 1) twice',
      ),
      0,
    )
    equal(
      'stock taken',
      await this.#number('select sum(40 - free) from stock'),
      await this.#number('select coalesce(sum(quantity), 0) from stock_movement'),
    )
    equal('rows in the outbox', await this.#number('select count(*) from ottla.outbox'), 0)
    const mailed = new Set(this.#sink.mails.map((mail) => /^Subject: \S+ (\S+)/im.exec(mail)?.[1]))
    equal('orders without a mail', [...stored].filter((id) => !mailed.has(id)).length, 0)
    let repeatedEvents = 0
    for (const topic of ['orders', 'stock']) {
      const { repeated, disorder, events } = await this.#readTopic(`${this.#name}.${topic}`)
      repeatedEvents += repeated
      equal(`events in ${topic}`, events, orders)
      for (const line of disorder.slice(0, 5)) violations.push(`${topic}: ${line}`)
    }
    for (const service of ['inventory', 'notification']) violations.push(...(await this.#deadLetters(service)))
    return { violations, orders, mails: this.#sink.mails.length, repeatedEvents }
  }

  /** One line for each dead letter of a service: nothing here may be given up. */
  async #deadLetters(service: string): Promise<string[]> {
    const topic = `${this.#name}.dlq.${service}`
    const { code, stdout } = await run('kcat', [
      ...['-b', this.#options.bootstrapServers, '-C', '-t', topic, '-e', '-q', '-f', '%k %h\n'],
    ])
    // kcat fails when there is no such topic: nothing was ever given up.
    if (code !== 0) return []
    return stdout
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => `dead letter of ${service}: ${line.slice(0, 600)}`)
  }

  /** Reads a topic with kcat: per key, the first occurrences of its events must follow the versions of the row. */
  async #readTopic(topic: string): Promise<{ events: number; repeated: number; disorder: string[] }> {
    const text = await runOk('kcat', ['-b', this.#options.bootstrapServers, '-C', '-t', topic, '-e', '-q', '-J'])
    const seen = new Set<string>()
    const versions = new Map<string, number>()
    const disorder: string[] = []
    let repeated = 0
    for (const line of text.split('\n').filter((each) => each !== '')) {
      const record = JSON.parse(line) as { partition: number; offset: number; key: string; payload: string }
      const event = JSON.parse(record.payload) as { orderId: string; version: number }
      if (seen.has(event.orderId)) {
        repeated += 1
        continue
      }
      seen.add(event.orderId)
      const before = versions.get(record.key) ?? 0
      if (event.version !== before + 1) {
        disorder.push(
          `${record.key} has version ${event.version} after ${before} at ${record.partition}@${record.offset}`,
        )
      }
      versions.set(record.key, event.version)
    }
    return { events: seen.size, repeated, disorder }
  }
}
