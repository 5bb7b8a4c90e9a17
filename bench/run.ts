/**
 * `npm run bench`: measures the library beside other clients, in processes of their own, in pairs. docs/benchmarks.md
 * says how to read it. Exit code 1 when a floor or a gate does not hold.
 */
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { type KafkaCluster, startKafkaCluster } from '../test/live/kafka-cluster.ts'
import { kafkaVersion } from '../test/live/kafka-jars.ts'
import { runSeries } from './client-lines.ts'
import { buildLibrary, root } from './library.ts'
import { ParallelConsumer, parallelConsumerVersion } from './parallel-consumer.ts'
import { failuresOf, type LineReport, type Report, reportText } from './report.ts'
import { allLines, clientLines } from './scoreboard.ts'
import { runSleepers } from './sleep-lines.ts'
import { runBoot, runImports } from './start-lines.ts'
import type { Compression } from './task.ts'
import { Topics } from './topics.ts'

const usage = `npm run bench -- [--line N]… [--rounds 3] [--scale 1] [--compression none|zstd] [--peers a,b] [--servers host:port] [--profile folder] [-o text|json]

  --line         ${allLines.join(', ')}; default all
  --rounds       how often every arm runs; lines 11 and 12 run three times as often
  --scale        share of the messages of a full run, for a quick look: 0.05; below 1 floors of lines 1 to 5 are not judged
  --peers        of kafkajs,platformatic,nestjs; default those installed in bench/
  --servers      a Kafka that runs already; default: one node is started
  --profile      runs our arm once more, with a CPU profile written there
  -o             json is for machines`

const { values } = parseArgs({
  options: {
    line: { type: 'string', multiple: true },
    rounds: { type: 'string', default: '3' },
    scale: { type: 'string', default: '1' },
    compression: { type: 'string', default: 'none' },
    peers: { type: 'string' },
    servers: { type: 'string' },
    profile: { type: 'string' },
    output: { type: 'string', short: 'o', default: 'text' },
    help: { type: 'boolean', short: 'h', default: false },
  },
})

const lines = values.line?.flatMap((text) => text.split(',')).map(Number) ?? [...allLines]
const rounds = Number(values.rounds)
const scale = Number(values.scale)
const isJson = values.output === 'json'
const compression = values.compression as Compression
const wrong =
  lines.some((line) => !allLines.includes(line)) ||
  !(Number.isInteger(rounds) && rounds > 0) ||
  !(scale > 0) ||
  !['none', 'zstd'].includes(compression) ||
  !['text', 'json'].includes(values.output)
if (values.help || wrong) {
  process.stdout.write(`${usage}\n`)
  process.exit(values.help ? 0 : 2)
}

const say = (text: string): void => {
  process.stderr.write(`${text}\n`)
}

const packages: Readonly<Record<string, string>> = {
  kafkajs: 'kafkajs',
  platformatic: '@platformatic/kafka',
  nestjs: '@nestjs/microservices',
}
const installed = (name: string): string | null => {
  const file = path.join(import.meta.dirname, 'node_modules', packages[name] ?? name, 'package.json')
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version : null
}
const peers = values.peers?.split(',') ?? Object.keys(packages).filter((name) => installed(name) !== null)
for (const peer of peers) {
  if (packages[peer] === undefined || installed(peer) === null) {
    say(`${peer} is not installed: npm ci in bench/`)
    process.exit(2)
  }
}
if (values.peers === undefined && peers.length < Object.keys(packages).length) {
  say('peers are missing, ours is measured without them: npm ci in bench/')
}
const profileFolder = values.profile === undefined ? null : path.resolve(values.profile)
if (profileFolder !== null) mkdirSync(profileFolder, { recursive: true })

const loadBefore = os.loadavg()[0] ?? 0
say('building the library')
const library = buildLibrary()
const reports: LineReport[] = []
let cluster: KafkaCluster | null = null
let topics: Topics | null = null
try {
  for (const line of lines) {
    say(`── line ${line} ──`)
    if (line === 11) reports.push({ line, boot: await runBoot({ library, rounds: rounds * 3, say }) })
    else if (line === 12) reports.push({ line, imports: await runImports({ library, rounds: rounds * 3, say }) })
    else {
      if (values.servers === undefined && cluster === null) {
        say('starting Apache Kafka')
        cluster = await startKafkaCluster({ brokers: 1 })
      }
      const servers = values.servers ?? cluster?.bootstrapServers ?? ''
      topics ??= await Topics.open(library, servers)
      if (line === 5) {
        const lacking = ParallelConsumer.missing()
        if (lacking !== null) say(`the Parallel Consumer is left out: ${lacking}`)
        const peer = lacking === null ? await ParallelConsumer.prepare() : null
        reports.push({
          line,
          sleepers: await runSleepers({ library, servers, topics, rounds, scale, peer, profileFolder, say }),
        })
        continue
      }
      const run = { library, servers, topics, rounds, scale, compression, peers, profileFolder, say }
      const series = []
      for (const one of clientLines[line] ?? []) series.push(await runSeries(one, run))
      reports.push({ line, series })
    }
  }
} finally {
  await topics?.[Symbol.asyncDispose]()
  await cluster?.[Symbol.asyncDispose]()
}

const manifest = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as { version: string }
const failures = failuresOf(reports)
const report: Report = {
  atMs: Date.now(),
  machine: {
    cpu: os.cpus()[0]?.model ?? 'unknown',
    cores: os.cpus().length,
    node: process.versions.node,
    platform: `${os.platform()} ${os.release()}`,
    loadBefore,
    loadAfter: os.loadavg()[0] ?? 0,
  },
  versions: {
    ottla: manifest.version,
    ...(cluster === null ? {} : { 'Apache Kafka': kafkaVersion }),
    ...(lines.includes(5) ? { 'Parallel Consumer': parallelConsumerVersion } : {}),
    ...Object.fromEntries(peers.map((peer) => [packages[peer] ?? peer, installed(peer) ?? ''])),
  },
  lines: reports,
  failures,
}
process.stdout.write(isJson ? `${JSON.stringify(report, null, 2)}\n` : `${reportText(report)}\n`)
process.exitCode = failures.length === 0 ? 0 : 1
