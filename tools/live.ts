/**
 * Runs tests against the real thing: starts one shared Apache Kafka (three brokers, and one with TLS and SASL) and one
 * PostgreSQL, hands them to the tests through the environment, then plays the example against them, and stops it all.
 *
 * The environment the tests get:
 * - `OTTLA_LIVE_KAFKA`: bootstrap servers of the three brokers.
 * - `OTTLA_LIVE_CONTROL`: file that lists their processes, for tests that kill and restart (`controlledCluster`).
 * - `OTTLA_LIVE_KAFKA_SECURE`: JSON of `SecureKafkaFacts`.
 * - `OTTLA_LIVE_POSTGRES`: URL.
 * - `OTTLA_LIVE_JARS`: folder of the jars that Apache Kafka's tools run over.
 *
 * `OTTLA_KAFKA_VERSION` chooses another Apache Kafka than 4.3.1, for example 4.4.0; its jars are fetched once.
 *
 * A component that is already given in the environment is used and not started.
 */
import { existsSync } from 'node:fs'
import path from 'node:path'
import { run } from '../test/live/command.ts'
import {
  type KafkaCluster,
  type SecureKafka,
  type SecureKafkaFacts,
  startKafkaCluster,
  startSecureKafka,
} from '../test/live/kafka-cluster.ts'
import { kafkaVersion, missingForKafka, toolJars } from '../test/live/kafka-jars.ts'
import { missingForPostgres, startPostgres } from '../test/live/postgres.ts'
import { type NodeTestRun, projectNode, runNodeTests } from './run-node-tests.ts'

export interface LiveOptions {
  readonly root: string
  readonly files: readonly string[]
  readonly timeoutMs: number
  /** Play the example against the components too. */
  readonly demos: boolean
  /** Told once for each thing that could not be run. */
  readonly notRun: (why: string) => void
}

type Environment = Record<string, string>

/** Runs the files one at a time and then the demos. What could not be run at all makes the run fail. */
export async function runLive(options: LiveOptions): Promise<NodeTestRun> {
  if (options.files.length === 0 && !options.demos) return { code: 0, passed: 0, failed: 0, skipped: 0 }
  const started: AsyncDisposable[] = []
  const stopAll = () => Promise.all(started.splice(0).map((component) => component[Symbol.asyncDispose]()))
  const stopOnSignal = (signal: NodeJS.Signals) => {
    console.error(`${signal}: stopping the live components`)
    void stopAll().finally(() => process.exit(130))
  }
  process.once('SIGINT', stopOnSignal)
  process.once('SIGTERM', stopOnSignal)
  try {
    return await runWith(started, options)
  } finally {
    await stopAll()
    process.off('SIGINT', stopOnSignal)
    process.off('SIGTERM', stopOnSignal)
  }
}

async function runWith(started: AsyncDisposable[], options: LiveOptions): Promise<NodeTestRun> {
  const startMs = performance.now()
  const missing: string[] = []
  const env = await startComponents(started, (why) => {
    missing.push(why)
    options.notRun(why)
  })
  console.log(`live components ready in ${((performance.now() - startMs) / 1000).toFixed(1)} s`)

  const tests = await runNodeTests({
    root: options.root,
    files: options.files,
    oneProcess: false,
    timeoutMs: options.timeoutMs,
    env,
  })
  const demos = options.demos ? await runDemos(options.root, env, options.notRun) : { passed: 0, failed: 0 }
  const failed = tests.failed + demos.failed
  return {
    code: tests.code !== 0 || demos.failed > 0 || missing.length > 0 ? 1 : 0,
    passed: tests.passed + demos.passed,
    failed,
    skipped: tests.skipped,
  }
}

async function startComponents(started: AsyncDisposable[], notRun: (why: string) => void): Promise<Environment> {
  const env: Environment = {}
  const kafkaMissing = missingForKafka()
  const given = process.env
  const wantKafka = given['OTTLA_LIVE_KAFKA'] === undefined
  const wantSecure = given['OTTLA_LIVE_KAFKA_SECURE'] === undefined
  if (kafkaMissing !== null && (wantKafka || wantSecure)) notRun(`whatever needs Apache Kafka: ${kafkaMissing}`)
  if (kafkaMissing === null && given['OTTLA_LIVE_JARS'] === undefined) {
    env['OTTLA_LIVE_JARS'] = (await toolJars()).folder
  }
  const starts: Promise<void>[] = []
  if (kafkaMissing === null && wantKafka) {
    starts.push(
      startKafkaCluster().then((cluster: KafkaCluster) => {
        started.push(cluster)
        env['OTTLA_LIVE_KAFKA'] = cluster.bootstrapServers
        env['OTTLA_LIVE_CONTROL'] = cluster.controlFile
      }),
    )
  }
  if (kafkaMissing === null && wantSecure) {
    // After the three: two cores start three JVMs faster when a fourth does not interfere.
    const before = Promise.allSettled(starts)
    starts.push(
      before.then(startSecureKafka).then((secure: SecureKafka) => {
        started.push(secure)
        env['OTTLA_LIVE_KAFKA_SECURE'] = JSON.stringify(secure.facts)
      }),
    )
  }
  if (given['OTTLA_LIVE_POSTGRES'] === undefined) {
    const why = missingForPostgres()
    if (why !== null) notRun(`whatever needs PostgreSQL of the machine: ${why}`)
    else {
      const server = await startPostgres()
      started.push(server)
      env['OTTLA_LIVE_POSTGRES'] = server.url
      console.log(`${server.version} at ${server.url}`)
    }
  }
  const results = await Promise.allSettled(starts)
  for (const result of results) if (result.status === 'rejected') throw result.reason
  if (env['OTTLA_LIVE_KAFKA'] !== undefined)
    console.log(`Apache Kafka ${kafkaVersion}, three brokers, at ${env['OTTLA_LIVE_KAFKA']}`)
  return env
}

async function runDemos(
  root: string,
  started: Environment,
  notRun: (why: string) => void,
): Promise<{ passed: number; failed: number }> {
  const env: NodeJS.ProcessEnv = { ...process.env, ...started }
  const kafka = env['OTTLA_LIVE_KAFKA']
  const secureJson = env['OTTLA_LIVE_KAFKA_SECURE']
  const database = env['OTTLA_LIVE_POSTGRES']
  const main = path.join(root, 'examples/shop/main.ts')
  if (!existsSync(main)) {
    notRun('the demo: there is no examples/shop/main.ts')
    return { passed: 0, failed: 0 }
  }
  const plays: { name: string; env: Environment }[] = []
  if (kafka !== undefined) {
    plays.push({ name: 'Apache Kafka, embedded PostgreSQL', env: { KAFKA_BOOTSTRAP_SERVERS: kafka } })
    if (database !== undefined) {
      plays.push({
        name: 'Apache Kafka, PostgreSQL',
        env: { KAFKA_BOOTSTRAP_SERVERS: kafka, DATABASE_URL: database },
      })
    }
  }
  if (database !== undefined) plays.push({ name: 'embedded Kafka, PostgreSQL', env: { DATABASE_URL: database } })
  if (secureJson !== undefined) {
    const secure = JSON.parse(secureJson) as SecureKafkaFacts
    plays.push({
      name: 'Apache Kafka over SASL_SSL, embedded PostgreSQL',
      env: {
        KAFKA_BOOTSTRAP_SERVERS: secure.bootstrapServers,
        KAFKA_SECURITY_PROTOCOL: 'SASL_SSL',
        KAFKA_SASL_MECHANISM: 'SCRAM-SHA-512',
        KAFKA_SASL_USERNAME: secure.scram.username,
        KAFKA_SASL_PASSWORD: secure.scram.password,
        KAFKA_SSL_CA_LOCATION: secure.caFile,
      },
    })
  }
  let passed = 0
  let failed = 0
  for (const play of plays) {
    const startMs = performance.now()
    const result = await run(projectNode(root), ['--conditions=@ottla/source', main, '--once'], {
      cwd: root,
      env: play.env,
      timeoutMs: 120_000,
    }).catch((error: Error) => ({ code: 1, stdout: '', stderr: error.message }))
    const tookMs = Math.round(performance.now() - startMs)
    if (result.code === 0) passed += 1
    else failed += 1
    console.log(`${result.code === 0 ? '✔' : '✖'} demo: ${play.name} (${tookMs} ms)`)
    console.log(`${result.stdout}${result.code === 0 ? '' : result.stderr}`.trimEnd().replace(/^/gm, '    '))
  }
  return { passed, failed }
}
