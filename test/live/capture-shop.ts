/**
 * Plays the shop once on Apache Kafka, three brokers, and keeps what stands on a broker's disk afterwards: the log
 * segments of the shop's topics and of the group's offsets, as bytes, and what the Java classes (`DumpLogSegments`) read
 * in them. Run by hand when the bytes may change; `test/shop/segments.test.ts` holds our decoder against the file.
 *
 *   node test/live/capture-shop.ts test/fixtures/shop/segments-4.3.1.json
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { projectNode } from '../../tools/run-node-tests.ts'
import { runOk } from './command.ts'
import { startKafkaCluster } from './kafka-cluster.ts'
import { kafkaJars, kafkaVersion } from './kafka-jars.ts'

const root = path.resolve(import.meta.dirname, '../..')
const target = process.argv[2]
if (target === undefined) throw new Error('say where to write: node test/live/capture-shop.ts FILE')

const { java, classPath } = await kafkaJars()
await using cluster = await startKafkaCluster()
await runOk(projectNode(root), ['--conditions=@ottla/source', path.join(root, 'examples/shop/main.ts'), '--once'], {
  cwd: root,
  env: { KAFKA_BOOTSTRAP_SERVERS: cluster.bootstrapServers },
})

const segments = new Map<string, { readonly java: readonly string[]; readonly bytes: string }>()
for (const file of segmentFiles(cluster.folder)) {
  const bytes = readFileSync(file)
  const partition = path.basename(path.dirname(file))
  // Every topic of the shop has three replicas: the first one met will do.
  if (bytes.length === 0 || segments.has(partition)) continue
  const offsets = file.includes('__consumer_offsets')
  const dump = await runOk(java, [
    ...['-Xmx256m', '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn', '-cp', classPath],
    ...['org.apache.kafka.tools.DumpLogSegments', '--files', file],
    offsets ? '--offsets-decoder' : '--print-data-log',
  ])
  const lines = dump.split('\n').filter((line) => line.startsWith('baseOffset:') || line.startsWith('| offset:'))
  segments.set(partition, { java: lines, bytes: bytes.toString('base64') })
}
writeFileSync(target, `${JSON.stringify({ kafka: kafkaVersion, segments: Object.fromEntries(segments) }, null, 2)}\n`)
for (const [partition, { java: lines }] of segments) console.log(`${partition}: ${lines.length} lines`)

function segmentFiles(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => /(^|\/)(orders|stock|__consumer_offsets)-\d+\/\d+\.log$/.test(name))
    .sort()
    .map((name) => path.join(folder, name))
}
